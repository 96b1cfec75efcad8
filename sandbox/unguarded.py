"""The policy's stand-in where a sandbox was asked for without the layer `policy`.

Programs are plain Python here: it shows what the other layers stop by themselves.
"""

from __future__ import annotations

import builtins
import random
from collections.abc import Callable
from types import CodeType
from typing import Any

from taskgym.sandbox.policy import Rejected


def compile_program(source: str) -> CodeType:
    """Compiles anything that is Python."""
    try:
        return compile(source, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise Rejected(str(error), getattr(error, "lineno", None), "syntax") from None


def program_globals(seed: int, write: Callable[[str], None]) -> dict[str, Any]:
    """All builtins; `print` goes where the sandbox listens."""

    def print_(*values: object, sep: str = " ", end: str = "\n", **_: object) -> None:
        write(sep.join(map(str, values)) + end)

    random.seed(seed)
    return {"__name__": "program", "__builtins__": {**vars(builtins), "print": print_}}
