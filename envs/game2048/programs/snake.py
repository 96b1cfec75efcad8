"""Keeps the tiles sorted along a snake from the upper left corner, looking one move ahead."""


def strategy(board):
    moves = [move for move in "WASD" if slide(board, move) != board]
    return max(moves, key=lambda move: snake(slide(board, move)))


def snake(board):
    total, weight = 0, 4 ** len(board) ** 2
    for i, row in enumerate(board):
        for tile in row[::-1] if i % 2 else row:
            weight //= 4
            total += tile * weight
    return total


def slide(board, move):
    lines = board if move in "AD" else zip(*board)
    step = 1 if move in "WA" else -1
    slid = [pack(line[::step])[::step] for line in lines]
    return slid if move in "AD" else [list(line) for line in zip(*slid)]


def pack(line):
    tiles, packed = [tile for tile in line if tile], []
    while tiles:
        tile = tiles.pop(0)
        if tiles and tiles[0] == tile:
            tile += tiles.pop(0)
        packed.append(tile)
    return packed + [0] * (len(line) - len(packed))
