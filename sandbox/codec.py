"""Plain values as JSON and back, exactly: a tuple stays a tuple, and nothing else gets through.

JSON, because reading it can make plain data only; what the untrusted child wrote is never
unpickled. What JSON lacks is tagged: `{"$": "tuple", "v": [1, 2]}`.
"""

from __future__ import annotations

import collections
import json
import math
from collections.abc import Callable, Iterable
from typing import Any

DEPTH = 16  # levels of nesting
PLAIN = (
    "None, bool, int, float, complex, str, bytes, list, tuple, dict, set and frozenset, "
    f"nested at most {DEPTH} deep"
)
_SMALL = 2**63  # larger integers travel in base 16: base 10 takes quadratic time


class BadValue(ValueError):
    """A value that is not plain data, is too large or too deep, or bytes that encode no value."""


# allow_nan=False: a float that slipped past the tags must fail, not write NaN.
_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(value: Any, cap: int) -> bytes:
    """The value as tagged JSON.

    Raises:
        BadValue: If anything in it is of another type (subclasses too), or it exceeds `cap` bytes.
    """
    if type(value) is str and 6 * len(value) + 2 <= cap:  # a move: by far the most frequent value
        return _write(value).encode()
    packed = _Packer(cap).pack(value, DEPTH)
    text = _write(packed).encode()
    if len(text) > cap:
        raise BadValue(f"the value takes {len(text)} bytes, the limit is {cap}")
    return text


class _Packer:
    """Turns plain values to what JSON can say, and stops early at what is surely too large."""

    def __init__(self, cap: int):
        self.cap = self.left = cap

    def pack(self, value: Any, depth: int) -> Any:
        value, kind = _plain(value)
        if kind in (list, tuple, set, frozenset, dict) and depth == 0:
            raise BadValue(f"the value is nested more than {DEPTH} deep")
        self._spend(len(value) if kind in _SIZED else 1)
        pack = self._KINDS.get(kind)
        if pack is None:
            raise BadValue(f"the value contains {_named(kind)}; plain values are {PLAIN}")
        return pack(self, value, depth)

    def _spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise BadValue(f"the value takes more than {self.cap} bytes")

    def _items(self, value: Any, depth: int) -> list[Any]:
        return [self.pack(item, depth - 1) for item in value]

    def _same(self, value: Any, depth: int) -> Any:
        return value

    def _int(self, value: int, depth: int) -> Any:
        if -_SMALL < value < _SMALL:
            return value
        self._spend(value.bit_length() // 4)
        return {"$": "int", "v": hex(value)}

    def _float(self, value: float, depth: int) -> Any:
        return value if math.isfinite(value) else {"$": "float", "v": repr(value)}

    def _complex(self, value: complex, depth: int) -> Any:
        return {"$": "complex", "v": [value.real.hex(), value.imag.hex()]}

    def _bytes(self, value: bytes, depth: int) -> Any:
        return {"$": "bytes", "v": value.hex()}

    def _tagged(self, value: Any, depth: int) -> Any:
        return {"$": type(value).__name__, "v": self._items(value, depth)}

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if all(type(key) is str and key != "$" for key in value):
            self._spend(sum(map(len, value)))
            return {key: self.pack(item, depth - 1) for key, item in value.items()}
        pairs = [self._items(pair, depth) for pair in value.items()]
        return {"$": "dict", "v": pairs}

    _KINDS: dict[type, Callable[[_Packer, Any, int], Any]] = {  # noqa: RUF012 (a table, not state)
        type(None): _same,
        bool: _same,
        str: _same,
        int: _int,
        float: _float,
        complex: _complex,
        bytes: _bytes,
        list: _items,
        tuple: _tagged,
        set: _tagged,
        frozenset: _tagged,
        dict: _dict,
    }


_MAPPINGS = (collections.Counter, collections.OrderedDict, collections.defaultdict)


def _plain(value: Any) -> tuple[Any, type]:
    """The value and its type; what is equal to plain data, and known to be, as plain data.

    That is a named tuple (as a tuple) and three mappings of the standard library (as a dict). No
    method of the program's own is called: a subclass of these stays what it is, and is refused.
    """
    kind = type(value)
    if kind in _MAPPINGS:
        return dict(value), dict
    if type.__dict__["__bases__"].__get__(kind) == (tuple,) and "_fields" in kind.__dict__:
        return tuple(tuple.__iter__(value)), tuple
    return value, kind


_SIZED = (str, bytes, list, tuple, set, frozenset, dict)


def _named(kind: type) -> str:
    name = type.__dict__["__name__"].__get__(kind)  # not what a class of the program answers
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name[:100]}"


def check_plain(value: Any) -> None:
    """Raises `BadValue` unless the value is plain data through and through, of any size."""
    _Packer(1 << 62).pack(value, DEPTH)


RESULT = "None, bool, int, float, str, list, tuple and dict with str keys"


def check_result(value: Any) -> None:
    """Raises `BadValue` unless the value is what a program may answer its caller with.

    Drivers, which compare values on the trusted side, may be given all plain data; a caller gets
    only what JSON could say, and tuples.
    """
    kind: type = type(value)
    inner: Iterable[Any] = ()
    if kind in (list, tuple):
        inner = value
    elif kind is dict and all(type(key) is str for key in value):
        inner = value.values()
    elif kind not in (type(None), bool, int, float, str):
        raise BadValue(f"the value contains {_named(kind)}; a result holds {RESULT}")
    for item in inner:
        check_result(item)


def decode(data: bytes) -> Any:
    """The value behind `data`, which anyone may have written.

    Raises:
        BadValue: If it is not tagged JSON, repeats a key, holds NaN, or is nested too deep.
    """
    try:
        tree = _read(data.decode())
        return _unpack(tree, DEPTH)
    except BadValue:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise BadValue(f"not a value: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise BadValue("a key is repeated")
    return table


def _refuse_constant(name: str) -> Any:
    raise BadValue(f"{name} must be tagged")


_read = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, strict=False
).decode


def _unpack(tree: Any, depth: int) -> Any:
    if type(tree) not in (list, dict):
        return tree
    if type(tree) is dict and tree.get("$") in ("int", "float", "complex", "bytes"):
        return _SCALARS[tree["$"]](tree["v"])
    if depth == 0:
        raise BadValue(f"nested more than {DEPTH} deep")
    if type(tree) is list:
        return [_unpack(item, depth - 1) for item in tree]
    if "$" not in tree:
        return {key: _unpack(item, depth - 1) for key, item in tree.items()}
    if tree["$"] == "dict":
        return {_unpack(k, depth - 1): _unpack(v, depth - 1) for k, v in tree["v"]}
    return _SEQUENCES[tree["$"]](_unpack(item, depth - 1) for item in tree["v"])


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "int": lambda v: int(v, 16),
    "float": lambda v: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[v],
    "complex": lambda v: complex(*map(float.fromhex, v)),
    "bytes": bytes.fromhex,
}
_SEQUENCES: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
