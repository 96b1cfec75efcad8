"""Runs a data set's tests against a program in the sandbox: the trusted side, one test at a time.

The sandbox's supervisor loads this file (standard library, and the file beside it). The program
under test lives in another process: tests call it through a proxy that sends plain arguments and
brings plain values back, so what they compare is never an object that the program made.
"""

from __future__ import annotations

import array
import bisect
import builtins
import cmath
import collections
import copy
import datetime
import decimal
import fractions
import functools
import heapq
import importlib.util
import itertools
import json
import math
import operator
import random
import re
import signal
import statistics
import string
import sys
import typing
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

# Tests import these later, when the supervisor has given up opening files.
READY = (
    array, bisect, cmath, collections, copy, datetime, decimal, fractions, functools, heapq,
    itertools, json, math, operator, re, statistics, string, sys, typing,
)  # fmt: skip
# Of the tests' own code, the program's aside: a loop without end is cut here. The reference runs in
# it, and may take as long as a program.
TESTS_CPU_S = 6.0
SHOWN = 300  # characters of a test or a value in a report


def _beside(name: str) -> ModuleType:
    """A module of this folder: the supervisor knows no packages of ours."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from taskgym.envs.code_suite import FaultyTests, Step, Suite, read_suite
else:
    _suites = _beside("code_suite")
    FaultyTests, Step, Suite = _suites.FaultyTests, _suites.Step, _suites.Suite
    read_suite = _suites.read_suite


class Call(Protocol):
    """Calls the program in its own process; the sandbox's supervisor makes it.

    Raises `Raised` where the program raised or its value was not plain, and `Ended`, of which that
    is a kind, where the program is over.
    """

    Ended: type[Any]
    Raised: type[Any]

    def __call__(self, *args: Any, **names: Any) -> Any:
        """The value that the program's function returns."""


class ProgramFailed(Exception):
    """The program gave no value: its process ended, or it raised an exception of its own."""


class OutOfTime(BaseException):
    """The tests' own code ran too long; no `except Exception` of theirs shall stop it."""


def play(task: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Runs every test against the program.

    Args:
        task: `entry` (the function), `reference` (source that defines it, and helpers of the
            tests), `setup` (source run before the tests) and either `tests` (a list of sources,
            each one test) or `check` (source that defines `check(candidate)`).
        call: Calls the program's function in its own process.

    Returns:
        `passed`, a list of booleans, one a test; `failure`, the first test that failed and why;
        `fault`, why the tests judge nobody (their own reference does not pass them), or empty.
    """
    with warnings.catch_warnings(action="ignore"):  # Python reads source files to show one
        try:
            suite = read_suite(**{**task, "tests": tuple(task["tests"])})
            return _report(suite, Program(call))
        except Exception as error:  # FaultyTests, or what nobody thought of: no score of a program
            return {"passed": [], "failure": "", "fault": printable(_words(error))}


def _report(suite: Suite, program: Program) -> dict[str, Any]:
    passed, failure = run_suite(suite, program)
    if failure:
        return {"passed": passed, "failure": failure, "fault": find_fault(suite)}
    fault = "" if program.called else f"no test calls {suite.entry}"
    return {"passed": passed, "failure": "", "fault": fault}


class Program:
    """The function as tests see it: a proxy of the one in the sandbox, until that one ends."""

    def __init__(self, call: Call):
        self._call = call
        self.working = False  # inside a call, where the tests' clock must not strike
        self.called = self.over = False
        self.value: Any = None  # what the last call returned, or the exception that it raised

    def __call__(self, *args: Any, **names: Any) -> Any:
        """Calls the program's function; raises what it raised, if that is a built-in exception."""
        if self.over:
            raise ProgramFailed("the program has ended")
        self.called = self.working = True
        self.value = None
        try:
            self.value = self._call(*args, **names)
        except self._call.Ended as ended:
            self.over = not isinstance(ended, self._call.Raised)
            self.value = _value_or_error(ended)
            if isinstance(self.value, Exception):
                raise self.value from None
        except ValueError as error:  # nothing was sent
            raise FaultyTests(f"the program is not called with plain values: {error}") from error
        finally:
            self.working = False
        return self.value


class Opaque:
    """In the place of a returned object that cannot travel: true, and equal to nothing else."""

    def __init__(self, what: str):
        self._what = what

    def __repr__(self) -> str:
        return f"no plain value: {self._what}"


def _value_or_error(ended: Any) -> Opaque | Exception:
    """What came of a call that gave no plain value: an object, or what to raise in the tests.

    `ended.report` is the program's own claim: JSON with the `type` and `message` of what it
    raised. Only an `Exception` is raised as such, so that no claim can leave or stop the tests.
    """
    try:
        report = json.loads(ended.report or b"{}")
        name, message = str(report.get("type", "")), str(report.get("message", ended.message))
    except (ValueError, AttributeError, RecursionError):
        name, message = "", "an unreadable report"
    if name == "BadValue":  # claiming it pays as much as returning True
        return Opaque(message.partition(";")[0])
    return _exception(name, message) or ProgramFailed(f"{name or ended.status}: {message}")


def _exception(name: str, message: str) -> Exception | None:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        with suppress(TypeError):  # some take more, such as UnicodeDecodeError
            return kind(message)
    return None


class Reference:
    """The reference solution in the program's place."""

    working = over = False

    def __init__(self) -> None:
        self.function: Any = None
        self.value: Any = None

    def __call__(self, *args: Any, **names: Any) -> Any:
        """Calls the reference."""
        self.value = self.function(*args, **names)
        return self.value


def run_suite(suite: Suite, program: Program | Reference) -> tuple[list[bool], str]:
    """Which tests pass, in order, and the first failure in words.

    Raises:
        FaultyTests: The tests fail before they reach the program.
    """
    passed: list[bool] = []
    failure = ""
    try:
        with _seeded(), _bounded(program):
            space = _space(suite)
            if isinstance(program, Reference):
                program.function = space[suite.entry]
            space = {**space, suite.name: program}
            for step in suite.steps:
                why = _run_step(step, space, program)
                if step.counts:
                    passed.append(not why)
                failure = failure or (why and printable(f"{step.text[:SHOWN]}: {why}"))
    except OutOfTime:
        failure = failure or f"the tests took more than {TESTS_CPU_S:g} s of their own"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)  # again: it may have struck while being stopped
    unreached = sum(step.counts for step in suite.steps) - len(passed)
    return passed + [False] * unreached, failure


@functools.lru_cache(maxsize=256)
def find_fault(suite: Suite) -> str:
    """Why the tests judge nobody: what they say of their own reference; empty if it passes."""
    try:
        _, failure = run_suite(suite, Reference())
    except FaultyTests as error:
        return str(error)
    return f"the reference fails its own tests: {failure}" if failure else ""


def _space(suite: Suite) -> dict[str, Any]:
    space: dict[str, Any] = {"__name__": "tests", "print": lambda *args, **kwargs: None}
    try:
        exec(suite.reference, space)
        exec(suite.setup, space)
    except (Exception, SystemExit) as error:
        raise FaultyTests(f"before the tests: {_words(error)}") from error
    if not callable(space.get(suite.entry)):
        raise FaultyTests(f"the reference defines no function {suite.entry}")
    return space


def _run_step(step: Step, space: dict[str, Any], program: Program | Reference) -> str:
    """Why a step failed; empty if it did not."""
    if program.over:
        return "not reached"
    try:
        exec(step.code, space)
    except FaultyTests:
        raise
    except AssertionError as error:
        if error is program.value:
            return _words(error)
        return f"the last call returned {_shown(program.value)}"
    except (Exception, SystemExit) as error:
        return _words(error)
    return ""


def _words(error: BaseException) -> str:
    if isinstance(error, FaultyTests):
        return str(error)
    return f"{type(error).__name__}: {_shown(error)}" if str(error) else type(error).__name__


def _shown(value: Any) -> str:
    try:
        return (str if isinstance(value, BaseException) else repr)(value)[:SHOWN]
    except ValueError:  # an int of more digits than Python turns into text
        return "a very long number"


def printable(text: str) -> str:
    """The text without lone surrogates, which no file takes."""
    return text.encode("utf-8", "backslashreplace").decode()


@contextmanager
def _seeded() -> Iterator[None]:
    """Tests that draw at random draw the same for every program."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _bounded(program: Program | Reference) -> Iterator[None]:
    """Raises OutOfTime in the tests' code once this process has computed too long."""

    def strike(*_: Any) -> None:
        if not program.working:
            raise OutOfTime

    before = signal.signal(signal.SIGVTALRM, strike)
    signal.setitimer(signal.ITIMER_VIRTUAL, TESTS_CPU_S, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
