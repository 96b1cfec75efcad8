"""Compiles a program under the policy, or says what in it is refused and what to write instead."""

from __future__ import annotations

import ast
import types
import warnings

from taskgym.sandbox.transformer import Transformer
from taskgym.sandbox.visitor import Kind

TOO_DEEP = "the program is nested too deeply; use fewer levels"


class Rejected(Exception):
    """A program that was refused before any line of it ran.

    Attributes:
        message: What was refused and what is allowed instead, beginning with the line.
        line: Where, counted from 1; None where the program as a whole is at fault.
        kind: "syntax" for what is no Python, "import" for a module that is not offered, "escape"
            for builtins and attributes that lead into the interpreter, "construct" for harmless
            Python that the policy does not know.
    """

    def __init__(self, message: str, line: int | None = None, kind: Kind = "construct"):
        self.message = message if line is None else f"line {line}: {message}"
        self.line = line
        self.kind = kind
        super().__init__(self.message)


def compile_program(source: str) -> types.CodeType:
    """Parses, checks and compiles a program.

    The code is to be run with `guards.program_globals`; without them its hooks have no meaning.
    Call this in a process that may die: nested deeply enough, a source can crash the parser.

    Raises:
        Rejected: The first thing refused, in the order of lines; harmless ones come last.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as `x is 1`: the program's business
        return _compiled(source)


def _compiled(source: str) -> types.CodeType:
    try:
        tree = _parse(source)
        _check(tree)
        return compile(tree, "<program>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise Rejected(error.msg, error.lineno, "syntax") from None
    except ValueError as error:  # NUL bytes, lone surrogates, integers of too many digits
        raise Rejected(str(error)[:200], None, "syntax") from None
    except RecursionError:
        raise Rejected(TOO_DEEP) from None


def _parse(source: str) -> ast.Module:
    try:
        return ast.parse(source, "<program>")
    except MemoryError:  # how the parser says that its stack is full
        raise Rejected(TOO_DEEP) from None


def _check(tree: ast.Module) -> None:
    transformer = Transformer()
    transformer.visit(tree)
    if transformer.refusals:
        # What is merely not supported does not hide what is forbidden.
        first = min(transformer.refusals, key=lambda each: (each.kind == "construct", each.line))
        raise Rejected(first.message, first.line, first.kind)
