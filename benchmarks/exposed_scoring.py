"""How much of a GRPO step waits for scoring: recorded replies replayed at a GPU's pace.

    python benchmarks/exposed_scoring.py
    python benchmarks/exposed_scoring.py --completions 256 --decode-ms 12 --learn 11

Real envs score real replies in their sandbox and their answers' pool, driven by the rollout that
`train_agent` uses. Only generation is played: a policy hands the replies out as vLLM would, one
decode step at a time for all that run, each as long as `grpo_gpu.py`'s work. Most of a decode step
is GPU time, in which vLLM waits and others may compute, so the policy sleeps; for the share
`--python` it computes and holds the interpreter, as vLLM's own Python does. Learning comes after
the last score and is added as a number.

Each round plays the same episodes twice: with scoring, and with envs whose `step` costs nothing.
Exposed is the difference. `waiting` is the part of it in which nothing was left to generate.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "typings")]  # a checkout need not be installed

import grpo_gpu_work as work  # noqa: E402
import gymnasium as gym  # noqa: E402
import strategy_replies  # noqa: E402
import taskgym.envs  # noqa: E402
from taskgym.agents.adapter import Adapter  # noqa: E402
from taskgym.agents.episode import Start  # noqa: E402
from taskgym.agents.policy import Completion, Request, Sampling  # noqa: E402
from taskgym.agents.rollout import Rollout  # noqa: E402
from taskgym.envs import Stop  # noqa: E402

WANTED = 0.02  # of a step
PREDICTIONS = ROOT.parent / "shared/data/verifier/math500_predictions.jsonl"
SAMPLE = Path(taskgym.envs.__file__).parent / "samples/dapo.jsonl"
_WORKING = "Let me work this out step by step. "


@dataclass
class Replay:
    """A policy that says recorded replies, each after as many decode steps as it has tokens.

    Attributes:
        replies: By the member that an episode's start names.
        tokens: Likewise.
        decode: Seconds of a decode step.
        python: Share of it in which this thread computes.
    """

    replies: Sequence[str]
    tokens: Sequence[int]
    decode: float
    python: float
    lockstep = False
    version = 0
    _running: dict[int, tuple[Request, int]] = field(default_factory=dict)

    def submit(self, request: Request) -> None:
        """Takes a request."""
        self._running[request.request_id] = request, 0

    def poll(self) -> list[Completion]:
        """One decode step: a token for each running request."""
        began = time.perf_counter()
        while time.perf_counter() < began + self.python * self.decode:
            pass
        time.sleep(max(0.0, began + self.decode - time.perf_counter()))
        grown = {name: (request, n + 1) for name, (request, n) in self._running.items()}
        done = [(r, n) for r, n in grown.values() if n >= self.tokens[_member(r)]]
        for request, _ in done:
            del grown[request.request_id]
        self._running = grown
        return [self._complete(request, n) for request, n in done]

    def cancel(self) -> None:
        """Drops all requests."""
        self._running.clear()

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """There is nothing to load."""

    def close(self) -> None:
        """There is nothing to close."""

    def _complete(self, request: Request, tokens: int) -> Completion:
        reply = self.replies[_member(request)]
        ids, logprobs = (0,) * tokens, (0.0,) * tokens
        return Completion(request.request_id, reply, ids, logprobs, "stop", self.version)


class Free(gym.Wrapper[Any, str, Any, str]):
    """The same env with a `step` that costs nothing."""

    def step(self, action: str) -> Any:
        """The end, with no score."""
        return [], 0.0, True, False, {"rewards": {}, "stop": Stop.DONE, "success": False}


@dataclass(frozen=True)
class Workload:
    """An env and what was replied to its tasks.

    Attributes:
        name: In the table.
        env: Its id.
        kwargs: Its keyword arguments.
        replies: Task index (None: any) and text of each.
    """

    name: str
    env: str
    kwargs: dict[str, Any]
    replies: Sequence[tuple[int | None, str]]


def strategies(name: str, endless: int) -> Workload:
    """Programs that play 2048, and what goes wrong with them; so many in 32 never end."""
    said = strategy_replies.replies()
    said = [said[i % len(said)] for i in range(32 - endless)]
    replies = [(None, reply) for reply in [*said, *[strategy_replies.ENDLESS] * endless]]
    return Workload(name, "Game2048-Strategy-v0", {}, replies)


def maths() -> Workload:
    """Real answers of two models to MATH-500, beside shared data; else the sample's own."""
    if PREDICTIONS.exists():
        lines = [json.loads(line) for line in PREDICTIONS.read_text("utf-8").splitlines()]
        pairs = [(line["answer"], line["prediction"]) for line in lines]
    else:
        lines = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]
        pairs = [(line["answer"], line["answer"]) for line in lines]
    rows = [{"question": f"Question {i}?", "answer": answer} for i, (answer, _) in enumerate(pairs)]
    replies = [
        (i, f"{_WORKING * 20}<end_working_out><SOLUTION>{said}</SOLUTION>")
        for i, (_, said) in enumerate(pairs)
    ]
    return Workload("maths answers", "Math-DAPO-v0", {"data": rows}, replies)


def measure(load: Workload, completions: int, decode: float, python: float, rounds: int) -> Any:
    """Medians over rounds: seconds of a rollout without scoring, with it, and of waiting."""
    free, real, waiting = [], [], []
    for seed in range(rounds + 1):
        several = [*load.replies] * -(-completions // len(load.replies))
        chosen = random.Random(seed).sample(several, completions)
        policy = Replay([text for _, text in chosen], work.lengths(completions), decode, python)
        starts = [Start(seed, index, 0, i // work.GROUP, i) for i, (index, _) in enumerate(chosen)]
        seconds, _ = play(policy, starts, lambda: Free(make(load)))
        free.append(seconds)
        seconds, waited = play(policy, starts, lambda: make(load))
        real.append(seconds)
        waiting.append(waited)
    # The first round starts the pools of processes.
    return [statistics.median(found[1:]) for found in (free, real, waiting)]


def play(
    policy: Replay, starts: Sequence[Start], make_env: Callable[[], Any]
) -> tuple[float, float]:
    """Seconds of one rollout, and of those in which it had nothing to generate."""
    rollout = Rollout(policy, make_env, Sampling(max_tokens=work.MOST))
    began = time.perf_counter()
    rollout.start(starts)
    done = list(rollout.finished())
    seconds = time.perf_counter() - began
    rollout.close()
    failed = [t.error for t in done if t.error]
    if failed or len(done) != len(starts):
        raise RuntimeError(f"{len(done)} of {len(starts)} episodes ended; failed: {failed}")
    return seconds, rollout.seconds["score"]


def make(load: Workload) -> Any:
    """One env."""
    return gym.make(load.env, disable_env_checker=True, **load.kwargs)


def main() -> None:
    """Measures all workloads and prints a table; exits with 1 where the bar is missed."""
    args = _parse()
    print(
        f"{os.cpu_count()} cores; Python holds the interpreter {args.python:.0%} of a decode step"
    )
    print(f"{'replies':18} {'compl.':>6} {'decode ms':>9} {'rollout':>8} {'scored':>8} ", end="")
    print(f"{'exposed':>8} {'waiting':>8} {'learn':>6} {'of a step':>9}  (wanted: {WANTED:.0%})")
    missed = False
    endless = strategies("one in 32 endless", 1)
    for load in (strategies("2048 strategies", 0), endless, maths()):
        for n, ms, learn in zip(args.completions, args.decode_ms, args.learn, strict=True):
            free, real, waiting = measure(load, n, ms / 1000, args.python, args.rounds)
            share = (real - free) / (free + learn)
            missed |= share > WANTED
            print(f"{load.name:18} {n:6} {ms:9.1f} {free:8.2f} {real:8.2f} ", end="")
            print(f"{real - free:8.3f} {waiting:8.3f} {learn:6.1f} {share:9.1%}", flush=True)
    sys.exit(missed)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--completions", type=int, nargs="+", default=[32, 256], help="of a step (32 256)")
    add("--decode-ms", type=float, nargs="+", default=[7.2, 12.0], help="likewise (7.2 12)")
    add("--learn", type=float, nargs="+", default=[1.4, 11.0], help="seconds (1.4 11)")
    add("--python", type=float, default=0.3, help="share of a decode step (0.3)")
    add("--rounds", type=int, default=5, help="medians count (5)")
    return parser.parse_args()


def _member(request: Request) -> int:
    return request.episode.trajectory.start.member


if __name__ == "__main__":
    main()
