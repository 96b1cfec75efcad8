"""A run on a Ray cluster: vLLM's servers are actors, and a task learns from what they write.

    python -m taskgym.training.launch.ray_cluster --servers 3 --learner-gpus 1 \
        train --env Math-DAPO-v0 --model /shared/Qwen3-4B-Base

What follows `train` goes to train_agent. Adapters go from the learner to the servers as files, so
the working directory must be on a file system that all machines share.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from taskgym.training.cli import parse_train_config
from taskgym.training.config import TrainConfig
from taskgym.training.errors import ConfigError, run_command

_SPLIT = "train"


@dataclass(frozen=True)
class RayConfig:
    """Which part of a Ray cluster serves, and which learns."""

    servers: int = 1
    """Servers, each with a GPU of its own."""
    server_gpus: float = 1.0
    """GPUs of each server: 1, a share of one, or 0 on machines without."""
    learner_gpus: int = 1
    """GPUs that learn, on one machine; each has a process that plays episodes too."""
    address: str = "auto"
    """The cluster's; auto: the one this machine is part of; local: one of this machine alone."""


class ServerActor:
    """vLLM's server on the machine and the GPU that Ray gives it, started again when it dies."""

    def __init__(self, config: TrainConfig, max_loras: int, key: str, log: Path):
        from taskgym.agents.vllm_server import VllmServer
        from taskgym.training.devices import has_cuda

        self._server = VllmServer(
            config.model,
            dtype="bfloat16" if has_cuda() else "float32",
            max_lora_rank=config.lora.rank,
            max_loras=max_loras,
            max_model_len=config.max_model_len or None,
            gpu_memory_utilization=config.gpu_memory_utilization or 0.9,
            on_cpu=not has_cuda(),
            four_bit=config.load_in_4bit,
            host="0.0.0.0",
            key=key,
            log=log,
        )

    def url(self) -> str:
        """Where the other machines reach it, once it is ready."""
        import ray

        self._server.wait_until_ready()
        threading.Thread(target=self._keep, daemon=True).start()
        port = self._server.url.rpartition(":")[2]
        return f"http://{ray.util.get_node_ip_address()}:{port}"

    def stop(self) -> None:
        """Ends it."""
        self._server.stop()

    def _keep(self) -> None:
        while not self._server.stopped:
            self._server.wait_until_ended()
            self._server.revive()


def learn(flags: Sequence[str], gpus: int, folder: str) -> int:
    """Runs train_agent, one process a GPU, and returns its exit code."""
    module = "taskgym.training.commands.train_agent"
    alone = [sys.executable, "-m", module]
    several = [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(Path(__file__).with_name("ddp.yaml"))),
        *("--num_processes", str(gpus), "-m", module),
    ]
    return subprocess.run([*(several if gpus > 1 else alone), *flags], cwd=folder).returncode


def main() -> None:
    """Entry point of the module."""
    run_command(_main)


def _main() -> None:
    words = sys.argv[1:]
    if _SPLIT not in words and not {"-h", "--help"} & set(words):
        raise ConfigError(f"train_agent's flags come after {_SPLIT!r}: ... {_SPLIT} --env ...")
    at = words.index(_SPLIT) if _SPLIT in words else len(words)
    config = tyro.cli(RayConfig, args=words[:at], prog="ray_cluster", description=__doc__)
    sys.exit(launch(config, words[at + 1 :]))


def launch(config: RayConfig, flags: Sequence[str]) -> int:
    """Starts the servers, lets train_agent learn from them, and stops them.

    Raises:
        ConfigError: The flags are not train_agent's, or Ray is missing.
    """
    train = parse_train_config(flags)
    if not train.model:
        raise ConfigError("say which model the servers serve: --model")
    if {"--policy", "--server-url"} & {flag.partition("=")[0] for flag in flags}:
        raise ConfigError("--policy and --server-url are said here: they are the servers started")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("the package ray is missing: pip install ray") from error
    key = secrets.token_hex(16)  # so that no other user can load adapters into the servers
    ray.init(
        address=None if config.address == "local" else config.address,
        runtime_env={"env_vars": {"OPENAI_API_KEY": key}},
    )
    servers = _servers(config, train, key)
    try:
        urls = ray.get([server.url.remote() for server in servers])
        print(f"servers: {' '.join(urls)}")
        task = ray.remote(num_gpus=config.learner_gpus, max_retries=0)(learn)
        where = ("--policy", "server", "--server-url", *urls)
        asked = task.remote([*flags, *where], config.learner_gpus, str(Path.cwd()))
        code: int = ray.get(asked)
        return code
    finally:
        ray.wait([server.stop.remote() for server in servers], num_returns=len(servers), timeout=30)
        ray.shutdown()


def _servers(config: RayConfig, train: TrainConfig, key: str) -> list[Any]:
    import ray

    # Placed by GPUs alone, so that a core is left to learn with. Two calls at a time: one that
    # waits for the server must not keep `stop` from being heard.
    placed = ray.remote(num_gpus=config.server_gpus, num_cpus=0, max_concurrency=2)
    actor = placed(ServerActor)
    max_loras = max(1, config.learner_gpus) + 1  # an adapter for each process that learns
    return [
        actor.remote(train, max_loras, key, Path.cwd() / f"server-{number}.log")
        for number in range(config.servers)
    ]


if __name__ == "__main__":
    main()
