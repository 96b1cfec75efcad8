"""Only exact plain values cross, they cross unchanged, and hostile bytes make nothing else."""

import collections
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskgym.sandbox.codec import DEPTH, BadValue, check_plain, decode, encode

CAP = 1 << 16
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**90), 2**90)
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
HASHABLE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(HASHABLE, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
    ),
    max_leaves=10,
)


def text(value: object) -> str:
    """As `repr`, types and the order of iteration included; but a set has no order."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(map(text, value))})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({[text(item) for item in value]})"
    if isinstance(value, dict):
        return f"dict({[(text(key), text(item)) for key, item in value.items()]})"
    return repr(value)


@given(VALUES)
def test_plain_values_come_back_as_they_were(value: object) -> None:
    check_plain(value)
    assert text(decode(encode(value, CAP))) == text(value)


@pytest.mark.parametrize(
    "value",
    [
        (1, [2, {3: (4,)}]),
        {"$": "tuple", "v": [1]},
        {1: "a", "b": {"$": 1}},
        1 << 5000,
        -(2**63),
        math.nan,
        [math.inf, -math.inf, -0.0],
        {frozenset({1}), frozenset()},
        "\ud800 \0 é",
        {True: 1, (): None},
    ],
    ids=type,
)
def test_awkward_values_come_back_as_they_were(value: object) -> None:
    assert text(decode(encode(value, CAP))) == text(value)


class Sneaky(str):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


class Loud(int):
    def __repr__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Loud(3), id="Loud"),
        Sneaky("x"),
        [Sneaky("x")],
        {"a": Loud(1)},
        {Sneaky("k"): 1},
        object(),
        int,
        len,
        iter([]),
        range(3),
        collections.deque([1]),
        bytearray(b"x"),
        Exception("x"),
    ],
)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match="plain values are"):
        encode(value, CAP)


def test_counters_and_named_tuples_arrive_as_what_they_equal() -> None:
    point = collections.namedtuple("point", "x y")
    value = [collections.Counter("aab"), collections.defaultdict(list, {1: [2]}), point(1, 2)]
    assert text(decode(encode(value, CAP))) == text([{"a": 2, "b": 1}, {1: [2]}, (1, 2)])


def test_a_cycle_and_a_deep_value_are_refused() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    deep: object = 0
    for _ in range(DEPTH + 1):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(BadValue, match="nested more than"):
            encode(value, CAP)


@pytest.mark.parametrize(
    "value",
    ["x" * 101, ["x" * 60, "y" * 60], list(range(60)), 10**400, {"k" * 101: 1}, b"x" * 60],
    ids=type,
)
def test_a_value_over_the_cap_is_refused(value: object) -> None:
    with pytest.raises(BadValue, match="bytes"):
        encode(value, 100)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b"Infinity",
        b'{"a":1,"a":2}',
        b'{"$":"os.system","v":"true"}',
        b'{"$":"tuple"}',
        b'{"$":"set","v":[[1]]}',
        b'{"$":"dict","v":[[[1],2]]}',
        b'{"$":"dict","v":[1]}',
        b'{"$":"int","v":[]}',
        b'{"$":"int","v":"zz"}',
        b'{"$":"float","v":"1e999"}',
        b'{"$":"bytes","v":"0"}',
        b'{"$":["tuple"],"v":[]}',
        b"[" * 20,
        b"[" * 100_000,
        b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1),
        b"1" * 5000,
    ],
)
def test_forged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadValue):
        decode(data)


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.sampled_from(["$", "v", "tuple"]),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["$", "v", "a"]), inner),
    )
)
def test_any_json_gives_plain_data_or_is_refused(tree: object) -> None:
    try:
        value = decode(json.dumps(tree).encode())
    except BadValue:
        return
    check_plain(value)
