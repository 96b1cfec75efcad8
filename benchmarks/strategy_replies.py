"""Replies that a model gives to `Game2048-Strategy-v0`, good, weak and wrong, for replays."""

from __future__ import annotations

from sandbox_policy import HEURISTIC
from taskgym.envs.game2048 import programs

_RANDOM = """
import random

def strategy(board):
    return random.choice(["W", "A", "S", "D"])
"""

_CORNER = """
def strategy(board):
    n = len(board)

    def can_move_left():
        for row in board:
            for j in range(n - 1):
                if row[j + 1] and (row[j] == 0 or row[j] == row[j + 1]):
                    return True
        return False

    def can_move_down():
        for j in range(n):
            for i in range(n - 1):
                if board[i][j] and (board[i + 1][j] == 0 or board[i + 1][j] == board[i][j]):
                    return True
        return False

    if can_move_left():
        return "A"
    if can_move_down():
        return "S"
    return "D" if board[-1][0] else "W"
"""

_EMPTY_CELLS = """
def strategy(board):
    best_move = "W"
    best_empty = -1
    for move in ["W", "A", "S", "D"]:
        lines = [list(r) for r in board] if move in "AD" else [list(c) for c in zip(*board)]
        empty = 0
        changed = False
        for line in lines:
            if move in "SD":
                line = line[::-1]
            tiles = [x for x in line if x != 0]
            merged = []
            skip = False
            for i in range(len(tiles)):
                if skip:
                    skip = False
                    continue
                if i + 1 < len(tiles) and tiles[i] == tiles[i + 1]:
                    merged.append(tiles[i] * 2)
                    skip = True
                else:
                    merged.append(tiles[i])
            merged += [0] * (len(line) - len(merged))
            changed = changed or merged != line
            empty += merged.count(0)
        if changed and empty > best_empty:
            best_empty, best_move = empty, move
    return best_move
"""

_RAISES = """
def strategy(board):
    empty = [(i, j) for i in range(4) for j in range(4) if board[i][j] == 0]
    return "WASD"[empty[0][0]]
"""

_FORBIDDEN = """
import os

def strategy(board):
    return os.environ.get("MOVE", "W")
"""

_INVALID = """
def strategy(board):
    return "left"
"""

ENDLESS = """```python
def strategy(board):
    moves = ["W", "A"]
    i = 0
    while board[0][0] != 2048:
        i = (i + 1) % 2
    return moves[i]
```"""


def replies() -> list[str]:
    """One of each; more than half play, and none of them runs for seconds."""
    gold = [programs.source(name) for name in programs.PROGRAMS if name != "expectimax"]
    written = [_RANDOM, _CORNER, _EMPTY_CELLS, HEURISTIC, _RAISES, _FORBIDDEN, _INVALID]
    said = [f"Here is a strategy.\n\n```python\n{code.strip()}\n```" for code in [*gold, *written]]
    cut_off = said[1][:-20]
    return [
        *said,
        cut_off,
        "I would move the tiles to one corner.",
        "```python\ndef strategy(\n```",
    ]
