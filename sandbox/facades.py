"""Functions that stand in for those of the standard library that would give a program too much."""

from __future__ import annotations

import collections
import copy
import functools
import hashlib
import json
import types
from collections.abc import Callable, Iterable
from typing import Any, cast

from taskgym.sandbox.names import HOOKED, PROGRAM, attribute_refused

RE_FLAGS = "A ASCII I IGNORECASE L LOCALE M MULTILINE NOFLAG S DOTALL U UNICODE X VERBOSE"


def exact(value: object, what: str) -> str:
    """A real `str`: a subclass could lie to whoever checks it."""
    if type(value) is not str:
        raise TypeError(f"{what} must be a str, got {type(value).__name__}")
    return value


def namedtuple(
    typename: str,
    field_names: str | Iterable[str],
    *,
    rename: bool = False,
    defaults: Iterable[object] | None = None,
) -> Any:
    """`collections.namedtuple`, which evaluates a text made of the names, for real strings only."""
    if type(field_names) is str:
        field_names = field_names.replace(",", " ").split()
    fields = [exact(name, "a field name") for name in field_names]
    make = cast(Callable[..., Any], collections.namedtuple)
    name = exact(typename, "the type name")
    return make(name, fields, rename=bool(rename), defaults=defaults, module=PROGRAM)


def _of_instances(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that makes another of its kind by `self.__class__`, which of a class is `type`."""

    def method(self: Any, *args: Any, **keywords: Any) -> Any:
        if issubclass(self.__class__, type):
            raise TypeError(f"{function.__name__}() takes an object, not a class")
        return function(self, *args, **keywords)

    method.__name__ = function.__name__
    return method


# Changed where they are, as a program reaches the originals through any class derived from them.
for _class, _name in (
    (collections.Counter, "copy"),
    (collections.ChainMap, "__copy__"),
    (collections.ChainMap, "__ror__"),
    (collections.ChainMap, "copy"),
    (collections.ChainMap, "new_child"),
):
    setattr(_class, _name, _of_instances(getattr(_class, _name)))
collections.ChainMap.parents = property(  # type: ignore[method-assign,assignment]
    _of_instances(collections.ChainMap.parents.fget)  # type: ignore[attr-defined]
)


def copy_(x: Any) -> Any:
    """`copy.copy`."""
    return copy.copy(x)


def deepcopy(x: Any, memo: Any = None) -> Any:
    """`copy.deepcopy`; a memo is what `__deepcopy__` was given."""
    if memo is not None and type(memo) is not dict:
        raise TypeError("memo must be the dict that __deepcopy__ was given")
    return copy.deepcopy(x, memo)


def setrecursionlimit(limit: int) -> None:
    """`sys.setrecursionlimit`, which programs call to be safe; the job's own limit stays."""
    if type(limit) is not int or limit < 1:
        raise ValueError("the recursion limit must be a positive int")


def _plain(name: object) -> str:
    """An attribute that a program could as well read by a dot, without a hook."""
    name = exact(name, "the name of an attribute")
    if name.startswith("_") or name in HOOKED or attribute_refused(name):
        raise AttributeError(f"the attribute {name!r} cannot be read by a string")
    return name


def attrgetter(*names: str) -> Callable[[Any], Any]:
    """`operator.attrgetter` for plain names."""
    paths = [[_plain(part) for part in exact(name, "a name").split(".")] for name in names]
    if not paths:
        raise TypeError("attrgetter() takes at least one name")

    def get(owner: Any) -> Any:
        found = tuple(functools.reduce(getattr, path, owner) for path in paths)
        return found if len(found) > 1 else found[0]

    return get


def methodcaller(name: str, /, *args: Any, **keywords: Any) -> Callable[[Any], Any]:
    """`operator.methodcaller` for plain names."""
    name = _plain(name)
    return lambda owner: getattr(owner, name)(*args, **keywords)


def wraps(wrapped: Any) -> Callable[[Any], Any]:
    """`functools.wraps` for functions: the name only, as other attributes are taken by a string."""

    def decorate(wrapper: Any) -> Any:
        name = getattr(wrapped, "__name__", None)
        if type(wrapper) is types.FunctionType and type(name) is str:
            wrapper.__name__ = name
        return wrapper

    return decorate


def dumps(
    obj: Any,
    *,
    ensure_ascii: bool = True,
    indent: Any = None,
    separators: Any = None,
    default: Any = None,
    sort_keys: bool = False,
) -> str:
    """`json.dumps` without its hooks for classes."""
    return json.dumps(
        obj,
        ensure_ascii=bool(ensure_ascii),
        indent=indent,
        separators=separators,
        default=default,
        sort_keys=bool(sort_keys),
    )


def loads(s: str | bytes) -> Any:
    """`json.loads` without its hooks for classes."""
    return json.loads(s)


def _hash(name: str) -> Callable[..., Any]:
    make = getattr(hashlib, name)

    def digest(data: Any = b"") -> Any:
        return make(data, usedforsecurity=False)

    digest.__name__ = digest.__qualname__ = name
    return digest


HASHES = {name: _hash(name) for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")}
