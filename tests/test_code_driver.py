"""The driver of the code envs, in plain Python: how tests are split, run, bounded and doubted."""

import json
import marshal
import random
import textwrap

import pytest
from taskgym.envs import code_driver
from taskgym.envs.code_driver import play
from taskgym.envs.code_suite import split_check


class Ended(Exception):
    """What the sandbox raises when the program is over."""

    def __init__(self, status, message="", report=b""):
        super().__init__(message or status)
        self.status, self.message, self.report = status, message, report


class Raised(Ended):
    """What it raises when one call gave no value."""

    def __init__(self, report=b""):
        super().__init__("error", report=report)


def local(function):
    """A program in this process, in the place of one in the sandbox."""

    def call(*args, **names):
        return function(*args, **names)

    call.Ended, call.Raised = Ended, Raised
    return call


def task(tests=(), check="", entry="f", reference="def f(x):\n    return x + 1\n", setup=""):
    return {
        "entry": entry,
        "reference": reference,
        "setup": setup,
        "tests": list(tests),
        "check": textwrap.dedent(check),
    }


TESTS = ("assert f(1) == 2", "assert f(5) == 6", "assert f(-1) == 0")


def test_each_source_is_a_test():
    assert play(task(TESTS), local(lambda x: x + 1)) == {
        "passed": [True, True, True],
        "failure": "",
        "fault": "",
    }
    report = play(task(TESTS), local(lambda x: 6))
    assert report["passed"] == [False, True, False]
    assert report["failure"] == "assert f(1) == 2: the last call returned 6"


CHECK = """
    METADATA = {"author": "me"}
    START = 1

    def check(candidate):
        from random import randint

        # a comment
        assert candidate(START) == 2
        assert True, "says nothing"
        wanted = 6
        def near(a, b):
            assert type(a) is type(b)
            return abs(a - b) < 1e-6
        assert candidate(5) == wanted, "message"
        for _ in range(20):
            x = randint(0, 1000)
            assert candidate(x) == x + 1
        assert near(candidate(0.5), 1.5)
"""


def test_a_check_is_split_into_its_asserts_and_loops():
    steps = list(split_check(textwrap.dedent(CHECK)))
    assert [step.text.split("\n")[0] for step in steps if step.counts] == [
        "assert candidate(START) == 2",
        'assert candidate(5) == wanted, "message"',
        "for _ in range(20):",
        "assert near(candidate(0.5), 1.5)",
    ]
    assert play(task(check=CHECK), local(lambda x: x + 1))["passed"] == [True] * 4
    assert play(task(check=CHECK), local(lambda x: 2))["passed"] == [True, False, False, False]


@pytest.mark.parametrize(
    "body",
    [
        "if candidate(1) == 2:\n        return\n    assert False",
        "global seen\n    seen = candidate(1)\n    assert seen == 2",
    ],
)
def test_a_body_that_cannot_be_split_is_one_test(body):
    check = f"def check(candidate):\n    {body}\n"
    assert play(task(check=check), local(lambda x: x + 1))["passed"] == [True]
    assert play(task(check=check), local(lambda x: x))["passed"] == [False]


def test_asserts_may_stand_in_a_helper():
    check = """
        def near(a, b):
            assert abs(a - b) < 0.1

        def check(candidate):
            inputs = [[1], [2]]
            first = candidate(1)
            for arguments in inputs:
                near(candidate(*arguments), arguments[0] + 1)
            near(first, 2)
            near((lambda: candidate(4))(), 5)
            candidate(7)
    """
    assert play(task(check=check), local(lambda x: x + 1))["passed"] == [True] * 3
    assert play(task(check=check), local(lambda x: 5))["passed"] == [False, True, True]


def test_a_check_with_more_arguments_is_one_test():
    check = "def check(candidate, n=1):\n    assert candidate(n) == 2\n"
    assert play(task(check=check), local(lambda x: 2))["passed"] == [True]


def test_the_parameter_of_check_may_have_another_name():
    check = "def check(f):\n    assert f(1) == 2\n"
    assert play(task(check=check), local(lambda x: 2))["passed"] == [True]


def test_tests_may_call_helpers_of_the_reference():
    reference = "def twice(x):\n    return 2 * x\ndef f(x):\n    return x // 2\n"
    check = (
        "def check(candidate):\n    for x in range(5):\n        assert candidate(twice(x)) == x\n"
    )
    report = play(task(check=check, reference=reference), local(lambda x: x // 2))
    assert report["passed"] == [True]


def test_the_name_of_the_function_is_the_program_in_lists_and_the_reference_in_checks():
    assert play(task(["assert f(1) == 2"]), local(lambda x: 0))["passed"] == [False]
    check = "def check(candidate):\n    assert candidate(1) == f(1)\n"
    assert play(task(check=check), local(lambda x: 0))["passed"] == [False]
    assert play(task(check=check), local(lambda x: 2))["passed"] == [True]


def test_setup_is_run_before_the_tests():
    tests = ["assert math.isclose(f(0.1), 1.1)"]
    assert play(task(tests, setup="import math"), local(lambda x: x + 1))["passed"] == [True]


def test_what_ended_stays_ended_and_what_passed_stays_passed():
    def hangs_on_five(x):
        if x == 5:
            raise Ended("timeout", "too long")
        return x + 1

    report = play(task(TESTS), local(hangs_on_five))
    assert report["passed"] == [True, False, False]
    assert report["failure"] == "assert f(5) == 6: ProgramFailed: timeout: too long"
    assert report["fault"] == ""


def claim(kind, message="no"):
    return Raised(json.dumps({"type": kind, "message": message, "line": 1}).encode())


def raising(ended, at=5):
    def program(x):
        if x == at:
            raise ended
        return x + 1

    return local(program)


def test_a_raise_fails_its_test_and_the_others_go_on():
    report = play(task(TESTS), raising(claim("KeyError", "'a'")))
    assert report["passed"] == [True, False, True]
    assert "KeyError" in report["failure"]


@pytest.mark.parametrize("kind", ["ValueError", "TypeError", "ZeroDivisionError"])
def test_tests_may_expect_a_built_in_exception(kind):
    test = f"try:\n    f(0)\n    assert False\nexcept {kind} as e:\n    assert e.args == ('no',)"
    reference = f"def f(x):\n    if not x:\n        raise {kind}('no')\n    return x + 1\n"
    given = task([*TESTS, test], reference=reference)
    assert play(given, raising(claim(kind), at=0))["passed"] == [True] * 4
    assert play(given, raising(claim("KeyError"), at=0))["passed"] == [True] * 3 + [False]
    assert play(given, local(lambda x: x + 1))["passed"] == [True] * 3 + [False]


CLAIMS = {
    "not json": Raised(b"\xff{"),
    "another shape": Raised(b"[1]"),
    "deep": Raised(b"[" * 60_000),
    "no text": Raised(b'{"type": 1, "message": {}}'),
    "needs more": claim("UnicodeDecodeError"),
    "leaves": claim("SystemExit"),
    "interrupts": claim("KeyboardInterrupt"),
    "closes": claim("GeneratorExit"),
    "out of time": claim("OutOfTime"),
    "assertion": claim("AssertionError"),
    "no exception": claim("print"),
    "stops": claim("StopIteration"),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_no_claim_of_a_raise_passes_or_stops_a_test(name):
    report = play(task([*TESTS, "assert all(f(x) == x + 1 for x in [5])"]), raising(CLAIMS[name]))
    assert report["passed"] == [True, False, True, False]
    assert report["fault"] == ""


def test_an_object_is_true_and_equal_to_nothing():
    reference = "def f(x):\n    return object()\n"
    tests = [
        "assert f(5)",
        "assert f(5) is not None",
        "assert f(5) != 6",
        "assert not f(5) == f(5)",
    ]
    given = task([*tests, "assert f(5) == 6", "assert f(5) == 1"], reference=reference)
    report = play(given, raising(claim("BadValue", "the value contains a Match; plain values are")))
    assert report["passed"] == [True] * 4 + [False] * 2
    assert "returned no plain value: the value contains a Match" in report["failure"]


def test_an_assertion_of_the_program_is_told_from_one_of_the_tests():
    assert "AssertionError: no" in play(task(TESTS), raising(claim("AssertionError")))["failure"]


def test_names_of_arguments_are_kept():
    tests = ["assert f(x=1) == 2", "assert f(*[1], **{}) == 2"]
    assert play(task(tests), local(lambda x: x + 1))["passed"] == [True, True]


def test_an_argument_that_cannot_travel_is_a_fault_of_the_tests():
    def marshals(x):
        return x + 1 if marshal.dumps(x) else None

    assert "plain values" in play(task(["assert f(abs) == 2"]), local(marshals))["fault"]


def test_random_tests_draw_the_same_every_time_and_leave_the_generator_alone():
    seen = []

    def program(x):
        seen.append(x)
        return x + 1

    state = random.getstate()
    play(task(check=CHECK), local(program))
    first = list(seen)
    seen.clear()
    random.random()
    state = random.getstate()
    play(task(check=CHECK), local(program))
    assert seen == first
    assert random.getstate() == state


def test_one_test_does_not_change_the_next_job():
    check = (
        "SEEN = []\ndef check(candidate):\n    SEEN.append(candidate(1))\n    assert SEEN == [2]\n"
    )
    for _ in range(3):
        assert play(task(check=check), local(lambda x: 2))["passed"] == [True]


FAULTY = {
    "no python": (task(["assert f(1) =="]), "cannot be read"),
    "no test": (task(["x = f(1)"], check="def check(candidate):\n    x = 1\n"), "no test"),
    "no check": (task(check="def control(candidate):\n    assert candidate(1) == 2\n"), "no check"),
    "unknown name": (task(["assert f(1) == gold"]), "NameError"),
    "wrong": (task(["assert f(1) == 3"]), "the reference fails its own tests"),
    "no such function": (task(TESTS, entry="g"), "no function g"),
    "no reference": (task(["assert g(1) == 2"], entry="g"), "no function g"),
    "never called": (task(["assert 1 + 1 == 2"]), "no test calls f"),
    "reference raises": (task(TESTS, reference="1 / 0"), "ZeroDivisionError"),
    "exits": (task(["raise SystemExit"]), "SystemExit"),
    "missing module": (task(["assert f(1) == 3"], setup="import no_such"), "no_such"),
}


@pytest.mark.parametrize("name", FAULTY)
def test_tests_that_fail_their_own_reference_judge_nobody(name):
    given, why = FAULTY[name]
    report = play(given, local(lambda x: 0))
    assert why in report["fault"]


def test_a_wrong_program_is_no_fault_of_the_tests():
    for function in (lambda x: None, lambda x: [], lambda x: "x" * 60_000, lambda x: 10**5000):
        report = play(task([*TESTS, "assert f(2) + 1 < 5"]), local(function))
        assert not all(report["passed"])
        assert report["fault"] == ""
        assert len(report["failure"]) < 700


def test_tests_that_hang_are_cut_and_said_to_be_at_fault(monkeypatch):
    monkeypatch.setattr(code_driver, "TESTS_CPU_S", 0.2)
    loop = "while True:\n    try:\n        pass\n    except Exception:\n        pass"
    report = play(task([*TESTS, loop]), local(lambda x: x + 1))
    assert report["passed"] == [True, True, True, False]
    assert "took more than" in report["fault"]


def test_a_reference_that_hangs_is_cut(monkeypatch):
    monkeypatch.setattr(code_driver, "TESTS_CPU_S", 0.2)
    report = play(task(TESTS, reference="while True:\n    pass"), local(lambda x: x + 1))
    assert "took more than" in report["fault"]


def test_a_loop_that_waits_for_the_program_is_cut_and_is_the_programs_failure(monkeypatch):
    monkeypatch.setattr(code_driver, "TESTS_CPU_S", 0.2)
    tests = [TESTS[0], "while f(1) != 2:\n    pass", TESTS[1]]
    report = play(task(tests), local(lambda x: 3))
    assert report["passed"] == [False, False, False]
    assert report["fault"] == ""
