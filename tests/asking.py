"""Asking a policy for completions without an env, for the tests of engines and servers."""

from typing import Any

from taskgym.agents.policy import Completion, Request, Sampling

PROMPT = tuple(range(20, 60))

# How the tests start vLLM on the small random model, in process and as a server.
VLLM: dict[str, Any] = {
    "dtype": "float32",
    "max_lora_rank": 8,
    "max_model_len": 256,
    "gpu_memory_utilization": 0.3,
    "on_cpu": True,
}


class Outside:
    """Stands for an episode where there is none."""


def asked(
    number: int = 0, sampling: Sampling | None = None, prompt: Any = PROMPT, seed: int | None = None
) -> Request:
    """A request outside any episode; its seed is its number unless one is given."""
    episode: Any = Outside()
    drawn = sampling or Sampling(max_tokens=9)
    return Request(number, tuple(prompt), number if seed is None else seed, drawn, episode)


def answers(policy: Any, *requests: Request) -> list[Completion]:
    """What the policy says to each, in the order of their numbers."""
    for request in requests:
        policy.submit(request)
    found: list[Completion] = []
    while len(found) < len(requests):
        found += policy.poll()
    return sorted(found, key=lambda completion: completion.request_id)
