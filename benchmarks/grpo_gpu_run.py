"""One contender of `grpo_gpu.py` in this process: started, then measured when its turn comes."""

from __future__ import annotations

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "typings")]  # a checkout need not be installed

import grpo_gpu_work as work  # noqa: E402
from gpu_peaks import Peaks  # noqa: E402
from grpo_gpu_engine import GIB, Requests, pool_bytes  # noqa: E402

# process -> the contenders that it measures, one after the other, on one engine
PROCESSES = {
    "trl": ("trl",),
    "ours": ("ours", "ours-stale"),
    "ours-server": ("ours-server-stale",),
    "unsloth": ("unsloth",),
    "ours-unsloth": ("ours-unsloth", "ours-unsloth-stale"),
}

Say = Callable[[dict[str, Any]], None]


def overlaps(way: str) -> bool:
    """Whether a contender generates while it learns."""
    return way.endswith("-stale")


@dataclass(frozen=True)
class Settings:
    """What all contenders have in common.

    Attributes:
        model: Folder of the base model.
        folder: Where this contender may write.
        pairs: Contenders and completions of a generation, in the order that they are measured.
        most: Completions of any generation of any contender.
        steps: That are measured.
        warm_up: Steps before them.
        micro: Completions of one forward and backward pass.
        cache: GiB of vLLM's cache.
        engine: How vLLM starts; see `settle_engine`.
        profile: Completions of a generation; with so many, one more step is profiled.
        peaks: Whether the highest point of the memory is looked for; each micro-batch waits for it.
    """

    model: Path
    folder: Path
    pairs: Sequence[tuple[str, int]]
    most: int
    steps: int
    warm_up: int
    micro: int
    cache: float
    engine: str
    profile: Sequence[int]
    peaks: bool = False

    def all_steps(self, way: str, completions: int) -> int:
        """Steps of one run; one that overlaps ends with a step beside which nothing is written."""
        return self.warm_up + self.steps + (completions in self.profile) + overlaps(way)


class Contender(Protocol):
    """A learner and an engine in this process.

    Attributes:
        engine: vLLM's `LLMEngine`.
    """

    engine: Any

    def train(self, way: str, completions: int, meter: Meter) -> None:
        """Trains for all steps and tells the meter at the end of each."""


class Meter:
    """The wall time of each step, and of its phases; profiles one after them if asked to.

    Attributes:
        steps: Of each step `wall` and what its phases took, in seconds.
        profile: The summary of the step that was profiled.
    """

    def __init__(self, settings: Settings, completions: int):
        self._settings = settings
        self._profiles = completions in settings.profile
        self._profiler: Any = None
        self._last = time.perf_counter()
        self.steps: list[dict[str, float]] = []
        self.profile = ""

    def step(self, phases: Mapping[str, float]) -> None:
        """A step has ended, in which these phases took so many seconds."""
        wall = time.perf_counter() - self._last
        self.steps.append({"wall": wall, **phases})
        if self._profiles:
            self._profile(len(self.steps), wall)
        self._last = time.perf_counter()

    @property
    def measured(self) -> list[dict[str, float]]:
        """The steps after the warm-up that were not profiled."""
        return self.steps[self._settings.warm_up :][: self._settings.steps]

    def _profile(self, done: int, wall: float) -> None:
        from gpu_profile import Profiler

        before = self._settings.warm_up + self._settings.steps
        if done == before:
            self._profiler = Profiler()
        elif done == before + 1:
            self.profile = self._profiler.stop(wall)


def run_here(process: str, settings: Settings, say: Say) -> None:
    """Starts, says so, waits for a line on stdin, and measures; every result is said at once.

    Args:
        process: One of `PROCESSES`.
        settings: The same for all.
        say: Takes a message for the process that started this one.
    """
    from grpo_gpu_server import ServerRequests

    began = time.perf_counter()
    requests = ServerRequests() if process == "ours-server" else Requests()
    contender = _make(process, settings, requests)
    _tidy()
    start = round(time.perf_counter() - began, 1)
    say({"ready": process, "seconds_start": start})
    if not sys.stdin.readline():
        return  # whoever would listen is gone
    for way, completions in settings.pairs:
        named = {"contender": way, "completions": completions, "seconds_start": start}
        try:
            say(named | _measure(contender, way, completions, settings, requests))
        except Exception as error:  # the others can still be measured
            traceback.print_exc()
            say(named | {"why": f"{type(error).__name__}: {error}"})


def _make(process: str, settings: Settings, requests: Requests) -> Contender:
    from grpo_gpu_ours import Ours
    from grpo_gpu_peers import Trl, Unsloth

    if process == "trl":
        return Trl(settings, requests)
    if process == "unsloth":
        return Unsloth(settings, requests)
    loader = "unsloth" if process == "ours-unsloth" else "transformers"
    policy = "server" if process == "ours-server" else "vllm"
    return Ours(settings, loader, requests, policy=policy)


def _measure(
    contender: Contender, way: str, completions: int, settings: Settings, requests: Requests
) -> dict[str, Any]:
    from taskgym.training.devices import has_cuda

    _tidy()
    requests.restart(completions)
    meter = Meter(settings, completions)
    peaks = Peaks()
    with peaks.watched() if settings.peaks and has_cuda() else nullcontext():
        contender.train(way, completions, meter)
    wanted = settings.all_steps(way, completions) * sum(work.lengths(completions))
    if requests.sampled != wanted:
        raise RuntimeError(f"{requests.sampled} tokens were sampled, {wanted} were the work")
    return {
        "measured": meter.measured,
        "tokens": sum(work.lengths(completions)),
        "profile": meter.profile,
        **_memory(contender.engine, peaks),
    }


def _memory(engine: Any, peaks: Peaks) -> dict[str, Any]:
    """Peaks of this process by torch's allocator since `_tidy`, in GiB; nothing on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return {"device": "cpu"}
    pool = pool_bytes(engine) / GIB
    peaks.note("after the last step")
    return {
        "device": torch.cuda.get_device_name(0),
        "pool_gib": pool,
        "allocated_gib": peaks.highest["gib"] - pool,
        "reserved_gib": peaks.reserved - pool,
        "highest": {k: v - pool if k.endswith("gib") else v for k, v in peaks.highest.items()},
    }


def _tidy() -> None:
    """Gives back what loading or the run before has left, so that peaks are this run's own."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def parse_settings(text: str) -> Settings:
    """Settings as `grpo_gpu.py` hands them over."""
    said = json.loads(text)
    return Settings(**said | {name: Path(said[name]) for name in ("model", "folder")})
