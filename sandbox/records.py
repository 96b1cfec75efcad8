"""`dataclasses` for programs: the real one writes source text and executes it, this uses closures.

Annotations are never evaluated, so only the names of fields are known: `ClassVar` is told apart
when the program is compiled, `InitVar` and `KW_ONLY` are not offered.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from taskgym.sandbox.names import PROGRAM

_FIELDS = "__record_fields__"  # a name that no program can read
_MISSING = object()


class FrozenInstanceError(AttributeError):
    """An attribute of a frozen dataclass was set."""


class Field:
    """What `field()` gives, and what is known of each field; a program can read only its name."""

    __slots__ = ("__compare__", "__default__", "__factory__", "__given__", "__shown__", "name")
    __compare__: bool
    __default__: Any
    __factory__: Any
    __given__: bool
    __shown__: bool
    name: str


def field(
    *,
    default: Any = _MISSING,
    default_factory: Any = _MISSING,
    init: bool = True,
    repr: bool = True,
    compare: bool = True,
) -> Any:
    """`dataclasses.field`."""
    if default is not _MISSING and default_factory is not _MISSING:
        raise ValueError("cannot specify both default and default_factory")
    made = Field()
    made.__default__, made.__factory__ = default, default_factory
    made.__given__, made.__shown__, made.__compare__ = init, repr, compare
    return made


def dataclass(cls: Any = None, /, **options: bool) -> Any:
    """`dataclasses.dataclass`, for classes of the program only."""
    wanted = {"init": True, "repr": True, "eq": True, "order": False, "frozen": False}
    ignored = {"slots", "unsafe_hash", "match_args", "weakref_slot"}
    if unknown := options.keys() - wanted.keys() - ignored:
        raise TypeError(f"dataclass() takes no {', '.join(sorted(unknown))} here")
    wanted |= options
    return _decorate(cls, wanted) if cls is not None else lambda cls: _decorate(cls, wanted)


def _decorate(cls: Any, wanted: dict[str, bool]) -> Any:
    if not issubclass(type(cls), type) or cls.__module__ != PROGRAM:
        raise TypeError("dataclass() takes a class that the program defines")
    setattr(cls, _FIELDS, _inherited(cls) | _declared(cls))
    for name, method in _methods(cls, wanted):
        if name not in cls.__dict__ or name == "__hash__":
            setattr(cls, name, method)
    return cls


def _inherited(cls: type) -> dict[str, Field]:
    found: dict[str, Field] = {}
    for base in reversed(cls.__mro__[1:]):
        found |= base.__dict__.get(_FIELDS, {})
    return found


def _declared(cls: type) -> dict[str, Field]:
    found, body = {}, dict(vars(cls))
    for name in body.get("__annotations__", {}):
        value = body.get(name, _MISSING)
        made = value if type(value) is Field else field(default=value)
        if type(made.__default__) in (list, dict, set):
            kind = type(made.__default__).__name__
            raise ValueError(f"mutable default {kind} for field {name}: use default_factory")
        made.name = name
        found[name] = made
        if made.__default__ is not _MISSING:
            setattr(cls, name, made.__default__)
        elif value is made:
            delattr(cls, name)
    return found


def _methods(cls: type, wanted: dict[str, bool]) -> Iterator[tuple[str, Any]]:
    fields = list(getattr(cls, _FIELDS).values())
    compared = [each.name for each in fields if each.__compare__]

    def values(record: Any) -> tuple[Any, ...]:
        return tuple(getattr(record, name) for name in compared)

    if wanted["init"]:
        yield "__init__", _init(cls, fields)
    if wanted["repr"]:
        yield "__repr__", _repr([each.name for each in fields if each.__shown__])
    if wanted["eq"]:
        yield "__eq__", _comparison(values, lambda a, b: a == b)
        if "__hash__" not in cls.__dict__ or cls.__dict__["__hash__"] is None:
            yield "__hash__", (lambda self: hash(values(self))) if wanted["frozen"] else None
    if wanted["order"]:
        yield "__lt__", _comparison(values, lambda a, b: a < b)
        yield "__le__", _comparison(values, lambda a, b: a <= b)
        yield "__gt__", _comparison(values, lambda a, b: a > b)
        yield "__ge__", _comparison(values, lambda a, b: a >= b)
    if wanted["frozen"]:
        yield "__setattr__", _refuse_to_set
        yield "__delattr__", _refuse_to_set


def _init(cls: type, fields: list[Field]) -> Callable[..., None]:
    taken = [each.name for each in fields if each.__given__]
    optional = False
    for each in fields:
        has_default = each.__default__ is not _MISSING or each.__factory__ is not _MISSING
        if optional and not has_default and each.__given__:
            raise TypeError(f"non-default argument {each.name!r} follows default argument")
        optional |= has_default and each.__given__

    def __init__(self: Any, /, *args: Any, **given: Any) -> None:
        if cls not in type(self).__mro__:
            raise TypeError(f"__init__() of {cls.__name__} takes one of its own objects")
        if len(args) > len(taken):
            raise TypeError(f"__init__() takes {len(taken)} arguments but {len(args)} were given")
        for name, value in zip(taken, args, strict=False):
            if name in given:
                raise TypeError(f"__init__() got multiple values for argument {name!r}")
            given[name] = value
        for each in fields:
            object.__setattr__(self, each.name, _value(each, given))
        if given:
            raise TypeError(f"__init__() got an unexpected argument {min(given)!r}")
        if hasattr(cls, "__post_init__"):
            self.__post_init__()

    return __init__


def _value(each: Field, given: dict[str, Any]) -> Any:
    if each.__given__ and each.name in given:
        return given.pop(each.name)
    if each.__factory__ is not _MISSING:
        return each.__factory__()
    if each.__default__ is not _MISSING:
        return each.__default__
    raise TypeError(f"__init__() misses the argument {each.name!r}")


def _repr(names: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({inside})"

    return __repr__


def _comparison(
    values: Callable[[Any], Any], compare: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if type(other) is not type(self):
            return NotImplemented
        return compare(values(self), values(other))

    return method


def _refuse_to_set(self: Any, name: str, *value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def fields(record: Any) -> tuple[Field, ...]:
    """`dataclasses.fields`."""
    found = getattr(record, _FIELDS, None)
    if found is None:
        raise TypeError("fields() takes a dataclass or an instance of one")
    return tuple(found.values())


def asdict(record: Any) -> Any:
    """`dataclasses.asdict`."""
    return _unfolded(record, lambda each: {f.name: getattr(each, f.name) for f in fields(each)})


def astuple(record: Any) -> Any:
    """`dataclasses.astuple`."""
    return _unfolded(record, lambda each: tuple(getattr(each, f.name) for f in fields(each)))


def _unfolded(value: Any, unfold: Callable[[Any], Any]) -> Any:
    if hasattr(type(value), _FIELDS):
        value = unfold(value)
    if type(value) in (list, tuple):
        return type(value)(_unfolded(each, unfold) for each in value)
    if type(value) is dict:
        return {key: _unfolded(each, unfold) for key, each in value.items()}
    return copy.deepcopy(value)


def replace(record: Any, /, **changes: Any) -> Any:
    """`dataclasses.replace`."""
    if issubclass(type(record), type):
        raise TypeError("replace() takes an instance, not a class")
    kept = {f.name: getattr(record, f.name) for f in fields(record) if f.__given__}
    return type(record)(**{**kept, **changes})


def is_dataclass(value: Any) -> bool:
    """`dataclasses.is_dataclass`."""
    return hasattr(value, _FIELDS)
