"""The results of `grpo_gpu.py` in words: a line for each, and a table with ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from grpo_gpu_run import overlaps

PEER = "trl"  # what ratios are to
_BEFORE = ("generate", "sync", "canary", "score")  # phases of a step before it learns
PHASES = (*_BEFORE, "learn", "wait")  # wait: nothing to learn from yet, where both overlap

Result = Mapping[str, Any]


def line(result: Result) -> str:
    """One result in one line."""
    name = f"{result['contender']}, {result['completions']} completions"
    if "why" in result:
        return f"{name}: FAILED: {result['why']}"
    phases = ", ".join(f"{phase} {spent:.2f}" for phase, spent in phases_of(result).items())
    steps = " ".join(f"{step['wall']:.2f}" for step in result["measured"])
    return f"{name}: {wall_of(result):.2f} s a step ({steps}); {phases}{_memory(result)}"


def table(results: Iterable[Result]) -> str:
    """All results by size, the last one of each contender, beside the peer's of the same size."""
    latest = {(r["completions"], r["contender"]): r for r in results if "why" not in r}
    sizes = sorted({size for size, _ in latest})
    blocks = [_block(size, {c: r for (s, c), r in latest.items() if s == size}) for size in sizes]
    return "\n\n".join(blocks) if blocks else "nothing was measured"


def wall_of(result: Result) -> float:
    """Seconds of a step, the median."""
    return median(step["wall"] for step in result["measured"])


def phases_of(result: Result) -> dict[str, float]:
    """Medians of the phases; where nothing overlaps, `learn` is all that no other phase counts."""
    steps = result["measured"]
    found = {p: median(step.get(p, 0.0) for step in steps) for p in PHASES if p in steps[0]}
    if not overlaps(result["contender"]):
        found["learn"] = wall_of(result) - sum(found.get(p, 0.0) for p in _BEFORE)
        found.pop("wait", None)
    return found


def bound_of(result: Result) -> float:
    """How many times faster a step would be if generation and learning overlapped fully."""
    phases = phases_of(result)
    write, learn = phases["generate"] + phases.get("score", 0.0), phases["learn"]
    return (write + learn) / max(write, learn)


def _block(size: int, by_name: Mapping[str, Result]) -> str:
    some = next(iter(by_name.values()))
    depth = some["layers"] or "all"
    tokens = f"{some['tokens']} tokens, {some['tokens'] / size:.0f} a completion"
    head = (
        f"{size} completions ({tokens}); {some['shape']}, {depth} layers, micro-batch "
        f"{some['micro']}, vLLM {some['engine']}, cache {some['cache']:g} GiB; {some['device']}"
    )
    rows = [_HEAD, *(_row(name, by_name) for name in by_name)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    overlapped = [_overlap(name, by_name) for name in by_name if overlaps(name)]
    return "\n".join([head, *lines, *filter(None, overlapped)])


_HEAD = ["contender", "s/step", f"x {PEER}", "tok/s", "compl/s", *PHASES]
_HEAD += ["outside pool GiB: allocated", "reserved"]


def _row(name: str, by_name: Mapping[str, Result]) -> list[str]:
    result = by_name[name]
    wall, phases = wall_of(result), phases_of(result)
    ratio = f"{wall_of(by_name[PEER]) / wall:.2f}" if PEER in by_name else ""
    spent = [f"{phases[p]:.3f}" if p in phases else "" for p in PHASES]
    speed = [f"{result['tokens'] / wall:.0f}", f"{result['completions'] / wall:.1f}"]
    memory = [f"{result[m]:.1f}" if m in result else "" for m in ("allocated_gib", "reserved_gib")]
    return [name, f"{wall:.2f}", ratio, *speed, *spent, *memory]


def _overlap(name: str, by_name: Mapping[str, Result]) -> str:
    """What overlapping reached of what it could, by what the on-policy run measured."""
    on_policy = by_name.get(name.removesuffix("-stale").removesuffix("-server"))
    if on_policy is None:
        return ""
    bound, reached = bound_of(on_policy), wall_of(on_policy) / wall_of(by_name[name])
    return f"{name}: {reached:.2f}x its on-policy run; bound {bound:.2f}x; {reached / bound:.0%}"


def _memory(result: Result) -> str:
    if "reserved_gib" not in result:
        return ""
    return (
        f"; outside vLLM's pool {result['allocated_gib']:.1f} GiB allocated, "
        f"{result['reserved_gib']:.1f} reserved; pool {result['pool_gib']:.1f}{_highest(result)}"
    )


def _highest(result: Result) -> str:
    at = result.get("highest", {})
    if "rows" not in at:
        return ""
    return (
        f"; highest in {at['place']}, {at['rows']} rows of {at['tokens']} tokens, the longest "
        f"{at['longest']}, {at['gib'] - at['rest_gib']:.2f} GiB above {at['rest_gib']:.2f} at rest"
    )
