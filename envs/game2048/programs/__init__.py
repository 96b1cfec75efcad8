"""Strategies as a model writes them: plain files with `strategy(board)`, from weak to strong.

They are the gold replies of `Game2048-Strategy-v0` and examples for `evaluate_strategy`.
"""

from __future__ import annotations

from importlib.resources import files

PROGRAMS = ("first_legal", "corner", "greedy", "snake", "expectimax")


def source(name: str) -> str:
    """The text of a program."""
    return files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8")
