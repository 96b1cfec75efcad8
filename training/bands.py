"""Bands: what several measured runs of a recipe reached, and where one more run should lie.

A band ships beside its recipe as `NAME.band.json`. Its ranges are 95 % prediction intervals for one
further run: mean ± t sd sqrt(1 + 1/n), with Student's t at n - 1 degrees of freedom (Hahn and
Meeker 1991, section 4.7). With three seeds t is 4.3: a run below has a fault, or very bad luck.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from taskgym.training import recipes
from taskgym.training.metrics import Json, column
from taskgym.training.statistics import Floats, Interval

# Runs -> the 97.5 % point of Student's t at one degree of freedom less.
_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
_SIDES = ("before", "after")
_SCORES = ("accuracy", "reward")


@dataclass(frozen=True)
class Band:
    """What the runs of a recipe reached.

    Attributes:
        command: What measured it.
        device: On what.
        runs: How many, each of another seed.
        window: Steps that a run's reward is averaged over, up to and with the step it is read at.
        reward: The range at each step, from step 1.
        evaluation: `before` and `after` -> sampled `accuracy` and `reward` on held-out tasks; empty
            where the recipe holds no tasks out.
    """

    command: str
    device: str
    runs: int
    window: int
    reward: Sequence[Interval]
    evaluation: Mapping[str, Mapping[str, Interval]]

    def write(self, path: Path) -> None:
        """Writes it, four digits a number."""
        text = json.dumps(dataclasses.asdict(self), indent=1)
        path.write_text(text + "\n", encoding="utf-8")


def band_path(recipe: str) -> Path:
    """Where the band of a recipe is, if it has one."""
    return Path(recipes.__file__).with_name(f"{recipe}.band.json")


def read_band(path: Path) -> Band:
    """A band as `Band.write` wrote it."""
    found = json.loads(path.read_text(encoding="utf-8"))
    evaluation = {
        side: {name: Interval(**range_) for name, range_ in scores.items()}
        for side, scores in found.pop("evaluation").items()
    }
    reward = [Interval(**range_) for range_ in found.pop("reward")]
    return Band(**found, reward=reward, evaluation=evaluation)


def make_band(
    steps_R: Sequence[Sequence[Json]], evaluation_R: Sequence[Json], command: str, device: str
) -> Band:
    """A band from R runs of one recipe with different seeds.

    Args:
        steps_R: What `metrics.jsonl` holds, of each run.
        evaluation_R: What `evaluation.json` holds, of each run; empty mappings if nothing.
        command: What measured them.
        device: On what.

    Raises:
        ValueError: Fewer than 2 runs or more than 10, or runs of different lengths.
    """
    lengths = {len(steps) for steps in steps_R}
    if len(steps_R) not in _T or len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"a band takes 2 to 10 runs of equally many steps, got {[len(s) for s in steps_R]}"
        )
    (length,) = lengths
    window = max(1, length // 10)
    reward_RS = np.array([trailing(column(steps, "reward"), window) for steps in steps_R])
    return Band(
        command, device, len(steps_R), window, _ranges(reward_RS), _score_ranges(evaluation_R)
    )


def trailing(values_S: Floats, window: int) -> Floats:
    """The mean over the last `window` steps at each step; over fewer at the first."""
    sums_S = np.cumsum(np.concatenate([[0.0], values_S]))
    ends_S = np.arange(1, values_S.size + 1)
    starts_S = np.maximum(ends_S - window, 0)
    means_S: Floats = (sums_S[ends_S] - sums_S[starts_S]) / (ends_S - starts_S)
    return means_S


def _ranges(values_RS: Floats) -> list[Interval]:
    """A range at each step; three runs tell little of a spread, so neighbours share theirs."""
    runs, length = values_RS.shape
    variance_S = values_RS.var(axis=0, ddof=1)
    reach = length // 10
    shared_S = [variance_S[max(0, s - reach) : s + reach + 1].mean() for s in range(length)]
    means_S = values_RS.mean(axis=0)
    return [_range(m, math.sqrt(v), runs) for m, v in zip(means_S, shared_S, strict=True)]


def _score_ranges(evaluation_R: Sequence[Json]) -> dict[str, dict[str, Interval]]:
    return {
        side: {
            name: _ranges(
                np.array([[e[side]["sampled"][name]["mean"]] for e in evaluation_R], np.float64)
            )[0]
            for name in _SCORES
        }
        for side in _SIDES
        if all(side in evaluation for evaluation in evaluation_R)
    }


def _range(mean: float, deviation: float, runs: int) -> Interval:
    half = _T[runs] * deviation * math.sqrt(1 + 1 / runs)
    low, middle, high = (float(f"{v:.4g}") for v in (mean - half, mean, mean + half))
    return Interval(middle, low, high)
