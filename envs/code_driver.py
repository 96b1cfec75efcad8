"""Runs a data set's tests against a program in the sandbox: the trusted side, one test at a time.

The sandbox's supervisor loads this file (standard library only). The program under test lives in
another process: tests call it through a proxy that sends plain arguments and brings plain values
back, so what they compare is never an object that the program made.
"""

from __future__ import annotations

# Loaded before the supervisor gives up opening files, for tests that import them later.
import array
import ast
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
from types import CodeType
from typing import Any, NamedTuple, Protocol

READY = (
    array, bisect, cmath, collections, copy, datetime, decimal, fractions, functools, heapq,
    itertools, json, math, operator, re, statistics, string, sys, typing,
)  # fmt: skip
TESTS_CPU_S = 4.0  # of the tests' own code, the program's aside; a loop without end is cut here
SHOWN = 300  # characters of a test or a value in a report


class Call(Protocol):
    """Calls the program in its own process; the sandbox's supervisor makes it.

    Raises `Raised` where the program raised or its value was not plain, and `Ended`, of which that
    is a kind, where the program is over.
    """

    Ended: type[Any]
    Raised: type[Any]

    def __call__(self, *args: Any, **names: Any) -> Any:
        """The value that the program's function returns."""


class Step(NamedTuple):
    """One statement of the tests: a test that counts, or what later ones need."""

    code: CodeType
    text: str
    counts: bool


class Suite(NamedTuple):
    """Compiled tests, and the reference solution with its helpers, which tests may call."""

    reference: CodeType
    setup: CodeType
    steps: tuple[Step, ...]
    entry: str
    name: str  # what the tests call the function


class FaultyTests(Exception):
    """The tests cannot judge anything."""


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


@functools.lru_cache(maxsize=256)  # a group of completions brings the same tests many times
def read_suite(entry: str, reference: str, setup: str, tests: tuple[str, ...], check: str) -> Suite:
    """Compiles the tests of a row.

    Raises:
        FaultyTests: A part of the row is no Python, or there is no test in it.
    """
    try:
        steps = tuple(split_check(check)) if check else tuple(map(whole_test, tests))
        solution, first = (compile(text, "tests", "exec") for text in (reference, setup))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise FaultyTests(f"the tests cannot be read: {error}") from error
    if not any(step.counts for step in steps):
        raise FaultyTests("there is no test in them")
    return Suite(solution, first, steps, entry, "candidate" if check else entry)


def whole_test(text: str) -> Step:
    """A source that is one test, whatever stands in it."""
    return Step(compile(text, "test", "exec"), text.strip(), counts=True)


def split_check(source: str) -> Iterator[Step]:
    """`check(candidate)` as its statements, in order; each that asserts something is one test.

    A loop of asserts is one test. Asserts of a constant (`assert True`) are none. Where helpers
    hold all the asserts, the statements that call the candidate are the tests. A body that cannot
    be taken apart (it returns, or declares `global` or `nonlocal`) is one test as a whole.
    """
    module = ast.parse(source)
    found = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "check"]
    if len(found) != 1 or not found[0].args.args:
        raise ValueError("they define no check(candidate)")
    check = found[0]
    whole = len(check.args.args) > 1 or any(
        isinstance(node, _INDIVISIBLE) for part in check.body for node in _own(part)
    )
    for node in module.body:
        if node is not check or whole:
            yield _step(node, source, counts=False)
    if whole:
        yield whole_test("check(candidate)")
        return
    parameter = check.args.args[0].arg
    if parameter != "candidate":
        yield _step(ast.parse(f"{parameter} = candidate").body[0], source, counts=False)
    tests = list(filter(_asserts, check.body)) or [n for n in check.body if _calls(n, parameter)]
    for node in check.body:
        yield _step(node, source, counts=node in tests)


_INDIVISIBLE = (ast.Return, ast.Global, ast.Nonlocal, ast.Yield, ast.YieldFrom)
_INNER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_SETUP = (*_INNER, ast.Assign, ast.AnnAssign, ast.AugAssign)


def _step(node: ast.stmt, source: str, counts: bool) -> Step:
    code = compile(ast.Module([node], []), "test", "exec")
    return Step(code, (ast.get_source_segment(source, node) or ast.unparse(node)).strip(), counts)


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """A statement's nodes, but not those inside the functions and classes that it defines."""
    if not isinstance(node, _INNER):
        yield node
        for child in ast.iter_child_nodes(node):
            yield from _own(child)


def _asserts(node: ast.stmt) -> bool:
    asserts = (each for each in _own(node) if isinstance(each, ast.Assert))
    return any(not isinstance(each.test, ast.Constant) for each in asserts)


def _calls(node: ast.stmt, name: str) -> bool:
    names = (each.id for each in _own(node) if isinstance(each, ast.Name))
    return not isinstance(node, _SETUP) and name in names


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
