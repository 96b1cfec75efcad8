"""`report.html`: one page that tells what a run did, made from its folder alone."""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from taskgym.training.folder import RunFolder
from taskgym.training.metrics import Json, MetricsFile, column, read_evaluation, read_objects
from taskgym.training.plots import write_plots
from taskgym.training.report_episodes import episodes_section
from taskgym.training.report_html import (
    Html,
    duration,
    fold,
    join,
    number,
    page,
    percent,
    picture,
    section,
    signed,
    tag,
    text,
)
from taskgym.training.report_tables import (
    accuracy_change,
    evaluation_section,
    fifths,
    mean,
    time_section,
    xray_section,
)


def write_report(run_dir: Path) -> Path:
    """Draws the plots and writes `report.html`: whole in one file, nothing loaded from elsewhere.

    Works at any moment of a run: what is not there yet is left out.

    Raises:
        OSError: The folder cannot be read or written.
        ValueError: A file of the folder is broken; the message names it.
    """
    folder = RunFolder(run_dir)
    config = _read_config(folder.config)
    steps = MetricsFile(folder.metrics).read().steps
    evaluation = read_evaluation(run_dir)
    body = (
        _header(folder, config, steps),
        _cards(steps, evaluation),
        evaluation_section(evaluation),
        _curves(write_plots(run_dir)),
        xray_section(steps),
        time_section(steps, evaluation),
        episodes_section(read_objects(folder.episodes)),
        _next(folder, config),
        _settings(config),
    )
    path = run_dir / "report.html"
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(page(f"{config.get('env', 'run')} · taskgym", *body), encoding="utf-8")
    os.replace(temporary, path)  # whoever has it open never sees half a page
    return path


def _header(folder: RunFolder, config: Json, steps: Sequence[Json]) -> Html:
    done = steps[-1]["step"] if steps else 0
    state = "finished" if folder.finished else "not finished"
    facts = [config.get("model") or "", f"{done} of {config.get('steps', '?')} steps, {state}"]
    facts += [f"seed {config['seed']}"] if "seed" in config else []
    versions = ", ".join(f"{name} {is_}" for name, is_ in config.get("versions", {}).items())
    return join(
        tag("h1", text(config.get("env", folder.path.name))),
        tag("p", text(" · ".join(filter(None, facts)))),
        tag("p", text(" · ".join(filter(None, [folder.path.name, versions]))), css="soft"),
    )


def _cards(steps: Sequence[Json], evaluation: Json) -> Html:
    """The few numbers a reader wants first."""
    cards = [_accuracy_card(evaluation), _reward_card(steps)]
    speed = mean(column(steps, "tokens_per_second"))
    if math.isfinite(speed):
        cards.append(_card("sampling", f"{number(speed)} tokens/s", "mean over the steps"))
    seconds = sum(
        float(np.nansum(column(steps, f"seconds/{phase}")))
        for phase in ("wait", "learn", "sync", "canary")
    )
    if seconds:
        cards.append(_card("training time", duration(seconds), f"{len(steps)} steps"))
    return tag("div", *cards, css="cards")


def _accuracy_card(evaluation: Json) -> Html:
    before, after = (evaluation.get(side) or {} for side in ("before", "after"))
    scores = [side["sampled"]["accuracy"]["mean"] for side in (before, after) if side]
    if not scores:
        return Html("")
    change, note = accuracy_change(before, after), "sampled"
    if change:
        low, high = signed(percent(change.low)), signed(percent(change.high))
        note = f"change: {low} to {high} (95 % interval)"
    return _card("held-out accuracy", " → ".join(map(percent, scores)), note)


def _reward_card(steps: Sequence[Json]) -> Html:
    first, last = fifths(column(steps, "reward"))
    shown = f"{number(first)} → {number(last)}"
    return _card("reward", shown, "first → last fifth of the steps") if steps else Html("")


def _card(title: str, shown: str, note: str) -> Html:
    soft = (tag("span", text(line), css="soft") for line in (title, note))
    return tag("div", next(soft), tag("b", text(shown)), next(soft), css="card")


def _curves(plots: Sequence[Path]) -> Html:
    pictures = [picture(path, path.stem) for path in plots]
    return section("Curves", tag("div", *pictures, css="plots")) if plots else Html("")


def _next(folder: RunFolder, config: Json) -> Html:
    """What to type next."""
    commands = [["python", "-m", "taskgym.training.report", str(folder.path)]]
    if folder.adapter.exists():
        commands.insert(0, evaluate_command(folder, config))
    if not folder.finished:
        commands.insert(0, ["train_agent", "--resume", str(folder.path)])
    return section("Next", tag("pre", text("\n".join(map(shlex.join, commands)))))


def evaluate_command(folder: RunFolder, config: Json) -> list[str]:
    """The words that score a run's adapter on its env, sampled as in training."""
    words = ["evaluate_agent", "--adapter", str(folder.adapter)]
    for name in ("env", "data", "split", "model"):
        words += [f"--{name}", config[name]] if config.get(name) else []
    if config.get("columns"):
        words += ["--columns", *(word for pair in config["columns"].items() for word in pair)]
    if config.get("env_kwargs"):
        kwargs = yaml.safe_dump(config["env_kwargs"], default_flow_style=True, width=math.inf)
        words += ["--env-kwargs", kwargs.strip()]
    words += ["--load-in-4bit"] if config.get("load_in_4bit") else []
    for name, value in config.get("sampling", {}).items():
        words += [f"--sampling.{name.replace('_', '-')}", str(value)]
    return words


def _settings(config: Json) -> Html:
    shown = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    return fold(text("Configuration"), tag("pre", text(shown))) if config else Html("")


def _read_config(path: Path) -> Json:
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold names and values, got {type(content).__name__}")
    return content


if __name__ == "__main__":
    print(write_report(Path(sys.argv[1])))
