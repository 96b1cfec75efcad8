"""Averages over every tile that may appear next, and takes the move that leaves the best snake."""

from functools import lru_cache


def strategy(board):
    rows = tuple(map(tuple, board))
    moves = {move: slid for move in "WASD" if (slid := slide(rows, move)) != rows}
    return max(moves, key=lambda move: expected(moves[move]))


def expected(rows):
    """The mean over the empty cells and both tiles of the best snake one more move gives."""
    total = empty = 0
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            if tile == 0:
                empty += 1
                for new, weight in ((2, 9), (4, 1)):
                    changed = (*row[:j], new, *row[j + 1 :])
                    total += weight * best((*rows[:i], changed, *rows[i + 1 :]))
    return total / (10 * empty)


def best(rows):
    after = (slide(rows, move) for move in "WASD")
    return max((snake(slid) for slid in after if slid != rows), default=0)


def snake(rows):
    return sum(worth(row, i) for i, row in enumerate(rows))


@lru_cache(maxsize=100_000)
def worth(row, i):
    """The sum of tile * 4 ** weight along the path: right in even rows, left in odd ones."""
    size = len(row)
    path = row[::-1] if i % 2 else row
    return sum(tile * 4 ** (size * size - 1 - i * size - j) for j, tile in enumerate(path))


def slide(rows, move):
    if move in "AD":
        return tuple([pack(row, move == "D") for row in rows])
    return tuple(zip(*[pack(column, move == "S") for column in zip(*rows)]))


@lru_cache(maxsize=100_000)
def pack(line, back):
    """A line after sliding to its front, or to its back."""
    tiles = [tile for tile in (line[::-1] if back else line) if tile]
    packed = []
    while tiles:
        tile = tiles.pop(0)
        if tiles and tiles[0] == tile:
            tile += tiles.pop(0)
        packed.append(tile)
    packed += [0] * (len(line) - len(packed))
    return tuple(packed[::-1] if back else packed)
