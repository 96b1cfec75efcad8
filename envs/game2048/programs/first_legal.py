"""Takes the first of W, A, S, D that changes the board."""


def strategy(board):
    for move in "WASD":
        if changes(board, move):
            return move


def changes(board, move):
    for line in board if move in "AD" else zip(*board):
        if move in "SD":
            line = line[::-1]
        for front, tile in zip(line, line[1:]):
            if tile and front in (0, tile):
                return True
    return False
