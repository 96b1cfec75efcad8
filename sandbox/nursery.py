"""Where children come from: forked ahead of time, confined, and idle until a job needs one."""

from __future__ import annotations

import os
import resource
import signal
from types import ModuleType
from typing import NoReturn

from taskgym.sandbox import child as inside
from taskgym.sandbox import host, linux
from taskgym.sandbox.children import Bounds, Child
from taskgym.sandbox.confine import HIGHEST
from taskgym.sandbox.layers import Layer
from taskgym.sandbox.seccomp import Filter

RESERVED = 5  # the supervisor's lowest descriptors, so that no pipe lies where a child's will be
_NOTHING = (
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_CORE,
    resource.RLIMIT_MEMLOCK,
)


_STACK = 8 << 20  # bytes: what deep recursion in C meets at last, on every machine alike


class Nursery:
    """Forks children for one supervisor."""

    def __init__(self, layers: frozenset[Layer], drivers: list[ModuleType]):
        self.layers, self.drivers = layers, drivers
        self._idle: list[Child] = []
        self._filter = Filter() if Layer.SECCOMP in layers else None
        self.base_memory, self._base_resident = host.memory()

    def refill(self) -> None:
        """Makes sure that a child is getting ready; the next job then need not wait for a fork."""
        if not self._idle:
            self._idle.append(self._fork())

    def take(self, bounds: Bounds, jobs: int = 1) -> Child:
        """A fresh child, for so many jobs under these limits.

        Raises:
            OSError: If no process can be made, or it cannot be confined.
        """
        self.refill()
        child = self._idle.pop()
        try:
            child.await_ready()
            if Layer.RLIMITS in self.layers:
                child.limit(bounds, self.base_memory, jobs)
        except OSError:
            child.close()
            raise
        return child

    def peak_memory_mb(self, child: Child) -> float:
        """The most resident memory that a dead child had, above what it was born with, in MiB."""
        usage = child.process.usage
        if usage is None or not host.LINUX:
            return 0.0
        return max(0.0, usage.ru_maxrss / 1024 - self._base_resident / (1 << 20))

    def _fork(self) -> Child:
        orders, replies, output = os.pipe(), os.pipe(), os.pipe()
        theirs = (orders[0], replies[1], output[1])
        pid = os.fork()
        if pid == 0:
            self._raise_child(*theirs)
        for fd in theirs:
            os.close(fd)
        return Child(pid, (orders[1], replies[0], output[0]))

    def _raise_child(self, orders: int, replies: int, output: int) -> NoReturn:
        try:
            places = {orders: inside.ORDERS, replies: inside.REPLIES, output: inside.OUTPUT}
            for fd, place in places.items():
                os.dup2(fd, place)
            os.dup2(2, 0)
            os.closerange(RESERVED, HIGHEST)
            self._confine()
            inside.main(self.drivers, guarded=Layer.POLICY in self.layers)
        finally:
            os._exit(1)

    def _confine(self) -> None:
        if host.LINUX:
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if Layer.RLIMITS in self.layers:
            for limit in _NOTHING:
                resource.setrlimit(limit, (0, 0))
            host.lower(resource.RLIMIT_STACK, _STACK)
        if self._filter:
            self._filter.install()
