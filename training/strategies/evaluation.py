"""One run of `evaluate_strategy`: check, play, sum up, print, write."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

from taskgym.training.errors import INTERRUPTED, ConfigError
from taskgym.training.strategies.config import EvaluateStrategyConfig
from taskgym.training.strategies.ladder import ladder_table
from taskgym.training.strategies.play import check, game_seeds, play
from taskgym.training.strategies.sources import Strategy, find_strategies
from taskgym.training.strategies.summary import Played, Summary, compare, summarise
from taskgym.training.strategies.table import comparison_text, failures_text, results_table
from tqdm.auto import tqdm

Games = dict[str, list[Played]]


def evaluate(config: EvaluateStrategyConfig) -> None:
    """Does what the command was asked for.

    Ctrl-C ends the playing; what was played until then is printed and written.

    Raises:
        ConfigError: A strategy that is not there or that breaks off in its first game, a file that
            cannot be written, or a package that is missing.
    """
    strategies = find_strategies([*config.strategies, *filter(None, [config.vs])])
    _check_outputs(config)
    seeds = game_seeds(config.seed, config.games)
    for strategy in strategies:
        if strategy.path is not None:
            check(strategy, seeds[0], config.size)
    games: Games = {}
    interrupted = False
    try:
        for strategy in strategies:
            _play(strategy, seeds, config, games.setdefault(strategy.name, []))
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted: this is what was played so far", file=sys.stderr)
    _report(config, strategies, {name: played for name, played in games.items() if played})
    if interrupted:
        sys.exit(INTERRUPTED)


def _play(
    strategy: Strategy, seeds: Sequence[int], config: EvaluateStrategyConfig, games: list[Played]
) -> None:
    """Adds the games to a list as they end, so that none is lost."""
    with (
        closing(play(strategy, seeds, config.size, config.workers)) as played,  # type: ignore[type-var]
        tqdm(total=len(seeds), desc=strategy.name, unit="game", dynamic_ncols=True) as bar,
    ):
        for game in played:
            games.append(game)
            bar.update()


def _report(
    config: EvaluateStrategyConfig, strategies: Sequence[Strategy], games: Mapping[str, list[Played]]
) -> None:
    if not games:
        return
    summaries = {name: summarise(played) for name, played in games.items()}
    ladder = ladder_table(config.size)
    notes = [*_comparisons(config, strategies, games, summaries)]
    print(f"\n{config.size}x{config.size} board, seed {config.seed}")
    print(results_table(summaries, ladder))
    for note in notes:
        print(f"\n{note}")
    if config.json:
        _write(config.json, {"strategies": summaries, "size": config.size, "seed": config.seed})
