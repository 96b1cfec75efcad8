"""What the pictures of a run are drawn with: figures, lines, bars and their colours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from taskgym.training.metrics import column
from taskgym.training.statistics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart with any colour vision.
BLUE, ORANGE, GREEN, PINK = COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
PALE, INK = "#b4bec9", "#4b5563"
LEGEND: dict[str, Any] = {"frameon": False, "fontsize": 9, "handlelength": 1.6}
WIDTH, DPI = 7.2, 150  # inches: 1,080 pixels, sharp at the width of a page


def figure_of(height: float, width: float = WIDTH) -> Figure:
    """An empty figure; made without pyplot, so no window, backend or global state is touched."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def smooth(values_S: Floats) -> Floats:
    """A centred moving average over about a tenth of the steps; NaN counts as absent.

    Args:
        values_S: Shape (S,).

    Returns:
        Shape (S,), with the window cut short at both ends and NaN where it holds no number.
    """
    if not values_S.size:
        return values_S
    reach = values_S.size // 20
    window, present = np.ones(2 * reach + 1), np.isfinite(values_S)
    totals = np.convolve(np.where(present, values_S, 0.0), window)
    counts = np.rint(np.convolve(present.astype(np.float64), window))
    means = np.divide(totals, counts, out=np.full_like(totals, math.nan), where=counts > 0)
    inside: Floats = means[reach : reach + values_S.size]
    return inside


def line(axes: Axes, x_S: Floats, values_S: Floats, colour: str, label: str) -> None:
    """The raw values faint, their moving average strong; marks where a line would not show."""
    label = plain_text(label)
    if np.isfinite(values_S).sum() < 3:
        axes.plot(x_S, values_S, "o-", color=colour, ms=5, label=label)
        return
    axes.plot(x_S, values_S, color=colour, lw=0.8, alpha=0.35)
    axes.plot(x_S, smooth(values_S), color=colour, lw=2, label=label)


def bars(axes: Axes, sides: Mapping[str, Sequence[Mapping[str, Any]]], names: list[str]) -> None:
    """Bars side by side, with intervals and numbers.

    Args:
        axes: Where to draw.
        sides: What each colour stands for, with one {mean, low, high} per name; empty: absent.
        names: The places along the x axis.
    """
    for (side, scores), colour, shift in zip(
        sides.items(), (PALE, BLUE), (-0.2, 0.2), strict=False
    ):
        places = np.arange(len(names)) + shift
        mean, low, high = (column(scores, key) for key in ("mean", "low", "high"))
        ends = np.maximum([mean - low, high - mean], 0)
        axes.bar(places, mean, 0.36, color=colour, label=side)
        axes.errorbar(places, mean, ends, fmt="none", ecolor=INK, elinewidth=1.2, capsize=4)
        tops = np.fmax(mean, high)
        for place, top, value in zip(places, tops, mean, strict=True):
            if math.isfinite(value):
                text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
                note(axes, place, top, text)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.axhline(0, color=INK, lw=0.8)


def note(axes: Axes, x: float, y: float, text: str) -> None:
    """A small number above a point."""
    axes.annotate(
        text, (x, y), (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=9
    )


def label(axes: Axes, title: str, y: str, x: str = "training step") -> None:
    """Title, units, a light grid and no frame."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11, fontweight="bold", loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # steps are whole
    axes.grid(axis="y", color="#e5e7eb", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, colors=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9ca3af")


def plain_text(text: str) -> str:
    """A name as matplotlib shows it literally: `$` is no formula, a leading `_` not hidden."""
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped
