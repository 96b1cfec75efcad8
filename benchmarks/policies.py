"""Tokens a second of each policy on this machine, with and without an adapter.

    python benchmarks/policies.py [--model FOLDER] [--requests 16] [--tokens 64] [--rounds 3]

Run it where vLLM is installed (without a GPU: `make test-vllm` makes such an environment). All
answer the same requests; completions run to the token limit, since their stop tokens are not told.
"""

import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import tyro
from taskgym.agents.adapter import Adapter
from taskgym.agents.chat import Renderer
from taskgym.agents.policy import ApartPolicy, Policy, Request, Sampling
from taskgym.training import LoraConfig, TrainConfig
from taskgym.training.config_flags import PolicyFlags
from taskgym.training.environment import prepare_environment
from taskgym.training.models import Loaded, load_model

QUESTION = "Write a long story about a lighthouse keeper who collects numbers."
RANK = 16


@dataclass(frozen=True)
class Arguments:
    """Tokens a second of each policy on this machine."""

    model: str = ""
    """Folder or hub id; empty: SmolLM2-135M-Instruct."""
    requests: int = 16
    """Completions under way at once."""
    tokens: int = 64
    """Of each completion."""
    rounds: int = 3
    """Medians of this many count."""


@contextmanager
def opened(name: str, loaded: Loaded, folder: Path) -> Iterator[Policy]:
    """The policy of this name, on the model that was loaded."""
    if name == "transformers":
        from taskgym.agents.transformers_policy import TransformersPolicy

        yield TransformersPolicy(loaded.model, loaded.tokenizer)
        return
    from taskgym.training.policies import open_policy

    kind: Any = name
    with open_policy(PolicyFlags(policy=kind), loaded.base(RANK), folder) as policy:
        yield policy


class Outside:
    """Stands for an episode where there is none."""


def measure(policy: Policy, prompt: tuple[int, ...], requests: int, tokens: int) -> float:
    """Tokens a second of one batch of requests that differ in their seeds."""
    sampling, episode = Sampling(max_tokens=tokens), Outside()
    began, done = time.perf_counter(), []
    for number in range(requests):
        asked: Any = Request(number, prompt, number, sampling, episode)  # type: ignore[arg-type]
        policy.submit(asked)
    while len(done) < requests:
        done += policy.poll()
    return sum(len(completion.ids) for completion in done) / (time.perf_counter() - began)


def main() -> None:
    """Measures the policies round by round and prints the medians."""
    args = tyro.cli(Arguments)
    prepare_environment()
    loaded = load_model(TrainConfig(model=args.model, lora=LoraConfig(rank=RANK)))
    asked = [{"role": "user", "content": QUESTION}]
    prompt = Renderer(loaded.tokenizer).opening(asked)
    speeds: dict[tuple[str, bool], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        policies = {
            name: stack.enter_context(opened(name, loaded, Path(stack.enter_context(scratch()))))
            for name in ("transformers", "vllm", "server")
        }
        for _ in range(args.rounds):
            for (name, policy), adapted in product(policies.items(), (False, True)):
                with prepared(policy, loaded, adapted):
                    speed = measure(policy, prompt, args.requests, args.tokens)
                speeds[name, adapted].append(speed)
    print(f"{loaded.name}: {args.requests} x {args.tokens} tokens, {os.cpu_count()} cores")
    print(f"{'policy':14} {'base model':>11} {'with adapter':>13}   tokens a second, medians")
    for name in policies:
        plain, adapter = (statistics.median(speeds[name, adapted]) for adapted in (False, True))
        print(f"{name:14} {plain:11.0f} {adapter:13.0f}")


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for a server's log and adapters."""
    return tempfile.TemporaryDirectory()


@contextmanager
def prepared(policy: Policy, loaded: Loaded, adapted: bool) -> Iterator[None]:
    """The policy with the learner's adapter, or without any."""
    if isinstance(policy, ApartPolicy):
        policy.load_adapter(Adapter.of(loaded.model) if adapted else None, 1)
        yield
        return
    with nullcontext() if adapted else loaded.model.disable_adapter():
        yield


if __name__ == "__main__":
    main()
