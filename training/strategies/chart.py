"""The chart of an evaluation: how scores are spread, and how often each tile is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from taskgym.envs.game2048.games import Played
from taskgym.training import drawing
from taskgym.training.drawing import COLOURS, LEGEND, PALE
from taskgym.training.strategies.summary import REACH, Summary, reached

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LADDER = {"random": ":", "snake": "--", "expectimax-1": "-."}  # rungs drawn, and how


def write_chart(
    games: Mapping[str, Sequence[Played]], ladder: Mapping[str, Summary], path: Path
) -> None:
    """Draws the chart and writes it as PNG; needs matplotlib."""
    figure = drawing.figure_of(3.6, width=9.6)
    left, right = figure.subplots(1, 2)
    _scores(left, games)
    _reach(right, games)
    for name, style in _LADDER.items():
        if name in ladder:
            _rung(left, right, name, ladder[name], style)
    lines, names = right.get_legend_handles_labels()
    order = sorted(range(len(lines)), key=lambda i: names[i].startswith("ladder: "))
    legend = [lines[i] for i in order], [names[i] for i in order]
    figure.legend(*legend, loc="outside lower center", ncols=6, **LEGEND)
    figure.savefig(path)


def _scores(axes: Axes, games: Mapping[str, Sequence[Played]]) -> None:
    """The share of games that score at least so much, on a logarithmic scale."""
    from matplotlib.ticker import LogLocator

    for colour, (name, played) in zip(_colours(games), games.items(), strict=True):
        scores = np.sort([max(game.score, 1) for game in played])
        share = 100 * (1 - np.arange(len(scores)) / len(scores))
        axes.step(scores, share, where="pre", color=colour, lw=2, label=drawing.plain_text(name))
    drawing.label(
        axes, "Scores; means of the ladder", "games that score at least so much (%)", x="score"
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
    )
    axes.set_ylim(-2, 104)


def _reach(axes: Axes, games: Mapping[str, Sequence[Played]]) -> None:
    x = np.arange(len(REACH))
    for colour, (name, played) in zip(_colours(games), games.items(), strict=True):
        shares = [reached(played, tile) for tile in REACH]
        mean = 100 * np.array([share.mean for share in shares])
        ends = 100 * np.array([[s.mean - s.low, s.high - s.mean] for s in shares]).T
        axes.errorbar(
            x, mean, ends, fmt="o-", color=colour, ms=4, lw=2, capsize=3,
            label=drawing.plain_text(name),
        )  # fmt: skip
    drawing.label(axes, "Largest tile", "games that reach it (%)", x="tile")
    axes.set_xticks(x, [str(tile) for tile in REACH])
    axes.set_ylim(-2, 104)


def _rung(left: Axes, right: Axes, name: str, summary: Summary, style: str) -> None:
    """A player of the ladder: its mean score as a mark, its tiles as a dashed line."""
    left.axvline(summary["mean_score"], color=PALE, lw=1.2, ls=style, zorder=0)
    shares = [100 * summary["reach"].get(str(tile), 0.0) for tile in REACH]
    right.plot(np.arange(len(REACH)), shares, color=PALE, ls=style, lw=1.5, label=f"ladder: {name}")


def _colours(games: Mapping[str, object]) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(len(games))]
