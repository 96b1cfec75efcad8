"""Stand-ins for the names of `typing`: they may be subscripted, joined and called, and do nothing.

Annotations are never evaluated, so these only serve aliases, casts and base classes. The real ones
forward attributes to the classes behind them, and evaluate strings.
"""

from __future__ import annotations

import collections.abc
import typing
from typing import Any, cast

from taskgym.sandbox.names import words


class Hint:
    """One name of `typing`, or anything made from one.

    What it holds has names with two underscores on either side, which no program may read.
    """

    __slots__ = ("__behind__", "__label__")
    __behind__: type | None
    __label__: str

    def __new__(cls, name: str, behind: type | None = None) -> Hint:
        """Not `__init__`, which a program could call again."""
        hint = super().__new__(cls)
        hint.__label__ = name
        hint.__behind__ = behind
        return hint

    def __getitem__(self, key: object) -> Hint:
        return self

    def __or__(self, other: object) -> Hint:
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type, ...]:
        return ()

    def __instancecheck__(self, value: object) -> bool:
        if self.__behind__ is None:
            raise TypeError(f"isinstance() takes a class, not typing.{self.__label__}")
        return isinstance(value, self.__behind__)

    def __repr__(self) -> str:
        return f"typing.{self.__label__}"


_ALIASES = {
    "Dict": dict, "FrozenSet": frozenset, "List": list, "Set": set, "Tuple": tuple,
    "Counter": collections.Counter, "DefaultDict": collections.defaultdict,
    "Deque": collections.deque, "OrderedDict": collections.OrderedDict,
}  # fmt: skip
ABSTRACT = words(
    "Callable Collection Container Generator Hashable Iterable Iterator Mapping MutableMapping"
    " MutableSequence MutableSet Reversible Sequence Sized"
)
_SPECIAL = words(
    "Annotated Any AnyStr ClassVar Concatenate Final Generic Literal NoReturn Never NotRequired"
    " Optional Protocol Required Self Text Type TypeAlias TypeGuard Union"
    " Unpack SupportsFloat SupportsIndex SupportsInt"
)


def _cast(kind: object, value: object) -> object:
    return value


def _same(value: object) -> object:
    return value


def _variable(name: str, *bounds: object, **others: object) -> Hint:
    return Hint(name)


def _new_type(name: str, kind: object) -> Any:
    return _same


def abstract() -> dict[str, object]:
    """The names of `collections.abc`, which serve `isinstance` only."""
    return {name: Hint(name, getattr(collections.abc, name)) for name in ABSTRACT}


def abc_names() -> dict[str, object]:
    """The names of `abc`: a base class that is none, and a decorator that does nothing."""
    return {"ABC": Hint("ABC"), "abstractmethod": _same}


def typing_names() -> dict[str, object]:
    """The names of `typing`."""
    hints: dict[str, object] = {name: Hint(name) for name in _SPECIAL}
    hints |= {name: Hint(name, behind) for name, behind in _ALIASES.items()}
    return {
        **hints,
        **abstract(),
        "NamedTuple": cast(Any, typing.NamedTuple),
        "NewType": _new_type,
        "ParamSpec": _variable,
        "TYPE_CHECKING": False,
        "TypeVar": _variable,
        "cast": _cast,
        "final": _same,
        "overload": _same,
        "runtime_checkable": _same,
    }
