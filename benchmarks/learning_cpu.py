"""Does the embedded default learn? Three seeds of `train_agent --env Arithmetic-v0`, end to end.

    python benchmarks/learning_cpu.py [--seeds 0 1 2] [--output runs/learning_cpu]

Prints a table against the bars; writes `curves.json`, `learning_cpu.png` and the recipe's band
(what `train_agent --verify` compares with) to the output folder.
Runs are separate processes, as a person starts them; takes some six minutes a seed on two cores.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from taskgym.training.bands import band_path, make_band
from taskgym.training.metrics import MetricsFile, read_evaluation
from taskgym.training.plots import LearningCurve, learning_curves
from taskgym.training.statistics import Interval

# What the embedded default promises.
SAMPLED, GREEDY, SECONDS = 0.40, 0.10, 360.0


@dataclass(frozen=True)
class Arguments:
    """Three seeds of the embedded default."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Run seeds."""
    output: Path = Path("runs/learning_cpu")
    """Where run folders, curves and the picture go."""


def main() -> None:
    """Runs the seeds and prints the table; exits with 1 if a bar is missed."""
    arguments = tyro.cli(Arguments)
    results = [run(seed, arguments.output) for seed in arguments.seeds]
    print(table(results))
    (arguments.output / "curves.json").write_text(json.dumps(results, indent=1))
    curves = [
        LearningCurve(r["seed"], r["rewards"], Interval(**r["before"]), Interval(**r["after"]))
        for r in results
    ]
    title = "SmolLM2-135M, GRPO on a CPU: Arithmetic-v0"
    learning_curves(curves, arguments.output / "learning_cpu.png", title)
    write_band([Path(r["folder"]) for r in results], arguments.output)
    sys.exit(not all(met(result) for result in results))


def run(seed: int, output: Path) -> dict[str, Any]:
    """Trains one seed in a process of its own and reads what it left."""
    output.mkdir(parents=True, exist_ok=True)
    known = set(output.glob("*/config.yaml"))
    command = [sys.executable, "-m", "taskgym.training.commands.train_agent"]
    flags = ["--env", "Arithmetic-v0", "--seed", str(seed), "--output", str(output)]
    began, cpu = time.perf_counter(), cpu_seconds()
    subprocess.run([*command, *flags], check=True)
    wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    (config,) = set(output.glob("*/config.yaml")) - known
    return {"seed": seed, "wall": wall, "cpu": cpu, **read(config.parent)}


def read(folder: Path) -> dict[str, Any]:
    """The numbers of a run folder that the table and the picture need."""
    scores = json.loads((folder / "evaluation.json").read_text())
    steps = MetricsFile(folder / "metrics.jsonl").read().steps
    before, after = scores["before"], scores["after"]
    training = sum(step["step_time"] for step in steps)
    return {
        "folder": str(folder),
        "tasks": after["tasks"],
        "rewards": [step["reward"] for step in steps],
        "before": before["sampled"]["accuracy"],
        "after": after["sampled"]["accuracy"],
        "sampled": [s["sampled"]["accuracy"]["mean"] for s in (before, after)],
        "value": [s["greedy"]["components"]["value"]["mean"] for s in (before, after)],
        "seconds": training + before["seconds"] + after["seconds"],
    }


def write_band(folders: list[Path], output: Path) -> None:
    """Where further runs of the recipe should lie."""
    steps = [MetricsFile(folder / "metrics.jsonl").read().steps for folder in folders]
    scores = [read_evaluation(folder) for folder in folders]
    band = make_band(steps, scores, "python benchmarks/learning_cpu.py", "a CPU")
    band.write(output / band_path("smollm2-135m-arithmetic").name)


def met(result: dict[str, Any]) -> bool:
    """Whether a seed meets every bar."""
    sampled, value = gains(result)
    return bool(
        result["tasks"] >= 200
        and sampled >= SAMPLED
        and value >= GREEDY
        and result["seconds"] <= SECONDS
    )


def gains(result: dict[str, Any]) -> tuple[float, float]:
    """After minus before: sampled accuracy, greedy accuracy of the value alone."""
    (s0, s1), (v0, v1) = result["sampled"], result["value"]
    return s1 - s0, v1 - v0


def table(results: list[dict[str, Any]]) -> str:
    """The seeds side by side with the bars."""
    tasks = results[0]["tasks"]
    lines = [
        f"{tasks} held-out tasks; sampled: mean@8, temperature 1, exact format and EOS; "
        "greedy: the value alone",
        "seed   sampled before -> after (gain)   greedy before -> after (gain)   "
        "train + eval s   whole run s   CPU s",
    ]
    for r in results:
        (s0, s1), (v0, v1), (sampled, value) = r["sampled"], r["value"], gains(r)
        lines.append(
            f"{r['seed']:>4}   {s0:10.3f} -> {s1:.3f} ({sampled:+.3f})"
            f"   {v0:13.3f} -> {v1:.3f} ({value:+.3f})"
            f"   {r['seconds']:14.0f}   {r['wall']:11.0f}   {r['cpu']:5.0f}"
            f"   {'met' if met(r) else 'MISSED'}"
        )
    lines.append(
        f"bars: sampled +{SAMPLED:.2f}, greedy +{GREEDY:.2f}, train + eval {SECONDS:.0f} s at most"
    )
    return "\n".join(lines)


def cpu_seconds() -> float:
    """CPU time of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
