"""A board as text."""

from __future__ import annotations

from collections.abc import Sequence


def draw(board: Sequence[Sequence[int]]) -> str:
    """The rows one under the other, right-aligned, with a dot on every empty cell."""
    width = max(len(str(tile)) for row in board for tile in row)
    return "\n".join(" ".join(f"{tile or '.':>{width}}" for tile in row) for row in board)
