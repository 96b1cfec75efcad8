"""Stand-in until the extended policy lands."""

from __future__ import annotations

from types import CodeType

from RestrictedPython import compile_restricted_exec


class Rejected(Exception):
    """Refused at compile time."""

    def __init__(self, message: str, line: int | None = None):
        super().__init__(message)
        self.line = line


def compile_program(source: str) -> CodeType:
    """Compiles under the stock policy."""
    result = compile_restricted_exec(source, "<program>")
    if result.errors:
        raise Rejected(result.errors[0])
    code = result.code
    assert isinstance(code, CodeType)
    return code
