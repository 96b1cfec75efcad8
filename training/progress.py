"""What a person sees while a run runs: a bar, and the numbers before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm


@contextmanager
def episode_bar(name: str, episodes: int) -> Iterator[Callable[[int], object]]:
    """A bar over episodes; call what it yields with how many have ended."""
    with tqdm(total=episodes, desc=name, unit="episode", dynamic_ncols=True) as bar:
        yield bar.update


@contextmanager
def step_bar(done: int, steps: int) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A bar over optimiser steps that shows reward, success and length of the last one."""
    with tqdm(total=steps, initial=done, desc="GRPO", unit="step", dynamic_ncols=True) as bar:

        def show(metrics: Mapping[str, float]) -> None:
            bar.set_postfix_str(
                f"reward {metrics['reward']:.2f}, success {metrics['success']:.0%}, "
                f"length {metrics['completions/mean_length']:.0f}",
                refresh=False,
            )
            bar.update(int(metrics["step"]) - bar.n)

        yield show


def evaluation_table(summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Evaluations side by side: what was scored, and each one's mean with its 95 % interval.

    Args:
        summaries: Column heading -> what `Evaluation.summary` gives.
    """
    first = next(iter(summaries.values()))
    rows = [("", [f"{name:>22}" for name in summaries])]
    for way, label in (("sampled", f"mean@{first['samples']}"), ("greedy", "greedy")):
        for name in ("accuracy", "reward", *(f"components/{c}" for c in first[way]["components"])):
            values = [_reach(s[way], name) for s in summaries.values()]
            rows.append((f"{label} {name.removeprefix('components/')}", [_cell(v) for v in values]))
    most = max(first["pass_at_k"], key=int)
    rates = [s["pass_at_k"][most] for s in summaries.values()]
    rows.append((f"pass@{most}", [f"{rate:>22.3f}" for rate in rates]))
    failed = [max(s[way]["failed"] for way in ("sampled", "greedy")) for s in summaries.values()]
    if any(failed):
        rows.append(("failed by our machinery", [f"{share:>22.1%}" for share in failed]))
    head = f"{first['tasks']} held-out tasks, mean with 95 % interval"
    width = max(len(label) for label, _ in rows)
    return "\n".join([head, *(f"  {label:<{width}} {''.join(cells)}" for label, cells in rows)])


def _reach(summary: Mapping[str, Any], name: str) -> Mapping[str, float]:
    found: Any = summary
    for part in name.split("/"):
        found = found[part]
    return dict(found)


def _cell(interval: Mapping[str, float]) -> str:
    return f"{interval['mean']:>8.3f} [{interval['low']:5.2f}, {interval['high']:5.2f}]"
