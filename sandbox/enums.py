"""`enum` for programs: the real one makes classes by name, with whatever methods it is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_DATA = (int, str, float)
_MEMBERS = "__enum_members__"  # name -> member, aliases included; a name that no program can read


class auto:
    """A value that follows from the one before, or from the name in a StrEnum."""


def _members(cls: Any) -> dict[str, Any]:
    found: dict[str, Any] = type.__getattribute__(cls, "__dict__").get(_MEMBERS, {})
    return found


def _distinct(cls: Any) -> list[Any]:
    return [each for name, each in _members(cls).items() if each.__member__[0] == name]


def _is_member(name: str, value: object) -> bool:
    return not name.startswith("__") and not hasattr(type(value), "__get__")


class EnumType(type):
    """The class of enumerations; a program never holds it."""

    def __new__(meta, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> Any:
        """Turns the plain values of a class body into members."""
        if any(getattr(base, _MEMBERS, None) for base in bases):
            raise TypeError(f"{name} cannot extend an enumeration that has members")
        values = {key: value for key, value in body.items() if _is_member(key, value)}
        rest = {key: value for key, value in body.items() if key not in values}
        made = super().__new__(meta, name, bases, {**rest, _MEMBERS: {}})
        for key, value in values.items():
            _add(made, key, value)
        return made

    def __call__(cls, *values: Any) -> Any:
        """The member of a value; classes are made by `class` only."""
        if len(values) != 1 or not _members(cls):
            raise TypeError(f"{cls.__name__}() takes the value of a member; use class to define")
        for member in cls:
            if member.value == values[0] or member is values[0]:
                return member
        raise ValueError(f"{values[0]!r} is not a valid {cls.__name__}")

    def __getitem__(cls, name: str) -> Any:
        return _members(cls)[name]

    def __iter__(cls) -> Iterator[Any]:
        yield from _distinct(cls)

    def __reversed__(cls) -> Iterator[Any]:
        yield from _distinct(cls)[::-1]

    def __len__(cls) -> int:
        return len(_distinct(cls))

    def __bool__(cls) -> bool:
        return True

    def __contains__(cls, value: object) -> bool:
        return any(member is value or member.value == value for member in cls)

    def __setattr__(cls, name: str, value: Any) -> None:
        if name in _members(cls):
            raise AttributeError(f"cannot reassign member {name!r}")
        super().__setattr__(name, value)

    def __repr__(cls) -> str:
        return f"<enum {cls.__name__!r}>"


class Enum(metaclass=EnumType):
    """`enum.Enum`."""

    __member__: tuple[str, Any]  # its name and its value

    @property
    def name(self) -> str:
        """The name in the class."""
        return self.__member__[0]

    @property
    def value(self) -> Any:
        """What the class gave it."""
        return self.__member__[1]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __hash__(self) -> int:
        return hash(self.name)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self


class IntEnum(int, Enum):
    """`enum.IntEnum`."""

    __str__ = int.__repr__
    __format__ = int.__format__  # type: ignore[assignment]


class StrEnum(str, Enum):
    """`enum.StrEnum`."""

    __str__ = str.__str__
    __format__ = str.__format__  # type: ignore[assignment]


def unique(cls: Any) -> Any:
    """`enum.unique`."""
    if type(cls) is not EnumType:
        raise TypeError("unique() takes an enumeration")
    if len(_members(cls)) != len(cls):
        raise ValueError(f"duplicate values found in {cls!r}")
    return cls


def _add(cls: Any, name: str, value: Any) -> None:
    others = _distinct(cls)
    if type(value) is auto:
        value = _next(cls, name, others)
    for other in others:  # the same value is an alias
        if other.value == value and type(other.value) is type(value):
            _members(cls)[name] = other
            return type.__setattr__(cls, name, other)
    data = next((kind for kind in _DATA if issubclass(cls, kind)), None)
    member = data.__new__(cls, value) if data else object.__new__(cls)
    object.__setattr__(member, "__member__", (name, value))
    type.__setattr__(cls, name, member)
    _members(cls)[name] = member


def initialize(cls: Any) -> None:
    """Calls `__init__` of each member; only when the guards know the class as the program's own."""
    for member in _distinct(cls) if "__init__" in vars(cls) else ():
        value = member.value
        member.__init__(*(value if type(value) is tuple else (value,)))


def _next(cls: type, name: str, others: list[Any]) -> Any:
    if issubclass(cls, StrEnum):
        return name.lower()
    numbers = [each.value for each in others if isinstance(each.value, int)]
    return max(numbers, default=0) + 1
