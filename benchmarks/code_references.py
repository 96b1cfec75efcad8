"""Score the reference solutions of code data sets, and what a constant earns there.

    python benchmarks/code_references.py [--humaneval FILE] [--mbpp FILE]

Without files, those of ../shared beside the checkout are taken where they are there. Prints each
reference that does not score 1.0, with the reason.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
from taskgym.envs import MachineryError, Task
from taskgym.envs.code_env import CodeEnv, run_tests
from taskgym.envs.code_rows import problem_of

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "code"
FILES = {"Code-HumanEval-v0": "humaneval", "Code-MBPP-v0": "mbpp_sanitized"}
CONSTANTS = ("True", "False", "0", "1", "''", "[]", "None", "args[0]")


def make_envs(description: str) -> Iterator[tuple[str, CodeEnv]]:
    """The envs over the files that the command line names, or else over the shared ones."""
    parser = argparse.ArgumentParser(description=description)
    for env_id, name in FILES.items():
        flag = "--" + env_id.split("-")[1].lower()
        parser.add_argument(flag, dest=env_id, default=str(SHARED / f"{name}.jsonl"))
    for env_id, path in vars(parser.parse_args()).items():
        if Path(path).is_file():
            env = gym.make(env_id, data=path).unwrapped
            assert isinstance(env, CodeEnv)
            yield env_id, env
        else:
            print(f"{env_id}: {path} is not there")


def failure(env: CodeEnv, task: Task) -> str:
    """Why the reference does not score 1.0; empty if it does."""
    try:
        outcome = run_tests(env.gold(task), task)
    except MachineryError as error:
        return f"not judged: {error}"
    return "" if outcome.right else outcome.reason


def references(env_id: str, env: CodeEnv) -> None:
    failures, seconds = {}, []
    for task in env.tasks:
        began = time.perf_counter()
        if why := failure(env, task):
            failures[task.row.get("task_id", task.task_id)] = why
        seconds.append(time.perf_counter() - began)
    right = len(env.tasks) - len(failures)
    print(f"{env_id}: {right} of {len(env.tasks)} references score 1.0")
    print(f"    {statistics.median(seconds) * 1e3:.1f} ms each (median, on the clock)")
    for name, why in failures.items():
        print(f"    {name}: {' '.join(why.split())}")


def constants(env: CodeEnv) -> None:
    for constant in CONSTANTS:
        shares = []
        for task in env.tasks:
            source = f"def {problem_of(task).entry}(*args):\n    return {constant}"
            passed = run_tests(f"```python\n{source}\n```", task).passed
            shares.append(sum(passed) / len(passed))
        mean, solved = statistics.fmean(shares), shares.count(1.0)
        print(f"    return {constant:8} passes {mean:6.1%} of the tests, solves {solved}")


if __name__ == "__main__":
    for env_id, env in make_envs("What references and constants earn."):
        references(env_id, env)
        constants(env)
