"""Code-MBPP-v0 and Code-HumanEval-v0: scores, reasons, failures that are not the model's."""

from pathlib import Path

import gymnasium as gym
import pytest
from taskgym.envs import MachineryError, code_env
from taskgym.envs.code_env import fraction_passed, run_tests
from taskgym.envs.code_humaneval import CodeHumanEval
from taskgym.envs.code_mbpp import CodeMbpp
from taskgym.envs.code_rows import problem_of
from taskgym.sandbox import Limits, Result, SandboxUnavailable, Status

SHARED = Path(__file__).resolve().parents[2] / "shared"
ROW = {
    "prompt": "Write a function to add one.",
    "code": "def add_one(x):\n    return x + 1",
    "test_list": ["assert add_one(1) == 2", "assert add_one(5) == 6", "assert add_one(-1) == 0"],
}
HEAD = """
from typing import List


def half(x):
    return x // 2


def f(x):
    ''' Doc. '''
"""
CHECK = """
def check(candidate):
    assert candidate(4) == 2
    assert candidate(5) == half(5)
"""
HUMANEVAL = {
    "task_id": "Own/0",
    "prompt": HEAD,
    "entry_point": "f",
    "canonical_solution": "    return half(x)\n",
    "test": CHECK,
}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(code_env, "LIMITS", Limits(cpu_s=0.4, wall_s=8.0))
    run_tests.cache_clear()
    yield
    run_tests.cache_clear()


def fenced(code):
    return f"Here it is.\n```python\n{code}\n```\nDone."


def step(env, completion):
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(completion)
    assert terminated and not truncated
    return reward, info


def test_the_share_of_passed_tests_is_paid_and_the_whole_more():
    env = CodeMbpp(data=[ROW])
    assert step(env, fenced(ROW["code"]))[0] == env.max_reward == 1.0
    reward, info = step(env, fenced("def add_one(x):\n    return abs(x) + 1"))
    assert reward == pytest.approx(0.4 * 2 / 3 + 0.1)
    assert info["tests"] == (True, True, False)
    assert info["reason"] == "assert add_one(-1) == 0: the last call returned 2"
    assert not info["success"]
    assert step(env, fenced("def add_one(x):\n    return None"))[0] == pytest.approx(0.1)
    assert step(env, "I do not know.")[0] == 0.0


def test_success_is_every_test_whatever_the_weights():
    env = CodeMbpp(data=[ROW], weights={"all_passed": 0.0, "runs": 5.0})
    assert step(env, fenced(ROW["code"]))[1]["success"]
    assert not step(env, fenced("def add_one(x):\n    return 2"))[1]["success"]


def test_a_program_may_lean_on_what_its_prompt_gave_it():
    env = CodeHumanEval(data=[HUMANEVAL])
    assert step(env, fenced("def f(x: List[int]):\n    return half(x)"))[0] == 1.0
    future = "from __future__ import annotations\n\ndef f(x: int) -> int:\n    return half(x)"
    assert step(env, fenced(future))[0] == 1.0


def test_a_program_cannot_change_the_helpers_of_the_tests():
    cheat = "def half(x):\n    return 7\n\ndef f(x):\n    return 7"
    assert step(CodeHumanEval(data=[HUMANEVAL]), fenced(cheat))[1]["tests"] == (False, False)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def f(x):\n    import socket\n", "line 2: "),
        ("x = 1\n1 / 0\ndef f(x):\n    pass", "ZeroDivisionError, line 2: division by zero"),
        ("def f(x):\n    return (", "line 2: "),
    ],
)
def test_reasons_name_the_line_of_the_completions_code(code, reason):
    info = step(CodeHumanEval(data=[HUMANEVAL]), fenced(code))[1]
    assert reason in info["reason"]
    assert info["rewards"]["runs"] == 0.0


def test_tests_that_fail_their_own_reference_are_no_score_of_the_model():
    faulty = {**ROW, "test_list": ["assert add_one(1) == 2", "assert add_one(2) == 4"]}
    env = CodeMbpp(data=[faulty])
    env.reset(seed=0)
    with pytest.raises(MachineryError, match=r"judges no one: .*add_one\(2\) == 4"):
        env.step(env.gold_action())


def test_tests_that_hang_are_cut_in_the_sandbox_too(monkeypatch, tmp_path):
    driver = tmp_path / "driver.py"
    text = code_env.DRIVER.read_text()
    suite = code_env.DRIVER.with_name("code_suite.py")
    tmp_path.joinpath(suite.name).write_text(suite.read_text())
    assert text.count("TESTS_CPU_S = 6.0") == 1
    driver.write_text(text.replace("TESTS_CPU_S = 6.0", "TESTS_CPU_S = 0.2"))
    monkeypatch.setattr(code_env, "DRIVER", driver)
    for loop in (
        "while True:\n    pass",
        "while True:\n    try:\n        x = 1\n    except Exception:\n        pass",
    ):
        env = CodeMbpp(data=[{**ROW, "test_list": [*ROW["test_list"], f"add_one(1)\n{loop}"]}])
        env.reset(seed=0)
        with pytest.raises(MachineryError, match="took more than"):
            env.step(env.gold_action())


def test_a_failing_sandbox_is_no_score_of_the_model(monkeypatch):
    class Broken:
        def map(self, jobs):
            return [Result(Status.INFRA, error_message="no processes left")]

    class Gone:
        def map(self, jobs):
            raise SandboxUnavailable("not on this machine")

    env = CodeMbpp(data=[{**ROW, "prompt": "For a sandbox that fails."}])
    for box, words in ((Broken(), "no processes left"), (Gone(), "not on this machine")):
        monkeypatch.setattr(code_env, "shared_sandbox", lambda drivers, box=box: box)
        env.reset(seed=0)
        with pytest.raises(MachineryError, match=words):
            env.step(fenced(ROW["code"]))
    monkeypatch.undo()
    assert step(env, fenced(ROW["code"]))[0] == 1.0


def test_the_components_share_one_run():
    (task,) = CodeMbpp(data=[ROW]).tasks
    run_tests.cache_clear()
    step(CodeMbpp(data=[ROW]), fenced(ROW["code"]))
    assert fraction_passed(fenced(ROW["code"]), task) == 1.0
    assert run_tests.cache_info().misses == 1


@pytest.mark.parametrize("constant", ["True", "False", "0", "''", "[]", "None", "1"])
def test_a_constant_is_never_a_solution_of_the_sample(constant):
    for env in (CodeMbpp(data="sample"), CodeHumanEval(data="sample")):
        for task in env.tasks:
            entry = problem_of(task).entry
            outcome = run_tests(fenced(f"def {entry}(*args):\n    return {constant}"), task)
            assert outcome.runs and not outcome.right


def test_gold_is_worth_exactly_one_in_every_sample_task():
    for env in (CodeMbpp(data="sample"), CodeHumanEval(data="sample")):
        for index in range(len(env.tasks)):
            env.reset(options={"index": index})
            assert env.step(env.gold_action())[1] == 1.0


def test_a_reference_may_hold_a_fence():
    code = 'def add_one(x):\n    """\n    ```\n    add_one(1)\n    ```\n    """\n    return x + 1'
    env = CodeMbpp(data=[{**ROW, "code": code}])
    env.reset(seed=0)
    assert env.step(env.gold_action())[1] == 1.0


def test_exact_types_come_back():
    tests = [
        "assert type(g(1)) is tuple",
        "assert g(2) == {1: {2, 3}} and type(g(2)) is dict",
        "assert g(3) is True",
        "assert g(4) == 1j and g(5) == 2**70",
        "assert g(6) != g(6)",
        "assert g(7) == {'a': 2}",
    ]
    code = (
        "from collections import Counter\n"
        "def g(n):\n"
        "    return {1: (1,), 2: {1: {2, 3}}, 3: True, 4: 1j, 5: 2**70, 6: float('nan'),\n"
        "            7: Counter('aa')}[n]"
    )
    env = CodeMbpp(data=[{"prompt": "Types.", "code": code, "test_list": tests}])
    assert step(env, fenced(code))[1]["reason"] == ""


def test_vector_envs_carry_the_reasons():
    kwargs = {"vectorization_mode": "sync", "data": "sample"}
    envs = gym.make_vec("Code-MBPP-v0", num_envs=2, **kwargs)
    envs.reset(seed=[1, 2])
    *_, infos = envs.step(["prose", "```python\nx = 1\n```"])
    assert list(infos["status"]) == ["no_program", "no_program"]
    assert infos["reason"][0] == "no code fence"
    envs.close()


REFUSED = {"HumanEval/160": "eval"}  # benchmarks/code_references.py prints the whole reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env_id", "name", "count"),
    [("Code-HumanEval-v0", "humaneval", 164), ("Code-MBPP-v0", "mbpp_sanitized", 367)],
)
def test_reference_solutions_score_full_marks(env_id, name, count):
    path = SHARED / "data" / "code" / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"{path.name} is not in ../shared/data/code")
    env = gym.make(env_id, data=str(path)).unwrapped
    assert len(env.tasks) == count
    for task in env.tasks:
        outcome = run_tests(env.gold(task), task)
        why = REFUSED.get(task.row["task_id"])
        assert outcome.right == (why is None), (task.row["task_id"], outcome.reason)
        assert why is None or why in outcome.reason


def test_training_on_an_evaluation_set_warns(caplog):
    pytest.importorskip("tqdm")
    from taskgym.training.config import TrainConfig
    from taskgym.training.train import plan_tasks

    def plan(task_id):
        rows = [{**HUMANEVAL, "task_id": task_id, "prompt": f"{HEAD}# {i}\n"} for i in range(2)]
        plan_tasks(TrainConfig(env="Code-HumanEval-v0", env_kwargs={"data": rows}))

    plan("Own/0")
    assert "measure models" not in caplog.text
    plan("HumanEval/0")
    assert "others measure models on" in caplog.text
