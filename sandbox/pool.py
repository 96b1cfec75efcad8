"""The pool in the trainer: hands jobs to supervisors, from any thread, and replaces the dead."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Self

from taskgym.sandbox.job import Job, Limits, Result, SandboxUnavailable, Status
from taskgym.sandbox.layers import ALL, REQUIRED, Layer
from taskgym.sandbox.link import Link, Lost
from taskgym.sandbox.wire import Order, order_of, refused, result_of

logger = logging.getLogger(__name__)

ATTEMPTS = 3  # the first, and two more on other supervisors
BATCH = 16  # programs a child, with isolation="batch"

Layers = Literal["auto", "strict"] | tuple[str, ...]
Isolation = Literal["process", "batch"]


class Sandbox:
    """Runs programs of strangers and says what they did.

    Usable from any thread and as a context manager; supervisors start when first needed, one for
    each of `workers` jobs at a time, and stop at `close()`. After a fork the child starts its own.

    Args:
        workers: Jobs run at the same time; by default one a core.
        drivers: Paths of the trusted files that jobs may name as `driver`.
        isolation: "process" gives every program a process of its own. "batch" lets up to 16
            programs of one `map` share one, for speed: only the policy separates those.
        layers: "auto" takes what the machine offers, "strict" refuses to start without the
            system call filter. A tuple of names takes exactly those and refuses to start
            otherwise; it is there to test one layer without the others.
        allow_weak_isolation: Off Linux the operating system's layers are missing: say that this
            is understood.

    Raises:
        SandboxUnavailable: If this platform cannot isolate programs.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        drivers: Iterable[str | Path] = (),
        isolation: Isolation = "process",
        layers: Layers = "auto",
        allow_weak_isolation: bool = False,
    ):
        _check_platform(allow_weak_isolation)
        self.workers = workers if workers is not None else _cores()
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        if isolation not in ("process", "batch"):
            raise ValueError(f"isolation must be 'process' or 'batch', got {isolation!r}")
        self.drivers = tuple(_driver(path) for path in drivers)
        self.isolation = isolation
        self._wanted, self._required = _chosen(layers)
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        self._free = threading.Condition()
        self._idle: list[Link] = []
        self._lent = 0
        self._closed = False

    def run(
        self,
        source: str,
        *,
        entry: str = "strategy",
        args: Sequence[Any] = (),
        limits: Limits | None = None,
        **job: Any,
    ) -> Result:
        """Runs one program; the other keywords are those of `Job`.

        Raises:
            SandboxUnavailable: If the machinery fails; nothing a program does raises.
        """
        result = self.submit(Job(source, entry, tuple(args), limits=limits or Limits(), **job))
        if result.status is Status.INFRA:
            raise SandboxUnavailable(result.error_message)
        return result

    def submit(self, job: Job) -> Result:
        """Runs one job; a failed machinery is the status `infra` here, as in `map`."""
        return self._run_unit([job])[0]

    def map(self, jobs: Iterable[Job]) -> list[Result]:
        """Runs jobs on all workers and returns their results in order."""
        units = self._units(list(jobs))
        if len(units) <= 1:
            return [result for unit in units for result in self._run_unit(unit)]
        with ThreadPoolExecutor(min(self.workers, len(units)), "sandbox") as threads:
            return [result for unit in threads.map(self._run_unit, units) for result in unit]

    async def arun(self, source: str, **job: Any) -> Result:
        """`run` without blocking the event loop."""
        return await asyncio.to_thread(self.run, source, **job)

    async def amap(self, jobs: Iterable[Job]) -> list[Result]:
        """`map` without blocking the event loop."""
        return await asyncio.to_thread(self.map, jobs)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are active on this machine; starts a supervisor if none runs."""
        link = self._borrow()
        self._release(link)
        return link.layers

    def close(self) -> None:
        """Stops the supervisors; jobs that run are answered `infra`."""
        with self._free:
            self._closed = True
            idle, self._idle = self._idle, []
            self._free.notify_all()
        for link in idle:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _units(self, jobs: list[Job]) -> list[list[Job]]:
        """Jobs that share a child: one each, or in a batch up to 16 neighbours of equal limits."""
        if self.isolation == "process":
            return [[job] for job in jobs]
        units: list[list[Job]] = []
        for job in jobs:
            if units and len(units[-1]) < BATCH and units[-1][0].limits == job.limits:
                units[-1].append(job)
            else:
                units.append([job])
        return units

    def _run_unit(self, jobs: list[Job]) -> list[Result]:
        """Runs jobs that go to one supervisor together; tries again what it fails to answer."""
        orders = [order_of(job, self.drivers) for job in jobs]
        results = {number: answer for number, job in enumerate(jobs) if (answer := refused(job))}
        problem = ""
        for _ in range(ATTEMPTS):
            left = [number for number in range(len(jobs)) if number not in results]
            if not left:
                break
            try:
                for number, result in self._attempt(left, jobs, orders):
                    results[number] = result
            except (SandboxUnavailable, Lost) as error:
                problem = str(error)
                logger.warning("sandbox: %s", problem)
        failed = Result(Status.INFRA, error_type="SandboxUnavailable", error_message=problem)
        return [results.get(number, failed) for number in range(len(jobs))]

    def _attempt(
        self, left: list[int], jobs: list[Job], orders: list[Order]
    ) -> Iterator[tuple[int, Result]]:
        link = self._borrow()
        fit = False  # to serve again: not if it failed, was interrupted, or saw an escape
        try:
            answers = link.ask([orders[number] for number in left], jobs[0].limits.wall_s)
            fit = True
            for number, answer in zip(left, answers, strict=True):
                result = result_of(answer, jobs[number], link.layers)
                fit = fit and result.status is not Status.VIOLATION
                yield number, result
        except BaseException:
            fit = False
            raise
        finally:
            if not fit:
                link.close()
            self._release(link if fit else None)

    def _borrow(self) -> Link:
        """A supervisor for the caller alone, waiting for one or starting one."""
        with self._free:
            self._free.wait_for(lambda: self._closed or self._idle or self._lent < self.workers)
            if self._closed:
                raise SandboxUnavailable("this sandbox is closed")
            self._lent += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._start()
        except BaseException:
            self._release(None)
            raise

    def _start(self) -> Link:
        link = Link(self.drivers, sorted(self._wanted))
        missing = self._required - set(link.layers)
        if missing:
            link.close()
            raise SandboxUnavailable(
                f"this machine lacks layers of isolation that were asked for: "
                f"{', '.join(sorted(missing))} (it has {', '.join(link.layers)})"
            )
        return link

    def _release(self, link: Link | None) -> None:
        with self._free:
            self._lent -= 1
            if link is not None and not self._closed:
                self._idle.append(link)
                link = None
            self._free.notify()
        if link is not None:
            link.close()


_pools: weakref.WeakSet[Sandbox] = weakref.WeakSet()


def _begin_anew() -> None:
    """In a forked child: the supervisors are the parent's, and no lock is held by anyone here."""
    for pool in list(_pools):
        if not pool._closed:
            pool._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _check_platform(allow_weak_isolation: bool) -> None:
    if not hasattr(os, "fork"):
        raise SandboxUnavailable(f"the sandbox needs fork(), which {sys.platform} does not have")
    if sys.platform != "linux" and not allow_weak_isolation:
        raise SandboxUnavailable(
            f"on {sys.platform} only the language policy and a deadline would stand between a "
            "program and your files; pass allow_weak_isolation=True if you trust the programs"
        )


def _driver(path: str | Path) -> str:
    found = Path(path).resolve()
    if not found.is_file():
        raise FileNotFoundError(f"no driver at {path}")
    return str(found)


def _chosen(layers: Layers) -> tuple[frozenset[Layer], frozenset[Layer]]:
    """The layers to enter, and those that must then be active."""
    if layers == "auto":
        return ALL, frozenset({Layer.POLICY, Layer.PROCESS})
    if layers == "strict":
        return ALL, REQUIRED
    if isinstance(layers, str) or not set(layers) <= ALL:
        known = ", ".join(sorted(ALL))
        raise ValueError(f"layers must be 'auto', 'strict' or names of {known}; got {layers!r}")
    named = frozenset(map(Layer, layers))
    return named, named
