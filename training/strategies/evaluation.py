"""One run of `evaluate_strategy`: check, play, sum up, print, write."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgym.envs.game2048.games import Played, game_seeds
from taskgym.training.errors import ConfigError
from taskgym.training.strategies.config import EvaluateStrategyConfig
from taskgym.training.strategies.ladder import ladder_summaries
from taskgym.training.strategies.play import check, play
from taskgym.training.strategies.sources import Strategy, find_strategies
from taskgym.training.strategies.summary import Summary, compare, summarise
from taskgym.training.strategies.table import comparison_text, failures_text, results_table
from tqdm.auto import tqdm

Games = Mapping[str, Sequence[Played]]


@dataclass(frozen=True)
class Evaluation:
    """What was played, and what it comes to.

    Attributes:
        games: Strategy -> its games.
        summaries: Strategy -> its numbers.
        ladder: Player -> its numbers as shipped.
        other: The strategy that the others are compared with; empty for none.
        comparison: Strategy -> its comparison with that one.
    """

    games: Games
    summaries: Mapping[str, Summary]
    ladder: Mapping[str, Summary]
    other: str
    comparison: Mapping[str, Summary]

    @classmethod
    def of(cls, games: Games, other: str, size: int) -> Evaluation:
        """Sums up."""
        summaries = {name: summarise(played) for name, played in games.items()}
        theirs = {game.seed for game in games.get(other, ())}
        compared = [
            name
            for name, played in games.items()
            if name != other and any(game.seed in theirs for game in played)
        ]
        comparison = {name: compare(games[name], games[other]) for name in compared}
        return cls(games, summaries, ladder_summaries(size), other, comparison)

    def notes(self) -> list[str]:
        """Comparisons and failures, in words."""
        notes = [comparison_text(name, self.other, each) for name, each in self.comparison.items()]
        failures = (failures_text(name, played) for name, played in self.games.items())
        return [*notes, *filter(None, failures)]

    def to_json(self, config: EvaluateStrategyConfig) -> dict[str, Any]:
        """What `--json` writes."""
        compared = {name: {"vs": self.other, **each} for name, each in self.comparison.items()}
        return {
            "size": config.size,
            "seed": config.seed,
            "strategies": self.summaries,
            **({"comparison": compared} if compared else {}),
        }


def evaluate(config: EvaluateStrategyConfig) -> None:
    """Does what the command was asked for.

    Whatever ends the playing, such as Ctrl-C: what was played until then is printed and written.

    Raises:
        KeyboardInterrupt: On Ctrl-C.
        MachineryError: The sandbox failed.
        ConfigError: A strategy that is not there or breaks off in its first game, a file that
            cannot be written, or a package that is missing.
    """
    strategies = find_strategies([*config.strategies, *filter(None, [config.vs])])
    _check_outputs(config)
    seeds = game_seeds(config.seed, config.games)
    for strategy in strategies:
        check(strategy, seeds[0], config.size)
    games: dict[str, list[Played]] = {strategy.name: [] for strategy in strategies}
    try:
        for strategy in strategies:
            _play(strategy, seeds, config, games[strategy.name])
    finally:
        played = {name: each for name, each in games.items() if each}
        other = strategies[-1].name if config.vs else ""
        if played:
            _report(config, Evaluation.of(played, other, config.size))


def _play(
    strategy: Strategy, seeds: Sequence[int], config: EvaluateStrategyConfig, games: list[Played]
) -> None:
    """Adds the games to a list as they end, so that none is lost."""
    with (
        closing(play(strategy, seeds, config.size, config.workers)) as played,
        tqdm(total=len(seeds), desc=strategy.name, unit="game", dynamic_ncols=True) as bar,
    ):
        for game in played:
            games.append(game)
            bar.update()


def _report(config: EvaluateStrategyConfig, evaluation: Evaluation) -> None:
    title = f"{config.size}x{config.size} board, seed {config.seed}"
    print(f"\n{title}\n\n{results_table(evaluation.summaries, evaluation.ladder)}")
    for note in evaluation.notes():
        print(f"\n{note}")
    written = []
    if config.json:
        config.json.write_text(json.dumps(evaluation.to_json(config), indent=1) + "\n")
        written.append(config.json)
    if config.html:
        written += _draw(config, evaluation, title)
    if written:
        print(f"\nwrote {', '.join(map(str, written))}")


def _draw(config: EvaluateStrategyConfig, evaluation: Evaluation, title: str) -> list[Path]:
    """The page, and beside it the chart and a GIF of every replay."""
    from taskgym.training.strategies.chart import write_chart
    from taskgym.training.strategies.gif import write_gif
    from taskgym.training.strategies.page import write_page
    from taskgym.training.strategies.replay import frames, picks

    assert config.html is not None
    chart = _beside(config.html, "chart.png")
    write_chart(evaluation.games, evaluation.ladder, chart)
    write_page(config.html, title, evaluation, chart, config.size)
    gifs = []
    for name, games in evaluation.games.items():
        for rank, played in picks(games).items():
            gifs.append(_beside(config.html, f"{name.replace('/', '-')}-{rank}.gif"))
            write_gif(frames(played, config.size), config.size, f"{name}, {rank}", gifs[-1])
    return [config.html, chart, *gifs]


def _beside(page: Path, name: str) -> Path:
    return page.with_name(f"{page.stem}-{name}")


def _check_outputs(config: EvaluateStrategyConfig) -> None:
    """Finds out before the games are played whether their results can be written."""
    for path in filter(None, (config.json, config.html)):
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file")
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent} to write {path.name} to")
    missing = [name for name in ("matplotlib", "PIL") if importlib.util.find_spec(name) is None]
    if config.html and missing:
        raise ConfigError(
            "--html draws with matplotlib and Pillow: pip install 'taskgym[train]' brings them"
        )
