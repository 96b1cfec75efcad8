"""Takes the move whose merges score most."""


def strategy(board):
    moves = [move for move in "WASD" if slide(board, move) != board]
    return max(moves, key=lambda move: gain(board, move))


def gain(board, move):
    total = 0
    for line in board if move in "AD" else zip(*board):
        last = 0
        for tile in filter(None, line):
            total += 2 * tile * (tile == last)
            last = 0 if tile == last else tile
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
