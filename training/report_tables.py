"""The tables of `report.html`: held-out scores, the reward X-ray and where the time went."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from taskgym.training.metrics import Json, column, components
from taskgym.training.report_html import (
    Html,
    duration,
    join,
    number,
    percent,
    section,
    signed,
    table,
    tag,
    text,
)
from taskgym.training.statistics import Floats, Interval, paired_difference

Show = Callable[[float | None], str]

# Why a group taught nothing, and what helps.
_CAUSES = {
    "some": ("rewards differ", "the groups that are learned from"),
    "all_right": ("all right", "too easy by now: harder tasks, or enough"),
    "all_wrong": ("all wrong", "too hard: easier tasks, more samples, or partial credit"),
    "all_truncated": ("all truncated", "cut off by a limit: more tokens, turns or seconds"),
    "all_unparsed": ("all unparsed", "no answer found: show the format, or warm up on it"),
    "all_failed": ("all failed", "our machinery, not the model: see the errors of the episodes"),
}

_PHASES = {
    "generate": "the model writes",
    "score": "waiting for environments and rewards",
    "learn": "loss, gradients and optimiser",
    "sync": "the new adapter goes to the sampler",
    "canary": "a fixed text is compared in sampler and learner",
}


def fifths(values_S: Floats) -> tuple[float, float]:
    """The means over the first and the last fifth of the steps, at least one step each."""
    size = max(1, values_S.size // 5)
    return mean(values_S[:size]), mean(values_S[-size:])


def mean(values_S: Floats) -> float:
    """The mean of the numbers there are; NaN when there are none."""
    present = values_S[np.isfinite(values_S)]
    return float(present.mean()) if present.size else math.nan


def evaluation_section(evaluation: Json) -> Html:
    """Scores on held-out tasks before and after."""
    before, after = (evaluation.get(side) or {} for side in ("before", "after"))
    either = after or before
    if not either:
        return Html("")
    about = (
        f"{either['tasks']:,} tasks that were never trained on; sampled: {either['samples']} "
        "completions of each, greedy: one. In brackets: 95 % intervals over tasks."
    )
    rows = [row for mode in ("sampled", "greedy") for row in _mode_rows(mode, before, after)]
    rows += [_pass_row(k, before, after) for k in either.get("pass_at_k", {}) if k != "1"]
    head = ("score", "", "before", "after", "change")
    return section("Held-out tasks", tag("p", text(about), css="soft"), table(head, rows))


def accuracy_change(before: Json, after: Json) -> Interval | None:
    """The paired difference of the sampled accuracy, where both sides kept each task's successes.

    Returns:
        None without both sides or with different tasks.
    """
    ours, theirs = before.get("success_NK"), after.get("success_NK")
    return paired_difference(ours, theirs) if ours and theirs and len(ours) == len(theirs) else None


def xray_section(steps: Sequence[Json]) -> Html:
    """What each component paid early and late, and why groups taught nothing."""
    rows = [_reward_row("reward", "reward", "reward_std", steps)]
    rows += [
        _reward_row(name, f"rewards/{name}/mean", f"rewards/{name}/std", steps)
        for name in components(steps)
    ]
    head = ("component", "first fifth", "last fifth", "change", "spread, last fifth", "")
    about = "Means over the first and the last fifth of the steps, unweighted."
    shares = ("first fifth", "last fifth", "whole run", "")
    parts = (
        tag("p", text(about), css="soft"),
        table(head, rows),
        table(("groups by what they teach", *shares), _cause_rows(steps)),
        table(("episodes by verdict and stop", *shares), _outcome_rows(steps)),
    )
    return section("Reward X-ray", *parts) if steps else Html("")


def time_section(steps: Sequence[Json], evaluation: Json) -> Html:
    """Seconds by phase."""
    spent = [
        (phase, about, float(np.nansum(column(steps, f"seconds/{phase}"))), len(steps))
        for phase, about in _PHASES.items()
        if any(f"seconds/{phase}" in step for step in steps)
    ]
    spent += [
        (f"evaluation {side}", "held-out tasks", float(evaluation[side]["seconds"]), 0)
        for side in ("before", "after")
        if evaluation.get(side)
    ]
    total = sum(seconds for _, _, seconds, _ in spent) or 1.0
    rows = [
        [
            text(phase),
            tag("span", text(about), css="soft"),
            text(duration(seconds)),
            text(duration(seconds / times) if times else ""),
            _bar(seconds / total),
        ]
        for phase, about, seconds, times in spent
    ]
    return section("Where the time went", table(("phase", "", "total", "each step", "share"), rows))


def _mode_rows(mode: str, before: Json, after: Json) -> list[list[Html]]:
    ours, theirs = before.get(mode) or {}, after.get(mode) or {}
    paired = accuracy_change(before, after) if mode == "sampled" else None
    rows = [_score_row("accuracy", mode, ours.get("accuracy"), theirs.get("accuracy"), paired)]
    rows.append(_score_row("reward", mode, ours.get("reward"), theirs.get("reward")))
    parts, others = ours.get("components", {}), theirs.get("components", {})
    rows += [
        _score_row(name, mode, parts.get(name), others.get(name))
        for name in dict.fromkeys([*parts, *others])
    ]
    plain: tuple[tuple[str, str, Show], ...] = (
        ("tokens of an episode", "mean_length", number),
        ("truncated", "truncated", percent),
        ("failed by our machinery", "failed", percent),
    )
    rows += [
        _row(name, mode, ours.get(key), theirs.get(key), show)
        for name, key, show in plain
        if ours.get(key) or theirs.get(key)
    ]
    return rows


def _score_row(
    name: str, mode: str, before: Any, after: Any, paired: Interval | None = None
) -> list[Html]:
    show = percent if name == "accuracy" else number
    row = _row(name, mode, (before or {}).get("mean"), (after or {}).get("mean"), show)
    for place, score in ((2, before), (3, after)):
        if score:
            row[place] = join(row[place], _ends(score["low"], score["high"], show))
    if paired:
        row[4] = join(row[4], _ends(paired.low, paired.high, show))
        certain = "good" if paired.low > 0 else "bad" if paired.high < 0 else ""
        row[4] = tag("span", row[4], css=certain)
    return row


def _pass_row(k: str, before: Json, after: Json) -> list[Html]:
    ours, theirs = (side.get("pass_at_k", {}).get(k) for side in (before, after))
    return _row(f"pass@{k}", "sampled", ours, theirs, percent)


def _row(name: str, mode: str, before: float | None, after: float | None, show: Show) -> list[Html]:
    change = None if before is None or after is None else after - before
    cells = (show(before), show(after), signed(show(change)))
    return [text(name), tag("span", text(mode), css="soft"), *map(text, cells)]


def _ends(low: float | None, high: float | None, show: Show) -> Html:
    ends = (show(end).rstrip("\u00a0%") for end in (low, high))
    return tag("span", text(f" [{', '.join(ends)}]"), css="soft")


def _reward_row(name: str, key: str, spread_key: str, steps: Sequence[Json]) -> list[Html]:
    first, last = fifths(column(steps, key))
    spread = fifths(column(steps, spread_key))[1]
    shown = (number(first), number(last), signed(number(last - first)), number(spread))
    return [text(name), *map(text, shown), tag("span", text(_remark(last, spread)), css="soft")]


def _remark(last: float, spread: float) -> str:
    if spread != 0:
        return ""
    return (
        "never earned: it teaches nothing" if last == 0 else "always the same: it teaches nothing"
    )


def _cause_rows(steps: Sequence[Json]) -> list[list[Html]]:
    rows = [
        _share_row(name, column(steps, f"groups/{cause}"), percent, help_)
        for cause, (name, help_) in _CAUSES.items()
    ]
    rows.append(_share_row("replaced, each step", column(steps, "groups/replaced"), number, ""))
    return [row for row in rows if row]


def _outcome_rows(steps: Sequence[Json]) -> list[list[Html]]:
    names = dict.fromkeys(key for step in steps for key in step)
    return [
        # A step does not say what no episode came to: there the share is 0.
        _share_row(name.replace("/", ": "), np.nan_to_num(column(steps, name)), percent, "")
        for name in sorted(names)
        if name.startswith(("verdict/", "stop/"))
    ]


def _share_row(name: str, values_S: Floats, show: Show, help_: str) -> list[Html]:
    if not np.isfinite(values_S).any():
        return []
    shown = map(show, (*fifths(values_S), mean(values_S)))
    return [text(name), *map(text, shown), tag("span", text(help_), css="soft")]


def _bar(share: float) -> Html:
    bar = Html(f'<span class="bar" style="width:{120 * share:.0f}px"></span>')
    return join(bar, text(percent(share)))
