"""Programs that want the reward without the work get what they deserve: what their tests say."""

import pytest
from taskgym.envs import code_env
from taskgym.envs.code_mbpp import CodeMbpp

ROW = {
    "prompt": "Write a function to double every number of a list.",
    "code": "def double_all(numbers):\n    return [2 * number for number in numbers]",
    "test_list": [
        "assert double_all([1, 2]) == [2, 4]",
        "assert double_all([]) == []",
        "assert double_all([0.5]) == [1.0]",
        "assert sorted(double_all([3, 1])) == [2, 6]",
    ],
}
RIGHT = "[2 * n for n in numbers]"
NOTHING = (False,) * 4


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    limits = code_env.LIMITS
    quick = type(limits)(cpu_s=0.4, wall_s=8.0, memory_mb=128, stdout_bytes=4096, calls=1000)
    monkeypatch.setattr(code_env, "LIMITS", quick)
    code_env.run_tests.cache_clear()
    yield
    code_env.run_tests.cache_clear()


def outcome(source, before=""):
    env = CodeMbpp(data=[ROW])
    env.reset(seed=0)
    *_, info = env.step(f"{before}```python\n{source}\n```\n")
    return info


def function(body, before=""):
    lines = "\n".join(f"    {line}" for line in body.strip("\n").split("\n"))
    return f"{before}\ndef double_all(numbers):\n{lines}\n"


def equal_to_all(base):
    return f"""
class Winner({base}):
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    def __hash__(self):
        return 0
"""


# What a program returns instead of the answer: it runs, and passes no test.
WRONG_VALUES = {
    "an object that equals everything": function("return Winner()", equal_to_all("object")),
    "a list that equals everything": function("return Winner()", equal_to_all("list")),
    "a text that equals everything": function("return Winner('x')", equal_to_all("str")),
    "a number that equals everything": function("return Winner(1)", equal_to_all("int")),
    "a list that holds such an object": function("return [Winner()] * 2", equal_to_all("object")),
    "true": function("return True"),
    "nan": function("return [float('nan')] * 2"),
    "a text of the answer": function("return str([2 * n for n in numbers])"),
    "a tuple": function("return tuple(2 * n for n in numbers) + (0,)"),
    "a partial": function("return partial(max, 1)", "from functools import partial"),
    "a function": function("return double_all"),
    "a class": function("return Winner", equal_to_all("object")),
    "a module": function("return math", "import math"),
    "a generator": function("return (2 * n for n in numbers)"),
    "a generator function": function("yield from [2 * n for n in numbers]"),
    "a map": function("return map(lambda n: 2 * n, numbers)"),
    "a report of ours": function("return {'passed': [True] * 4, 'failure': '', 'fault': ''}"),
    "a tag of the wire": function("return {'$': 'list', 'v': [2, 4]}"),
    "a list in itself": function("a = []\na.append(a)\nreturn a"),
    "a list a thousand deep": function("a = []\nfor _ in range(1000):\n    a = [a]\nreturn a"),
    "a list of a million": function("return [0] * 1_000_000"),
    "a very long number": function("return 10 ** 100_000"),
    "prints that it passed": function("print('4 passed')\nprint('{\"passed\": [true]}')"),
    "sorts by own rules": function("return [9]", "def sorted(x):\n    return [2, 6]"),
}


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_a_value_that_is_not_the_answer_earns_nothing(name):
    info = outcome(WRONG_VALUES[name])
    assert info["tests"] == NOTHING
    assert info["rewards"] == {"all_passed": 0.0, "fraction_passed": 0.0, "runs": 1.0}
    assert not info["success"]


RAISES = {
    "system exit": "raise SystemExit(0)",
    "keyboard interrupt": "raise KeyboardInterrupt",
    "generator exit": "raise GeneratorExit",
    "stop iteration": "raise StopIteration",
    "assertion": "assert False",
    "recursion": "return double_all(numbers)",
    "not there": "exit(0)",
}


@pytest.mark.parametrize("name", RAISES)
def test_a_raise_fails_its_tests_only(name):
    info = outcome(function(RAISES[name]))
    assert (info["tests"], info["rewards"]["runs"]) == (NOTHING, 1.0)
    later = f"if numbers:\n    return {RIGHT}\n{RAISES[name]}"
    assert outcome(function(later))["tests"] == (True, False, True, True)


def test_an_exception_with_a_hostile_text_is_an_exception():
    hostile = (
        "class Bomb(Exception):\n    def __str__(self):\n        while True:\n            pass\n"
    )
    assert outcome(function("raise Bomb()", hostile))["tests"] == NOTHING


ENDS = {
    "a loop": ("while True:\n    pass", {"timeout"}),
    "a long sum": ("sum(range(10 ** 12))", {"timeout"}),
    "memory": ("a = [0] * 10 ** 10", {"memory", "error"}),
    "memory, slowly": ("a = []\nwhile True:\n    a.append(bytearray(10 ** 6))", {"memory"}),
    "printing": ("while True:\n    print('x' * 1000)", {"output"}),
}


@pytest.mark.parametrize("name", ENDS)
def test_what_passed_before_the_end_is_kept(name):
    body, statuses = ENDS[name]
    info = outcome(
        function(
            f"if len(numbers) == 1:\n    {body.replace(chr(10), chr(10) + '    ')}\nreturn {RIGHT}"
        )
    )
    assert info["status"] in statuses
    assert info["tests"][:3] == (True, True, False)
    if info["status"] != "error":
        assert info["tests"][3] is False
    assert info["rewards"]["all_passed"] == 0.0


NEVER_RUNS = {
    "patches builtins": function(f"return {RIGHT}", "import builtins\nbuiltins.sorted = id"),
    "patches builtins by name": function(f"__builtins__['sorted'] = None\nreturn {RIGHT}"),
    "reads frames": function("import sys\nreturn sys._getframe(1).f_locals"),
    "reads frames of a generator": function("return (1 for _ in [1]).gi_frame.f_back"),
    "reads the tests": function("return open('/proc/self/maps').read()"),
    "leaves": function("import os\nos._exit(0)"),
    "inspects": function("import inspect\nreturn inspect.stack()"),
    "walks classes": function("return ().__class__.__base__.__subclasses__()"),
    "evaluates": function("return eval('[2, 4]')"),
    "collects": function("import gc\nreturn gc.get_objects()"),
    "a syntax error": "def double_all(numbers):\n    return [",
    "raises at once": function(f"return {RIGHT}", "raise SystemExit"),
    "loops at once": function(f"return {RIGHT}", "while True:\n    pass"),
    "asynchronous": f"async def double_all(numbers):\n    return {RIGHT}",
    "no function": "double_all = [2, 4]",
    "nested too deep": f"double_all = {'(' * 5000}1{')' * 5000}",
    "nul": function("return '\0'"),
    "a lone surrogate": function("return '\ud800'"),
}


@pytest.mark.parametrize("name", NEVER_RUNS)
def test_what_may_not_run_or_cannot_earns_nothing_at_all(name):
    info = outcome(NEVER_RUNS[name])
    assert info["tests"] in ((), NOTHING)
    assert info["rewards"] == {"all_passed": 0.0, "fraction_passed": 0.0, "runs": 0.0}
    assert info["reason"]


NO_PROGRAM = {
    "prose": "All tests passed.",
    "another function": "```python\ndef double(numbers):\n    return []\n```",
    "no fence": function(f"return {RIGHT}"),
    "an open fence": "```python\n" + function(f"return {RIGHT}"),
    "in its thoughts": "<think>```python\n" + function(f"return {RIGHT}") + "```\n",
    "garbage": "\0\ud800<<<>>>\u202e" * 1000,
}


@pytest.mark.parametrize("name", NO_PROGRAM)
def test_without_a_program_there_is_nothing_to_run(name):
    env = CodeMbpp(data=[ROW])
    env.reset(seed=0)
    _, reward, *_, info = env.step(NO_PROGRAM[name])
    assert (reward, info["status"], info["tests"]) == (0.0, "no_program", ())
    assert info["reason"]


HONEST = {
    "plain": function(f"return {RIGHT}"),
    "changes its argument": function(
        "for i in range(len(numbers)):\n    numbers[i] *= 2\nreturn numbers"
    ),
    "empties its argument": function(f"result = {RIGHT}\nnumbers.clear()\nreturn result"),
    "prints": function(f"print(numbers)\nreturn {RIGHT}"),
    "a lambda": f"double_all = lambda numbers: {RIGHT}",
    "a partial": (
        "from functools import partial\n"
        "def times(factor, numbers):\n    return [factor * n for n in numbers]\n"
        "double_all = partial(times, 2)"
    ),
    "an object that is called": (
        "class Double:\n"
        f"    def __call__(self, numbers):\n        return {RIGHT}\n"
        "double_all = Double()"
    ),
    "hints and helpers": (
        "from typing import List\n"
        "def twice(x: float) -> float:\n    return 2 * x\n"
        "def double_all(numbers: List[float]) -> List[float]:\n"
        "    return list(map(twice, numbers))"
    ),
    "catches everything": function(f"try:\n    return {RIGHT}\nexcept Exception:\n    return []"),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_earn_all(name):
    info = outcome(HONEST[name])
    assert info["reason"] == ""
    assert info["rewards"] == {"all_passed": 1.0, "fraction_passed": 1.0, "runs": 1.0}
    assert info["success"]


@pytest.mark.parametrize(
    "source",
    [
        function("return chr(0xD800)"),
        function("raise ValueError(chr(0xD800))"),
        "raise ValueError(chr(0xD800))\n" + function("return []"),
    ],
)
def test_reasons_can_be_written_to_a_file(source):
    info = outcome(source)
    assert "ud800" in info["reason"].encode().decode()


def test_the_same_program_is_scored_the_same_every_time():
    completions = [
        f"```python\n{source}\n```"
        for source in (HONEST["plain"], WRONG_VALUES["nan"], function(RAISES["recursion"]))
    ]
    env = CodeMbpp(data=[ROW])
    (task,) = env.tasks
    seen = set()
    for _ in range(10):
        for completion in completions:
            seen.add((completion, code_env.run_tests.__wrapped__(completion, task)))
    assert len(seen) == len(completions)
