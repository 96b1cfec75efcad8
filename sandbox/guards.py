"""Stand-in until the guards land."""

from __future__ import annotations

import collections
import copy
import functools
import itertools
import math
import operator
import random
from collections.abc import Callable
from typing import Any

from RestrictedPython import safe_builtins
from RestrictedPython.Guards import (
    full_write_guard,
    guarded_iter_unpack_sequence,
    guarded_unpack_sequence,
    safer_getattr,
)

_NAMES = "list dict set frozenset sum min max any all enumerate map filter reversed iter next sorted tuple zip bytes range".split()
_MODULES = {m.__name__: m for m in (math, itertools, functools, collections, operator, copy)}


def program_globals(seed: int, write: Callable[[str], None]) -> dict[str, Any]:
    """Fresh globals."""

    class Printer:
        def __init__(self, _getattr_: Any = None) -> None: ...
        def _call_print(self, *args: Any, sep: str = " ", end: str = "\n", **_: Any) -> None:
            write(sep.join(map(str, args)) + end)

    def importer(name: str, *_: Any) -> Any:
        if name == "random":
            return random.Random(seed)
        if name not in _MODULES:
            raise ImportError(f"{name} is not allowed")
        return _MODULES[name]

    table = dict(safe_builtins)
    import builtins

    table.update({n: getattr(builtins, n) for n in _NAMES})
    table["__import__"] = importer
    table["__build_class__"] = __build_class__
    return {
        "__builtins__": table,
        "__name__": "program",
        "__metaclass__": type,
        "_getattr_": safer_getattr,
        "_getitem_": operator.getitem,
        "_getiter_": iter,
        "_write_": full_write_guard,
        "_print_": Printer,
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "_unpack_sequence_": guarded_unpack_sequence,
        "_inplacevar_": lambda op, x, y: {
            "+=": operator.iadd,
            "-=": operator.isub,
            "*=": operator.imul,
        }[op](x, y),
        "_apply_": lambda f, *a, **k: f(*a, **k),
    }
