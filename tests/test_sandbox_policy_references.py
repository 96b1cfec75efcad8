"""Reference solutions of HumanEval and MBPP are accepted by the policy."""

import json
from pathlib import Path

import pytest
from taskgym.sandbox.guards import program_globals
from taskgym.sandbox.policy import Rejected, compile_program

CODE = Path(__file__).resolve().parents[2] / "shared/data/code"
pytestmark = pytest.mark.skipif(
    not CODE.exists(), reason="needs ../shared/data/code beside the repository"
)


def rows(name):
    return [json.loads(line) for line in (CODE / name).read_text("utf-8").splitlines()]


def refused(sources):
    """Which of the sources the policy refuses, or which fail while they define their function."""
    found = {}
    for name, source in sources.items():
        try:
            exec(compile_program(source), program_globals(0, print))
        except (Rejected, AttributeError, ImportError, NameError, TypeError) as error:
            found[name] = str(error)
    return found


def test_humaneval_is_accepted_but_for_the_one_that_calls_eval():
    tasks = {row["task_id"]: row["prompt"] + row["canonical_solution"] for row in
             rows("humaneval.jsonl")}  # fmt: skip
    found = refused(tasks)
    assert len(tasks) == 164
    assert list(found) == ["HumanEval/160"]
    assert "eval" in found["HumanEval/160"]


def test_mbpp_is_accepted():
    tasks = {row["task_id"]: row["code"] for row in rows("mbpp_sanitized.jsonl")}
    assert len(tasks) == 367
    assert refused(tasks) == {}
