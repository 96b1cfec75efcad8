"""Calls everything a program can reach with hostile arguments, and looks at all that comes back.

A library function may hand a trusted object to a method of the program, or return one: the class of
a class, say, by `self.__class__`. What each call returns, raises and passes on is walked as in
`test_sandbox_policy_reach.py`.
"""

import importlib.util
import itertools
import random
import signal
from functools import partial
from pathlib import Path

import pytest
from taskgym.sandbox.guards import program_globals
from taskgym.sandbox.names import METHODS, words
from taskgym.sandbox.policy import compile_program

_spec = importlib.util.spec_from_file_location(
    "reach", Path(__file__).with_name("test_sandbox_policy_reach.py")
)
reach = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reach)

SPY = """
got = []
def noted(*args, **keywords):
    got.append((args, keywords))
    return args[0] if args else 1
def ratio(*args):
    return 1, 1
class Spy:
    maps = ["X", (), {"x": 1}]
    numerator = denominator = _numerator = _denominator = 1
    as_integer_ratio = ratio
    args = (1,)
    read = write = keys = items = values = append = update = close = seek = send = noted
""" + "".join(
    f"    def {name}(self, *args, **keywords):\n        got.append((args, keywords))\n"
    f"        return {result}\n"
    for name, result in [
        *((name, 1) for name in sorted(METHODS - {"__init__", "__post_init__"})),
        ("__str__", "'s'"), ("__repr__", "'r'"), ("__format__", "'f'"), ("__bytes__", "b'b'"),
        ("__iter__", "iter([1, self])"), ("__contains__", True), ("__bool__", True),
        ("__float__", 1.0), ("__complex__", 1j), ("__eq__", True), ("__lt__", True),
        ("__exit__", True), ("__reversed__", [1]),
    ]
)  # fmt: skip
KINDS = words(
    "list dict str int float tuple set bytes Exception AttributeError property random.Random"
    " decimal.Decimal decimal.Context collections.Counter collections.ChainMap collections.deque"
    " functools.partial staticmethod classmethod super fractions.Fraction bytearray map zip"
)
SPY += "".join(f"class Sub{n}({kind}):\n    pass\n" for n, kind in enumerate(KINDS))
KEYWORDS = words(
    "key default name type module rename defaults obj sep maxlen initial func flags repl cls memo"
    " indent assigned updated typed maxsize weights encoding errors"
)


@pytest.fixture
def within():
    """`within(seconds, f)` calls f, which has so many seconds of CPU; it returns what f raises."""
    armed = False

    def stop(*_):
        if armed:
            raise TimeoutError

    def call(seconds, function):
        nonlocal armed
        try:
            armed = True
            signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
            return function()
        except BaseException as error:
            return error
        finally:
            armed = False

    before = signal.signal(signal.SIGVTALRM, stop)
    yield call
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


def leaks(path, value, known, depth=0):
    """Paths from a value to what no program may hold."""
    if id(value) in known or depth > 3:
        return
    known = known | {id(value)}
    metaclass = issubclass(type(value), type) and issubclass(value, type)
    if isinstance(value, reach.TYPES) or metaclass or any(value is x for x in reach.HARMFUL):
        yield path
    elif type(value) not in (int, float, str, bytes, bool, type(None)):
        for step, each in reach.neighbours(value):
            yield from leaks(path + step, each, known, depth + 1)


def everything(names):
    """What is reached by attributes, and the facades."""
    hidden = {"__builtins__", "_getattr_", "_write_", "got"}
    queue = [(n, v) for n, v in names.items() if n not in hidden]
    queue += [(k, v) for k, v in names["__builtins__"].items() if not k.startswith("__")]
    found = {}
    while queue:
        path, value = queue.pop()
        if id(value) not in found and path.count(".") < 4:
            found[id(value)] = path, value
            if type(value) not in (int, float, str, bytes, bool):
                queue += [(path + step, each) for step, each in reach.neighbours(value)]
    return found


def tried(calls, own, values):
    """Every call with each single argument, and a few with more."""
    chance = random.Random(0)
    for path, function in calls:
        yield path, function, (), {}
        for argument in own:
            yield path, function, (argument,), {}
        for size in (2, 2, 2, 3):
            args = [chance.choice(own if chance.random() < 0.7 else values) for _ in range(size)]
            yield path, function, args, {}
        yield path, function, [chance.choice(own)], {chance.choice(KEYWORDS): chance.choice(own)}


def answer(function, args, keywords):
    """What a call returns or yields."""
    value = function(*args, **keywords)
    return list(itertools.islice(value, 5)) if hasattr(value, "__next__") else value


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_call_gives_a_program_what_it_may_not_hold(within):
    names = program_globals(0, lambda text: None)
    exec(compile_program(reach.PROGRAM), names)
    exec(compile_program(SPY), names)
    found = everything(names)
    spy, passed = names["Spy"](), names["got"]
    own = [spy, names["Spy"], names["noted"], [spy], ["__globals__"], "{0.__class__}", "__class__",
           0, -1, "a", b"a", [1, 2], (1, 2), {"a": 1}, None, 1.5]  # fmt: skip
    calls = [each for each in found.values() if callable(each[1])]
    leaked = []

    def look(path, value):
        leaked.extend(leaks(path + "()", value, found.keys()))
        for each in passed[:20]:
            leaked.extend(leaks(path + " passes ", each, found.keys()))

    for path, function, args, keywords in tried(calls, own, [v for _, v in found.values()]):
        passed.clear()
        value = within(0.2, partial(answer, function, args, keywords))
        within(0.5, partial(look, path, value))
    assert set(leaked) == set()
