"""What a step could take at best, by when its completions are learned from. Computed, not timed.

    python benchmarks/schedules.py [--completions 32 256] [--micro-batch 8]

From the completion lengths of `grpo_gpu.py`: the tokens that a learner computes with each way of
padding, and the length of a step if learner and sampler did not slow each other down. A group can
be learned from when its longest member is written; writing takes as long as the longest of all.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from grpo_gpu_work import GROUP, lengths

_PROMPT = (40, 130)  # tokens, as the prompts of grpo_gpu.py
Row = tuple[int, int]  # tokens of a prompt and its completion


def rows_of(completions: int) -> list[Row]:
    """The rows of a step, group by group."""
    chance = random.Random(0)
    prompts = [chance.randint(*_PROMPT) for _ in range(completions // GROUP)]
    shared = [tokens for tokens in prompts for _ in range(GROUP)]
    return list(zip(shared, lengths(completions), strict=True))


def padded(rows: Sequence[Row], micro: int) -> int:
    """Tokens of micro-batches that are each as wide as their own longest prompt and completion."""
    parts = [rows[i : i + micro] for i in range(0, len(rows), micro)]
    return sum(len(p) * (max(a for a, _ in p) + max(b for _, b in p)) for p in parts)


def streamed(rows: Sequence[Row], learn: float) -> float:
    """When the last group is learned from, one after the other, each once it is written.

    Args:
        rows: Of the step, group by group.
        learn: Time of learning from all of them, where writing them takes 1.
    """
    most = max(said for _, said in rows)
    groups = [rows[i : i + GROUP] for i in range(0, len(rows), GROUP)]
    now = 0.0
    for written in sorted(max(said for _, said in group) / most for group in groups):
        now = max(now, written) + learn / len(groups)
    return now


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--completions", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--micro-batch", type=int, default=8)
    asked = parser.parse_args()

    print("tokens computed, over those there are")
    print("completions  as wide as the longest  by group  by length")
    for completions in asked.completions:
        rows = rows_of(completions)
        there = sum(map(sum, rows))
        ways = (
            padded(rows, completions),
            padded(rows, GROUP),
            padded(sorted(rows, key=sum, reverse=True), asked.micro_batch),
        )
        print(f"{completions:11}  {ways[0] / there:22.2f} {ways[1] / there:9.2f}", end="")
        print(f" {ways[2] / there:10.2f}")

    print("\nlength of a step, writing = 1; streaming learns group by group, so it computes more")
    print("completions  learning by length  in turn  one ahead  streaming")
    for completions in asked.completions:
        rows = rows_of(completions)
        wider = padded(rows, GROUP) / padded(sorted(rows, key=sum, reverse=True), asked.micro_batch)
        for learn in (0.25, 0.5, 1.0):
            by_group = streamed(rows, learn * wider)
            print(f"{completions:11}  {learn:18.2f} {1 + learn:8.2f} {max(1, learn):10.2f}", end="")
            print(f" {by_group:10.2f}")


if __name__ == "__main__":
    main()
