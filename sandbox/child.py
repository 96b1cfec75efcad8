"""What runs in the single-use child: compile the program, call it, send back plain values.

Nothing of this is trusted once the program has started: the supervisor checks what comes out.
"""

from __future__ import annotations

import gc
import json
import marshal
import os
import sys
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, NoReturn

from taskgym.sandbox.codec import BadValue, encode
from taskgym.sandbox.frames import Closed, read_frame, write_frame
from taskgym.sandbox.guards import program_globals
from taskgym.sandbox.policy import Rejected, compile_program

ORDERS, REPLIES, OUTPUT = 3, 4, 1  # the child's descriptors; 0 and 2 lead nowhere

# Kinds of messages: orders to the child, and its replies.
JOB, CALL = b"j", b"c"
READY, VALUE, ERROR, REJECTED, MEMORY = b"k", b"v", b"e", b"r", b"m"

MESSAGE_CHARS = 500
_SCALARS = (str, int, float, bool, bytes, complex, type(None))


class Finished(Exception):
    """The program is over; the reply that says so is in its arguments."""


def main(drivers: list[ModuleType]) -> NoReturn:
    """Serves jobs until the supervisor closes the pipe or kills; never returns."""
    try:
        sys.unraisablehook = _ignore
        order = read_frame(ORDERS)
        while order[:1] == JOB:
            order = _run(order[1:], drivers)
    except Closed:
        pass
    finally:
        os._exit(0)


def _ignore(_: object) -> None:
    """A finalizer of the program raised: nobody is told."""


def _run(order: bytes, drivers: list[ModuleType]) -> bytes:
    """Runs one job; returns the next order, for which it waits."""
    source, entry, payload, calls, seed, recursion, cap, driver = marshal.loads(order)
    sys.setrecursionlimit(recursion + 10)  # 10: our own frames below the program's
    try:
        program = _Program(source, entry, seed, cap)
        if calls == 0:
            write_frame(REPLIES, READY)
            return program.answer_calls()
        if driver is None:
            value = program.call_often(payload, calls)
        else:
            value = program.guarded(
                drivers[driver].play_inside, marshal.loads(payload), program.entry
            )
        write_frame(REPLIES, VALUE, program.encoded(value))
    except Finished as finished:
        write_frame(REPLIES, *finished.args)
    return read_frame(ORDERS)


class _Program:
    """One compiled program and its entry function. Whatever it raises becomes `Finished`."""

    def __init__(self, source: bytes, entry: str, seed: int, cap: int):
        self.cap = cap
        self.file = "<program>"
        self.reserve = bytearray(1 << 18)  # given back when memory runs out, to say so
        code = self._compiled(source)
        self.file = code.co_filename
        names = program_globals(seed, _write)
        self.guarded(exec, code, names)
        if entry not in names:
            raise Finished(ERROR, _report("EntryNotFound", f"the program defines no {entry}", None))
        if not callable(names[entry]):
            raise Finished(ERROR, _report("EntryNotFound", f"{entry} is not a function", None))
        self.entry = names[entry]

    def _compiled(self, source: bytes) -> CodeType:
        try:
            return compile_program(source.decode())
        except Rejected as error:
            raise Finished(REJECTED, _report("Rejected", str(error), error.line)) from None
        except RecursionError:
            text = "the program is nested too deep to compile"
            raise Finished(REJECTED, _report("Rejected", text, None)) from None
        except MemoryError:
            raise Finished(MEMORY) from None

    def guarded(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls into the program."""
        try:
            return function(*args)
        except MemoryError:
            del self.reserve
            raise Finished(MEMORY) from None
        except BaseException as error:  # SystemExit and the like are errors of the program, too
            raise Finished(ERROR, self._failure(error)) from None

    def encoded(self, value: Any) -> bytes:
        try:
            return encode(value, self.cap)
        except BadValue as error:
            raise Finished(ERROR, _report("BadValue", str(error), None)) from None
        except MemoryError:
            raise Finished(MEMORY) from None

    def call_often(self, payload: bytes, calls: int) -> Any:
        """Calls the entry with a fresh copy of its arguments each time; returns the last value."""
        for _ in range(calls):
            value = self.guarded(self.entry, *marshal.loads(payload))
        return value

    def answer_calls(self) -> bytes:
        """Answers calls until another kind of order comes, and returns that."""
        while True:
            order = read_frame(ORDERS)
            if order[:1] != CALL:
                return order
            value = self.guarded(self.entry, *marshal.loads(order[1:]))
            write_frame(REPLIES, VALUE, self.encoded(value))

    def _failure(self, error: BaseException) -> bytes:
        line, trace = None, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.file:
                line = trace.tb_lineno
            trace = trace.tb_next
        return _report(_name(type(error)), _message(error), line)


def _name(kind: type) -> str:
    return str(type.__dict__["__name__"].__get__(kind))


def _message(error: BaseException) -> str:
    """The message as Python shows it, without running code of the program (a hostile __str__)."""
    args = BaseException.__dict__["args"].__get__(error)
    shown = [_shown(each) for each in args[:8]]
    if len(args) == 1 and type(args[0]) is str and not isinstance(error, KeyError):
        return args[0][:MESSAGE_CHARS]
    return ", ".join(shown)


def _shown(value: Any) -> str:
    if type(value) in (str, bytes):
        return repr(value[:MESSAGE_CHARS])
    if type(value) is int and value.bit_length() > 1000:
        return "a large int"
    return repr(value) if type(value) in _SCALARS else f"<{_name(type(value))}>"


def _report(kind: str, message: str, line: int | None) -> bytes:
    for folder in {sys.prefix, sys.base_prefix, os.path.dirname(__file__)}:
        message = message.replace(folder, "...")
    table = {"type": kind[:100], "message": message[:MESSAGE_CHARS], "line": line}
    return json.dumps(table).encode()


def _write(text: str) -> None:
    """Where the program prints to: the supervisor counts, and kills who prints too much."""
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(OUTPUT, data) :]


def prepare_interpreter() -> None:
    """Done once in the supervisor: what is alive now is never collected, so its pages stay shared."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
