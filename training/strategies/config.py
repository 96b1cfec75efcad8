"""What a person may say to `evaluate_strategy`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from taskgym.training.errors import ConfigError

SIZES = range(2, 9)


@dataclass(frozen=True)
class EvaluateStrategyConfig:
    """Plays 2048 strategies on fixed seeds and says how good they are.

    A strategy is a Python file with a function `strategy(board)`, which gets the board as a list of
    rows (0 is empty) and returns one of "W", "A", "S", "D"; it runs in the sandbox. A name of the
    built-in ladder plays that player: random, cycle, first-legal, corner, greedy, snake,
    expectimax-1, expectimax-2.
    """

    strategies: tyro.conf.Positional[tuple[str, ...]]
    """Files and names to play."""
    vs: str = ""
    """One more file or name; the others are compared with it on the same games."""
    games: int = 1000
    """Games of each strategy."""
    seed: int = 0
    """Decides the games: with one seed all strategies meet the same."""
    size: int = 4
    """Rows and columns of the board."""
    jobs: int = 0
    """Games played at a time; 0: one per CPU."""
    json: Path | None = None
    """Write the numbers to this file."""
    html: Path | None = None
    """Write a page with chart and replays to this file, and chart and GIFs beside it."""

    def __post_init__(self) -> None:
        if not self.strategies:
            raise ValueError("name at least one strategy: a file, or a player of the ladder")
        if self.games < 1:
            raise ValueError(f"--games is at least 1, got {self.games}")
        if self.jobs < 0:
            raise ValueError(f"--jobs is at least 1, or 0 for one per CPU, got {self.jobs}")
        if self.seed < 0:
            raise ValueError(f"--seed is at least 0, got {self.seed}")
        if self.size not in SIZES:
            raise ValueError(f"--size is from {SIZES[0]} to {SIZES[-1]}, got {self.size}")

    @property
    def workers(self) -> int:
        """How many games are played at a time."""
        affinity = getattr(os, "sched_getaffinity", None)  # Linux only
        return self.jobs or (len(affinity(0)) if affinity else os.cpu_count() or 1)


def parse(argv: Sequence[str]) -> EvaluateStrategyConfig:
    """The config of `evaluate_strategy`.

    Raises:
        ConfigError: A value that does not fit.
    """
    try:
        return tyro.cli(EvaluateStrategyConfig, args=argv, prog="evaluate_strategy")
    except ValueError as error:
        raise ConfigError(str(error)) from error
