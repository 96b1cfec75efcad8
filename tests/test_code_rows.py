"""Rows of code data sets: prompts, entry points, what is dropped, names of columns, splits."""

import logging

import gymnasium as gym
import pytest
from taskgym.envs import DataError
from taskgym.envs.code_humaneval import CodeHumanEval
from taskgym.envs.code_mbpp import CodeMbpp, find_entry, find_head
from taskgym.envs.code_rows import problem_of

MBPP = {
    "task_id": 7,
    "prompt": "Add one.",
    "code": "def helper(x):\n    return x\ndef add_one(x: int) -> int:\n    return helper(x) + 1",
    "test_imports": ["import math"],
    "test_list": ["assert add_one(1) == 2", "assert add_one(2) == 3", "assert add_one(3) == 4"],
}
HUMANEVAL = {
    "task_id": "Own/0",
    "prompt": 'import math\n\n\ndef twice(x):\n    return 2 * x\n\n\ndef f(x):\n    """ Doc. """\n',
    "entry_point": "f",
    "canonical_solution": "    return twice(x)\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}


def asked(env, index=0):
    return env.reset(options={"index": index})[0][-1]["content"]


def test_an_mbpp_question_shows_the_head_and_the_first_test():
    assert asked(CodeMbpp(data=[MBPP])) == (
        "Add one.\n\nThe function begins with\n\n```python\ndef add_one(x: int) -> int:\n```\n\n"
        "and has to pass tests such as\n\n```python\nassert add_one(1) == 2\n```"
    )


@pytest.mark.parametrize(("shown", "count"), [(0, 0), (2, 2), (9, 3)])
def test_the_number_of_shown_tests_is_a_choice(shown, count):
    assert asked(CodeMbpp(data=[MBPP], shown_tests=shown)).count("assert") == count


def test_a_negative_number_of_shown_tests_is_refused():
    with pytest.raises(ValueError, match="shown_tests"):
        CodeMbpp(data=[MBPP], shown_tests=-1)


def test_a_humaneval_question_is_the_prompt():
    env = CodeHumanEval(data=[HUMANEVAL])
    assert asked(env) == (
        "Write the function `f`:\n\n```python\n" + HUMANEVAL["prompt"].strip("\n") + "\n```"
    )


def test_what_stands_before_the_function_stands_before_the_program():
    (task,) = CodeHumanEval(data=[HUMANEVAL]).tasks
    assert problem_of(task).preamble == "import math\n\n\ndef twice(x):\n    return 2 * x\n\n\n"
    assert problem_of(CodeMbpp(data=[MBPP]).tasks[0]).preamble == ""


def test_the_system_prompt_shows_the_fence():
    (system, _), _ = CodeMbpp(data=[MBPP]).reset(seed=0)
    assert system["role"] == "system"
    assert "```python\n" in system["content"]


def test_gold_is_the_whole_reference_in_a_fence():
    env = CodeHumanEval(data=[HUMANEVAL])
    env.reset(seed=0)
    assert env.gold_action() == (
        "```python\n" + (HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"]).strip() + "\n```"
    )


@pytest.mark.parametrize(
    ("reference", "tests", "entry"),
    [
        ("def f(x):\n    return x", ["assert f(1)"], "f"),
        ("def g(x): pass\ndef f(x): pass", ["assert f(g(1))", "assert f(2)"], "f"),
        ("def f(x): pass\ndef ff(x): pass", ["assert ff (1)"], "ff"),
        ("def sum(a, b): pass", ["assert sum(1, 2) == 3"], "sum"),
        ("def f(x): pass", ["assert g(1)"], ""),
        ("class A:\n    def f(self): pass", ["assert f(1)"], ""),
    ],
)
def test_the_entry_is_what_every_test_calls(reference, tests, entry):
    assert find_entry(reference, tuple(tests)) == entry


def test_a_head_may_run_over_lines():
    reference = "def f(\n    a: dict[str, int] = {1: 2},\n    b=(1, 2),\n) -> int:\n    return 1\n"
    assert find_head(reference, "f") == reference.rpartition("\n    return")[0]
    assert find_head("x = 1", "f") == ""


def test_rows_of_no_use_are_dropped_and_counted():
    rows = [MBPP, dict(MBPP), {**MBPP, "test_list": [" "]}, {**MBPP, "code": "f = abs"}]
    tasks = CodeMbpp(data=rows).tasks
    assert len(tasks) == 1
    assert tasks.dropped == {
        "duplicate": 1,
        "no question, reference or tests": 1,
        "no function that every test calls": 1,
    }


def test_equal_questions_with_other_tests_are_other_tasks():
    other = {**MBPP, "test_list": ["assert add_one(1) == 2"]}
    first, second = CodeMbpp(data=[MBPP, other]).tasks
    assert first.task_id != second.task_id


def test_a_reference_with_number_signs_is_kept_whole():
    code = "######\ndef add_one(x):\n    #### 5\n    return x + 1"
    (task,) = CodeMbpp(data=[{**MBPP, "code": code}]).tasks
    assert problem_of(task).reference == code


def test_columns_can_be_named():
    row = {"q": "Add one.", "gold": {"code": MBPP["code"]}, "checks": MBPP["test_list"]}
    named = {"question": "q", "reference": "gold.code", "tests": "checks"}
    assert len(CodeMbpp(data=[row], columns=named).tasks) == 1
    with pytest.raises(DataError, match="'reference'"):
        len(CodeMbpp(data=[row], columns={"question": "q", "tests": "checks"}).tasks)
    with pytest.raises(ValueError, match=r"no column 'tets'.*Did you mean 'tests'"):
        CodeMbpp(data=[row], columns={"tets": "checks"})


def test_one_text_of_tests_is_one_test_and_other_types_are_refused():
    (task,) = CodeMbpp(data=[{**MBPP, "test_list": "assert add_one(1) == 2"}]).tasks
    assert problem_of(task).tests == ("assert add_one(1) == 2",)
    for tests in (5, [5], {"a": 1}):
        with pytest.raises(DataError, match="tests are texts"):
            len(CodeMbpp(data=[{**MBPP, "test_list": tests}]).tasks)


def test_full_mbpp_has_other_columns():
    row = {"text": "Add one.", "code": MBPP["code"], "test_list": MBPP["test_list"]}
    (task,) = CodeMbpp(data=[{**row, "test_setup_code": "import math"}]).tasks
    assert problem_of(task).setup == "import math"


def test_humaneval_has_one_split_and_the_sample_serves_it(monkeypatch, caplog):
    seen = []

    def nothing(data, *, split="train", config=None):
        seen.append((data, split))
        raise DataError("no hub here")

    monkeypatch.setattr("taskgym.envs.dataset.load_rows", nothing)
    with caplog.at_level(logging.WARNING):
        assert len(CodeHumanEval().tasks) == 12
    assert seen == [("openai/openai_humaneval", "test")]
    assert "SAMPLE" in caplog.text
    assert CodeHumanEval(data=[HUMANEVAL]).split == "train"
    assert CodeHumanEval(data="openai/openai_humaneval:openai_humaneval").split == "test"


def test_only_openais_tasks_are_for_evaluation_only():
    assert not CodeHumanEval(data=[HUMANEVAL]).evaluation_only
    assert not CodeHumanEval(data="sample").evaluation_only
    assert not CodeMbpp(data="sample").evaluation_only
    assert CodeHumanEval(data=[{**HUMANEVAL, "task_id": "HumanEval/0"}]).evaluation_only


@pytest.mark.parametrize("env_id", ["Code-MBPP-v0", "Code-HumanEval-v0"])
def test_numeric_is_no_question_for_code(env_id):
    with pytest.raises(TypeError, match="numeric"):
        gym.make(env_id, data="sample", numeric=True)
