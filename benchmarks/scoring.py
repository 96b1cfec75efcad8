"""What scoring costs: CPU time of reset and step through the public API, in all processes.

Run `python benchmarks/scoring.py`. GSM8K replies are real model outputs where the shared data
stands beside the checkout, else the sample's own solutions.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import taskgym.envs

COMPLETIONS = 1000
ROUNDS = 7
BAR_MS = 30.0
OUTPUTS = Path(__file__).parents[2] / "shared/data/verifier/gsm8k_model_outputs.jsonl"
SAMPLE = Path(taskgym.envs.__file__).parent / "samples/gsm8k.jsonl"
SINGLE_TURN = ("Arithmetic-v0", "Countdown-v0")
DATASET = ("Math-DAPO-v0", "Math-GSM8K-v0", "Math-GSM8K-Shaped-v0")


def cpu_seconds() -> float:
    """CPU time of this process and of its children, the running ones included (on Linux)."""
    spent = time.process_time()
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    for pid in children.read_text().split() if children.exists() else ():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    ended = os.times()
    return spent + ended.children_user + ended.children_system


def median_ms(work: Callable[[], Any]) -> float:
    """The median CPU milliseconds of some rounds, after one that fills the caches."""
    work()
    spent = []
    for _ in range(ROUNDS):
        gc.collect()
        before = cpu_seconds()
        work()
        spent.append(1000 * (cpu_seconds() - before))
    return statistics.median(spent)


def gsm8k_replies() -> tuple[list[dict[str, str]], list[str]]:
    """Rows and one XML reply for each, `COMPLETIONS` of them."""
    if OUTPUTS.exists():
        rows = [json.loads(line) for line in OUTPUTS.read_text("utf-8").splitlines()]
        parts = [row["response"].rpartition("\nA: ") for row in rows]
    else:
        rows = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]
        parts = [row["answer"].rpartition("\n#### ") for row in rows]
    pairs = [
        (
            {"question": f"{row['question']} ({i})", "answer": row["answer"]},
            f"<reasoning>\n{working}\n</reasoning>\n<answer>\n{answer}\n</answer>",
        )
        for i, (row, (working, _, answer)) in enumerate(zip(rows, parts, strict=True))
    ]
    pairs *= -(-COMPLETIONS // len(pairs))
    chosen = pairs[:COMPLETIONS]
    return [row for row, _ in chosen], [reply for _, reply in chosen]


def play(env: Any, replies: list[str], tasks: int) -> None:
    """One reset and one step for each reply."""
    for i, reply in enumerate(replies):
        env.reset(options={"index": i % tasks})
        env.step(reply)


def gold_replies(env: Any) -> list[str]:
    """The gold replies of an env's tasks, `COMPLETIONS` of them."""
    tasks = list(env.unwrapped.tasks)
    return [env.unwrapped.gold(tasks[i % len(tasks)]) for i in range(COMPLETIONS)]


def main() -> None:
    """Prints the table."""
    rows, replies = gsm8k_replies()
    env: Any = gym.make("Math-GSM8K-v0", data=rows)
    tasks = len(env.unwrapped.tasks)
    first = cpu_seconds()
    play(env, replies, tasks)
    first = 1000 * (cpu_seconds() - first)
    spent = median_ms(lambda: play(env, replies, tasks))
    source = "real model outputs" if OUTPUTS.exists() else "sample solutions"
    met = "met" if spent <= BAR_MS else "MISSED"
    print(f"Math-GSM8K-v0, {COMPLETIONS} replies ({source}): {spent:.1f} ms CPU, all processes")
    print(f"  the bar is {BAR_MS:.0f} ms: {met}; the first pass, caches cold: {first:.1f} ms")
    wrappers = statistics.median(
        median_ms(lambda: play(env, replies, tasks))
        - median_ms(lambda: play(env.unwrapped, replies, tasks))
        for _ in range(3)
    )
    print(f"  gymnasium.make's wrappers: {wrappers:.1f} us of {spent:.1f} us per reset + step")
    print("\nper reset + step on gold replies:")
    for env_id in (*DATASET, *SINGLE_TURN):
        gold_env: Any = gym.make(env_id, **({"data": "sample"} if env_id in DATASET else {}))
        gold, count = gold_replies(gold_env), len(gold_env.unwrapped.tasks)
        cost = median_ms(lambda env=gold_env, gold=gold, n=count: play(env, gold, n))
        print(f"  {env_id:22} {cost:6.1f} us")


if __name__ == "__main__":
    main()
