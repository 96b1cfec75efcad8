"""`serve_model`: vLLM's server as training needs it, started again when it dies."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from taskgym.training.devices import has_cuda
from taskgym.training.environment import prepare_environment
from taskgym.training.errors import ConfigError, run_command


@dataclass(frozen=True)
class ServeConfig:
    """Serves a base model for `train_agent --policy server --server-url`, adapters at run time.

    It asks for the key in OPENAI_API_KEY, which train_agent sends too; unset: for one that it makes
    and prints.
    """

    model: str
    """Hub id or folder of the base model."""
    host: str = "127.0.0.1"
    """Address to listen at: this machine alone, or 0.0.0.0 for a network you trust."""
    port: int = 8000
    """Port to listen at."""
    max_lora_rank: int = 32
    """The largest rank of an adapter."""
    max_loras: int = 2
    """Adapters that are computed with at a time: one more than processes that train."""
    max_model_len: int = 0
    """Tokens of a prompt and its completions at most; 0: the model's own limit."""
    gpu_memory_utilization: float = 0.9
    """Share of the GPU's memory for weights and cache."""
    load_in_4bit: bool = False
    """Quantise the base model, as the learner does with the same flag (CUDA only)."""
    log: str = ""
    """File for vLLM's output; empty: server-PORT.log."""


def main() -> None:
    """Entry point of the command."""
    run_command(_main)


def _main() -> None:
    prepare_environment()
    config = tyro.cli(ServeConfig, prog="serve_model")
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError("serve_model: the package vllm is missing; see docs/vllm.md")
    serve(config)


def serve(config: ServeConfig) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Raises:
        ServerError: vLLM cannot start, or dies again and again.
    """
    from taskgym.agents.vllm_server import VllmServer

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    log = Path(config.log or f"server-{config.port}.log")
    server = VllmServer(
        config.model,
        dtype="bfloat16" if has_cuda() else "float32",  # the learner's
        max_lora_rank=config.max_lora_rank,
        max_loras=config.max_loras,
        max_model_len=config.max_model_len or None,
        gpu_memory_utilization=config.gpu_memory_utilization,
        on_cpu=not has_cuda(),
        four_bit=config.load_in_4bit,
        host=config.host,
        port=config.port,
        key=os.environ.get("OPENAI_API_KEY", ""),
        log=log,
    )
    try:
        print(f"vLLM's server starts at {server.url}; its log: {log}", flush=True)
        server.wait_until_ready()
        if "OPENAI_API_KEY" not in os.environ:
            print(f"its key: export OPENAI_API_KEY={server.key}")
        while True:
            print(f"ready at {server.url}", flush=True)
            server.wait_until_ended()
            server.revive()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
