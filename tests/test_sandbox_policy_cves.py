"""What once broke out of RestrictedPython stays in: these payloads are kept for ever."""

import pytest
from taskgym.sandbox.guards import program_globals
from taskgym.sandbox.policy import Rejected, compile_program

# Each shows that it works by a f() that returns anything.
PAYLOADS = {
    "CVE-2023-37271: the frame of a generator": """
def f():
    kept = []
    def g():
        yield kept[0].gi_frame.f_back.f_back.f_builtins
    kept.append(g())
    return next(kept[0])
""",
    "CVE-2023-37271, with getattr": """
def f():
    kept = []
    def g():
        yield getattr(getattr(kept[0], "gi_" + "frame"), "f_" + "back")
    kept.append(g())
    return next(kept[0])
""",
    "CVE-2023-41039: str.format": "def f(): return '{0.__class__.__mro__}'.format(1)",
    "CVE-2023-41039: str.format of the class": "def f(): return str.format('{0.__class__}', 1)",
    "CVE-2023-41039: format_map": "def f(): return '{x.__class__}'.format_map({'x': 1})",
    "CVE-2023-41039: string.Formatter": """
import string
def f(): return string.Formatter().format("{0.__class__}", 1)
""",
    "before 7.2: a name that lies about its start": """
class Name(str):
    def startswith(self, *args): return False
    def __eq__(self, other): return False
    __hash__ = str.__hash__ if False else None
def f(): return getattr(1, Name("__class__"))
""",
    "CVE-2024-47532: AttributeError.obj": """
import string
def f():
    try:
        string.no_such_name
    except AttributeError as error:
        return error.obj.Formatter().get_field("0.__class__", (1,), {})
""",
    "CVE-2025-22153: except*": """
class Group(ExceptionGroup):
    def split(self, kind): return b"A" * 256
def f():
    try:
        raise Group("x", [ValueError(1)])
    except* TypeError:
        pass
    return 1
""",
    "CVE-2026-55830: a positional-only argument named as a hook": """
import math
def f():
    def poison(module, _write_=lambda x: x, /):
        module.pi = 3
    poison(math)
    return math.pi
""",
    "CVE-2026-55830, a lambda": """
def f(): return (lambda _getattr_, s, /: s.format)(lambda o, n: n, "{0.real}")
""",
    "CVE-2026-76825: Formatter.get_field returns the object": """
import string
def f(): return string.Formatter().get_field("0.__class__", (1,), {})
""",
    "before 8.5: the frame of an asynchronous generator": """
async def g():
    yield 1
def f(): return g().ag_frame
""",
    "a type() of three arguments": "def f(): return type('A', (), {'__getattr__': lambda s, n: 1})",
    "the metaclass by type()": "class A: pass\ndef f(): return type(A)('B', (), {})",
    "a decorator named exec": "@exec\n@(lambda c: '1')\nclass A: pass\ndef f(): return 1",
    "type hints that are evaluated": """
import typing
def g(x: "().__class__"): pass
def f(): return typing.get_type_hints(g)
""",
    "a match pattern that reads an attribute": """
def f():
    match 1:
        case object(__class__=c):
            return c
""",
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_once_broke_out_stays_in(name):
    names = program_globals(0, print)
    with pytest.raises((Rejected, AttributeError, NameError, TypeError, ValueError)):
        exec(compile_program(PAYLOADS[name]), names)
        pytest.fail(f"it got {names['f']()!r}")
