"""The supervisor's side of a child: hand it orders, watch its clocks, kill it, say how it died."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from contextlib import suppress
from typing import NamedTuple

from taskgym.sandbox import child as inside
from taskgym.sandbox import frames
from taskgym.sandbox.host import Process
from taskgym.sandbox.verdicts import Ended, Raised, nonsense

MIB = 1 << 20
CONTROL = 0  # the supervisor's socket to the parent
_OVERHEAD = 4096  # a report may be longer than the cap of a value


class Bounds(NamedTuple):
    """The limits of a job that the supervisor holds; units as in `Limits`."""

    wall_s: float
    cpu_s: float
    memory_mb: int
    stdout_bytes: int
    result_bytes: int


class Child:
    """One child process, from idle to dead.

    Args:
        pid: The process.
        pipes: Our ends: orders to it, replies and output from it.
    """

    def __init__(self, pid: int, pipes: tuple[int, int, int]):
        self.process = Process(pid)
        self.orders, self.replies, self.output = pipes
        os.set_blocking(self.orders, False)  # it may have broken out, and never read
        self.poller = select.poll()
        for fd in (self.replies, self.output):
            self.poller.register(fd, select.POLLIN)
        self.poller.register(CONTROL, 0)  # only to hear that the parent is gone

    def await_ready(self) -> None:
        """Waits until it has confined itself.

        Raises:
            OSError: If it died of that.
        """
        wanted = frames.pack(inside.READY)
        if os.read(self.replies, len(wanted)) != wanted:
            raise OSError("a child could not confine itself")

    def limit(self, bounds: Bounds, base_memory: int, jobs: int) -> None:
        """Sets its resource limits, for so many jobs."""
        # Of CPU only as a backstop: our own clock is finer.
        cpu_s = math.ceil(bounds.cpu_s * jobs) + 1
        self.process.limit(base_memory + bounds.memory_mb * MIB, cpu_s)

    def begin(self, bounds: Bounds) -> None:
        """Starts the clocks of a new job."""
        self.bounds = bounds
        self.printed = bytearray()
        self.truncated = False
        self.cpu_start = self.process.cpu_s()
        self.wall_start = time.monotonic()
        self.wall_left = bounds.wall_s
        self.patience = min(bounds.wall_s, bounds.cpu_s)

    def send(self, kind: bytes, data: bytes) -> None:
        """Hands an order over; a dead child shows at the next `receive`.

        Raises:
            Ended: If the child does not take it in time.
        """
        frame = frames.pack(kind, data)
        while frame:
            try:
                frame = frame[os.write(self.orders, frame) :]
            except BlockingIOError:
                began = time.monotonic()
                select.select([], [self.orders], [], self.patience)
                self.charge(time.monotonic() - began)
            except BrokenPipeError:
                return

    def receive(self) -> tuple[bytes, bytes]:
        """The next reply that is no bad news, as (kind, data).

        Raises:
            Raised: If this call failed; others may follow.
            Ended: If the program is over; it may have been killed for it.
        """
        data = b""
        while not self._complete(data):
            began = time.monotonic()
            events = self.poller.poll(self.patience * 1000 + 1)
            self.charge(time.monotonic() - began)
            for fd, _ in events:
                if fd == self.replies:
                    data += self._read_reply()
                elif fd == self.output:
                    self._read_output()
                else:
                    os._exit(0)  # the parent is gone: nobody waits for this any more
        return self._judged(data[4:5], data[5:])

    def finish(self) -> None:
        """Called after the last reply of a job: reads what was printed before it.

        Raises:
            Ended: If that is too much.
        """
        while self.process.usage is None and select.select([self.output], [], [], 0)[0]:
            self._read_output()

    def charge(self, seconds: float) -> None:
        """Takes from the clocks; only time spent because of the program is the program's.

        One thread uses at most as much CPU as time has passed, so its CPU clock need not be asked
        before `patience` is used up.

        Raises:
            Ended: If a limit is reached; the process is dead then.
        """
        self.wall_left -= seconds
        self.patience -= seconds
        if self.patience > 0:
            return
        cpu_left = self.bounds.cpu_s - self.cpu_used()
        self.patience = min(cpu_left, self.wall_left)
        if cpu_left <= 0:
            raise self._ended(Ended("timeout", f"more than {self.bounds.cpu_s:g} s of CPU"))
        if self.wall_left <= 0:
            raise self._ended(Ended("timeout", f"more than {self.bounds.wall_s:g} s on the clock"))

    def _read_reply(self) -> bytes:
        data = os.read(self.replies, 1 << 16)
        if not data:
            raise self._post_mortem()
        return data

    def _complete(self, data: bytes) -> bool:
        if len(data) < 4:
            return False
        size = int(frames.HEADER.unpack_from(data)[0])
        if not 0 < size <= self.bounds.result_bytes + _OVERHEAD or len(data) > size + 4:
            raise self._ended(nonsense())
        return len(data) == size + 4

    def _judged(self, kind: bytes, data: bytes) -> tuple[bytes, bytes]:
        if kind in (inside.VALUE, inside.READY):
            return kind, data
        self.finish()
        if kind == inside.RAISED:
            raise Raised(data)
        if kind == inside.REJECTED:
            raise Ended("rejected", report=data)
        raise self._ended(Ended("memory") if kind == inside.MEMORY else nonsense())

    def _read_output(self) -> None:
        data = os.read(self.output, 1 << 16)
        if not data:  # it is dying; the end of its replies will say so
            self.poller.unregister(self.output)
            return
        room = self.bounds.stdout_bytes - len(self.printed)
        self.printed += data[:room]
        if len(data) > room:
            self.truncated = True
            text = f"printed more than {self.bounds.stdout_bytes} bytes"
            raise self._ended(Ended("output", text))

    def _ended(self, verdict: Ended) -> Ended:
        """Kills the process and reads what it had printed; too much of that changes nothing."""
        self.process.kill()
        with suppress(Ended):
            self._read_output()
        return verdict

    def _post_mortem(self) -> Ended:
        """Says why the process died by itself."""
        alone = self.process.ends_within(1.0)  # else it only closed its pipe
        verdict = self._ended(Ended("crashed", "its process ended without an answer"))
        if not (alone and os.WIFSIGNALED(self.process.wait_status)):
            return verdict
        number = os.WTERMSIG(self.process.wait_status)
        if number == signal.SIGSYS:
            return Ended("violation", "made a forbidden system call")
        if number == signal.SIGXCPU:
            return Ended("timeout", f"more than {self.bounds.cpu_s:g} s of CPU")
        if number == signal.SIGKILL:  # not ours, and it cannot signal itself: the kernel's
            return Ended("memory", "the machine ran out of memory")
        return Ended("crashed", f"its process died of {signal.Signals(number).name}")

    def cpu_used(self) -> float:
        """Seconds of CPU since `begin`."""
        return self.process.cpu_s() - self.cpu_start

    def wall_used(self) -> float:
        """Seconds on the clock since `begin`, those of a driver included."""
        return time.monotonic() - self.wall_start

    def close(self) -> None:
        """Kills it if it lives, and closes the descriptors."""
        self.process.kill()
        for fd in (self.orders, self.replies, self.output):
            os.close(fd)
