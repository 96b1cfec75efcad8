"""What the policy costs: a call under its guards, and a compilation, against plain Python.

    python benchmarks/sandbox_policy.py

Both run in this process, one after the other in every round; shown are medians of CPU time. The
stock columns are RestrictedPython's own transformer, for the compilation only: its guards do not
run these programs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from RestrictedPython.compile import compile_restricted_exec
from taskgym.sandbox.guards import program_globals
from taskgym.sandbox.policy import compile_program

BOARD = [[2, 4, 8, 16], [0, 2, 4, 8], [0, 0, 2, 4], [0, 2, 0, 2]]

HEURISTIC = """
WEIGHTS = [[15, 14, 13, 12], [8, 9, 10, 11], [7, 6, 5, 4], [0, 1, 2, 3]]

def slide(row):
    tiles = [v for v in row if v]
    out = []
    i = 0
    gained = 0
    while i < len(tiles):
        if i + 1 < len(tiles) and tiles[i] == tiles[i + 1]:
            out.append(tiles[i] * 2)
            gained += tiles[i] * 2
            i += 2
        else:
            out.append(tiles[i])
            i += 1
    return out + [0] * (len(row) - len(out)), gained

def move(board, direction):
    if direction in "WS":
        rows = [list(column) for column in zip(*board)]
    else:
        rows = [row[:] for row in board]
    if direction in "SD":
        rows = [row[::-1] for row in rows]
    gained = 0
    done = []
    for row in rows:
        new, points = slide(row)
        gained += points
        done.append(new)
    if direction in "SD":
        done = [row[::-1] for row in done]
    if direction in "WS":
        done = [list(column) for column in zip(*done)]
    return done, gained

def value(board):
    total = 0
    for r, row in enumerate(board):
        for c, tile in enumerate(row):
            if tile == 0:
                total += 50
            total += tile * WEIGHTS[r][c]
            if c + 1 < len(row) and row[c + 1] == tile:
                total += tile
            if r + 1 < len(board) and board[r + 1][c] == tile:
                total += tile
    return total

def strategy(board):
    best, choice = None, "W"
    for direction in "WASD":
        new, gained = move(board, direction)
        if new == board:
            continue
        score = value(new) + gained
        if best is None or score > best:
            best, choice = score, direction
    return choice
"""

CLASSES = """
class Cell:
    def __init__(self, row, column, tile):
        self.row = row
        self.column = column
        self.tile = tile
        self.weight = 4 * row + column

    def worth(self):
        return self.tile * self.weight

class Grid:
    def __init__(self, board):
        self.size = len(board)
        self.empty = 0
        self._total = 0
        self.cells = [Cell(r, c, board[r][c]) for r in range(self.size) for c in range(self.size)]

    def measure(self):
        for cell in self.cells:
            if cell.tile == 0:
                self.empty += 1
            self._total += cell.worth()
        return self._total + self.empty

def strategy(board):
    grid = Grid(board)
    return "WASD"[grid.measure() % 4]
"""


def plain(source: str) -> Callable[..., Any]:
    names: dict[str, Any] = {}
    exec(compile(source, "<plain>", "exec"), names)
    return names["strategy"]  # type: ignore[no-any-return]


def guarded(source: str) -> Callable[..., Any]:
    names = program_globals(0, print)
    exec(compile_program(source), names)
    return names["strategy"]  # type: ignore[no-any-return]


def timed(work: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times * 1e6


def medians(*works: Callable[[], object], times: int, rounds: int = 31) -> list[float]:
    """Microseconds of CPU of each, interleaved."""
    taken = [[timed(work, times) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def main() -> None:
    print(f"{'one call, us':24}{'plain':>10}{'policy':>10}{'ratio':>8}")
    for name, source in (
        ("60-line list heuristic", HEURISTIC),
        ("classes and attributes", CLASSES),
    ):
        ours, theirs = guarded(source), plain(source)
        assert ours(BOARD) == theirs(BOARD)
        slow, fast = medians(lambda f=ours: f(BOARD), lambda f=theirs: f(BOARD), times=300)  # type: ignore[misc]
        print(f"{name:24}{fast:10.1f}{slow:10.1f}{slow / fast:8.2f}")
    print(f"\n{'compilation, us':24}{'plain':>10}{'policy':>10}{'ratio':>8}{'stock':>10}")
    for name, source in (
        ("60-line list heuristic", HEURISTIC),
        ("classes and attributes", CLASSES),
    ):
        plainly, ours_, stock = medians(
            lambda s=source: compile(s, "<plain>", "exec"),  # type: ignore[misc]
            lambda s=source: compile_program(s),  # type: ignore[misc]
            lambda s=source: compile_restricted_exec(s),  # type: ignore[misc]
            times=3,
        )
        print(f"{name:24}{plainly:10.0f}{ours_:10.0f}{ours_ / plainly:8.2f}{stock:10.0f}")
    (fresh,) = medians(lambda: program_globals(0, print), times=50)
    print(f"\nfresh globals for a program: {fresh:.1f} us")


if __name__ == "__main__":
    main()
