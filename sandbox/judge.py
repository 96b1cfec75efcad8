"""Runs one item of an attack corpus in a real sandbox, and says what did not hold."""

from __future__ import annotations

import os
import random
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskgym.sandbox.codec import BadValue, check_result
from taskgym.sandbox.corpus import Corpus, Item
from taskgym.sandbox.job import Job, Limits, Result, Status
from taskgym.sandbox.pool import Sandbox
from taskgym.sandbox.traps import Traps

MARKER = "PWNED"
GRACE_S = 0.5  # the caller has its answer so long after the deadline at the latest
SLACK = 1.2  # of the memory limit
GROWTH_MB = 64  # that this process may grow while one program runs


@dataclass(frozen=True)
class Trial:
    """One item that was run, and all that the checks look at."""

    item: Item
    corpus: Corpus
    result: Result
    probe: Result  # what the probe gave right afterwards
    limits: Limits
    traps: Traps
    target: Path  # what @WRITE@ was
    board: list[list[int]]  # what the program was called with, as it is now
    seconds: float
    growth_mb: float
    processes: int  # more than the pool consists of
    stream: tuple[float, ...]  # of an outside generator, after the run

    @property
    def text(self) -> str:
        """All that the caller sees of the program."""
        result = self.result
        return f"{result.value!r} {result.error_type} {result.error_message} {result.stdout}"

    @property
    def clean(self) -> bool:
        """Whether the pool is as new: the probe gives exactly what it should."""
        return self.probe.status is Status.OK and self.probe.value == self.corpus.probe.value


def try_item(item: Item, corpus: Corpus, box: Sandbox, traps: Traps, usual: int) -> Trial:
    """Runs the programs of an item, and the probe; `usual` is how many processes the pool has."""
    limits = Limits(**corpus.limits)  # type: ignore[arg-type]
    board = corpus.fresh_board()
    memory, outside = _memory_mb(), random.Random(7)
    for source in item.programs:
        source = traps.fill(source, item.id)
        job = Job(source, args=(board,), calls=item.calls, limits=limits)
        began = time.monotonic()
        result = box.map([job])[0]
        seconds = time.monotonic() - began
    growth = _memory_mb() - memory
    probe = Job(corpus.probe.programs[0], args=(corpus.fresh_board(),), limits=limits)
    return Trial(
        item,
        corpus,
        result,
        box.map([probe])[0],
        limits,
        traps,
        target=traps.folder / item.id,
        board=board,
        seconds=seconds,
        growth_mb=growth,
        processes=processes() - usual,
        stream=tuple(outside.random() for _ in range(4)),
    )


def complaints(trial: Trial) -> list[str]:
    """What the sandbox did wrong; empty if nothing."""
    item, result = trial.item, trial.result
    found = []
    if str(result.status) not in item.expect:
        said = f": {result.error_message}" if result.error_message else ""
        found.append(f"status {result.status}{said}; expected {' or '.join(item.expect)}")
    for canary in item.canaries:
        name, _, argument = canary.partition(":")
        check = CHECKS.get(name)
        if check is None:
            found.append(f"this self-test knows no canary {canary!r}")
        elif not check(trial, argument):
            found.append(f"canary {canary} did not hold: {_evidence(name, trial)}")
    return found


def about_time(complaint: str) -> bool:
    """Whether a complaint may be due to a busy machine."""
    return complaint.startswith("canary deadline")


def _evidence(name: str, trial: Trial) -> str:
    numbers = {
        "deadline": f"{trial.seconds:.2f} s, of which it ran {trial.result.wall_s:.2f} s; "
        f"{trial.processes:+} processes",
        "rss": f"{trial.result.peak_memory_mb:.0f} MiB, caller {trial.growth_mb:+.0f} MiB",
        "no_children": f"{trial.processes:+} processes",
        "next_clean": f"the probe gave {trial.probe.status} {trial.probe.value!r}",
    }
    return numbers.get(name, trial.text[:200])


def _plain(trial: Trial, _: str) -> bool:
    try:
        check_result(trial.result.value)
    except BadValue:
        return False
    return True


def _small(trial: Trial, _: str) -> bool:
    result = trial.result
    sizes = len(repr(result.value)), len(result.error_message or "")
    return max(sizes) <= trial.limits.result_bytes


_outside = random.Random(7)
_STREAM = tuple(_outside.random() for _ in range(4))

CHECKS: dict[str, Callable[[Trial, str], bool]] = {
    "marker": lambda t, _: MARKER not in t.text,
    "marker_value": lambda t, _: MARKER not in repr(t.result.value),
    "marker_or_clean": lambda t, _: MARKER not in t.text or t.clean,
    "token": lambda t, _: t.traps.token not in t.text,
    "file_absent": lambda t, _: not t.target.exists(),
    "read_intact": lambda t, _: t.traps.intact(),
    "port_silent": lambda t, _: not t.traps.visited(),
    "deadline": lambda t, _: t.seconds <= t.limits.wall_s + GRACE_S and t.processes <= 0,
    "rss": lambda t, _: (
        t.result.peak_memory_mb <= SLACK * t.limits.memory_mb and t.growth_mb <= GROWTH_MB
    ),
    "stdout_cap": lambda t, _: (
        len(t.result.stdout.encode("utf-8", "replace")) <= t.limits.stdout_bytes
        and t.growth_mb <= GROWTH_MB
    ),
    "result_cap": _small,
    "survive": lambda t, _: t.result.status is not Status.INFRA and t.clean,
    "next_clean": lambda t, _: t.clean,
    "board_unchanged": lambda t, _: t.board == t.corpus.board,
    "rng_isolated": lambda t, _: t.stream == _STREAM,
    "parent_alive": lambda t, _: True,  # or nobody would be here to say so
    "no_children": lambda t, _: t.processes <= 0,
    "plain": _plain,
    "value": lambda t, wanted: (
        t.result.status is not Status.OK or str(t.result.value) == wanted
        if wanted
        else t.result.value == t.item.value
    ),
    "status_not": lambda t, status: str(t.result.status) != status,
}


def _memory_mb() -> float:
    """The most memory this process ever had resident, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def processes() -> int:
    """How many processes descend from this one (0 where /proc does not say)."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = 0, [os.getpid()]
    while queue:
        children = parents.get(queue.pop(), [])
        found += len(children)
        queue += children
    return found
