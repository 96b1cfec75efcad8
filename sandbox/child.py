"""What runs in the single-use child: compile the program, call it, send back plain values.

Nothing of this is trusted once the program has started: the supervisor checks what comes out.
"""

from __future__ import annotations

import json
import marshal
import os
import sys
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, NamedTuple, NoReturn

from taskgym.sandbox import guards, policy, unguarded
from taskgym.sandbox.codec import BadValue, encode
from taskgym.sandbox.frames import Closed, read_frame, write_frame

ORDERS, REPLIES, OUTPUT = 3, 4, 1  # the child's descriptors; 0 and 2 lead nowhere

# Kinds of messages: orders to the child, and its replies.
JOB, CALL = b"j", b"c"
READY, VALUE, RAISED, REJECTED, MEMORY = b"k", b"v", b"e", b"r", b"m"

MESSAGE_CHARS = 500
OWN_FRAMES = 80  # calls below the program's, and those that encode its values
_SCALARS = (int, float, bool, complex, type(None))
_FOLDERS = tuple({sys.prefix, sys.base_prefix, os.path.dirname(__file__)} - {"/"})


class _Rules(NamedTuple):
    compile_program: Callable[[str], CodeType]
    program_globals: Callable[[int, Callable[[str], None]], dict[str, Any]]


class Finished(Exception):
    """There is nothing more to run; the reply that says why is in its arguments."""


def main(drivers: list[ModuleType], guarded: bool) -> NoReturn:
    """Serves jobs until the supervisor closes the pipe or kills; never returns.

    Args:
        drivers: Modules that a job names by number.
        guarded: Whether programs are bound by the policy.
    """
    try:
        rules = _Rules(policy.compile_program, guards.program_globals)
        if not guarded:
            rules = _Rules(unguarded.compile_program, unguarded.program_globals)
        write_frame(REPLIES, READY)
        order = read_frame(ORDERS)
        while True:
            order = _run(order[1:], drivers, rules)
            guards.forget()  # in a batch: the last program must not reach into the next one
    except Closed:
        pass
    finally:
        os._exit(0)


def _run(order: bytes, drivers: list[ModuleType], rules: _Rules) -> bytes:
    """Runs one job; returns the next order, for which it waits."""
    source, entry, payload, calls, seed, recursion, cap, driver = marshal.loads(order)
    printer = Printer()
    try:
        program = Program(rules, source, entry, seed, cap, recursion, printer)
        if calls == 0:
            write_frame(REPLIES, READY)
            return program.answer_calls()
        if driver is None:
            value = program.call_often(payload, calls)
        else:
            play = drivers[driver].play_inside
            value = program.guarded(play, marshal.loads(payload), program.entry)
        write_frame(REPLIES, VALUE, program.encoded(value))
    except Finished as finished:
        write_frame(REPLIES, *finished.args)
    except MemoryError:  # there was not even enough to say what went wrong
        write_frame(REPLIES, MEMORY)
    finally:
        printer.open = False
    return read_frame(ORDERS)


class Program:
    """One compiled program and its entry function; whatever it raises becomes `Finished`."""

    def __init__(
        self,
        rules: _Rules,
        source: bytes,
        entry: str,
        seed: int,
        cap: int,
        recursion: int,
        printer: Printer,
    ):
        self.cap = cap
        self.reserve = bytearray(1 << 18)  # given back when memory runs out, to say so
        sys.setrecursionlimit(1000)
        code = _compiled(rules, source.decode())
        self.file = code.co_filename
        names = rules.program_globals(seed, printer.write)
        sys.setrecursionlimit(recursion + OWN_FRAMES)
        self.guarded(exec, code, names)
        if not callable(names.get(entry)):
            problem = f"{entry} is not a function" if entry in names else f"it defines no {entry}"
            raise Finished(RAISED, report("EntryNotFound", problem))
        self.entry = names[entry]

    def guarded(self, function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Calls into the program."""
        try:
            return function(*args, **keywords)
        except MemoryError:
            self.reserve = bytearray()
            raise Finished(MEMORY) from None
        except BaseException as error:  # SystemExit and the like are errors of the program, too
            raise Finished(RAISED, self._failure(error)) from None

    def encoded(self, value: Any) -> bytes:
        """The value as bytes."""
        try:
            return encode(value, self.cap)
        except BadValue as error:
            raise Finished(RAISED, report("BadValue", str(error))) from None
        except MemoryError:
            self.reserve = bytearray()
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
            args, keywords = marshal.loads(order[1:])
            try:
                value = self.guarded(self.entry, *args, **keywords)
                write_frame(REPLIES, VALUE, self.encoded(value))
            except Finished as finished:  # a raise ends one call, not the program
                write_frame(REPLIES, *finished.args)

    def _failure(self, error: BaseException) -> bytes:
        line, trace = None, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.file:
                line = trace.tb_lineno
            trace = trace.tb_next
        return report(_name(type(error)), _message(error), line)


def _compiled(rules: _Rules, source: str) -> CodeType:
    try:
        return rules.compile_program(source)
    except policy.Rejected as error:
        raise Finished(REJECTED, report(error.kind, error.message, error.line)) from None
    except MemoryError:
        raise Finished(MEMORY) from None


def _name(kind: type) -> str:
    return str(type.__dict__["__name__"].__get__(kind))  # not what a metaclass may answer


def _message(error: BaseException) -> str:
    """The message as Python shows it, without running code of the program (a hostile __str__)."""
    args = BaseException.__dict__["args"].__get__(error)
    if len(args) == 1 and type(args[0]) is str and not isinstance(error, KeyError):
        return str(args[0][:MESSAGE_CHARS])
    return ", ".join(map(_shown, args[:8]))


def _shown(value: Any) -> str:
    if type(value) in (str, bytes):
        return repr(value[:MESSAGE_CHARS])
    if type(value) is int and value.bit_length() > 1000:
        return "a large int"
    return repr(value) if type(value) in _SCALARS else f"<{_name(type(value))}>"


def report(kind: str, message: str, line: int | None = None) -> bytes:
    """What went wrong, for the parent: it names no folder of this machine."""
    for folder in _FOLDERS:
        message = message.replace(folder, "...")
    table = {"type": kind[:100], "message": message[:MESSAGE_CHARS], "line": line}
    return json.dumps(table).encode()


class Printer:
    """Where one program prints to, as long as it runs; the supervisor counts, and kills."""

    def __init__(self) -> None:
        self.open = True

    def write(self, text: str) -> None:
        """Writes text through to the supervisor."""
        data = text.encode("utf-8", "backslashreplace")
        while data and self.open:
            data = data[os.write(OUTPUT, data) :]
