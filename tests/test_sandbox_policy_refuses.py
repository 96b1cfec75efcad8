"""The policy refuses, before or while a program runs, what leads out of the program."""
# ruff: noqa: E501 (programs as lines)

import pytest
from taskgym.sandbox.guards import program_globals
from taskgym.sandbox.policy import Rejected, compile_program

# --- refused before anything runs ---------------------------------------------------------------

INSPECT = [
    "gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_await", "ag_frame", "tb_frame",
    "tb_next", "f_back", "f_builtins", "f_code", "f_globals", "f_locals", "f_trace", "co_code",
]  # fmt: skip
METHODS = [  # that hook into the interpreter, into pickling, or into the end of an object
    "new", "del", "getattr", "getattribute", "setattr", "delattr", "dir", "get", "set", "delete",
    "set_name", "init_subclass", "class_getitem", "subclasshook", "instancecheck",
    "subclasscheck", "prepare", "mro_entries", "reduce", "reduce_ex", "getstate", "setstate",
    "getnewargs", "getnewargs_ex", "sizeof", "await", "aiter", "anext", "aenter", "aexit",
    "buffer", "fspath", "class", "dict",
]  # fmt: skip
REFUSED = [
    # What no Python is.
    ("syntax", 2, "invalid syntax", "x = 1\nx = = 2"),
    ("syntax", 1, "outside function", "return 1"),
    ("syntax", 2, "outside loop", "x = 1\nbreak"),
    ("syntax", 1, "duplicate argument", "def f(a, a): pass"),
    ("syntax", 1, "at module level", "nonlocal x"),
    ("syntax", 2, "indent", "def f():\nreturn 1"),
    ("syntax", None, "null|NUL", "x = 1\0"),
    ("syntax", None, "surrogates", "x = '\ud800'"),
    ("syntax", 1, "digits", "x = " + "1" * 5000),
    ("syntax", 1, "nested paren", "x = " + "(" * 300 + ")" * 300),
    ("syntax", 1, "no future feature 'braces'", "from __future__ import braces"),
    # Imports.
    ("import", 3, "'os' is not allowed.*allowed are abc, array.*random", "\n\nimport os"),
    ("import", 1, "'numpy'.*lists and math", "import numpy as np"),
    ("import", 1, "'time'.*no clock", "import time"),
    ("import", 2, "'sys'|'builtins'", "import math\nimport math, builtins"),
    ("import", 1, "'os.path'", "import os.path as math"),
    ("import", 1, "'os'", "from os import *"),
    ("construct", 1, "star imports", "from math import *"),
    ("construct", 1, "'random' offers no '_os'", "from random import _os"),
    ("construct", 1, "'operator' offers no 'call'.*itemgetter", "from operator import call"),
    ("import", 1, "'.' is not", "from . import x"),
    ("import", 1, "'.math' is not", "from .math import x"),
    ("import", 1, "'__main__'", "import __main__"),
    ("import", 3, "'socket'", "def f():\n    try:\n        import socket\n    except ImportError: pass"),
    # Harmless Python that is not supported does not hide what is forbidden.
    ("import", 2, "'os'", "async def f(): pass\nimport os"),
    ("escape", 2, "'eval'", "from math import *\neval('1')"),
    # Statements.
    ("construct", 1, "async functions.*use def", "async def f(): pass"),
    ("construct", 2, "async comprehensions", "def f():\n    return [x async for x in y]"),
    ("construct", 1, "except\\*.*use except", "try:\n    pass\nexcept* ValueError:\n    pass"),
    ("construct", 1, "match.*if and elif", "match 1:\n    case _: pass"),
    ("escape", 1, "keywords of a class", "class A(metaclass=type): pass"),
    ("escape", 1, "keywords of a class", "class A(**{'metaclass': type}): pass"),
    ("construct", 1, "keywords of a class", "class A(object, x=1): pass"),
    # Builtins by name, called or not.
    ("escape", 1, "'exec'.*the code itself", "exec('1')"),
    ("escape", 1, "'eval'", "x = eval"),
    ("escape", 2, "calls of 'eval'", "def eval(x): return x\neval('1')"),
    ("escape", 1, "'open'.*no files", "open('x')"),
    ("escape", 1, "'__import__'.*import statement", "__import__('os')"),
    ("escape", 1, "'globals'", "globals()"),
    ("escape", 1, "'vars'", "f = lambda: vars()"),
    ("escape", 1, "'exec'", "@exec\ndef f(): pass"),
    # Attributes.
    ("escape", 1, "'__class__'.*type\\(x\\)", "().__class__"),
    ("escape", 1, "'__globals__'", "(lambda: 0).__globals__"),
    ("construct", 1, "'__init__'", "[].x.__init__"),
    ("construct", 1, "'__len__'", "[].__len__()"),
    ("construct", 1, "'__class__'.*type", "self.__class__"),
    ("escape", 1, "'__subclasses__'", "object.__subclasses__()"),
    ("escape", 1, "'__getattribute__'", "super().__getattribute__('x')"),
    ("escape", 1, "'__reduce_ex__'", "super().__reduce_ex__(4)"),
    ("escape", 1, "'__name__'", "print.__name__ = 'x'"),
    ("escape", 1, "'__dict__'", "del print.__dict__"),
    ("escape", 1, "'__dict__'", "f'{print.__dict__}'"),
    ("escape", 1, "'__dict__'", "[0 for print.__dict__ in []]"),
    ("escape", 1, "'_abc_registry_clear'", "x._abc_registry_clear()"),
    ("construct", 1, "'super' is reserved", "super = lambda: print"),
    ("construct", 1, "'super' is reserved", "def f(super): pass"),
    ("escape", 1, "'_dump_registry'", "x._dump_registry()"),
    ("construct", 2, "'format'", "x = ''\nx.format += 1"),
    ("construct", 2, "'__getattr__'", "class A:\n    __getattr__ = lambda s, n: n"),
    ("construct", 2, "'__qualname__'", "class A:\n    __qualname__ = 'x'"),
    ("construct", 2, "__slots__", "class A:\n    __slots__ = ['__dict__']"),
    ("construct", 2, "__slots__", "class A:\n    __slots__ = list('ab')"),
    ("construct", 1, "'__add__'", "def __add__(a): pass"),
]  # fmt: skip
REFUSED += [("escape", 1, f"'{name}'", f"x.{name}") for name in INSPECT]
REFUSED += [
    ("construct", 2, f"'__{name}__'", f"class A:\n    def __{name}__(*a): pass") for name in METHODS
]

# Every way to bind a name, against every kind of name that may not be bound.
BINDINGS = [
    "{} = 1", "{}: int = 1", "{} += 1", "[{}, x] = 1, 2", "*{}, x = 1, 2", "({} := 1)",
    "def {}(): pass", "class {}: pass", "import math as {}", "from math import sin as {}",
    "for {} in []: pass", "[0 for {} in []]", "[({} := x) for x in []]", "with x as {}: pass",
    "with x as ({}, y): pass", "try: pass\nexcept KeyError as {}: pass", "global {}", "del {}",
    "def f():\n    global {}", "def f():\n    x = 1\n    def g():\n        nonlocal {}",
    "def f({}): pass", "def f({}, /): pass", "def f(*, {}): pass", "def f(*{}): pass",
    "def f(**{}): pass", "def f({}=1): pass", "lambda {}: 0", "lambda {}, /: 0", "lambda *, {}: 0",
    "lambda *{}: 0", "lambda **{}: 0", "print({})", "class A:\n    {} = 1", "x.{}",
]  # fmt: skip
HOOKS = ["_getattr_", "_write_", "_getitem_", "_getiter_", "__builtins__", "__metaclass__",
         "__import__", "__build_class__", "_print_", "__class__"]  # fmt: skip


@pytest.mark.parametrize("name", HOOKS)
def test_no_binding_takes_the_name_of_a_hook(name):
    for form in BINDINGS:
        with pytest.raises(Rejected) as caught:
            compile_program(form.format(name))
        assert caught.value.kind in {"construct", "escape", "syntax"}, form
        assert name in str(caught.value) or caught.value.kind == "syntax", form


@pytest.mark.parametrize(("kind", "line", "words", "source"), REFUSED)
def test_refused_with_its_kind_its_line_and_advice(kind, line, words, source):
    with pytest.raises(Rejected, match=words) as caught:
        compile_program(source)
    assert (caught.value.kind, caught.value.line) == (kind, line)
    assert str(caught.value) == caught.value.message
    assert line is None or caught.value.message.startswith(f"line {line}: ")


def test_the_first_line_at_fault_is_named():
    with pytest.raises(Rejected, match=r"line 2: .*'os'"):
        compile_program("x = 1\nimport os\ny = x.__class__\nimport sys, socket")


@pytest.mark.parametrize("source", ["x = " + "-" * 50_000 + "1", "x = 1" + "+1" * 30_000])
def test_what_is_nested_too_deeply_is_refused(source):
    with pytest.raises(Rejected, match="too deeply"):
        compile_program(source)


@pytest.mark.parametrize(
    "name", ["ｇi_frame", "gi_ｆrame", "gi＿frame", "__ｃlass__", "_＿class__"]
)
def test_look_alikes_are_read_as_python_reads_them(name):
    with pytest.raises(Rejected):
        compile_program(f"x.{name}")


# --- refused while running ----------------------------------------------------------------------

RAISES = [
    (TypeError, "module 'math' cannot be set", "import math\ndef f(): math.sqrt = 1"),
    (TypeError, "class 'Counter' cannot", "from collections import Counter\ndef f(): Counter.x = 1"),
    (TypeError, "class 'Random'", "import random\ndef f(): random.Random.choice = 1"),
    (TypeError, "class 'Random'", "import random\nclass A:\n    def g(self): self.choice = 1\ndef f(): A.g(random.Random)"),
    (TypeError, "cannot be set", "import random\ndef f(): random.choice.x = 1"),
    (TypeError, "cannot be set", "def f(): print.x = 1"),
    (TypeError, "cannot be set", "import math\ndef f(): del math.pi"),
    (TypeError, "cannot be set", "import math\ndef f(): math.pi += 1"),
    (TypeError, "cannot be set", "import math\ndef f():\n    for math.pi in [3]: pass"),
    (TypeError, "cannot be set", "import math\ndef f():\n    with C() as math.pi: pass\nclass C:\n    def __enter__(s): pass\n    def __exit__(s, *a): pass"),
    (TypeError, "cannot be set", "import math\ndef f(): setattr(math, 'pi', 3)"),
    (TypeError, "cannot be set", "import math\ndef f(): delattr(math, 'pi')"),
    (TypeError, "must be a str", "class S(str): pass\ndef f(): getattr(1, S('real'))"),
    (AttributeError, "'__class__'", "def f(): getattr(1, '_' '_class__')"),
    (AttributeError, "'__class__'", "def f(): getattr(1, '_' '_class__', None)"),
    (AttributeError, "'gi_frame'", "def f(): getattr((x for x in ()), 'gi_' + 'frame')"),
    (AttributeError, "'tb_frame'", "class C:\n    def __enter__(s): return s\n    def __exit__(s, a, b, t):\n        s.t = t\n        return True\ndef f():\n    with C() as c: 1 / 0\n    getattr(c.t, 'tb_' + 'frame')"),
    (AttributeError, "'__name__'", "def f(): setattr(f, '__name__', 'x')"),
    (AttributeError, "'__class__'", "class A: pass\ndef f(): setattr(A(), '__class__', 1)"),
    (AttributeError, "no attribute '_x'", "def f(): (1)._x"),
    (AttributeError, "no attribute '_os'", "import random\ndef f(): random._os"),
    (AttributeError, "cannot be changed", "import collections\ndef f(): collections.ChainMap.register(int)"),
    (AttributeError, "cannot be changed", "import collections\ndef f(): getattr(collections.ChainMap, 'register')"),
    (ValueError, "0.real", "def f(): '{0.real}'.format(1)"),
    (ValueError, "x.real", "def f(): '{x.real}'.format_map({'x': 1})"),
    (ValueError, "0.real", "def f(): str.format('{0.real}', 1)"),
    (ValueError, "0.real", "def f(): getattr('{0.real}', 'for' + 'mat')(1)"),
    (ValueError, "0.real", "def f(): list(map(str.format, ['{0.real}'], [1]))"),
    (ValueError, "1.real", "def f(): '{:{1.real}}'.format(1, 2)"),
    (ValueError, "0.real", "class S(str): pass\ndef f(): S('{0.real}').format(1)"),
    (ValueError, "0.real", "class S(str):\n    def g(self): return super().format(1)\ndef f(): S('{0.real}').g()"),
    (ValueError, "0.real", "class S(str):\n    g = str.format\ndef f(): S('{0.real}').g(1)"),
    (ValueError, "0.real", "class S(str):\n    def __iter__(s): return iter(())\n    def __str__(s): return 'x'\ndef f(): S('{0.real}').format(1)"),
    (TypeError, "positional", "def f(): type('A', (), {})"),
    (TypeError, "neither a class", "def f(): type(int)"),
    (TypeError, "neither a class", "class A: pass\ndef f(): type(A)"),
    (TypeError, "neither a class", "def f(): type(f)"),
    (TypeError, "neither a class", "import math\ndef f(): type(math)"),
    (TypeError, "neither a class", "def f(): type(list[int])"),
    (TypeError, "a field name", "import collections\nclass S(str):\n    def isidentifier(s): return True\ndef f(): collections.namedtuple('A', [S('1')])"),
    (TypeError, "type name", "import collections\nclass S(str): pass\ndef f(): collections.namedtuple(S('A'), 'x')"),
    (TypeError, "keyword argument", "import functools\ndef f(): functools.wraps(f, updated=('x',))"),
    (TypeError, "memo", "import copy\nclass D(dict): pass\ndef f(): copy.deepcopy([], D())"),
    (TypeError, "keyword argument", "import json\ndef f(): json.dumps(1, cls=int)"),
    (TypeError, "not a class", "import collections\ndef f(): collections.Counter.copy(int)"),
    (TypeError, "not a class", "import collections\nclass A: maps = ['X', (), {}]\ndef f(): collections.ChainMap.parents.fget(A)"),
    (TypeError, "not a class", "import collections\nclass A: maps = [{}]\ndef f(): collections.ChainMap.copy(A)"),
    (TypeError, "not a class", "import collections\nclass A(collections.ChainMap): maps = [{}]\ndef f(): super(A, A).new_child(A)"),
    (TypeError, "not a class", "import collections\nclass A(collections.ChainMap): maps = [{}]\ndef f(): super(A, A).__copy__(A)"),
    (TypeError, "cannot be set", "import collections\nC = collections.ChainMap\ndef f(): C.__init__(collections.Counter, {})"),
    (TypeError, "cannot be set", "import collections\nclass A(collections.ChainMap): pass\ndef f(): super(A, A).__init__(collections.Counter, {})"),
    (TypeError, "one of its own", "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\nclass B: pass\ndef f(): A.__init__(B(), 1)"),
    (TypeError, "class that the program", "import dataclasses, collections\ndef f(): dataclasses.dataclass(collections.Counter)"),
    (AttributeError, "'__class__' cannot", "import operator\ndef f(): operator.attrgetter('real.__class__')(1)"),
    (AttributeError, "'format' cannot", "import operator\ndef f(): operator.methodcaller('format', 1)('{0.real}')"),
    (AttributeError, "'gi_frame' cannot", "import operator\ndef f(): operator.attrgetter('gi_frame')"),
    (TypeError, "must be a str", "import operator\nclass S(str): pass\ndef f(): operator.attrgetter(S('real'))"),
    (TypeError, "use class", "import enum\ndef f(): enum.Enum('X', [('__getattr__', lambda s, n: 1)])"),
    (TypeError, "use class", "import enum\nclass E(enum.Enum): pass\ndef f(): E('X', 'A B')"),
    (TypeError, "neither a class", "import enum\nclass E(enum.Enum): A = 1\ndef f(): type(E)"),
    (TypeError, "not a class", "import collections, enum\ndef f(): collections.Counter.copy(enum.Enum)"),
    (TypeError, "cannot extend", "import enum\nclass E(enum.Enum): A = 1\ndef f():\n    class F(E): B = 2"),
    (AttributeError, "reassign", "import enum\nclass E(enum.Enum): A = 1\ndef f(): E.A = 2"),
    (TypeError, "cannot be set", "import enum\ndef f(): enum.Enum.x = 2"),
    (NameError, "'id'", "def f(): id(1)"),
    (NameError, "'input'", "def f(): input()"),
    (NameError, "'memoryview'", "def f(): memoryview(b'')"),
    (NameError, "'ExceptionGroup'", "def f(): ExceptionGroup('x', [])"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "words", "source"), RAISES)
def test_refused_while_running(error, words, source):
    with pytest.raises(error, match=words):
        names = program_globals(0, print)
        exec(compile_program(source), names)
        names["f"]()
