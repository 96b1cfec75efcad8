"""What a caller gets for a program: value, status, error and output, under every limit."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from taskgym.sandbox import Job, Limits, Result, Sandbox, Status, shared_sandbox

DRIVER = Path(__file__).with_name("data") / "counting_driver.py"
BOARD = [[2, 4], [0, 2]]


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(workers=2, drivers=[DRIVER]) as box:
        yield box


def strategy(*lines: str) -> str:
    return "\n    ".join(["def strategy(board):", *lines])


def drive(box: Sandbox, source: str, mode: Any = "outside", **task: Any) -> Result:
    return box.run(source, driver=DRIVER, mode=mode, task={"calls": 3, **task})


# --- values and calls --------------------------------------------------------------------------


def test_a_value_comes_back_with_its_types(box: Sandbox) -> None:
    result = box.run(strategy("return (1, [2.5, None], {'k': [3]}, 10**30)"), args=[BOARD])
    assert result.ok and result.value == (1, [2.5, None], {"k": [3]}, 10**30)
    assert (result.error_type, result.error_message, result.error_line) == (None, None, None)
    assert result.calls_done == 1 and 0 < result.cpu_s < 1 and 0 < result.wall_s < 2


def test_each_call_gets_fresh_arguments_and_the_last_value_counts(box: Sandbox) -> None:
    source = "n = 0\n" + strategy("global n", "n += 1", "board.append(n)", "return n, board")
    assert box.run(source, args=[[]], calls=3).value == (3, [3])


def test_the_entry_may_have_another_name_and_more_arguments(box: Sandbox) -> None:
    assert box.run("def add(a, b): return a + b", entry="add", args=(1, 2)).value == 3


def test_arguments_that_are_no_plain_data_are_the_callers_mistake(box: Sandbox) -> None:
    with pytest.raises(ValueError, match=r"Job.args: the value contains an object"):
        box.run(strategy("return 1"), args=[object()])


def test_random_follows_the_seed(box: Sandbox) -> None:
    source = "import random\n" + strategy("return [random.random() for _ in range(3)]")
    one, two, three = (box.run(source, args=[BOARD], seed=seed).value for seed in (7, 7, 8))
    assert one == two != three


# --- failures ----------------------------------------------------------------------------------


def test_a_raise_is_an_error_with_its_line(box: Sandbox) -> None:
    result = box.run(strategy("x = board", "return x[0][99]"), args=[BOARD])
    assert result.status is Status.ERROR and result.value is None
    assert (result.error_type, result.error_line) == ("IndexError", 3)
    assert result.error_message == "list index out of range"


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_every_exception_is_an_error(box: Sandbox, name: str) -> None:
    result = box.run(strategy(f"raise {name}"), args=[BOARD])
    assert result.status in (Status.ERROR, Status.REJECTED), result


def test_a_hostile_exception_cannot_speak_for_itself(box: Sandbox) -> None:
    source = """
class Bad(Exception):
    def __str__(self):
        while True: pass
    __repr__ = __str__

def strategy(board):
    raise Bad(Bad(), "text", 7)
"""
    result = box.run(source, args=[BOARD])
    assert (result.error_type, result.error_message) == ("Bad", "<Bad>, 'text', 7")


@pytest.mark.parametrize(
    ("source", "kind", "line"),
    [
        ("def strategy(board:", "syntax", 1),
        ("x = 1\nimport os", "import", 2),
        ("x = \0", "syntax", None),
        ("x = '\ud800'", "syntax", None),
        ("#" * 70_000, "construct", None),
    ],
)
def test_what_is_refused_says_of_what_kind_it_is(
    box: Sandbox, source: str, kind: str, line: int | None
) -> None:
    result = box.run(source)
    assert (result.status, result.error_type, result.error_line) == ("rejected", kind, line)
    assert result.error_message


@pytest.mark.parametrize("source", ["x = 1", "strategy = 5", "def Strategy(board): return 1"])
def test_a_program_without_its_function_is_named_so(box: Sandbox, source: str) -> None:
    result = box.run(source, args=[BOARD])
    assert (result.status, result.error_type) == (Status.ERROR, "EntryNotFound")


def test_a_value_that_is_not_plain_is_an_error(box: Sandbox) -> None:
    source = "class Any:\n    def __eq__(self, other): return True\n" + strategy("return Any()")
    result = box.run(source, args=[BOARD])
    assert (result.status, result.error_type) == (Status.ERROR, "BadValue")
    assert "an Any" in str(result.error_message)


# --- limits ------------------------------------------------------------------------------------

QUICK = Limits(cpu_s=0.1, wall_s=5)


@pytest.mark.parametrize(
    "lines",
    [
        ["while True: pass"],
        ["while True:", "    try:", "        while True: pass", "    except BaseException: pass"],
        ["return 9**9**9"],  # one call in C, which no signal handler interrupts
        ["return sum(iter(int, 1))"],
    ],
)
def test_a_loop_ends_at_its_cpu_limit(box: Sandbox, lines: list[str]) -> None:
    result = box.run(strategy(*lines), args=[BOARD], limits=QUICK)
    assert result.status in (Status.TIMEOUT, Status.REJECTED, Status.ERROR), result
    if result.status is Status.TIMEOUT:
        assert result.error_message == "more than 0.1 s of CPU" and 0.1 <= result.cpu_s < 1


def test_a_loop_at_module_level_ends_too(box: Sandbox) -> None:
    assert box.run("while True: pass", limits=QUICK).status is Status.TIMEOUT


def test_memory_is_bounded(box: Sandbox) -> None:
    for line in ("return 'x' * 10**10", "board = [0]\n    while True: board = board + board"):
        result = box.run(strategy(line), args=[BOARD], limits=Limits(memory_mb=64))
        assert result.status is Status.MEMORY and result.peak_memory_mb < 64 * 1.2, result


def test_what_swallows_memory_errors_still_ends(box: Sandbox) -> None:
    lines = ["while True:", "    try: x = [0] * 10**8", "    except MemoryError: pass"]
    result = box.run(strategy(*lines), args=[BOARD], limits=QUICK)
    assert result.status is Status.TIMEOUT


def test_recursion_is_bounded(box: Sandbox) -> None:
    deep = "def strategy(n): return 0 if n == 0 else 1 + strategy(n - 1)"
    assert box.run(deep, args=[900]).value == 900
    assert box.run(deep, args=[5000]).error_type == "RecursionError"
    assert box.run(deep, args=[5000], limits=Limits(recursion=6000)).value == 5000
    assert box.run(deep, args=[900], limits=Limits(recursion=100)).error_type == "RecursionError"


def test_printed_text_is_kept_up_to_its_limit(box: Sandbox) -> None:
    result = box.run(strategy("print('a', 1, sep='-')", "print('é')", "return 0"), args=[BOARD])
    assert (result.stdout, result.truncated) == ("a-1\né\n", False)
    flood = box.run(strategy("while True: print('x' * 1000)"), args=[BOARD])
    assert (flood.status, len(flood.stdout), flood.truncated) == (Status.OUTPUT, 65536, True)
    late = box.run(
        strategy("print('x' * 200)", "return 0"), limits=Limits(stdout_bytes=100), args=[0]
    )
    assert (late.status, late.stdout) == (Status.OUTPUT, "x" * 100)


def test_what_was_printed_before_a_timeout_is_told(box: Sandbox) -> None:
    result = box.run(strategy("print('here')", "while True: pass"), args=[BOARD], limits=QUICK)
    assert (result.status, result.stdout) == (Status.TIMEOUT, "here\n")


def test_a_large_result_is_an_error(box: Sandbox) -> None:
    for value in ("'x' * 70_000", "list(range(50_000))", "[[0] * 30_000] * 1000"):
        result = box.run(strategy(f"return {value}"), args=[BOARD])
        assert (result.status, result.error_type) == (Status.ERROR, "BadValue"), result
    result = box.run(strategy("raise ValueError('x' * 10**6)"), args=[BOARD])
    assert result.error_message == "x" * 500


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wall_s", 0),
        ("cpu_s", -1),
        ("memory_mb", 1.5),
        ("calls", True),
        ("recursion", "9"),
        ("cpu_s", float("nan")),
        ("wall_s", float("inf")),
        ("result_bytes", 2**40),
    ],
)
def test_limits_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Limits.{field} must be a positive"):
        Limits(**{field: value})


@pytest.mark.parametrize(
    "job",
    [
        {"entry": "not a name"},
        {"calls": 0},
        {"calls": 10**9},
        {"mode": "beside"},
        {"driver": DRIVER, "args": (1,)},
        {"source": "x", "entry": "a.b"},
    ],
)
def test_jobs_are_checked(job: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Job(**{"source": "x = 1", **job})


def test_a_job_that_cannot_be_sent_stops_a_map_before_it_starts(box: Sandbox) -> None:
    with pytest.raises(ValueError, match=r"Job\.args"):
        box.map([*jobs(3), Job("x = 1", args=(object(),))])


# --- drivers -----------------------------------------------------------------------------------


def test_a_driver_outside_asks_and_gets_values(box: Sandbox) -> None:
    result = drive(box, "def strategy(n): return (n, n * n)")
    assert result.value == {"answers": [(0, 0), (1, 1), (2, 4)], "ended": None}
    assert result.ok and result.calls_done == 3


def test_a_driver_passes_keywords(box: Sandbox) -> None:
    result = drive(box, "def strategy(n, *, by): return n * by", keywords={"by": 5})
    assert result.value["answers"] == [0, 5, 10]


def test_a_failed_call_may_be_followed_by_others_and_still_counts(box: Sandbox) -> None:
    result = drive(box, "def strategy(n): return 1 // (n - 1)")
    assert result.value["answers"] == [-1, "raised error", 1]
    assert (result.status, result.error_type) == (Status.ERROR, "ZeroDivisionError")
    assert (result.calls_done, result.error_line) == (2, 1)


def test_a_driver_keeps_what_it_had_when_the_program_ended(box: Sandbox) -> None:
    source = "def strategy(n):\n    while n == 2: pass\n    return n"
    result = box.run(source, driver=DRIVER, task={"calls": 3}, limits=QUICK)
    assert (result.status, result.value) == ("timeout", {"answers": [0, 1], "ended": "timeout"})


def test_a_driver_does_not_play_with_what_is_no_program(box: Sandbox) -> None:
    for source, status in (("import os", "rejected"), ("1/0", "error"), ("x = 1", "error")):
        result = drive(box, source)
        assert (result.status, result.value) == (status, None)


def test_the_limits_hold_over_all_calls_together(box: Sandbox) -> None:
    source = "def strategy(n):\n    for _ in range(10**5): pass\n    return n"
    result = box.run(source, driver=DRIVER, task={"calls": 10**6}, limits=QUICK)
    assert result.status is Status.TIMEOUT and 1 < result.calls_done < 1000
    few = box.run(source, driver=DRIVER, task={"calls": 9}, limits=Limits(calls=2))
    assert few.status is Status.ERROR and few.calls_done == 2
    assert few.value == {"answers": [0, 1], "ended": "error"}


def test_a_driver_that_breaks_is_named_and_never_infra(box: Sandbox) -> None:
    result = drive(box, "def strategy(n): return n", fault=True)
    assert (result.status, result.error_type) == (Status.ERROR, "DriverError")


def test_a_claim_from_inside_is_checked_outside(box: Sandbox) -> None:
    good = drive(box, "def strategy(n): return n", mode="inside")
    assert good.value == ("checked", 3)
    bad = drive(box, "def strategy(n): return 'much'", mode="inside")
    assert (bad.status, bad.error_type, bad.value) == (Status.ERROR, "DriverError", None)


def test_an_unknown_driver_is_the_callers_mistake(box: Sandbox) -> None:
    with pytest.raises(ValueError, match="was not given the driver"):
        box.run("x = 1", driver=__file__)
    with pytest.raises(FileNotFoundError):
        Sandbox(drivers=["nowhere.py"])


# --- many jobs ---------------------------------------------------------------------------------


def jobs(count: int) -> list[Job]:
    return [Job("def strategy(n): return n * n", args=(n,)) for n in range(count)]


def test_map_keeps_the_order(box: Sandbox) -> None:
    assert [result.value for result in box.map(jobs(30))] == [n * n for n in range(30)]
    assert box.map([]) == []


def test_any_thread_may_call(box: Sandbox) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(
            threads.map(lambda n: box.run("def strategy(n): return n", args=[n]), range(40))
        )
    assert [result.value for result in results] == list(range(40))


def test_the_event_loop_is_not_blocked(box: Sandbox) -> None:
    async def main() -> tuple[list[Result], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        loop = strategy("while True: pass")
        both = await asyncio.gather(box.amap(jobs(5)), box.arun(loop, args=[BOARD], limits=QUICK))
        ticking.cancel()
        return [*both[0], both[1]], ticks

    results, ticks = asyncio.run(main())
    assert [result.value for result in results[:5]] == [0, 1, 4, 9, 16]
    assert results[5].status is Status.TIMEOUT and ticks > 3


def test_jobs_run_side_by_side_on_as_many_workers_as_there_are() -> None:
    loop = Job(strategy("while True: pass"), args=(BOARD,), limits=QUICK)
    with Sandbox(workers=3) as box:
        box.run(strategy("return 1"), args=[BOARD])
        assert len(box._idle) == 1  # one caller needs one supervisor
        results = box.map([loop] * 6)
        assert len(box._idle) == 3
    assert {result.status for result in results} == {Status.TIMEOUT}


@pytest.mark.parametrize("isolation", ["process", "batch"])
def test_batches_answer_as_programs_do_alone(isolation: Any) -> None:
    mixed = [
        *jobs(20),
        Job("import os"),
        Job(strategy("return 1 // 0"), args=(BOARD,)),
        *jobs(20),
        Job("def strategy(n): return n", driver=DRIVER, task={"calls": 3}),
        Job("def strategy(n): return n", driver=DRIVER, mode="inside", task={"calls": 3}),
        Job(strategy("while True: pass"), args=(BOARD,), limits=QUICK),
        *jobs(20),
    ]
    with Sandbox(workers=2, isolation=isolation, drivers=[DRIVER]) as box:
        results = box.map(mixed)
    squares = [n * n for n in range(20)]
    assert [
        result.value for result in results if result.ok and type(result.value) is int
    ] == squares * 3
    assert [results[n].status for n in (20, 21, 44)] == ["rejected", "error", "timeout"]
    assert results[42].value["answers"] == [0, 1, 2] and results[43].value == ("checked", 3)


def test_programs_of_a_batch_do_not_see_each_other() -> None:
    write = "import math, random\nclass C: pass\nC.x = 1\nrandom.seed(5)\n" + strategy("return 1")
    read = "import random\n" + strategy("return random.random()")
    with Sandbox(workers=1, isolation="batch") as box:
        alone = box.run(read, args=[BOARD]).value
        results = box.map([Job(s, args=(BOARD,)) for s in (write, read, write, read)])
    assert [result.value for result in results] == [1, alone, 1, alone]


def test_a_program_of_a_batch_cannot_speak_in_the_next_ones_name() -> None:
    source = """
def late(me):
    try: yield
    finally: print("late")

def strategy(board):
    me = []
    me.append(late(me))
    next(me[0])
    return 1
"""
    next_one = strategy("x = [[] for _ in range(10**5)]", "return 2")  # collects garbage
    with Sandbox(workers=1, isolation="batch") as box:
        results = box.map([Job(each, args=(BOARD,)) for each in (source, next_one)] * 3)
    assert [result.value for result in results if result.ok] == [1, 2] * 3
    assert not [result.stdout for result in results if result.stdout]


def test_the_shared_pool_is_one_per_set_of_drivers() -> None:
    assert shared_sandbox() is shared_sandbox()
    assert shared_sandbox([DRIVER]) is shared_sandbox((str(DRIVER),)) is not shared_sandbox()
    assert shared_sandbox().run("def strategy(n): return n", args=[1]).value == 1


@pytest.mark.parametrize(
    "answer", ["{1, 2}", "b'x'", "1j", "{1: 2}", "[frozenset()]", "{'a': {()}}"]
)
def test_a_caller_gets_only_what_json_could_say_and_tuples(box: Sandbox, answer: str) -> None:
    result = box.run(f"def strategy():\n    return {answer}")
    assert (result.status, result.value, result.error_type) == (Status.ERROR, None, "BadValue")
    assert box.run("def strategy():\n    return {'a': (1, [None, 2.5])}").value == {
        "a": (1, [None, 2.5])
    }
