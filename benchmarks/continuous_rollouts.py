"""Continuous rollouts against a lockstep loop: the same engine, the same requests, the same texts.

    python benchmarks/continuous_rollouts.py [--model FOLDER] [--rounds 3]

Run it where vLLM is installed (without a GPU: `make test-vllm` makes such an environment). Every
episode has the same number of turns, and how long a turn is comes from one fixed skewed
distribution: most are short, one in eight is long. A lockstep loop waits for the longest completion
of every turn; a continuous one gives each finished completion to its env at once. Sampling is
greedy, so that both must say the same.
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import tyro
from taskgym.agents.chat import Renderer
from taskgym.agents.episode import Start
from taskgym.agents.policy import Completion, Request, Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.seeds import derive_seed
from taskgym.envs import MultiTurnEnv, Reply
from taskgym.training.devices import has_cuda
from taskgym.training.environment import prepare_environment

SHORT, LONG, ONE_IN = 4, 128, 8
EPISODES, TURNS = 16, 8
SCORING = 0.02  # seconds that an env waits, as for a sandbox
WANTED = 1.3


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Continuous rollouts against a lockstep loop."""

    model: str = ""
    """Folder or hub id; empty: SmolLM2-135M-Instruct."""
    rounds: int = 3
    """Both loops run this often, in turn; medians count."""


class Chatter(MultiTurnEnv):
    """Answers every action with one more question, after some scoring elsewhere."""

    weights: Mapping[str, float] = {"said": 1.0}
    max_turns = TURNS

    @property
    def max_reward(self) -> float:
        """One for each turn."""
        return float(TURNS)

    def begin(self) -> str:
        """A first question, drawn from the seed."""
        return f"Tell me about the number {int(self.np_random.integers(1000))}."

    def respond(self, action: str) -> Reply:
        """The next question."""
        time.sleep(SCORING)
        return Reply("And another thing about it?", {"said": 1.0})

    def gold_action(self) -> str:
        """Anything at all."""
        return "It is a number."


class Drawn:
    """A policy whose completions get the length that their request was dealt.

    One that reaches it counts as ended and not as cut: real lengths differ in this way, but not
    the same way in every run.
    """

    def __init__(self, policy: Any, lockstep: bool):
        self._policy = policy
        self.lockstep = lockstep
        self.steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def submit(self, request: Request) -> None:
        """Deals the request its length."""
        dealt = derive_seed(request.episode.trajectory.start.member, request.seed) % ONE_IN
        length = LONG if dealt == 0 else SHORT
        sampling = dataclasses.replace(request.sampling, max_tokens=length)
        self._policy.submit(dataclasses.replace(request, sampling=sampling))

    def poll(self) -> list[Completion]:
        """One engine step; in lockstep as many as the longest completion needs."""
        done = self._step()
        while self.lockstep and self._policy._running:
            done += self._step()
        return [dataclasses.replace(completion, finish="stop") for completion in done]

    def _step(self) -> list[Completion]:
        self.steps += 1
        done: list[Completion] = self._policy.poll()
        return done


def play(
    policy: Drawn, renderer: Renderer, make_env: Callable[[], Any]
) -> tuple[float, list[Any], int]:
    """Seconds, texts by episode, and engine steps of one whole rollout."""
    rollout = Rollout(policy, make_env, Sampling(temperature=0), renderer)
    rollout.start([Start(i, None, i, 0, i) for i in range(EPISODES)])
    began = time.perf_counter()
    done = sorted(rollout.finished(), key=lambda t: t.start.member)
    seconds = time.perf_counter() - began
    rollout.close()
    return seconds, [t.messages for t in done], policy.steps


def main() -> None:
    """Measures both loops in turn and prints the ratio; exits with 1 if the bar is missed."""
    args = tyro.cli(Arguments)
    prepare_environment()
    from taskgym.agents.vllm_engine import start_engine
    from taskgym.agents.vllm_policy import VllmPolicy
    from taskgym.training.models import sampling_base

    base = sampling_base(args.model, "")
    engine = start_engine(
        base.name,
        dtype=base.dtype,
        max_lora_rank=8,
        max_model_len=4096,
        gpu_memory_utilization=0.4,
        on_cpu=not has_cuda(),
    )
    gym.register("Chatter-v0", Chatter)
    renderer = Renderer(base.tokenizer)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    texts: dict[bool, Any] = {}
    steps: dict[bool, int] = {}
    for _ in range(args.rounds):
        for lockstep in (True, False):
            policy = Drawn(VllmPolicy(engine, base.tokenizer, base.stop_ids), lockstep)
            spent, texts[lockstep], steps[lockstep] = play(
                policy, renderer, lambda: gym.make("Chatter-v0", disable_env_checker=True)
            )
            seconds[lockstep].append(spent)
            engine.reset_prefix_cache()
    slow, quick = (statistics.median(seconds[lockstep]) for lockstep in (True, False))
    print(f"{base.name}: {EPISODES} episodes of {TURNS} turns, {SHORT} or {LONG} tokens each")
    print(f"{'loop':12} {'seconds':>8} {'engine steps':>13}")
    print(f"{'lockstep':12} {slow:8.1f} {steps[True]:13}")
    print(f"{'continuous':12} {quick:8.1f} {steps[False]:13}")
    same = texts[True] == texts[False]
    print(f"ratio {slow / quick:.2f} (wanted: {WANTED}), {'equal' if same else 'OTHER'} texts")
    sys.exit(not (same and slow / quick >= WANTED))


if __name__ == "__main__":
    main()
