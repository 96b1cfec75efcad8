"""What a supervisor asks of the kernel to watch its children, and the stand-ins off Linux."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time

LINUX = sys.platform == "linux"


class Process:
    """A child process of ours that we alone wait for, so that its number is not reused before."""

    def __init__(self, pid: int):
        self.pid = pid
        self.usage: resource.struct_rusage | None = None  # known once it is dead
        self.wait_status = 0
        self._handle = open_process(pid)
        self._clock = (~pid << 3) | 2  # its CPU clock: see clock_getcpuclockid(3)

    def cpu_s(self) -> float:
        """Seconds of CPU so far; 0 where the kernel does not tell, and RLIMIT_CPU must do."""
        if self.usage is not None:
            return self.usage.ru_utime + self.usage.ru_stime
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0

    def limit(self, memory: int, cpu_s: int) -> None:
        """Sets its address space and CPU from outside, where it cannot argue."""
        if LINUX:
            for limit, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, cpu_s)):
                resource.prlimit(self.pid, limit, (value := allowed(limit, value), value))

    def ends_within(self, seconds: float) -> bool:
        """Whether it dies by itself in this time."""
        if self._handle >= 0:
            return bool(select.select([self._handle], [], [], seconds)[0])
        time.sleep(seconds)
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """Ends it, whatever it is doing, and waits until it is gone."""
        if self.usage is not None:
            return
        if self._handle >= 0:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            os.close(self._handle)
        else:
            os.kill(self.pid, signal.SIGKILL)
        _, self.wait_status, self.usage = os.wait4(self.pid, 0)


def open_process(pid: int) -> int:
    """A descriptor for a child process; -1 off Linux, and in sandboxes that know no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def memory() -> tuple[int, int]:
    """Address space and resident memory of this process in bytes; off Linux unknown, so 0."""
    if not LINUX:
        return 0, 0
    with open("/proc/self/statm") as file:
        pages = file.read().split()
    return int(pages[0]) * resource.getpagesize(), int(pages[1]) * resource.getpagesize()


def allowed(limit: int, value: int) -> int:
    """The value, or what this process may have at most."""
    _, most = resource.getrlimit(limit)
    return value if most == resource.RLIM_INFINITY else min(value, most)


def lower(limit: int, value: int) -> None:
    """Lowers a limit of this process, for good."""
    value = allowed(limit, value)
    resource.setrlimit(limit, (value, value))


def bound_memory(size: int) -> None:
    """Bounds this process's address space; its children may be given more."""
    if LINUX:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (allowed(resource.RLIMIT_AS, size), most))


def offer_for_sacrifice() -> None:
    """When the machine is short of memory, this process goes before the trainer."""
    if LINUX:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("800")
