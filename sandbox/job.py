"""What a caller hands to the sandbox and what it gets back: limits, jobs, results, statuses."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal


class Status(StrEnum):
    """What happened to a program. All but `infra` are the program's own doing and may be scored.

    The child can only claim the first four; the rest are facts of the kernel, seen from outside.
    """

    OK = "ok"  # a plain value came back
    REJECTED = "rejected"  # refused before a line of it ran: a syntax error, or against the policy
    ERROR = "error"  # it raised, or its value is not plain data within the caps
    MEMORY = "memory"  # it ran out of its memory
    TIMEOUT = "timeout"  # killed at its CPU or wall deadline
    OUTPUT = "output"  # killed for printing more than its cap
    VIOLATION = "violation"  # killed by the system call filter: it tried to break out
    CRASHED = "crashed"  # its process died, or spoke out of turn
    INFRA = "infra"  # our machinery failed: says nothing about the program, is never scored


class SandboxUnavailable(RuntimeError):
    """The machinery failed (three times on three supervisors), or may not start on this machine."""


@dataclass(frozen=True)
class Limits:
    """What one program may use; over all its calls together.

    Example: `Limits(cpu_s=0.5)` gives half a second of CPU and the defaults for the rest.
    """

    wall_s: float = 2.0  # seconds on the clock: generous, so that a busy machine costs no score
    cpu_s: float = 1.0  # seconds of CPU of the program's process, compilation included
    memory_mb: int = 256  # address space above what the interpreter itself has, in MiB
    stdout_bytes: int = 65536  # printed text, as UTF-8
    result_bytes: int = 65536  # one returned value, as JSON
    source_bytes: int = 65536  # the program's text, as UTF-8
    calls: int = 100_000  # calls of the entry function that a job or its driver may ask for
    recursion: int = 1000  # depth of Python calls

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            seconds = each.name in ("wall_s", "cpu_s")
            kinds, most = ((int, float), 10**6) if seconds else ((int,), 2**30)
            if type(value) not in kinds or not 0 < value <= most:
                kind = "number" if seconds else "whole number"
                raise ValueError(
                    f"Limits.{each.name} must be a positive {kind} up to {most}, got {value!r}"
                )


Mode = Literal["outside", "inside"]


@dataclass(frozen=True)
class Job:
    """One program and what is asked of it.

    Without a driver, `entry(*args)` is called `calls` times, each time with a fresh copy of `args`,
    and the last value is the result. With a driver (a trusted file that the pool was given, see
    `docs/sandbox.md`), the driver plays `task` with the program: "outside", in the trusted process,
    one message a call; or "inside", beside the program, whose claim is checked afterwards.
    """

    source: str
    entry: str = "strategy"
    args: tuple[Any, ...] = ()
    calls: int = 1
    seed: int = 0  # of the program's own `random`
    limits: Limits = field(default_factory=Limits)
    driver: str | Path | None = None
    mode: Mode = "outside"
    task: Any = None  # plain data for the driver

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise TypeError(f"Job.source must be a str, got {type(self.source).__name__}")
        if type(self.seed) is not int:
            raise TypeError(f"Job.seed must be an int, got {self.seed!r}")
        if not self.entry.isidentifier():
            raise ValueError(f"Job.entry must be the name of a function, got {self.entry!r}")
        if not 0 < self.calls <= self.limits.calls:
            raise ValueError(f"Job.calls must be 1 to {self.limits.calls}, got {self.calls}")
        if self.mode not in ("outside", "inside"):
            raise ValueError(f"Job.mode must be 'outside' or 'inside', got {self.mode!r}")
        if self.driver is not None and (self.args or self.calls != 1):
            raise ValueError("a driver makes the calls: pass task=, not args= or calls=")


@dataclass(frozen=True)
class Result:
    """What became of a job.

    `value` is exact plain data. Under a driver a failed program may carry the driver's partial
    value. `error_message` has at most 500 characters, `error_line` is a line of the program.
    """

    status: Status
    value: Any = None
    stdout: str = ""
    error_type: str | None = None  # an exception's name, or one of ours: docs/sandbox.md
    error_message: str | None = None
    error_line: int | None = None
    cpu_s: float = 0.0  # CPU of the child for this job
    wall_s: float = 0.0  # from handing the program over to knowing its end
    peak_memory_mb: float = 0.0  # resident memory above what the idle child had
    calls_done: int = 0  # calls that a driver had answered; without one, all or none
    truncated: bool = False  # stdout was cut at its cap
    layers: tuple[str, ...] = field(
        default=(), repr=False
    )  # the layers of isolation that were active

    @property
    def ok(self) -> bool:
        """Whether a value came back."""
        return self.status is Status.OK
