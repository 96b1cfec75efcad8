"""Plays a strategy, whatever it is, and shows what is wrong with a file."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from taskgym.envs.game2048.games import Played, ladder_games, program_games
from taskgym.training.errors import ConfigError
from taskgym.training.strategies.sources import Strategy


def play(
    strategy: Strategy, seeds: Sequence[int], size: int, workers: int
) -> Generator[Played, None, None]:
    """The games of a strategy as they end, in whatever order that is.

    Closing the iterator ends the games that are running.

    Raises:
        MachineryError: The sandbox failed.
    """
    if strategy.path is None:
        yield from ladder_games(strategy.name, seeds, size, workers)
    else:
        yield from program_games(strategy.source, seeds, size, workers)


def check(strategy: Strategy, seed: int, size: int) -> None:
    """Plays one game with a file, so that what is wrong with it shows before all are played.

    Raises:
        ConfigError: The program broke off; names file, line and cause.
    """
    if strategy.path is None:
        return
    (game,) = play(strategy, [seed], size, 1)
    if game.failure and game.failure != "stuck":
        raise ConfigError(_located(strategy, game))


def _located(strategy: Strategy, game: Played) -> str:
    """An error in a file, as a compiler would show it."""
    if game.line is None:
        when = f" (in the first game, after {game.moves} moves)" if game.max_tile else ""
        return f"{strategy.path}: {game.detail}{when}"
    lines = strategy.source.splitlines()
    shown = lines[game.line - 1] if game.line <= len(lines) else ""
    return f"{strategy.path}, line {game.line}: {game.detail}\n    {shown.strip()}"
