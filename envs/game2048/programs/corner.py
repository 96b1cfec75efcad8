"""Keeps the tiles in the lower left corner: the first of A, S, D, W that changes the board."""


def strategy(board):
    for move in "ASDW":
        if slide(board, move) != board:
            return move
    return "A"


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
