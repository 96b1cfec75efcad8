"""What a program can reach by reading attributes: no module, frame, code, metaclass or `exec`."""

import types
from collections import deque

import pytest
from taskgym.sandbox.guards import program_globals
from taskgym.sandbox.modules import ALLOWED
from taskgym.sandbox.names import METHODS, attribute_refused
from taskgym.sandbox.policy import compile_program

# Makes one of everything that builtins and facades can make, and catches what they raise.
PROGRAM = (
    "".join(f"import {name}\n" for name in ALLOWED)
    + r"""
class C:
    def __init__(self): self.x = 1
    def method(self): return 1
    @property
    def prop(self): return 2
    @staticmethod
    def static(): return 1
    @classmethod
    def cls(cls): return 1
    def __enter__(self): return self
    def __exit__(self, kind, error, trace):
        self.trace = trace
        return True
def gen(): yield 1
def f(a, b=2): return a
c = C()
with c: 1 / 0
N = collections.namedtuple("N", "a b")
T = typing.NamedTuple("T", [("x", int)])
class E(enum.IntEnum):
    A = 1
    B = enum.auto()
class U(typing.NamedTuple):
    x: int
    y: int = 3
made = [
    c, C, gen(), gen, f, c.method, C.prop, C.cls, C.static, (x for x in [1]), super(C, c), N(1,
    2), N, T(1), U(2), property(f), staticmethod(f), classmethod(f), object(), bytearray(b"a"),
    b"a", "a", 1, 1.0, 1j, [1], (1,), {1}, {1: 2}, frozenset([1]), iter([1]), iter({1: 2}),
    {}.keys(), {}.items(), iter(int, 1), map(f, [1]), filter(f, [1]), zip([1]), enumerate([1]),
    reversed([1]), range(3), slice(1), "a".format, str.format, "a".format_map, NotImplemented,
    ..., list[int], int | str, random.Random(1), random.getstate(), collections.Counter("ab"),
    collections.deque([1]), collections.OrderedDict(a=1), collections.defaultdict(list),
    collections.ChainMap({}), decimal.Decimal(1), decimal.getcontext(), decimal.localcontext(),
    fractions.Fraction(1, 2), re.compile("(a)"), re.match("(a)", "a"), re.finditer("a", "a"),
    re.compile("a").scanner("a"), functools.partial(f, 1), functools.lru_cache(f),
    functools.cmp_to_key(f), functools.cache, functools.cmp_to_key(f)(1),
    functools.lru_cache(f).cache_info(), functools.wraps(f), hashlib.md5(b""), array.array("i",
    [1]), itertools.count(), itertools.tee([1]), itertools.chain([1]), itertools.groupby([1]),
    itertools.product([1]), heapq.merge([1], [2]), operator.itemgetter(1),
    statistics.linear_regression([1, 2], [1, 2]), typing.TypeVar("T"), typing.NewType("A", int),
    typing.List[int], json.dumps, sys.float_info, dataclasses.field(), dataclasses.dataclass(C),
    dataclasses.fields(c), abc.ABC, E, E.A, E.B, enum.auto(), operator.attrgetter("x"),
]
for wrong in (
    lambda: 1 / 0, lambda: [][1], lambda: {}["k"], lambda: c.nope, lambda: math.nope,
    lambda: int("x"), lambda: nope, lambda: json.loads("{"), lambda: re.compile("("),
    lambda: decimal.Decimal("x"), lambda: decimal.Decimal(1) / 0, lambda: b"\xff".decode(),
    lambda: "\ud800".encode(), lambda: next(iter([])), lambda: statistics.mean([]),
    lambda: typing.List.nope, lambda: random.choice([]), lambda: getattr(1, "__class__"),
    lambda: "{0.a}".format(1), lambda: setattr(math, "a", 1), lambda: copy.deepcopy(math),
    lambda: copy.deepcopy(gen()), lambda: functools.reduce(f, []), lambda: print(file=1),
    lambda: hashlib.md5("a"), lambda: array.array("x"), lambda: fractions.Fraction("x"),
    lambda: heapq.heappop([]), lambda: collections.namedtuple("1", "a"), lambda: type(int),
    lambda: sum(["a"]), lambda: "a".encode("nope"), lambda: isinstance(1, typing.Any),
):
    try:
        wrong()
    except Exception as error:
        made.append(error)
"""
)
HARMFUL = [
    __build_class__, __import__, breakpoint, compile, delattr, dir, eval, exec, getattr, globals,
    hasattr, input, locals, memoryview, open, setattr, type, vars,
]  # fmt: skip
TYPES = (types.FrameType, types.CodeType, types.ModuleType, types.CellType)


def _of_a_class(value, name):
    """Whether a class defines this method in Python: super() of a derived class gives it."""
    return issubclass(type(value), type) and type(vars(value).get(name)) is types.FunctionType


def neighbours(value):
    """What reading its attributes, with any name the compiler passes, and its items gives."""
    # dir() of a class leaves out what its metaclass adds, such as register() of abstract ones.
    for name in sorted({*dir(value), *dir(type(value))}):
        if attribute_refused(name) is None or (name in METHODS and _of_a_class(value, name)):
            try:
                yield f".{name}", getattr(value, name)
            except Exception as error:
                yield f".{name} raises", error
    if type(value) in (list, tuple, set, frozenset):
        yield from (("[]", each) for each in value)
    if type(value) is dict:
        yield from (("[]", each) for pair in value.items() for each in pair)


@pytest.fixture(scope="module")
def reached():
    names = program_globals(0, print)
    exec(compile_program(PROGRAM), names)
    facades = {id(names[name]) for name in ALLOWED if "." not in name}
    facades.add(id(names["collections"].abc))
    hidden = {"__builtins__", "_getattr_", "_write_"}
    queue = deque((name, value) for name, value in names.items() if name not in hidden)
    queue.extend((k, v) for k, v in names["__builtins__"].items() if not k.startswith("__"))
    found = {}
    while queue:
        path, value = queue.popleft()
        if id(value) not in found and path.count(".") < 6:
            found[id(value)] = path, value
            if type(value) not in (int, float, str, bytes, bool):
                queue.extend((path + step, each) for step, each in neighbours(value))
    return {path: value for key, (path, value) in found.items() if key not in facades}


def test_the_walk_is_a_long_one(reached):
    assert len(reached) > 2000


def test_no_module_frame_code_or_namespace_is_reached(reached):
    assert [path for path, value in reached.items() if isinstance(value, TYPES)] == []
    spaces = [p for p, v in reached.items() if type(v) is dict and "__builtins__" in v]
    assert spaces == []


def test_no_metaclass_is_reached(reached):
    classes = {p: v for p, v in reached.items() if issubclass(type(v), type)}
    assert [path for path, value in classes.items() if issubclass(value, type)] == []


def test_no_harmful_builtin_is_reached(reached):
    found = [p for p, v in reached.items() if any(v is each for each in HARMFUL)]
    assert found == []
