"""What the runs of `learning_gpu.py` have left: read, set side by side, drawn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from taskgym.training.bands import band_path, make_band
from taskgym.training.metrics import MetricsFile, column, components, read_evaluation
from taskgym.training.plots import LearningCurve, learning_curves
from taskgym.training.recipes import read_yaml
from taskgym.training.report_tables import fifths
from taskgym.training.statistics import Interval, paired_difference

Result = dict[str, Any]

# What is promised over the warm-up's checkpoint, the paired interval above 0.
BARS: dict[str, tuple[Literal["accuracy", "reward"], float]] = {
    "Math-GSM8K-v0": ("accuracy", 0.05),
    "Game2048-Strategy-v0": ("reward", 0.25),
}
RELATIVE = {"reward"}  # scores whose bar is a share of what they were before
PHASES = ("generate", "score", "learn", "sync")
SIGNALS = ("some", "all_right", "all_wrong", "all_truncated", "all_unparsed", "all_failed")


def read(name: str, output: Path, why: str, wall: float) -> Result:
    """A run's numbers, as far as it got.

    Args:
        name: Of the run.
        output: The folder that its run folder is in.
        why: How its process ended.
        wall: Seconds that took, start and all.
    """
    folders = sorted(config.parent for config in output.glob("*/config.yaml"))
    result: Result = {"name": name, "why": why, "wall": wall, "met": False}
    if not folders:
        return {**result, "config": {}, "steps": [], "evaluation": {}}
    folder = folders[-1]
    steps = MetricsFile(folder / "metrics.jsonl").read().steps
    config, evaluation = read_yaml(folder / "config.yaml"), read_evaluation(folder)
    rounded = [{key: float(f"{value:.6g}") for key, value in s.items()} for s in steps]
    result |= {"config": config, "steps": rounded, "evaluation": evaluation}
    return result | gain(config["env"], evaluation)


def joined(results: Iterable[Result]) -> list[Result]:
    """Each run once, by name; of one that was gone on with its last numbers and all its seconds."""
    runs: dict[str, Result] = {}
    for result in results:
        earlier = runs.get(result["name"], {"wall": 0.0})
        runs[result["name"]] = {**result, "wall": earlier["wall"] + result["wall"]}
    return [runs[name] for name in sorted(runs)]


def gain(env: str, evaluation: dict[str, Any]) -> Result:
    """The change of the score that the bar is on, where there are both sides of it."""
    score, bar = BARS[env]
    if not {"before", "after"} <= set(evaluation):
        return {}
    key = {"accuracy": "success_NK", "reward": "reward_NK"}[score]
    change = paired_difference(evaluation["before"][key], evaluation["after"][key])
    before = evaluation["before"]["sampled"][score]["mean"]
    share = change.mean / (before if score in RELATIVE else 1.0)
    met = bool(share >= bar and change.low > 0)
    return {"change": [change.mean, change.low, change.high], "share": share, "met": met}


def table(results: list[Result]) -> str:
    """The scores, the seconds, and what groups taught, run by run."""
    return "\n\n".join([_scores(results), _seconds(results), _lessons(results)])


def _scores(results: list[Result]) -> str:
    lines = [
        "held-out tasks, sampled at temperature 1; change with its paired 95 % interval",
        f"{'run':20} {'score':9} {'before':>7} {'after':>7}   change                   "
        "greedy            pass@k           steps",
    ]
    for r in results:
        score, _ = BARS.get(r["config"].get("env", ""), ("", 0))
        sides = [r["evaluation"].get(side, {}) for side in ("before", "after")]
        means = [_mean(side, "sampled", score) for side in sides]
        greedy = " -> ".join(_mean(side, "greedy", score) for side in sides)
        passed = " -> ".join(_most_passed(side) for side in sides)
        lines.append(
            f"{r['name']:20} {score:9} {means[0]:>7} {means[1]:>7}   {_change(r):24} {greedy:17}"
            f" {passed:16} {len(r['steps']):3}   {'met' if r['met'] else r['why']}"
        )
    gsm8k, game = (bar for _, bar in BARS.values())
    return "\n".join([*lines, f"bars: GSM8K {gsm8k:+.2f}, 2048 {game:+.0%}, interval above 0"])


def _mean(side: Result, way: str, score: str) -> str:
    return f"{side[way][score]['mean']:.3f}" if side else "-"


def _most_passed(side: Result) -> str:
    """Of all samples of a task at least one: pass@k."""
    rates = side.get("pass_at_k", {})
    return f"{rates[max(rates, key=int)]:.3f}" if rates else "-"


def _change(result: Result) -> str:
    if "change" not in result:
        return "-"
    mean, low, high = result["change"]
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"


def _seconds(results: list[Result]) -> str:
    lines = [f"{'median s a step':20} " + " ".join(f"{p:>9}" for p in PHASES) + "   whole run"]
    for r in results:
        spent = [_median(r, f"seconds/{phase}") for phase in PHASES]
        lines.append(f"{r['name']:20} " + " ".join(spent) + f"   {r['wall']:9.0f}")
    return "\n".join(lines)


def _median(result: Result, name: str) -> str:
    values = column(result["steps"], name)
    return f"{np.nanmedian(values):9.2f}" if values.size else f"{'-':>9}"


def _lessons(results: list[Result]) -> str:
    lines = ["means over the first -> the last fifth of the steps"]
    for r in results:
        steps = r["steps"]
        names = ["reward", "success", "completions/mean_length", "completions/clipped_ratio"]
        names += ["entropy", "grad_norm", *(f"rewards/{c}/mean" for c in components(steps))]
        names += [f"groups/{signal}" for signal in SIGNALS]
        shown = [f"{name} {_from_to(steps, name)}" for name in names if steps and name in steps[0]]
        lines += [f"{r['name']}: " + "; ".join(shown)]
    return "\n".join(lines)


def _from_to(steps: list[Any], name: str) -> str:
    first, last = fifths(column(steps, name))
    return f"{first:.3g} -> {last:.3g}"


def draw(results: list[Result], folder: Path) -> None:
    """The curves of each env whose runs came to their end: `<recipe>.png`."""
    for recipe, runs in whole_runs(results).items():
        env = runs[0]["config"]["env"]
        score, _ = BARS[env]
        curves = [
            LearningCurve(
                run["config"]["seed"],
                [step["reward"] for step in run["steps"]],
                *(
                    Interval(**run["evaluation"][side]["sampled"][score])
                    for side in ("before", "after")
                ),
            )
            for run in runs
        ]
        title = f"SmolLM2-135M, GRPO on a GPU: {env}"
        learning_curves(curves, folder / f"{recipe}.png", title, score)


def write_bands(results: list[Result], folder: Path) -> None:
    """The bands of the recipes that came to their end with several seeds."""
    for recipe, runs in whole_runs(results).items():
        if len({run["config"]["seed"] for run in runs}) == len(runs) > 1:
            steps, scores = ([run[part] for run in runs] for part in ("steps", "evaluation"))
            command = "python benchmarks/learning_gpu.py"
            band = make_band(steps, scores, command, f"one {runs[0]['device']}")
            band.write(folder / band_path(recipe).name)


def whole_runs(results: list[Result]) -> dict[str, list[Result]]:
    """The runs that came to their end, by recipe."""
    runs: dict[str, list[Result]] = {}
    for result in results:
        if "change" in result:
            runs.setdefault(result["config"]["recipe"], []).append(result)
    return runs
