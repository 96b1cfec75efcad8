"""The trusted process of one worker: takes jobs from the parent, runs each in a child of its own.

It has one thread, no files, no rights, and never parses or executes a program. Drivers run here.
"""

from __future__ import annotations

import json
import marshal
import os
import time
from contextlib import suppress
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from taskgym.sandbox import child as inside
from taskgym.sandbox import frames
from taskgym.sandbox.children import CONTROL, Bounds, Child
from taskgym.sandbox.codec import BadValue, decode, encode
from taskgym.sandbox.nursery import Nursery
from taskgym.sandbox.verdicts import Ended, Raised, nonsense

_UNCAPPED = 1 << 30  # what a driver returns was made here


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
    bounds: tuple[float, float, int, int, int]


class Reply(NamedTuple):
    """What becomes of a job: `value` and `report` as the child or a driver wrote them."""

    status: str
    value: bytes = b""
    report: bytes = b""
    message: str = ""
    calls_done: int = 0


class Call:
    """What a driver calls to ask the program for one value.

    It raises `call.Raised` when this call failed (the program raised, or its value is no plain
    data), and `call.Ended`, of which that is a kind, when the program is over. Whichever a driver
    catches, the job keeps the status of the first, or of what ended the program.
    """

    Ended = Ended
    Raised = Raised

    def __init__(self, child: Child, most: int):
        self._child, self._left = child, most
        self.failure: Ended | None = None
        self.done = 0

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The program's answer to these arguments, which are plain data."""
        if self.failure and type(self.failure) is Ended:
            raise self.failure
        try:
            value = self._ask(args, keywords)
        except Ended as failure:
            if self.failure is None or type(failure) is Ended:
                self.failure = failure
            raise
        self.done += 1
        return value

    def _ask(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if not self._left:
            raise Ended("error", "its driver asked for more calls than Limits.calls")
        self._left -= 1
        self._child.send(inside.CALL, marshal.dumps((args, keywords), 2))
        reply, began = self._child.receive(), time.monotonic()
        value = _value(reply)
        self._child.charge(time.monotonic() - began)  # large values take long to read
        return value


def _value(reply: tuple[bytes, bytes]) -> Any:
    kind, data = reply
    if kind != inside.VALUE:
        raise nonsense()
    try:
        return decode(data)
    except BadValue as error:
        raise Raised(message=str(error)) from None


def serve(nursery: Nursery) -> NoReturn:
    """Runs what the parent sends until it closes the connection."""
    while True:
        with suppress(OSError):  # then `take` tries again, and says so
            nursery.refill()
        orders = _next_orders()
        served = _serve_together(nursery, orders) if len(orders) > 1 else 0
        for order in orders[served:]:
            _serve_alone(nursery, order)


def _next_orders() -> list[Order]:
    try:
        return [Order(*each) for each in marshal.loads(frames.read_frame(CONTROL))]
    except (frames.Closed, OSError):
        os._exit(0)


def _send(header: dict[str, Any], reply: Reply, printed: bytes) -> None:
    header = {**header, "sizes": [len(reply.value), len(reply.report)]}
    head = frames.pack(json.dumps(header).encode())
    frames.write_frame(CONTROL, head, reply.value, reply.report, printed)


def _serve_alone(nursery: Nursery, order: Order) -> None:
    bounds = Bounds(*order.bounds)
    try:
        child = nursery.take(bounds)
    except OSError as error:
        problem = {"status": "infra", "message": f"cannot make a child: {error}"}
        _send(problem, Reply("infra"), b"")
        return
    child.begin(bounds)
    reply = run(child, order, nursery.drivers)
    header = _header(child, reply)
    child.close()
    header["peak"] = nursery.peak_memory_mb(child)
    _send(header, reply, bytes(child.printed))


def _header(child: Child, reply: Reply) -> dict[str, Any]:
    return {
        "status": reply.status,
        "message": reply.message,
        "calls": reply.calls_done,
        "cpu": child.cpu_used(),
        "wall": child.wall_used(),
        "peak": 0.0,
        "truncated": child.truncated,
    }


def _serve_together(nursery: Nursery, orders: list[Order]) -> int:
    """Runs programs one after the other in one child; returns how many of them are answered.

    What ends otherwise than `ok` or `rejected` may have left traces: that program and those after
    it are left to run alone.
    """
    bounds = Bounds(*orders[0].bounds)
    try:
        child = nursery.take(bounds, jobs=len(orders))
    except OSError:
        return 0
    for number, order in enumerate(orders):
        child.begin(bounds)
        reply = run(child, order, nursery.drivers)
        if reply.status not in ("ok", "rejected"):
            child.close()
            return number
        _send(_header(child, reply), reply, bytes(child.printed))
    child.close()
    return len(orders)


def run(child: Child, order: Order, drivers: list[ModuleType]) -> Reply:
    """Runs one order in a child whose clocks run."""
    driver = None if order.driver is None else drivers[order.driver]
    try:
        if driver is not None and order.mode == "outside":
            return _play(child, order, driver)
        _send_job(child, order, order.payload, order.calls)
        reply = child.receive()
        child.finish()
        if driver is not None:
            return _driven(driver.check, marshal.loads(order.payload), _value(reply))
        if reply[0] != inside.VALUE:
            raise nonsense()
        return Reply("ok", reply[1], calls_done=order.calls)
    except Ended as ended:
        return Reply(ended.status, report=ended.report, message=ended.message)


def _send_job(child: Child, order: Order, payload: bytes, calls: int) -> None:
    cap = child.bounds.result_bytes
    job = (
        order.source,
        order.entry,
        payload,
        calls,
        order.seed,
        order.recursion,
        cap,
        order.driver,
    )
    child.send(inside.JOB, marshal.dumps(job, 2))


def _play(child: Child, order: Order, driver: ModuleType) -> Reply:
    """Lets a driver play: the child is told nothing of the task but what the calls say."""
    _send_job(child, order, b"", 0)
    if child.receive()[0] != inside.READY:
        raise nonsense()
    call = Call(child, order.max_calls)
    reply = _driven(driver.play, marshal.loads(order.payload), call)
    failure = call.failure
    try:
        child.finish()
    except Ended as ended:
        failure = ended
    if failure:
        reply = Reply(failure.status, reply.value, failure.report, failure.message)
    return reply._replace(calls_done=call.done)


def _driven(function: Any, task: Any, argument: Any) -> Reply:
    """Runs a function of a driver; what makes it raise may be the program's doing, so is scored."""
    try:
        return Reply("ok", encode(function(task, argument), _UNCAPPED))
    except Ended:
        return Reply("error")  # not caught by the driver: the caller knows how it ended
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Reply("error", report=inside.report("DriverError", text))
