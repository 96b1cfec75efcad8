"""What the code envs share: a function is asked for, and scored by tests in the sandbox."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

from taskgym.envs.code_blocks import find_program
from taskgym.envs.code_driver import TESTS_CPU_S
from taskgym.envs.code_rows import Columns, Problem, problem_of, to_code_tasks
from taskgym.envs.core import Step
from taskgym.envs.dataset import Data, DatasetEnv
from taskgym.envs.errors import MachineryError
from taskgym.envs.rows import Tasks
from taskgym.envs.rubric import Rubric, Task, check_names
from taskgym.sandbox import Job, Limits, Result, SandboxUnavailable, Status, shared_sandbox

DRIVER = Path(__file__).with_name("code_driver.py")
# One program with all its tests. The reference solutions need 0.01 s, the slowest of them 2 s, or
# 4 s on a slow machine: what is right must not depend on where it is run. The clock has room for
# the program, its tests, and the reference when one fails.
LIMITS = Limits(cpu_s=TESTS_CPU_S, wall_s=25.0, calls=10_000)
_FUTURE = re.compile(r"^from __future__ import [\w, ]+$", re.MULTILINE)
SYSTEM_PROMPT = """
You write Python functions. Think first if it helps. Then give the whole function, with every import
and helper that it needs, in one block:
```python
# your code
```
It is called with plain values and judged by what it returns, which is a plain value too: a number,
a text, a list, a dictionary and the like. Of the standard library it may import what computes, such
as math, re, itertools or collections.
"""


class Outcome(NamedTuple):
    """What the tests said of a completion.

    Attributes:
        passed: Whether each test passed, in order; empty if the program never ran.
        runs: Whether a function was found and could be called.
        status: The sandbox's status, or `no_program`.
        reason: The first test that failed and why, or why the program never ran; or empty.
    """

    passed: tuple[bool, ...]
    runs: bool
    status: str
    reason: str

    @property
    def right(self) -> bool:
        """Whether the program passed every test."""
        return bool(self.passed) and all(self.passed) and not self.reason


def all_passed(completion: str, task: Task) -> float:
    """1 if the function passes every test."""
    return float(run_tests(completion, task).right)


def fraction_passed(completion: str, task: Task) -> float:
    """The share of the tests that the function passes."""
    passed = run_tests(completion, task).passed
    return sum(passed) / len(passed) if passed else 0.0


def runs(completion: str, task: Task) -> float:
    """1 if a function was found, compiled, and could be called, whatever it returned."""
    return float(run_tests(completion, task).runs)


@lru_cache(maxsize=256)  # the components of a rubric ask in turn, and groups repeat programs
def run_tests(completion: str, task: Task) -> Outcome:
    """Runs the function of a completion in the sandbox, against the tests of its task.

    Raises:
        MachineryError: The sandbox failed, or the tests do not even pass their own reference.
    """
    problem = problem_of(task)
    program = find_program(completion, problem.entry)
    if program.source is None:
        return Outcome((), False, "no_program", program.reason)
    result = _run(problem, program.source)
    report = result.value
    if report is None:
        return Outcome((), False, str(result.status), _words(problem, result))
    if report["fault"]:
        raise MachineryError(f"task {task.task_id} judges no one: {report['fault']}")
    return Outcome(tuple(report["passed"]), True, str(result.status), report["failure"])


def _words(problem: Problem, result: Result) -> str:
    """Why a program never ran, with the line of the completion's code."""
    line = (result.error_line or 0) - problem.preamble.count("\n")
    message = (result.error_message or "").removeprefix(f"line {result.error_line}: ")
    what = result.error_type if result.status is Status.ERROR else result.status
    words = f"{what}{f', line {line}' if line > 0 else ''}: {message}"
    return words.encode("utf-8", "backslashreplace").decode()


def _whole(preamble: str, source: str) -> str:
    """The program behind its preamble; `from __future__` may only stand first, and means nothing.

    (Annotations, the only feature left there, are never evaluated in the sandbox.)
    """
    return preamble + _FUTURE.sub("", source) if preamble else source


def _run(problem: Problem, source: str) -> Result:
    job = Job(
        source=_whole(problem.preamble, source),
        entry=problem.entry,
        limits=LIMITS,
        driver=DRIVER,
        task=problem.suite(),
    )
    try:
        (result,) = shared_sandbox(drivers=(DRIVER,)).map([job])
    except SandboxUnavailable as error:
        raise MachineryError(f"the sandbox failed: {error}") from error
    if result.status is Status.INFRA:
        raise MachineryError(f"the sandbox failed: {result.error_message}")
    return result


class CodeEnv(DatasetEnv):
    """A function to write, scored by the tests of its row.

    `info["tests"]` says which of them passed, `info["status"]` how the program ended
    (`no_program`, or a status of the sandbox) and `info["reason"]` what went wrong first.

    Args:
        data: A hub id, a `.jsonl`, `.json` or `.parquet` file, a list of rows, or `"sample"`.
        split: The split to take; files and lists have splits if their rows have a `split` column.
        columns: Canonical key -> the column that carries it, such as `{"reference": "solution"}`.
        weights: Component -> weight, for those that shall differ from the rubric's.
        system_prompt: Replaces the env's own; an empty text leaves the system message out.
    """

    needs = "Linux, for the sandbox; datasets, for rows from the hub"
    system_prompt = SYSTEM_PROMPT
    known_columns: ClassVar[Mapping[str, tuple[str, ...]]]
    rubric = Rubric(
        {
            "all_passed": (all_passed, 0.5),
            "fraction_passed": (fraction_passed, 0.4),
            "runs": (runs, 0.1),
        }
    )

    def __init__(
        self,
        *,
        data: Data | None = None,
        split: str = "train",
        columns: Mapping[str, str] | None = None,
        weights: Mapping[str, float] | None = None,
        system_prompt: str | None = None,
    ):
        check_names(columns or {}, self.known_columns, "column")
        super().__init__(
            data=data,
            split=split,
            columns=columns,
            weights=weights,
            system_prompt=system_prompt,
        )

    @abstractmethod
    def read(self, row: Columns) -> tuple[str, Problem] | str:
        """The question and the problem of a row, or why the row is of no use."""

    def load_tasks(self) -> Tasks:
        """The rows as tasks with a problem each."""
        named = self.columns or {}
        return to_code_tasks(self.load(), str(self), self.read, self.known_columns, named)

    def gold(self, task: Task) -> str:
        """The reference solution in its block."""
        reference, fence = problem_of(task).reference.strip(), "```"
        while fence in reference:
            fence += "`"
        return f"{fence}python\n{reference}\n{fence}"

    def solved(self, completion: str, task: Task, rewards: Mapping[str, float]) -> bool:
        """Whether every test passed, whatever the weights."""
        return rewards["all_passed"] == 1.0

    def step(self, action: str) -> Step:
        """Scores the function and says how its tests went."""
        *step, info = super().step(action)
        outcome = run_tests(action or "", self.task)
        info |= {"tests": outcome.passed, "status": outcome.status, "reason": outcome.reason}
        return (*step, info)  # type: ignore[return-value]
