"""The policy accepts what models write, and it means what it means in Python."""
# ruff: noqa: E501 (programs as lines)

import decimal

import pytest
from taskgym.sandbox.guards import forget, program_globals
from taskgym.sandbox.policy import compile_program


@pytest.fixture(autouse=True)
def context():
    yield
    decimal.setcontext(decimal.Context())


def run(source, entry="f", *args, seed=0):
    """Runs a program of ours under the policy, in this process."""
    printed = []
    names = program_globals(seed, printed.append)
    exec(compile_program(source), names)
    return names[entry](*args), "".join(printed)


def plain(source, entry="f", *args):
    names = {"__name__": "program"}
    exec(compile(source, "<plain>", "exec"), names)
    return names[entry](*args)


# Programs that must be accepted, and give the same as under plain exec. Each defines f().
ACCEPTED = {
    "annotated assignment": """
def f():
    x: int = 1
    y: "list[undefined]"
    z: undefined = 2
    return x + z
""",
    "annotated arguments": """
from __future__ import annotations
from typing import Dict, List, Optional
def f(a: List[int] = None, *b: undefined, c: Optional[Dict[str, int]] = None) -> undefined.x:
    return a, b, c
""",
    "annotated attributes": """
class A:
    limit: int = 3
    def __init__(self):
        self.x: int = 1
def f():
    return A().x + A.limit
""",
    "augmented items": "def f():\n    d = {'a': [1, 2]}\n    d['a'][0] += 5\n    d['a'] *= 2\n    return d",
    "augmented attributes": """
class A:
    n = 0
def f():
    a = A()
    a.n += 2
    a.n **= 3
    A.n -= 1
    return a.n, A.n
""",
    "augmented names": "def f():\n    x = 7\n    x //= 2\n    x <<= 3\n    x |= 1\n    x @= M()\n    return x\n"
    "class M:\n    def __rmatmul__(self, o):\n        return o + 1",
    "nonlocal": """
def f():
    n = 0
    def g():
        nonlocal n
        n += 1
    g(); g()
    return n
""",
    "global": "n = 1\ndef f():\n    global n\n    n += 1\n    return n",
    "private names": """
_A = 1
def _g(_x, *_y, _z=2, **_w):
    _v = _x + _z
    return [_i + _v for _i in _y]
def f():
    return _g(_A, 1, 2)
""",
    "private attributes": """
class A:
    _shared = 1
    def __init__(self, x):
        self._x = x
        self.__y = 2 * x
    def _sum(self):
        return self._x + self.__y
    def __eq__(self, other):
        return self._x == other._x
    @classmethod
    def _make(cls):
        cls._shared += 1
        return cls(cls._shared)
def f():
    a = A(1)
    a._x += 4
    del a._x
    a._x = 3
    return a._sum(), A._make()._x, A(1) == A(1), a == A(1)
""",
    "name": "def f():\n    g = lambda: 0\n    return [__name__ == '__main__', f.__name__, type(1).__name__]",
    "main guard": "def f():\n    return 1\nif __name__ == '__main__':\n    input()",
    "super": """
class A:
    def __init__(self, x):
        self.x = x
    def __repr__(self):
        return f"A({self.x})"
class B(A):
    def __init__(self, x):
        super().__init__(x)
        A.__init__(self, x + 1)
    def __repr__(self):
        return "B" + super().__repr__()
class D(dict):
    def __setitem__(self, k, v):
        super().__setitem__(k, v + 1)
    def __missing__(self, k):
        return k
def f():
    d = D()
    d["a"] = 1
    return repr(B(1)), d["a"], d["b"]
""",
    "operators": """
class V:
    def __init__(self, x): self.x = x
    def __add__(self, o): return V(self.x + o.x)
    __radd__ = __add__
    def __mul__(self, k): return V(self.x * k)
    __rmul__ = __mul__
    def __iadd__(self, o):
        self.x += o.x
        return self
    def __neg__(self): return V(-self.x)
    def __lt__(self, o): return self.x < o.x
    def __eq__(self, o): return self.x == o.x
    __hash__ = None
    def __bool__(self): return bool(self.x)
    def __int__(self): return self.x
    def __index__(self): return self.x
    def __call__(self, y): return self.x + y
    def __contains__(self, y): return y == self.x
    def __iter__(self): return iter([self.x])
    def __len__(self): return 3
    def __getitem__(self, i): return i
    def __delitem__(self, i): self.x = i
    def __divmod__(self, o): return self.x, o
    def __format__(self, spec): return spec + str(self.x)
    def __enter__(self): return self
    def __exit__(self, *error): return True
    def __abs__(self): return abs(self.x)
    def __round__(self, n=0): return n
def f():
    v = V(1) + V(2) * 3
    v += V(-9)
    w = -v
    with v as u:
        del u[5]
        raise ValueError
    return [v.x, w.x, V(1) < V(2), V(1) == V(1), bool(V(0)), int(v), [1, 2, 3][V(2)], v(1), 5 in v,
            [*v], len(v), v[7], divmod(v, 2), f"{v:a}", abs(w), round(v, 2), hash(1)]
""",
    "slots": "class A:\n    __slots__ = ('x', '_y')\n    def __init__(self):\n        self.x = self._y = 1\n"
    "def f():\n    try:\n        A().z = 1\n    except AttributeError:\n        return A()._y",
    "format": """
def f():
    t = "{:>4}|{a!r:^8}|{:{w}}".format("ab", 3, a="x", w=5)
    return t, "{0[1]}".format("ab"), "{x}".format_map({"x": 1}), str.format("{}", 2), list(map("{:02d}".format, [1, 2])), format(2.5, ".2f")
""",
    "format of one's own": "class A:\n    def format(self, x):\n        return x\ndef f():\n    return A().format('{0.a}')",
    "f-strings": "def f():\n    w, x = 8, [1.5, 2]\n    return f'{x[0]!r:>{w}} {x=} {\"a\" if x else \"b\"} {{}} {max(x):.1f}'",
    "comprehensions": """
def f():
    m = [[i * j for j in range(3)] for i in range(3) if i]
    return m, {k: v for k, v in zip("ab", m)}, {*m[0]}, sum(x for r in m for x in r), [y := 1, y + 1]
""",
    "unpacking": """
def g(*a, **k): return a, k
def f():
    (a, (b, *c)), d = (1, (2, 3, 4)), 5
    for i, (j, k) in enumerate([(1, 2)]): pass
    [x, y] = "ab"
    return a, b, c, d, i, j, k, g(*c, **{"z": 1}), [*c, *c], {**{"a": 1}}, x + y
""",
    "with": """
class C:
    def __enter__(self): return 1, 2
    def __exit__(self, kind, error, trace): return kind is KeyError
def f():
    with C() as (a, b), C() as c:
        raise KeyError("x")
    return a, b, c
""",
    "exceptions": """
class Bad(Exception):
    def __init__(self, x):
        super().__init__(f"bad {x}")
        self.x = x
def f():
    out = []
    for k in range(3):
        try:
            if k == 1: raise Bad(k)
            out.append(1 // k)
        except (ZeroDivisionError, KeyError) as e:
            out.append((type(e).__name__, str(e), e.args))
        except Bad as e:
            out.append(e.x)
        else:
            out.append("else")
        finally:
            out.append("finally")
    try:
        try: assert False, "no"
        except AssertionError as e: raise ValueError("v") from e
    except ValueError as e:
        out.append(str(e))
    return out
""",
    "generators": """
def g(n):
    got = yield n
    yield from range(got)
    return 7
def h():
    x = yield from g(1)
    yield x
def f():
    it = h()
    return [next(it), it.send(2), *it], list(x for x in g(0) if x is not None) if False else 0
""",
    "classes": """
class A:
    count = 0
    def __init__(self): A.count += 1
    @property
    def double(self): return 2 * A.count
    @double.setter
    def double(self, x): A.count = x // 2
    @staticmethod
    def s(x): return x
    @classmethod
    def c(cls): return cls.__name__
class B(A): pass
def f():
    b = B(); b.double = 10
    return b.double, B.s(1), B.c(), isinstance(b, A), issubclass(B, A), type(b) is B, type(b).__name__
""",
    "function attributes": "def f():\n    f.calls = getattr(f, 'calls', 0) + 1\n    return f.calls",
    "getattr and friends": """
class A: pass
def f():
    a = A()
    setattr(a, "x", 1)
    had = hasattr(a, "x"), hasattr(a, "y"), hasattr([], "__iter__"), hasattr(1, "__len__")
    delattr(a, "x")
    return had, getattr(a, "x", 9), getattr([1], "count")(1)
""",
    "words of refused builtins": "def f(input=3, vars=(1,), compile=lambda x: x):\n    return input, vars, compile(2)",
    "names of hidden builtins": "def f():\n    id = 3\n    dir = 'up'\n    printed = [id, dir]\n    return printed",
    "named tuples": """
from collections import namedtuple
from typing import NamedTuple
P = namedtuple("P", "x y", defaults=[5])
class Q(NamedTuple):
    a: int
    b: str = "b"
    def both(self): return f"{self.a}{self.b}"
class R(namedtuple("R", ["i"])):
    def __add__(self, o): return self._replace(i=self.i + o.i)
def f():
    p = P(1)
    return p, p._replace(x=2), p._asdict(), P._fields, P._make([1, 2]), Q(1).both(), (R(1) + R(2)).i
""",
    "decorators": """
import functools
def twice(g):
    @functools.wraps(g)
    def h(*a, **k):
        "doc"
        return g(*a, **k), h.__name__
    return h
@twice
@functools.lru_cache(maxsize=None)
def g(x): return x + 1
@functools.total_ordering
class T:
    def __init__(self, x): self.x = x
    def __eq__(self, o): return self.x == o.x
    def __lt__(self, o): return self.x < o.x
def f(): return g(1), T(1) >= T(0)
""",
    "lambdas": "def f():\n    return sorted([3, 1, 2], key=lambda x, *, k=2: -x * k), (lambda *a, **k: (a, k))(1, b=2)",
    "walrus": "def f():\n    if (n := len('abc')) > 2:\n        return [m := n, m]",
    "del": "def f():\n    x = [1, 2, 3]\n    del x[0], x[:1]\n    y = 1\n    del y\n    return x",
    "slices": "def f():\n    x = list(range(9))\n    x[1:3] = 'ab'\n    return x[::-2], x[-1], x[slice(0, 2)]",
    "loops": "def f():\n    for i in range(9):\n        if i == 3: break\n    else: i = 0\n    while i:\n        i -= 1\n        continue\n    else: i = 5\n    return i",
    "imports": """
from __future__ import annotations
import math, random as _r, itertools as it
from collections import Counter as C, defaultdict, deque, OrderedDict, ChainMap, abc
from collections.abc import Iterable
from functools import reduce, partial, cache, cmp_to_key
import collections.abc, heapq, bisect, copy, operator, statistics, string, re, fractions, decimal, cmath, json, sys
def f():
    from math import gcd
    import array
    decimal.getcontext().prec = 5
    with decimal.localcontext() as c:
        c.prec = 3
        third = str(decimal.Decimal(1) / 3)
    return [math.isqrt(17), gcd(4, 6), C("aab").most_common(1), reduce(operator.add, [1, 2]), partial(max, 3)(1),
            sorted([2, 1], key=cmp_to_key(lambda a, b: a - b)), heapq.nlargest(1, [1, 2]), bisect.bisect([1, 3], 2),
            copy.deepcopy([[1]]), statistics.mean([1, 2]), string.digits, re.sub("a+", "b", "caat", flags=re.I | re.M),
            str(fractions.Fraction(1, 3)), third, str(decimal.Decimal(1) / 3), cmath.phase(-1), json.loads(json.dumps({"a": [1]})),
            sys.maxsize, list(it.accumulate([1, 2])), array.array("i", [1]).tolist(), isinstance([], Iterable),
            isinstance(1, collections.abc.Sized), _r.Random(3).random()]
""",
    "typing at run time": """
from typing import Any, Callable, Dict, Generic, List, Literal, NewType, Optional, Protocol, Tuple, TypeVar, Union, cast
Board = List[List[int]]
Move = Union[str, None]
T = TypeVar("T", bound="A")
Id = NewType("Id", int)
class A(Generic[T]):
    x = 1
class S(Protocol):
    def g(self): ...
class D(S):
    pass
def f(h: Callable[[int], Dict[str, Tuple[int, ...]]] = None):
    return cast(Board, [[1]]), Id(4), A().x, Optional[int] is not None, D().g()
""",
    "hashes": "import hashlib\ndef f():\n    return hashlib.md5(b'a').hexdigest(), hashlib.sha256('é'.encode()).digest()",
    "deepcopy of one's own": """
import copy
class A:
    def __init__(self): self.x = [1]
    def __deepcopy__(self, memo):
        b = A(); b.x = copy.deepcopy(self.x, memo); return b
    def __copy__(self): return 5
def f():
    a = A(); b = copy.deepcopy([a, a]); a.x.append(2)
    return b[0].x, b[0] is b[1], copy.copy(a)
""",
    "self rebound": """
class A:
    def f(self):
        self.x = 1
        old = self
        self = A()
        self.x = 2
        def g():
            nonlocal self
            self = old
            self.x += 5
        g()
        return old.x, self.x
def f(): return A().f()
""",
    "dataclasses": """
from dataclasses import dataclass, field, replace, asdict, astuple, fields, is_dataclass, FrozenInstanceError
from typing import ClassVar, List
import typing
@dataclass
class P:
    x: int
    y: int = 2
    z: List[int] = field(default_factory=list, repr=False)
    hidden: int = field(default=7, init=False, compare=False)
    limit: ClassVar[int] = 9
    def __post_init__(self):
        self.z.append(self.x)
@dataclass(order=True, frozen=True)
class Q:
    a: int
    b: str = "b"
@dataclass
class R(P):
    w: int = 5
    def __repr__(self): return "R"
def tries(g):
    try: return g()
    except Exception as e: return type(e).__name__
def f():
    p = P(1, y=3)
    q = Q(1)
    return [str(p), p.z, p.hidden, P(1) == P(1), P(1) == P(2), p == 3, Q(1) < Q(2), {Q(1): 2}[Q(1)], repr(q), str(replace(q, a=5)),
            asdict(p), astuple(q), [e.name for e in fields(P)], is_dataclass(p), is_dataclass(3), R(1, 2, w=3).w, str(R(1)),
            P.limit, tries(lambda: P()), tries(lambda: P(1, 2, [], 4)), tries(lambda: P(1, x=1)), tries(lambda: P(1, q=1)),
            tries(lambda: setattr(q, "a", 3)), tries(lambda: hash(p)), sorted([Q(2), Q(1)])[0].a, P(1, 2, [3]).z,
            asdict(P(1, z=[Q(1)]))["z"]]
""",
    "enumerations": """
from enum import Enum, IntEnum, StrEnum, auto, unique
import copy
class Move(Enum):
    UP = "W"
    LEFT = "A"
    FIRST = "W"
    def turned(self): return Move.LEFT if self is Move.UP else Move.UP
    @property
    def low(self): return self.value.lower()
@unique
class N(IntEnum):
    ONE = 1
    TWO = auto()
class S(StrEnum):
    ALPHA = auto()
class T(str, Enum):
    X = "x"
class Planet(Enum):
    EARTH = (5.9, 6.3)
    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius
def tries(g):
    try: return g()
    except Exception as e: return type(e).__name__
def f():
    return [str(Move.UP), repr(Move.UP), Move.UP.name, Move.UP.value, [m.name for m in Move], Move("A") is Move.LEFT, Move["UP"] is Move.FIRST,
            len(Move), Move.UP in Move, Move.UP.turned().low, {Move.UP: 1}[Move("W")], Move.UP == "W", N.TWO + 1, str(N.TWO), f"{N.ONE}", N.ONE < N.TWO,
            S.ALPHA.value, str(S.ALPHA), S.ALPHA == "alpha", T.X == "x", T.X.upper(), Planet.EARTH.radius, tries(lambda: Move("Q")), tries(lambda: Move["Q"]),
            copy.deepcopy(Move.UP) is Move.UP, isinstance(Move.UP, Move), type(Move.UP) is Move, list(reversed(Move))[0].name, f"{Move.UP:>8}",
            tries(lambda: setattr(Move.UP, "value", 3)), bool(Move.UP), sorted(N)[0].name, Move.UP is not Move.LEFT]
""",
    "attribute getters": """
from operator import attrgetter, methodcaller
class A:
    def __init__(self, x): self.x = x
    def add(self, k, j=0): return self.x + k + j
def f():
    a = A(A(3))
    return attrgetter("x.x")(a), attrgetter("x", "add")(A(1))[0], methodcaller("add", 1, j=2)(A(1)), sorted([A(2), A(1)], key=attrgetter("x"))[0].x
""",
    "abstract classes": """
from abc import ABC, abstractmethod
class A(ABC):
    @abstractmethod
    def f(self): ...
    def g(self): return self.f() + 1
class B(A):
    def f(self): return 1
def f(): return B().g()
""",
    "recursion limit": "import sys\nsys.setrecursionlimit(2000)\ndef g(n): return n and g(n - 1) + 1\ndef f(): return g(300)",
    "throwaway names": "def f(): return [_ + __ for _, __ in [(1, 2)]]",
    "docstrings": 'def f():\n    """Doc."""\n    return 1',
    "deep elif": "def f(x=79):\n    if x < 0: pass\n"
    + "".join(f"    elif x == {i}: return {i}\n" for i in range(80)),
    "emoji and accents": "def f():\n    é, 数 = 1, 2\n    return é + 数, '\\N{BULLET}😀'",
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_models_write_means_what_it_means_in_python(name):
    value, _ = run(ACCEPTED[name])
    assert value == plain(ACCEPTED[name])


def test_print_goes_where_it_is_told():
    source = "def f():\n    print('a', [1], sep='|')\n    print(end='.')\n    print('x', flush=True, file=None)"
    assert run(source)[1] == "a|[1]\n.x\n"
    with pytest.raises(TypeError, match="no files"):
        run("def f():\n    print(1, file=[])")


def test_print_writes_real_strings_whatever_is_printed():
    printed = []
    names = program_globals(0, printed.append)
    source = """
class S(str):
    def __str__(self): return self
    def __repr__(self): return self
    def __radd__(self, o): return self
    def join(self, o): return self
print(S("a"), [S("b")], sep=S("-"), end=S("!"))
print(S("a"))
"""
    exec(compile_program(source), names)
    assert printed == ["a-[b]!", "a\n"]
    assert {type(each) for each in printed} == {str}


# --- one program and the next -------------------------------------------------------------------


def test_programs_share_no_globals_modules_or_builtins():
    first, second = program_globals(0, print), program_globals(0, print)
    source = "import math, random, collections, decimal\nfrom collections import abc\n"
    for names in (first, second):
        exec(compile_program(source), names)
    for name in ("__builtins__", "math", "random", "collections", "abc", "decimal"):
        assert first[name] is not second[name]


def test_the_random_of_a_program_comes_from_its_seed_alone():
    source = (
        "import random\ndef f():\n    r = random.Random()\n    return random.random(), r.random()"
    )
    assert run(source, seed=1) == run(source, seed=1) != run(source, seed=2)
    reseeded = source + "\nrandom.seed()\nrandom.random()\nrandom.seed()"
    assert run(reseeded, seed=1) == run(source, seed=1)


def test_a_program_leaves_no_decimal_context_behind():
    run("import decimal\ndef f(): decimal.getcontext().prec = 3")
    forget()
    assert run("import decimal\ndef f(): return str(decimal.Decimal(1) / 3)")[0] == "0." + "3" * 28


def test_a_program_leaves_no_compiled_pattern_behind():
    run("""
import re
class Flags(int):
    def __hash__(self): return hash(0)
    def __eq__(self, other): return True
class Text(str):
    def __hash__(self): return hash("\\\\1")
    def __eq__(self, other): return True
def f():
    re.compile("a", Flags(re.I))
    re.sub("(a)", Text("\\\\1\\\\1"), "a")
""")  # fmt: skip
    forget()
    value, _ = run("import re\ndef f(): return re.findall('a', 'aA'), re.sub('(a)', '\\\\1', 'a')")
    assert value == (["a"], "a")
