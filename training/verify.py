"""Compares a run with the band of its recipe: `train_agent --verify [RUN]`."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from taskgym.training.bands import Band, band_path, read_band, trailing
from taskgym.training.cli import recipe_config
from taskgym.training.config_flags import PolicyFlags
from taskgym.training.errors import ConfigError, RunError
from taskgym.training.folder import RunFolder, resolved
from taskgym.training.metrics import Json, MetricsFile, column, read_evaluation
from taskgym.training.recipes import names, read_yaml
from taskgym.training.statistics import Interval

_COMPARED = 5  # steps of a whole run that are compared, evenly spaced
# What does not change what is learned, or is another draw of the same.
# Memory decides how the work is divided.
_FREE = {"seed", "output", "save_every", "trackers", "recipe", "notebook", "versions"}
_FREE |= {"standby", "grpo.micro_batch"} | {field.name for field in dataclasses.fields(PolicyFlags)}


@dataclass(frozen=True)
class Reading:
    """One number of a run beside its range."""

    what: str
    value: float
    range: Interval

    @property
    def verdict(self) -> str:
        """`below`, `inside` or `above`."""
        if self.value < self.range.low:
            return "below"
        return "above" if self.value > self.range.high else "inside"


@dataclass(frozen=True)
class Verification:
    """A run's numbers beside the band of its recipe.

    Attributes:
        recipe: Its name.
        band: What is compared with.
        readings: Rewards at the compared steps, then held-out scores.
        different: Settings of the run that the recipe sets otherwise: name -> (recipe's, run's).
    """

    recipe: str
    band: Band
    readings: list[Reading]
    different: Mapping[str, tuple[Any, Any]]

    @property
    def below(self) -> bool:
        """Whether any number is below its range."""
        return any(reading.verdict == "below" for reading in self.readings)

    def table(self) -> str:
        """What a person reads."""
        band = self.band
        lines = [
            f"{self.recipe}: measured with {band.runs} seeds on {band.device} ({band.command})",
            f"  {'':28} {'run':>8} {'mean':>8}   95 % of further runs",
        ]
        for r in self.readings:
            ends = f"[{r.range.low:.3f}, {r.range.high:.3f}]"
            lines.append(
                f"  {r.what:28} {r.value:8.3f} {r.range.mean:8.3f}   {ends:20} {r.verdict}"
            )
        lines += [
            f"  not the recipe's: {name} is {run!r}, there {recipe!r}"
            for name, (recipe, run) in self.different.items()
        ]
        return "\n".join([*lines, "below the band" if self.below else "not below the band"])


def verify(run: Path) -> Verification:
    """Reads a run, finished or not, and sets it beside the band of its recipe.

    Raises:
        ConfigError: Its recipe has no band.
        RunError: No run there, or too few steps to compare.
    """
    folder = RunFolder(run)
    if not folder.config.exists():
        raise RunError(f"{run} is no run folder: it has no {folder.config.name}")
    config = read_yaml(folder.config)
    recipe = str(config.get("recipe", ""))
    band = _band_of(recipe)
    steps = MetricsFile(folder.metrics).read().steps
    readings = [*_rewards(steps, band), *_scores(read_evaluation(run), band)]
    if not readings:
        raise RunError(
            f"{run} has {len(steps)} steps; the first that is compared is {_places(band)[0]}"
        )
    return Verification(recipe, band, readings, _different(config, recipe))


def _band_of(recipe: str) -> Band:
    if recipe and band_path(recipe).exists():
        return read_band(band_path(recipe))
    known = [name for name in names() if band_path(name).exists()]
    near = difflib.get_close_matches(recipe, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    what = f"the recipe {recipe!r} has no measured band" if recipe else "the run has no recipe"
    raise ConfigError(f"{what}.{hint} There are bands of: {', '.join(known)}")


def _places(band: Band) -> list[int]:
    """The steps that are compared; the last one is the recipe's last."""
    length = len(band.reward)
    return sorted({max(1, round(length * k / _COMPARED)) for k in range(1, _COMPARED + 1)})


def _rewards(steps: list[Json], band: Band) -> Iterator[Reading]:
    means_S = trailing(column(steps, "reward"), band.window)
    for step in _places(band):
        if step <= means_S.size and np.isfinite(means_S[step - 1]):
            yield Reading(f"reward, step {step}", float(means_S[step - 1]), band.reward[step - 1])


def _scores(evaluation: Json, band: Band) -> Iterator[Reading]:
    for side, ranges in band.evaluation.items():
        for name, range_ in ranges.items():
            if side in evaluation:
                score = evaluation[side]["sampled"][name]["mean"]
                yield Reading(f"held-out {name} {side}", score, range_)


def _different(config: Json, recipe: str) -> dict[str, tuple[Any, Any]]:
    """Settings that a run and its recipe do not share."""
    theirs, ours = _flat(resolved(recipe_config(recipe))), _flat(config)
    return {
        name: (theirs[name], ours[name])
        for name in theirs
        if not _FREE & {name, name.partition(".")[0]}
        and name in ours
        and theirs[name] != ours[name]
    }


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        whole = f"{before}{name}"
        flat |= _flat(value, f"{whole}.") if isinstance(value, dict) else {whole: value}
    return flat
