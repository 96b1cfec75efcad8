"""The pictures of a run: reward, components, length and held-out accuracy as PNG files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from taskgym.training import drawing
from taskgym.training.drawing import BLUE, COLOURS, LEGEND, ORANGE, PALE
from taskgym.training.metrics import Json, MetricsFile, column, components, read_evaluation
from taskgym.training.statistics import Floats, Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[str, Floats]


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """One seed of an experiment.

    Attributes:
        seed: The run's seed.
        rewards: Mean reward of each step, shape (S,).
        before: Held-out score before training: accuracy in [0, 1], or reward.
        after: The same after training.
    """

    seed: int
    rewards: Sequence[float]
    before: Interval
    after: Interval


def write_plots(run_dir: Path) -> list[Path]:
    """Draws what the run folder holds so far.

    Returns:
        The files written: of `reward.png`, `components.png`, `length.png` and `accuracy.png`
        those there are numbers for.
    """
    steps = MetricsFile(run_dir / "metrics.jsonl").read().steps
    figures = {
        "reward.png": _reward(steps),
        "components.png": _components(steps),
        "length.png": _length(steps),
        "accuracy.png": _accuracy(read_evaluation(run_dir)),
    }
    drawn = {run_dir / name: figure for name, figure in figures.items() if figure is not None}
    for path, figure in drawn.items():
        figure.savefig(path)
    return list(drawn)


def learning_curves(
    curves: Sequence[LearningCurve],
    path: Path,
    title: str,
    score: Literal["accuracy", "reward"] = "accuracy",
) -> None:
    """Draws several seeds of one experiment: reward by step, and a score before and after.

    Raises:
        ValueError: No curve, or a curve without steps.
    """
    if not curves or not all(len(curve.rewards) for curve in curves):
        raise ValueError("learning curves need at least one seed, each with at least one step")
    figure = drawing.figure_of(3.3, width=9.0)
    left, right = figure.subplots(1, 2, width_ratios=[2.1, 1])
    figure.suptitle(title, fontsize=12, fontweight="bold")
    _seeds(left, curves)
    _slopes(right, curves, score)
    figure.savefig(path)


def _seeds(axes: Axes, curves: Sequence[LearningCurve]) -> None:
    shortest = min(len(curve.rewards) for curve in curves)
    rewards_CS = np.array([curve.rewards[:shortest] for curve in curves], np.float64)
    for curve in curves:
        smoothed = drawing.smooth(np.array(curve.rewards, np.float64))
        axes.plot(np.arange(1, smoothed.size + 1), smoothed, color=PALE, lw=1.2)
    axes.plot([], [], color=PALE, lw=1.2, label=f"one seed, smoothed ({len(curves)} seeds)")
    x = np.arange(1, shortest + 1, dtype=np.float64)
    drawing.line(axes, x, rewards_CS.mean(axis=0), BLUE, "mean of seeds")
    drawing.label(axes, "Reward", "mean reward of a step's episodes")
    axes.legend(loc="lower right", **LEGEND)


def _slopes(
    axes: Axes, curves: Sequence[LearningCurve], score: Literal["accuracy", "reward"]
) -> None:
    scale, unit = (100, "tasks solved (%)") if score == "accuracy" else (1, "mean reward")
    for place, curve in enumerate(curves):
        shift = 0.03 * (place - (len(curves) - 1) / 2)  # intervals beside each other, not hidden
        ends = [curve.before, curve.after]
        means = scale * np.array([end.mean for end in ends])
        reach = scale * np.array([[end.mean - end.low, end.high - end.mean] for end in ends]).T
        axes.errorbar(
            np.array([0, 1]) + shift, means, reach, fmt="o-", color=BLUE, alpha=0.75, ms=4, lw=1.2
        )
    for place, side in enumerate(("before", "after")):
        mean = scale * np.mean([asdict(curve)[side]["mean"] for curve in curves])
        shown = f"{mean:.1f} %" if score == "accuracy" else f"{mean:.1f}"
        axes.annotate(
            shown, (place, 0.94), xycoords=("data", "axes fraction"), ha="center", weight="bold"
        )
    drawing.label(axes, f"Held-out {score}", unit, x="")
    axes.set_xticks([0, 1], ["before", "after"])
    axes.set(xlim=(-0.4, 1.4), ylim=(min(0, axes.get_ylim()[0]), 1.15 * axes.get_ylim()[1]))


def _reward(steps: Sequence[Json]) -> Figure | None:
    reward, x = column(steps, "reward"), column(steps, "step")
    if not np.isfinite(reward).any():
        return None
    figure = drawing.figure_of(3.0)
    axes = figure.subplots()
    mean, spread = drawing.smooth(reward), drawing.smooth(column(steps, "reward_std"))
    drawing.line(axes, x, reward, BLUE, "mean, smoothed")
    if np.isfinite(spread).any():
        band = (mean - spread, mean + spread)
        axes.fill_between(x, *band, color=BLUE, alpha=0.12, lw=0, label="± 1 standard deviation")
    drawing.label(axes, "Reward", "mean reward of a step's episodes")
    axes.legend(loc="best", **LEGEND)
    return figure


def _components(steps: Sequence[Json]) -> Figure | None:
    """One panel while the lines can be told apart and share a scale, else a panel each."""
    every = {name: column(steps, f"rewards/{name}/mean") for name in components(steps)}
    series = {name: values for name, values in every.items() if np.isfinite(values).any()}
    if not series:
        return None
    together = len(series) <= len(COLOURS) and _one_scale(series)
    return (_together if together else _apart)(column(steps, "step"), series)


def _one_scale(series: Series) -> bool:
    largest = [float(np.nanmax(np.abs(values))) for values in series.values()]
    seen = [value for value in largest if value > 0]
    return not seen or max(seen) <= 20 * min(seen)


def _together(x: Floats, series: Series) -> Figure:
    figure = drawing.figure_of(3.0)
    axes = figure.subplots()
    for colour, (name, values) in zip(COLOURS, series.items(), strict=False):
        drawing.line(axes, x, values, colour, name)
    drawing.label(axes, "Reward components", "mean score, unweighted")
    axes.legend(loc="best", **LEGEND)
    return figure


def _apart(x: Floats, series: Series) -> Figure:
    columns = min(3, len(series))
    rows = math.ceil(len(series) / columns)
    figure = drawing.figure_of(0.7 + 1.5 * rows)
    figure.suptitle("Reward components: mean score, unweighted", fontsize=11, fontweight="bold")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, (name, values) in zip(panels, series.items(), strict=False):
        drawing.line(axes, x, values, BLUE, name)
        drawing.label(axes, drawing.plain_text(name), "", x="")
    for axes in panels[len(series) :]:
        axes.set_visible(False)
    figure.supxlabel("training step", fontsize=9)
    return figure


def _length(steps: Sequence[Json]) -> Figure | None:
    length, x = column(steps, "completions/mean_length"), column(steps, "step")
    if not np.isfinite(length).any():
        return None
    figure = drawing.figure_of(3.8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    drawing.line(upper, x, length, BLUE, "length")
    drawing.label(upper, "Completion length", "mean tokens", x="")
    upper.set_ylim(bottom=0)
    drawing.line(lower, x, 100 * column(steps, "completions/clipped_ratio"), ORANGE, "cut off")
    drawing.label(lower, "", "cut off at limit (%)")
    lower.set_ylim(-4, 104)
    return figure


def _accuracy(evaluation: Json) -> Figure | None:
    """Sampled and greedy accuracy in percent; the component `value` beside it, on its own scale."""
    accuracy = _scores(evaluation, lambda mode: mode.get("accuracy"))
    value = _scores(evaluation, lambda mode: mode.get("components", {}).get("value"))
    if not accuracy:
        return None
    figure = drawing.figure_of(3.2)
    panels = figure.subplots(1, 2 if value else 1, squeeze=False)[0]
    tasks = (evaluation.get("after") or evaluation["before"])["tasks"]
    drawing.label(panels[0], f"Accuracy, {tasks:,} held-out tasks", "tasks solved (%)", x="")
    _draw_scores(panels[0], accuracy, 100)
    panels[0].set(ylim=(0, 116), yticks=range(0, 101, 20))
    if value:
        drawing.label(panels[1], "Component “value”", "mean score, unweighted", x="")
        _draw_scores(panels[1], value, 1)
        panels[1].margins(y=0.15)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, **LEGEND)
    return figure


Scores = dict[tuple[str, str], Mapping[str, Any]]


def _scores(evaluation: Json, pick: Callable[[Json], Any]) -> Scores:
    """What there is of one score, by (before or after, sampled or greedy)."""
    every = {
        (side, mode): pick((evaluation.get(side) or {}).get(mode) or {})
        for side in ("before", "after")
        for mode in ("sampled", "greedy")
    }
    return {key: score for key, score in every.items() if score}


def _draw_scores(axes: Axes, scores: Scores, scale: float) -> None:
    modes = list(dict.fromkeys(mode for _, mode in scores))
    sides = {
        side: [_scaled(scores.get((side, mode), {}), scale) for mode in modes]
        for side in dict.fromkeys(side for side, _ in scores)
    }
    drawing.bars(axes, sides, modes)


def _scaled(score: Mapping[str, Any], scale: float) -> dict[str, float]:
    return {key: scale * value for key, value in score.items() if value is not None}
