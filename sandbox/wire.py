"""How a job travels to a supervisor, and what its answer means."""

from __future__ import annotations

import json
import marshal
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from taskgym.sandbox.codec import BadValue, check_plain, check_result, decode
from taskgym.sandbox.job import Job, Result, Status
from taskgym.sandbox.link import Answer, Lost

Order = tuple[Any, ...]  # as `supervisor.Order`, which this side does not import


def order_of(job: Job, drivers: tuple[str, ...]) -> Order:
    """The job as a `supervisor.Order`; marshalled, for this way is from the trusted to the less so.

    Raises:
        ValueError: If its args or task are not plain data, or the pool has no such driver.
    """
    payload = job.args if job.driver is None else job.task
    try:
        check_plain(payload)
    except BadValue as error:
        what = "args" if job.driver is None else "task"
        raise ValueError(f"Job.{what}: {error}") from None
    limits = job.limits
    bounds = (
        float(limits.wall_s),
        float(limits.cpu_s),
        limits.memory_mb,
        limits.stdout_bytes,
        limits.result_bytes,
    )
    return (
        job.source.encode("utf-8", "surrogatepass"),
        job.entry,
        marshal.dumps(payload, 2),
        job.calls,
        job.seed,
        limits.recursion,
        limits.calls,
        _index(job, drivers),
        job.mode,
        bounds,
    )


def _index(job: Job, drivers: tuple[str, ...]) -> int | None:
    if job.driver is None:
        return None
    path = str(Path(job.driver).resolve())
    if path not in drivers:
        known = ", ".join(drivers) or "none"
        raise ValueError(f"this sandbox was not given the driver {job.driver}; it has {known}")
    return drivers.index(path)


def refused(job: Job) -> Result | None:
    """What needs no process to be refused: a source that is too large or is no text."""
    try:
        size = len(job.source.encode())
    except UnicodeEncodeError:
        return _rejected("syntax", "the program holds lone surrogates, which are no characters")
    if size > job.limits.source_bytes:
        text = f"the program has {size} bytes, the limit is {job.limits.source_bytes}"
        return _rejected("construct", text)
    if "\0" in job.source:
        return _rejected("syntax", "the program holds a NUL character")
    return None


def _rejected(kind: str, message: str) -> Result:
    return Result(Status.REJECTED, error_type=kind, error_message=message)


def result_of(answer: Answer, layers: tuple[str, ...]) -> Result:
    """The result behind an answer; a program may have forged its `value` and its `report`.

    Raises:
        Lost: If the supervisor's own part of it makes no sense.
    """
    head, value = answer.header, None
    try:
        status = Status(head["status"])
        error = _error(status, head["message"], answer.report)
        facts = {name: head[key] for name, key in _FACTS.items()}
    except (KeyError, ValueError) as unclear:
        raise Lost(f"the supervisor speaks nonsense: {unclear}") from unclear
    try:
        value = decode(answer.value) if answer.value else None
    except BadValue as bad:
        status, error = Status.ERROR, Failure("BadValue", str(bad))
    printed = answer.stdout.decode("utf-8", "replace")
    kind, message, line = error
    return Result(status, value, printed, kind, message, line, layers=layers, **facts)


def undriven(result: Result) -> Result:
    """What a caller gets of a program that no driver stood before: what JSON can say, and tuples.

    A driver, which compares on the trusted side, may be given sets and bytes too.
    """
    try:
        check_result(result.value)
    except BadValue as bad:
        kind, message = "BadValue", str(bad)
        return replace(
            result, status=Status.ERROR, value=None, error_type=kind, error_message=message
        )
    return result


_FACTS = {
    "cpu_s": "cpu",
    "wall_s": "wall",
    "peak_memory_mb": "peak",
    "calls_done": "calls",
    "truncated": "truncated",
}


class Failure(NamedTuple):
    """The three error fields of a result."""

    type: str | None = None
    message: str | None = None
    line: int | None = None


_TYPES = {
    Status.MEMORY: "MemoryError",
    Status.TIMEOUT: "Timeout",
    Status.OUTPUT: "OutputLimit",
    Status.VIOLATION: "Violation",
    Status.CRASHED: "Crashed",
    Status.ERROR: "BadValue",
}


def _error(status: Status, message: str, report: bytes) -> Failure:
    if status is Status.OK:
        return Failure()
    if not report:
        return Failure(_TYPES.get(status), message or "it ran out of memory")
    try:
        table = json.loads(report)
        kind, text, line = table["type"], table["message"], table["line"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Failure("Crashed", "its process sent what is not a report")
    return Failure(str(kind)[:100], str(text)[:500], line if type(line) is int else None)
