"""The tests of a row of code, compiled and taken apart, so that each can be run and counted.

Loaded by `code_driver.py` in the sandbox's supervisor: standard library only.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from types import CodeType
from typing import NamedTuple


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
