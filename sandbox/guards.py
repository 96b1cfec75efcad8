"""The globals of one program: its builtins, its modules, and the hooks that the policy left in.

Everything here is fresh for each program, and what is shared with other programs can be read only:
a program sets attributes of its own objects, classes and functions, and of nothing else.
"""

from __future__ import annotations

import builtins
import decimal
import fractions
import gc
import re
import string
import sys
import types
from abc import ABCMeta
from collections.abc import Callable, Container
from typing import Any

from taskgym.sandbox.builtins import BUILTINS, printer
from taskgym.sandbox.enums import EnumType, initialize
from taskgym.sandbox.modules import importer
from taskgym.sandbox.names import FORMATTERS, METHODS, NAMED_TUPLE, PROGRAM, attribute_refused

GARBAGE_ROUNDS = 10  # a finalizer may make more garbage, with finalizers of its own
_MISSING = object()
_mark = object()  # in the globals of the last program, and here
UNSHARED = 2  # references to the mark that nobody else has: ours, and the argument of getrefcount()
# Caches whose keys may be objects of a program, which compare equal to whatever they like.
_CACHES = [
    re.purge,
    *(value.cache_clear for value in vars(fractions).values() if hasattr(value, "cache_clear")),
]
_PUBLIC = NAMED_TUPLE | {"_", "__init__", "__name__"}
# Calling these makes code, modules, or objects that forward to others; no program needs them.
_NO_TYPES = (
    types.BuiltinFunctionType,
    types.CodeType,
    types.FrameType,
    types.FunctionType,
    types.GenericAlias,
    types.GeneratorType,
    types.MethodType,
    types.ModuleType,
    types.TracebackType,
    types.UnionType,
)


def program_globals(seed: int, write: Callable[[str], None]) -> dict[str, Any]:
    """Fresh globals to execute one compiled program in; between two programs, call `forget`.

    Args:
        seed: Of the program's `random`.
        write: Takes what the program prints, as exact strings.
    """
    global _mark
    guards, _mark = _Guards(), object()
    table = {
        **BUILTINS,
        "__build_class__": guards.build_class,
        "__import__": importer(seed),
        "delattr": guards.delattr,
        "getattr": guards.getattr,
        "hasattr": guards.hasattr,
        "print": printer(write),
        "setattr": guards.setattr,
        "type": type_of,
    }
    names = {
        "__builtins__": table,
        "__mark__": _mark,
        "__name__": PROGRAM,
        "_getattr_": guards.read,
        "_write_": guards.write,
    }
    guards.globals = names
    return names


def forget() -> None:
    """Undoes what the last program left behind in this process, before the next one starts.

    Its finalizers may still run code of its own; its objects may be keys of shared caches. All code
    of a program holds on to its globals, and those to a mark: when only we have that, it is over.
    (A weak reference would not tell: it is cleared before finalizers run, which may revive all.)

    Raises:
        RuntimeError: If it lives on. Then this process is not to be used again.
    """
    for _ in range(GARBAGE_ROUNDS):
        for clear in _CACHES:
            clear()
        gc.collect()
        if sys.getrefcount(_mark) == UNSHARED:
            break
    else:
        raise RuntimeError("an earlier program lives on in its finalizers")
    decimal.setcontext(decimal.Context())


class _Guards:
    """The hooks of one program; they know its classes and its globals, and so what is its own."""

    def __init__(self) -> None:
        self.globals: dict[str, Any] = {}
        self.classes = classes = set[type]()

        def write(owner: Any) -> Any:
            if type(owner) in classes or self._made(owner):
                return owner
            raise TypeError(
                f"attributes of {_kind(owner)} cannot be set: it is not defined in the program"
            )

        self.write = write

    def _made(self, value: Any) -> bool:
        """Whether the program made this object, class, function or context, and may change it."""
        if issubclass(type(value), type):
            return value in self.classes
        if type(value) is types.FunctionType:
            return value.__globals__ is self.globals
        return type(value) in self.classes or type(value) is decimal.Context

    def build_class(self, body: Any, name: str, *bases: Any) -> Any:
        """Stands for `__build_class__`: notes the class as the program's own."""
        made = builtins.__build_class__(body, name, *bases)
        if issubclass(type(made), type):
            self.classes.add(made)
        if type(made) is EnumType:
            initialize(made)
        return made

    def read(self, owner: Any, name: str, default: Any = _MISSING) -> Any:
        """Stands for `owner.name` where the name alone does not say that it is harmless."""
        if name.startswith("_") and name not in _PUBLIC and not self._made(owner):
            if default is _MISSING:
                raise AttributeError(f"{_kind(owner)} has no attribute {name!r}")
            return default
        if name == "register" and issubclass(type(owner), ABCMeta) and not self._made(owner):
            raise AttributeError(f"{_kind(owner)} cannot be changed")
        value = getattr(owner, name) if default is _MISSING else getattr(owner, name, default)
        if name in FORMATTERS:
            return _without_traversal(value)
        return self._initializer(value) if name == "__init__" else value

    def _initializer(self, value: Any) -> Any:
        """An `__init__` that sets attributes of the program's own objects only."""
        if type(value) in (types.MethodType, types.MethodWrapperType):
            return value
        return lambda owner, *args, **keywords: value(self.write(owner), *args, **keywords)

    def getattr(self, owner: Any, name: str, default: Any = _MISSING, /) -> Any:
        """Stands for `getattr`."""
        _check_name(name, {"__name__"})
        return self.read(owner, name, default)

    def hasattr(self, owner: Any, name: str, /) -> bool:
        """Stands for `hasattr`, which may also be asked for the methods of a protocol."""
        if type(name) is str and name in METHODS:
            return hasattr(owner, name)
        try:
            self.getattr(owner, name)
        except AttributeError:
            return False
        return True

    def setattr(self, owner: Any, name: str, value: Any, /) -> None:
        """Stands for `setattr`."""
        _check_name(name)
        setattr(self.write(owner), name, value)

    def delattr(self, owner: Any, name: str, /) -> None:
        """Stands for `delattr`."""
        _check_name(name)
        delattr(self.write(owner), name)


def type_of(value: object, /) -> type:
    """Stands for `type`: of one value, which is no class, as the type of a class makes classes."""
    kind = type(value)
    if issubclass(kind, type) or kind in _NO_TYPES:
        raise TypeError("type() takes one value that is neither a class nor a function")
    return kind


type_of.__name__ = type_of.__qualname__ = "type"


def _kind(value: Any) -> str:
    if type(value) is types.ModuleType:
        return f"module {value.__name__!r}"
    if issubclass(type(value), type):
        return f"class {value.__name__!r}"
    return repr(type(value).__name__)


def _check_name(name: object, besides: Container[str] = ()) -> None:
    if type(name) is not str:
        raise TypeError("the name of an attribute must be a str")
    if name not in besides and (refusal := attribute_refused(name)):
        raise AttributeError(refusal)


def _without_traversal(value: Any) -> Any:
    """The format methods of str, in a form that takes plain fields only; others as they are."""
    if value is str.format or value is str.format_map:
        return _formatter(value, None)
    bound = type(value) is types.BuiltinMethodType and issubclass(type(value.__self__), str)
    if bound and value.__name__ in FORMATTERS:
        return _formatter(getattr(str, value.__name__), value.__self__)
    return value


def _formatter(method: Callable[..., str], template: str | None) -> Callable[..., str]:
    def format(*args: Any, **keywords: Any) -> str:
        text, values = (args[0], args[1:]) if template is None else (template, args)
        text = str.__str__(text)  # exact: a subclass could answer the check otherwise
        _check_fields(text)
        return method(text, *values, **keywords)

    return format


def _check_fields(template: str) -> None:
    for _, field, spec, _ in string.Formatter().parse(template):
        if field and "." in field:
            raise ValueError(f"format field {field!r} is not allowed: pass the value itself")
        if spec:
            _check_fields(spec)
