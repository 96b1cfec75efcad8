"""The trusted process of one worker: takes jobs from the parent, runs each in a child of its own.

It has one thread, no files, no rights, and never parses or executes a program. Drivers run here.
"""

from __future__ import annotations

import json
import marshal
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from taskgym.sandbox import child as inside
from taskgym.sandbox import frames
from taskgym.sandbox.children import Bounds, Child, Ended, Nursery
from taskgym.sandbox.codec import BadValue, decode, encode

CONTROL = 0  # the socket to the parent
AUDITED = 50  # one batch in so many is run again, each program alone


class Order(NamedTuple):
    """A job as it travels from the parent; see `Job` and `Limits`."""

    source: bytes
    entry: str
    payload: bytes  # marshalled args or task
    calls: int
    seed: int
    recursion: int
    max_calls: int
    driver: int | None
    mode: str
    bounds: Sequence[Any]


class Reply(NamedTuple):
    """What goes back: `payload` is the value or the report, as the child or a driver wrote it."""

    status: str
    payload: bytes = b""
    report: bytes = b""
    message: str = ""
    calls_done: int = 0


class Call:
    """What a driver calls: asks the program for one value.

    `call.Ended` is what it raises when the program is over; a driver may catch it to return what
    it has so far.
    """

    Ended = Ended

    def __init__(self, child: Child, most: int):
        self._child, self._left = child, most
        self.ended: Ended | None = None
        self.done = 0

    def __call__(self, *args: Any) -> Any:
        try:
            if self.ended or not self._left:
                raise self.ended or Ended("error", message="its driver asked for too many calls")
            self._left -= 1
            self._child.send(inside.CALL, marshal.dumps(args, 2))
            value = _value(self._child.receive())
        except Ended as ended:
            self.ended = ended
            raise
        self.done += 1
        return value


def _value(reply: tuple[bytes, bytes]) -> Any:
    kind, data = reply
    if kind != inside.VALUE:
        raise Ended("crashed", message="its process sent what is not a reply")
    try:
        return decode(data)
    except BadValue as error:
        raise Ended("error", message=str(error)) from None


def serve(nursery: Nursery) -> NoReturn:
    """Runs what the parent sends until it closes the connection."""
    batches = 0
    while True:
        nursery.refill()
        try:
            orders = [Order(*each) for each in marshal.loads(frames.read_frame(CONTROL))]
        except (frames.Closed, OSError):
            os._exit(0)
        batches += 1
        _serve_alone(nursery, orders)


def _serve_alone(nursery: Nursery, orders: list[Order]) -> None:
    for order in orders:
        child = nursery.take()
        child.begin(Bounds(*order.bounds))
        reply = run(child, order, nursery.drivers)
        _finish(child, reply)


def _finish(child: Child, reply: Reply) -> None:
    cpu, wall = child.cpu_used() if child.usage is None else _final_cpu(child), child.wall_used()
    child.close()
    header = {
        "status": reply.status,
        "message": reply.message,
        "calls": reply.calls_done,
        "cpu": cpu,
        "wall": wall,
        "peak": child.peak_memory_mb,
        "truncated": child.printed_bytes > len(child.printed),
        "sizes": [len(reply.payload), len(reply.report)],
    }
    head = json.dumps(header).encode()
    parts = (frames.pack(head), reply.payload, reply.report, bytes(child.printed))
    frames.write_frame(CONTROL, *parts)


def _final_cpu(child: Child) -> float:
    assert child.usage is not None
    return child.usage.ru_utime + child.usage.ru_stime - child.cpu_start


def run(child: Child, order: Order, drivers: list[ModuleType]) -> Reply:
    """Runs one order in a child whose clocks run."""
    try:
        outside = order.driver is not None and order.mode == "outside"
        payload = b"" if outside else order.payload
        job = (
            order.source,
            order.entry,
            payload,
            0 if outside else order.calls,
            order.seed,
            order.recursion,
            child.bounds.result_bytes,
            order.driver,
        )
        child.send(inside.JOB, marshal.dumps(job, 2))
        if outside:
            return _play(child, order, drivers[order.driver])
        kind, data = child.receive()
        child.finish()
        if order.driver is not None:
            return _checked(order, drivers[order.driver], _value((kind, data)))
        if kind != inside.VALUE:
            raise Ended("crashed", message="its process sent what is not a reply")
        return Reply("ok", data, calls_done=order.calls)
    except Ended as ended:
        return Reply(ended.status, report=ended.payload, message=ended.message)


def _play(child: Child, order: Order, driver: ModuleType) -> Reply:
    if child.receive()[0] != inside.READY:
        raise Ended("crashed", message="its process sent what is not a reply")
    call = Call(child, order.max_calls)
    reply = _driven(driver.play, marshal.loads(order.payload), call)
    if call.ended is None:
        try:
            child.finish()
        except Ended as ended:
            call.ended = ended
    if call.ended:
        ended = call.ended
        reply = Reply(ended.status, reply.payload, ended.payload, ended.message)
    return reply._replace(calls_done=call.done)


def _checked(order: Order, driver: ModuleType, claim: Any) -> Reply:
    return _driven(driver.check, marshal.loads(order.payload), claim)


def _driven(function: Any, task: Any, argument: Any) -> Reply:
    """Runs a function of a driver. What it raises may be the work of the program's values."""
    try:
        return Reply("ok", encode(function(task, argument), 1 << 30))
    except Ended:
        return Reply("ok")  # the caller knows how it ended
    except Exception as error:
        report = {
            "type": "DriverError",
            "message": f"{type(error).__name__}: {error}",
            "line": None,
        }
        return Reply("error", report=json.dumps(report).encode())
