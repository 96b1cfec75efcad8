"""The builtins a program sees: the harmless ones as they are, a few replaced by guarded ones."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

from RestrictedPython.Guards import safe_builtins
from taskgym.sandbox.names import words

# What safe_builtins leaves out because it guards iteration, or because it has no way to know.
# Left out here: id, dir and memoryview (addresses and layouts), input and help (a terminal), and
# everything that reaches files, frames or code.
_NAMES = words("""
    abs all any ascii bin bool bytearray bytes callable chr classmethod complex dict divmod
    enumerate filter float format frozenset hash hex int isinstance issubclass iter len list map
    max min next object oct ord pow property range repr reversed round set slice sorted
    staticmethod str sum super tuple zip
    Ellipsis False None NotImplemented True
    FileNotFoundError ModuleNotFoundError PermissionError RecursionError StopAsyncIteration
    TimeoutError
""")

BUILTINS: dict[str, Any] = {
    **{name: value for name, value in safe_builtins.items() if isinstance(value, type)},
    **{name: getattr(builtins, name) for name in _NAMES},
}


def printer(write: Callable[[str], None]) -> Callable[..., None]:
    """A `print` that hands one real string to `write`, whatever the values' own methods return."""

    def print(*values: object, sep: Any = None, end: Any = None, **others: Any) -> None:
        if others.get("file") is not None or not others.keys() <= {"file", "flush"}:
            raise TypeError("print takes sep and end only; there are no files")
        texts = [value if type(value) is str else str(value) for value in values]
        sep, end = (" " if sep is None else sep), ("\n" if end is None else end)
        write("".join((str.join(sep, texts), end)))

    return print
