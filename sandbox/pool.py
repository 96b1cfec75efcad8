"""The pool in the trainer: hands jobs to supervisors, from any thread, and replaces the dead."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from taskgym.sandbox import options
from taskgym.sandbox.job import Job, Limits, Result, SandboxUnavailable, Status
from taskgym.sandbox.link import Link, Lost
from taskgym.sandbox.wire import Order, order_of, refused, result_of, undriven

logger = logging.getLogger(__name__)

PAUSES_S = (0.0, 0.1, 0.5)  # before each attempt to have a job answered
BATCH = 16  # programs a child, with isolation="batch"
AUDITED = 50  # one batch in so many runs again, each program alone, and is compared

Asked = tuple[Job, Order]  # a job, and how it travels


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
        isolation: options.Isolation = "process",
        layers: options.Layers = "auto",
        allow_weak_isolation: bool = False,
    ):
        options.check_platform(allow_weak_isolation)
        self.workers = options.workers(workers)
        self.drivers = tuple(options.driver(path) for path in drivers)
        self.isolation = options.isolation(isolation)
        self._wanted, self._required = options.layers(layers)
        self._batches = itertools.count(1)
        self._closed = False
        self._begin()
        _pools.add(self)

    def _begin(self) -> None:
        self._free = threading.Condition()
        self._idle: list[Link] = []
        self._lent: set[Link] = set()
        self._starting = 0

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
        asked = Job(source, entry, tuple(args), limits=limits or Limits(), **job)
        (result,) = self.map([asked])
        if result.status is Status.INFRA:
            raise SandboxUnavailable(result.error_message)
        return result

    def map(self, jobs: Iterable[Job]) -> list[Result]:
        """Runs jobs on all workers; their results in order, `infra` where the machinery failed."""
        units = self._units([(job, order_of(job, self.drivers)) for job in jobs])
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
        """Stops the supervisors; jobs that run or wait in other threads are answered `infra`."""
        with self._free:
            self._closed = True
            idle, self._idle = self._idle, []
            lent = list(self._lent)
            self._free.notify_all()
        for link in lent:
            link.process.kill()  # who waits for it hears that, and closes it
        for link in idle:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _units(self, jobs: list[Asked]) -> list[list[Asked]]:
        """Jobs that share a child: one each, or in a batch up to 16 neighbours of equal limits."""
        if self.isolation == "process":
            return [[job] for job in jobs]
        units: list[list[Asked]] = []
        for job in jobs:
            if units and len(units[-1]) < BATCH and units[-1][0][0].limits == job[0].limits:
                units[-1].append(job)
            else:
                units.append([job])
        return units

    def _run_unit(self, jobs: list[Asked]) -> list[Result]:
        """Runs jobs that may share a child; audits a batch now and then."""
        results = self._answered(jobs)
        if len(jobs) == 1 or next(self._batches) % AUDITED:
            return results
        alone = [self._answered([job])[0] for job in jobs]
        for one, other in zip(results, alone, strict=True):
            if (one.status, one.value) != (other.status, other.value):
                logger.warning("sandbox: in a batch a program answered %r, alone %r", one, other)
        return alone

    def _answered(self, jobs: list[Asked]) -> list[Result]:
        """Asks one supervisor, and others for what it fails to answer."""
        results = {n: answer for n, (job, _) in enumerate(jobs) if (answer := refused(job))}
        orders, wall_s = [order for _, order in jobs], jobs[0][0].limits.wall_s
        problem = ""
        for pause in PAUSES_S:
            left = [number for number in range(len(jobs)) if number not in results]
            if not left or (problem and self._closed):
                break
            time.sleep(pause)
            try:
                for number, result in self._attempt(left, orders, wall_s):
                    results[number] = result if jobs[number][0].driver else undriven(result)
            except (SandboxUnavailable, Lost) as error:
                problem = str(error)
                logger.warning("sandbox: %s", problem)
        failed = Result(Status.INFRA, error_type="SandboxUnavailable", error_message=problem)
        return [results.get(number, failed) for number in range(len(jobs))]

    def _attempt(
        self, left: list[int], orders: list[Order], wall_s: float
    ) -> Iterator[tuple[int, Result]]:
        link = self._borrow()
        escaped = done = False
        try:
            answers = link.ask([orders[number] for number in left], wall_s)
            for number, answer in zip(left, answers, strict=True):
                result = result_of(answer, link.layers)
                escaped = escaped or result.status is Status.VIOLATION
                yield number, result
            done = True
        finally:
            # Not used again if it failed, was interrupted, or saw a program try to break out.
            if escaped:
                logger.warning("sandbox: the system call filter killed a program")
            self._release(link, fit=done and not escaped)

    def _borrow(self) -> Link:
        """A supervisor for the caller alone, waiting for one or starting one."""
        with self._free:
            self._free.wait_for(lambda: self._closed or self._idle or self._room())
            if self._closed:
                raise SandboxUnavailable("this sandbox is closed")
            if self._idle:
                self._lent.add(self._idle[-1])
                return self._idle.pop()
            self._starting += 1
        link: Link | None = None
        try:
            link = self._start()
        finally:
            with self._free:
                self._starting -= 1
                if link:
                    self._lent.add(link)
                self._free.notify()
        return link

    def _room(self) -> bool:
        return len(self._lent) + self._starting < self.workers

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

    def _release(self, link: Link, fit: bool = True) -> None:
        """Takes a supervisor back; one that is not fit to serve again is stopped."""
        with self._free:
            self._lent.discard(link)
            kept = fit and not self._closed
            if kept:
                self._idle.append(link)
            self._free.notify()
        if not kept:
            link.close()


_pools: weakref.WeakSet[Sandbox] = weakref.WeakSet()


def _begin_anew() -> None:
    """In a forked child: the supervisors are the parent's, and no lock is held by anyone here."""
    for pool in list(_pools):
        pool._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
