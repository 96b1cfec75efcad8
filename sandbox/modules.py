"""The modules a program may import: fresh module objects, filled from lists of reviewed names.

A facade never forwards to the module behind it, because an AttributeError hands out the object
that was asked (`error.obj`). A name belongs here if what it gives cannot open a file, read a
clock, evaluate a string, or walk attributes by a string, and leads to no module or frame.
"""

from __future__ import annotations

import array
import bisect
import cmath
import collections
import decimal
import fractions
import functools
import heapq
import itertools
import json
import math
import operator
import re
import statistics
import string
import sys
import types
from collections.abc import Callable
from random import Random
from typing import Any

from taskgym.sandbox import enums, facades, hints, records
from taskgym.sandbox.names import words

Names = dict[str, Any]


def _pick(module: types.ModuleType, names: str) -> Names:
    return {name: getattr(module, name) for name in names.split() if hasattr(module, name)}


def _all_but(module: types.ModuleType, *left_out: str) -> Names:
    public = (name for name in dir(module) if not name.startswith("_"))
    return {name: getattr(module, name) for name in public if name not in left_out}


# Modules of C functions and constants only are taken whole.
_SHARED: dict[str, Names] = {
    "__future__": {},
    "abc": hints.abc_names(),
    "array": _pick(array, "array typecodes"),
    "bisect": _pick(bisect, "bisect bisect_left bisect_right insort insort_left insort_right"),
    "cmath": _all_but(cmath),
    "collections": {
        **_pick(collections, "ChainMap Counter OrderedDict defaultdict deque"),
        "namedtuple": facades.namedtuple,
    },
    "collections.abc": hints.abstract(),
    "copy": {"copy": facades.copy_, "deepcopy": facades.deepcopy},
    "dataclasses": {
        name: getattr(records, name)
        for name in words(
            "FrozenInstanceError asdict astuple dataclass field fields is_dataclass replace"
        )
    },
    "decimal": _pick(
        decimal,
        "Context Decimal getcontext localcontext DecimalException Clamped DivisionByZero Inexact"
        " InvalidOperation Overflow Rounded Subnormal Underflow FloatOperation ROUND_CEILING"
        " ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP ROUND_05UP",
    ),
    "enum": {name: getattr(enums, name) for name in words("Enum IntEnum StrEnum auto unique")},
    "fractions": _pick(fractions, "Fraction"),
    "functools": {
        **_pick(functools, "cache cmp_to_key lru_cache partial reduce total_ordering"),
        "wraps": facades.wraps,
    },
    "hashlib": facades.HASHES,
    "heapq": _pick(
        heapq, "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest"
    ),
    "itertools": _all_but(itertools),
    "json": {
        **_pick(json, "JSONDecodeError"),
        "dumps": facades.dumps,
        "loads": facades.loads,
    },
    "math": _all_but(math),
    "operator": {
        **_all_but(operator, "call"),
        "attrgetter": facades.attrgetter,
        "methodcaller": facades.methodcaller,
    },
    "re": {
        **_pick(re, "compile escape findall finditer fullmatch match search split sub subn error"),
        **_pick(re, "Match Pattern PatternError"),
        **{name: int(flag) for name, flag in _pick(re, facades.RE_FLAGS).items()},
    },
    "statistics": _pick(
        statistics,
        "StatisticsError correlation covariance fmean geometric_mean harmonic_mean"
        " linear_regression mean median median_grouped median_high median_low mode multimode"
        " pstdev pvariance quantiles stdev variance",
    ),
    "string": _pick(
        string,
        "ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits"
        " printable punctuation whitespace",
    ),
    "sys": {
        **_pick(sys, "float_info getrecursionlimit getsizeof maxsize maxunicode"),
        "setrecursionlimit": facades.setrecursionlimit,
    },
    "typing": hints.typing_names(),
}

# Of the random module: the methods of one generator, which each program gets its own of.
_RANDOM = words(
    "betavariate choice choices expovariate gammavariate gauss getrandbits getstate"
    " lognormvariate normalvariate paretovariate randbytes randint random randrange sample seed"
    " setstate shuffle triangular uniform vonmisesvariate weibullvariate binomialvariate"
)

ALLOWED = sorted(name for name in (*_SHARED, "random") if name != "__future__")

_INSTEAD = {
    "numpy": "use lists and math",
    "time": "programs have no clock; count steps",
}


def import_refused(module: str) -> str | None:
    """Why a module may not be imported; None if it may."""
    if module in ALLOWED:
        return None
    advice = f"{_INSTEAD[module]}; " if module in _INSTEAD else ""
    return f"import of {module!r} is not allowed; {advice}allowed are {', '.join(ALLOWED)}"


def name_refused(module: str, name: str) -> str | None:
    """Why a name may not be imported from an allowed module; None if it may."""
    offered = [*_RANDOM, "Random"] if module == "random" else list(_SHARED[module])
    if module == "collections":
        offered.append("abc")
    if name == "*":
        return f"star imports are not allowed; name what you need from {module!r}"
    if name in offered:
        return None
    return f"{module!r} offers no {name!r}; it offers {', '.join(sorted(offered))}"


def importer(seed: int) -> Callable[..., types.ModuleType]:
    """An `__import__` for one program: each facade is made once, when it is first asked for."""
    made: dict[str, types.ModuleType] = {}

    def facade(name: str) -> types.ModuleType:
        if name not in made:
            module = types.ModuleType(name)
            vars(module).update(_random_names(seed) if name == "random" else _SHARED[name])
            made[name] = module
            if name == "collections":
                vars(module)["abc"] = facade("collections.abc")
        return made[name]

    def import_(
        name: str, globals: object = None, locals: object = None, fromlist: Any = (), level: int = 0
    ) -> types.ModuleType:
        if level or (refusal := import_refused(name)):
            raise ImportError(refusal if not level else "relative imports are not allowed")
        return facade(name if fromlist else name.partition(".")[0])

    return import_


def _random_names(seed: int) -> Names:
    class SeededRandom(Random):
        """A Random that takes the program's seed where the real one would ask the system."""

        def seed(self, a: Any = None, version: int = 2) -> None:
            super().seed(seed if a is None else a, version)

    SeededRandom.__name__ = SeededRandom.__qualname__ = "Random"
    generator = SeededRandom()
    methods = {name: getattr(generator, name) for name in _RANDOM if hasattr(generator, name)}
    return {**methods, "Random": SeededRandom}
