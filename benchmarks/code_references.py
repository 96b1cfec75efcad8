"""Score the reference solutions of code data sets: how many pass their own tests in the sandbox.

    python benchmarks/code_references.py [--humaneval FILE] [--mbpp FILE]

Without files, those of ../shared beside the checkout are taken where they are there. Prints each
reference that does not score 1.0, with the reason.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from pathlib import Path

import gymnasium as gym
import taskgym.envs
from taskgym.envs import MachineryError
from taskgym.envs.code_env import CodeEnv, run_tests

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "code"


def failure(env: CodeEnv, task: taskgym.envs.Task) -> str:
    """Why the reference does not score 1.0; empty if it does."""
    try:
        outcome = run_tests(env.gold(task), task)
    except MachineryError as error:
        return f"not judged: {error}"
    return "" if outcome.right else f"{outcome.status}: {outcome.reason}"


def score(env_id: str, data: str) -> None:
    env = gym.make(env_id, data=data).unwrapped
    assert isinstance(env, CodeEnv)
    failures, seconds = {}, []
    for task in env.tasks:
        began = time.monotonic()
        if why := failure(env, task):
            failures[task.row.get("task_id", task.task_id)] = why
        seconds.append(time.monotonic() - began)
    right = len(env.tasks) - len(failures)
    print(f"{env_id}: {right} of {len(env.tasks)} references score 1.0")
    print(f"    {statistics.median(seconds) * 1e3:.1f} ms a program (median, on the clock)")
    for name, why in failures.items():
        print(f"    {name}: {' '.join(why.split())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--humaneval", default=str(SHARED / "humaneval.jsonl"))
    parser.add_argument("--mbpp", default=str(SHARED / "mbpp_sanitized.jsonl"))
    options = parser.parse_args()
    for env_id, data in (("Code-HumanEval-v0", options.humaneval), ("Code-MBPP-v0", options.mbpp)):
        if Path(data).is_file():
            score(env_id, data)
        else:
            print(f"{env_id}: {data} is not there")
    print(f"CPU of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.1f} s")


if __name__ == "__main__":
    main()
