"""What a GPU and its CPU do in one step: busy share, top kernels and top operators, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

_TOP = 25  # rows of each table
_WIDE = 90  # characters of a kernel's name


class Profiler:
    """Records from now until `stop`; torch's profiler without its slow Python events."""

    def __init__(self) -> None:
        from torch.profiler import ProfilerActivity, profile

        self._profile = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA])
        self._profile.start()

    def stop(self, wall: float) -> str:
        """The summary of what happened since.

        Args:
            wall: Seconds that the step took, profiled.
        """
        self._profile.stop()
        events = self._profile.profiler.kineto_results.events()
        return summary([_plain(e) for e in events if not e.is_user_annotation()], wall)


def summary(events: Iterable[tuple[str, bool, int, int]], wall: float) -> str:
    """Tables of kernels and operators, and how much of the wall time the GPU was busy.

    Args:
        events: Name, whether it ran on the GPU, start and duration in nanoseconds.
        wall: Seconds of the whole.
    """
    kernels, operators = Counter[str](), Counter[str]()
    counts = Counter[str]()
    spans = []
    for name, on_gpu, start, duration in events:
        counts[name] += 1
        (kernels if on_gpu else operators)[name] += duration
        if on_gpu:
            spans.append((start, start + duration))
    busy = covered(spans) / 1e9
    lines = [f"GPU busy {busy:.2f} s of {wall:.2f} s ({busy / wall:.0%}), profiled"]
    for title, seconds in (("kernels", kernels), ("CPU operators (nested ones twice)", operators)):
        lines.append(f"\n{title}:")
        for name, spent in seconds.most_common(_TOP):
            lines.append(f"{spent / 1e9:8.3f} s {counts[name]:8}x  {name[:_WIDE]}")
    return "\n".join(lines)


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """The length of the union of spans."""
    total, end = 0, 0
    for begin, finish in sorted(spans):
        total += max(0, finish - max(begin, end))
        end = max(end, finish)
    return total


def _plain(event: Any) -> tuple[str, bool, int, int]:
    on_gpu = str(event.device_type()).endswith("CUDA")
    return event.name(), on_gpu, event.start_ns(), event.duration_ns()
