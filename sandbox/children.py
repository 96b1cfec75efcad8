"""The supervisor's side of a child: fork it, watch its deadlines, kill it, say what it did."""

from __future__ import annotations

import math
import os
import resource
import select
import signal
import time
from types import ModuleType
from typing import NamedTuple

from taskgym.sandbox import child as inside
from taskgym.sandbox import frames, linux
from taskgym.sandbox.layers import Layer

MIB = 1 << 20
_CLAIMS = {
    inside.ERROR: "error",
    inside.REJECTED: "rejected",
    inside.MEMORY: "memory",
}


class Ended(Exception):
    """The program is over; `status` says how. `payload` is what the child wrote, unparsed."""

    def __init__(self, status: str, payload: bytes = b"", message: str = ""):
        super().__init__(status)
        self.status, self.payload, self.message = status, payload, message


class Bounds(NamedTuple):
    """The limits of a job that the supervisor holds; units as in `Limits`."""

    wall_s: float
    cpu_s: float
    memory_mb: int
    stdout_bytes: int
    result_bytes: int


class Nursery:
    """Forks children that are fully confined and wait for their first order."""

    def __init__(self, layers: frozenset[Layer], drivers: list[ModuleType]):
        self.layers, self.drivers = layers, drivers
        self.idle: list[Child] = []
        self.filter = None
        if Layer.SECCOMP in layers:
            from taskgym.sandbox.seccomp import Filter

            self.filter = Filter()
        self.base_memory, self.base_resident = _memory()

    def refill(self) -> None:
        """Makes sure that a child is ready."""
        if not self.idle:
            self.idle.append(self.fork())

    def take(self) -> Child:
        """A child that no program has touched.

        Raises:
            OSError: If no process can be made.
        """
        self.refill()
        return self.idle.pop()

    def fork(self) -> Child:
        """Forks and confines one child."""
        orders, replies, output = os.pipe(), os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                self._confine(orders[0], replies[1], output[1])
                inside.main(self.drivers)
            finally:
                os._exit(1)
        for theirs in (orders[0], replies[1], output[1]):
            os.close(theirs)
        return Child(pid, orders[1], replies[0], output[0], self)

    def _confine(self, orders: int, replies: int, output: int) -> None:
        # Descriptors below 5 are reserved in the supervisor, so no pipe is overwritten here.
        for fd, place in (
            (output, inside.OUTPUT),
            (orders, inside.ORDERS),
            (replies, inside.REPLIES),
        ):
            os.dup2(fd, place)
        os.dup2(2, 0)
        os.closerange(5, 1 << 20)
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if Layer.RLIMITS in self.layers:
            for limit in _NOTHING:
                resource.setrlimit(limit, (0, 0))
        if self.filter:
            self.filter.install()


_NOTHING = (
    resource.RLIMIT_NOFILE,
    resource.RLIMIT_NPROC,
    resource.RLIMIT_FSIZE,
    resource.RLIMIT_CORE,
    resource.RLIMIT_MEMLOCK,
)


def _memory() -> tuple[int, int]:
    """Address space and resident memory of this process in bytes."""
    with open("/proc/self/statm") as file:
        size, resident = (int(pages) * resource.getpagesize() for pages in file.read().split()[:2])
    return size, resident


class Child:
    """One child process, from idle to dead."""

    def __init__(self, pid: int, orders: int, replies: int, output: int, nursery: Nursery):
        self.pid, self.nursery = pid, nursery
        self.pidfd = os.pidfd_open(pid)
        self.orders, self.replies, self.output = orders, replies, output
        self.clock = (~pid << 3) | 2  # the CPU clock of a process: see clock_getcpuclockid(3)
        self.poller = select.poll()
        self.poller.register(replies, select.POLLIN)
        self.poller.register(output, select.POLLIN)
        self.usage: resource.struct_rusage | None = None
        self.status = 0

    def begin(self, bounds: Bounds) -> None:
        """Starts the clocks of a new job and sets its limits."""
        self.bounds = bounds
        self.printed = bytearray()
        self.printed_bytes = 0
        self.calls_done = 0
        self.verdict: str | None = None
        if Layer.RLIMITS in self.nursery.layers:
            self._limit()
        self.cpu_start = time.clock_gettime(self.clock)
        self.wall_start = self.now = time.monotonic()
        self._next_check()

    def _limit(self) -> None:
        memory = self.nursery.base_memory + self.bounds.memory_mb * MIB
        resource.prlimit(self.pid, resource.RLIMIT_AS, (memory, memory))
        seconds = math.ceil(self.bounds.cpu_s) + 1  # only a backstop: our own clock is finer
        resource.prlimit(self.pid, resource.RLIMIT_CPU, (seconds, seconds + 1))

    def send(self, kind: bytes, data: bytes) -> None:
        """Hands an order over; a dead child shows at the next `receive`."""
        try:
            frames.write_frame(self.orders, kind, data)
        except BrokenPipeError:
            pass

    def receive(self) -> tuple[bytes, bytes]:
        """The next reply, as (kind, data).

        Raises:
            Ended: If it is the last one, or the child was killed or died instead.
        """
        data = b""
        while True:
            self.now = time.monotonic()
            if self.now >= self.check_at:
                self._check_clocks()
            for fd, _ in self.poller.poll((self.check_at - self.now) * 1000 + 1):
                if fd == self.output:
                    self._read_output()
                    continue
                more = os.read(self.replies, 1 << 16)
                if not more:
                    raise self.post_mortem()
                data = data + more if data else more
                if self._complete(data):
                    return self._judged(data[4:5], data[5:])

    def _complete(self, data: bytes) -> bool:
        if len(data) < 4:
            return False
        (size,) = frames.HEADER.unpack_from(data)
        if not 0 < size <= self.bounds.result_bytes + 4096 or len(data) > size + 4:
            self.kill("crashed")
            raise Ended("crashed", message="its process sent what is not a reply")
        return len(data) == size + 4

    def _judged(self, kind: bytes, data: bytes) -> tuple[bytes, bytes]:
        if kind in (inside.VALUE, inside.READY):
            return kind, data
        self._drain_output()
        if kind not in _CLAIMS:
            self.kill("crashed")
            raise Ended("crashed", message="its process sent what is not a reply")
        raise Ended(_CLAIMS[kind], data)

    def _next_check(self) -> None:
        cpu_left = self.bounds.cpu_s - self.cpu_used()
        wall_left = self.wall_start + self.bounds.wall_s - self.now
        self.check_at = self.now + min(cpu_left, wall_left)

    def _check_clocks(self) -> None:
        """A process of one thread uses at most as much CPU as time has passed: then ask again."""
        self._next_check()
        if self.check_at > self.now:
            return
        used = self.cpu_used()
        if used >= self.bounds.cpu_s:
            text = f"more than {self.bounds.cpu_s:g} s of CPU"
        else:
            text = f"more than {self.bounds.wall_s:g} s on the clock"
        self.kill("timeout")
        self._drain_output()
        raise Ended("timeout", message=text)

    def cpu_used(self) -> float:
        """Seconds of CPU since `begin`."""
        return time.clock_gettime(self.clock) - self.cpu_start

    def wall_used(self) -> float:
        """Seconds on the clock since `begin`."""
        return time.monotonic() - self.wall_start

    def _read_output(self) -> None:
        data = os.read(self.output, 1 << 16)
        if not data:
            self.poller.unregister(self.output)
        room = self.bounds.stdout_bytes - len(self.printed)
        self.printed += data[:room]
        self.printed_bytes += len(data)
        if self.printed_bytes > self.bounds.stdout_bytes:
            self.kill("output")
            raise Ended("output", message=f"printed more than {self.bounds.stdout_bytes} bytes")

    def _drain_output(self) -> None:
        """What was printed before a reply lies in the pipe when the reply is there."""
        while select.select([self.output], [], [], 0)[0]:
            before = self.printed_bytes
            self._read_output()
            if self.printed_bytes == before:
                return

    def finish(self) -> None:
        """Called after the last reply of a job that went well."""
        self._drain_output()

    def kill(self, verdict: str = "over") -> None:
        """Kills the process, whatever it is doing, and waits until it is gone."""
        if self.usage is None:
            self.verdict = verdict
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.reap()

    def reap(self) -> None:
        if self.usage is None:
            _, self.status, self.usage = os.wait4(self.pid, 0)

    def post_mortem(self) -> Ended:
        """Says why the process died by itself."""
        self._drain_output()
        alone = bool(select.select([self.pidfd], [], [], 1.0)[0])  # else it only closed its pipe
        self.kill()
        number = os.WTERMSIG(self.status) if alone and os.WIFSIGNALED(self.status) else 0
        if number == signal.SIGKILL:  # not from us, and it may not signal itself: the kernel's
            return Ended("memory", message="the machine ran out of memory")
        if number == signal.SIGSYS:
            return Ended("violation", message="made a forbidden system call")
        if number == signal.SIGXCPU:
            return Ended("timeout", message=f"more than {self.bounds.cpu_s:g} s of CPU")
        how = signal.Signals(number).name if number else "no reply"
        return Ended("crashed", message=f"its process died: {how}")

    @property
    def peak_memory_mb(self) -> float:
        """Resident memory at its highest, above what an idle child has; known once it is dead."""
        if self.usage is None:
            return 0.0
        return max(0.0, (self.usage.ru_maxrss * 1024 - self.nursery.base_resident) / MIB)

    def close(self) -> None:
        """Kills it if it lives, and closes the descriptors."""
        self.kill()
        for fd in (self.pidfd, self.orders, self.replies, self.output):
            os.close(fd)
