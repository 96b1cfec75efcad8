"""taskgym as a contender of `grpo_gpu.py`: its own learner and rollouts, on one engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpo_gpu_work as work
from grpo_gpu_engine import Requests, settle_engine
from grpo_gpu_run import Meter, Settings, overlaps
from grpo_gpu_server import settle_server


class Ours:
    """`train_agent`'s parts, put together so that one engine serves several runs.

    Attributes:
        engine: vLLM's; None where it is a server's.
    """

    def __init__(
        self,
        settings: Settings,
        loader: str,
        requests: Requests,
        ranks: Any = None,
        policy: str = "vllm",
    ):
        from taskgym.training.environment import prepare_environment
        from taskgym.training.unsloth_loader import import_unsloth

        prepare_environment()
        self._settings = settings
        self._ranks = ranks
        self._config = dataclasses.replace(_config(settings, loader), policy=policy)
        if loader == "unsloth":
            import_unsloth(self._config)
        settle_engine(settings.engine, settings.most, settings.cache)
        settle_server(settings)
        requests.install()
        self._stack = ExitStack()
        self._open()

    def train(self, way: str, completions: int, meter: Meter) -> None:
        """Trains on so many completions a step, and tells the meter of each step."""
        from taskgym.training.folder import new_folder
        from taskgym.training.learner import learn
        from taskgym.training.train import plan_tasks

        changed = {"groups_per_step": completions // work.GROUP}
        if overlaps(way):
            changed["max_staleness"] = 1
        config = dataclasses.replace(
            self._config,
            steps=self._settings.all_steps(way, completions),
            grpo=dataclasses.replace(self._config.grpo, **changed),
        )

        def on_step(metrics: dict[str, float]) -> None:
            meter.step(_phases(metrics))

        learn(
            config,
            self._loaded,
            self._policy,
            self._sync,
            plan_tasks(config),
            new_folder(config),  # of several processes the first one writes
            None,
            on_step,
            self._ranks,
        )

    @property
    def model(self) -> Any:
        """The learner's."""
        return self._loaded.model

    def close(self) -> None:
        """Ends the engine or the server."""
        self._stack.close()

    def _open(self) -> None:
        from taskgym.training.models import load_model
        from taskgym.training.policies import open_policy, shared_policy
        from taskgym.training.sync import Sync

        self._loaded = load_model(self._config)
        base = self._loaded.base(self._config.lora.rank)
        opened = (
            shared_policy(self._loaded.engine, base)
            if self._loaded.engine is not None
            else open_policy(self._config, base, Path(self._config.output))
        )
        self._policy = self._stack.enter_context(opened)
        self.engine = getattr(self._policy, "_engine", None)  # a server has its own
        self._sync = Sync(self._policy, self._loaded, self._ranks)


def _phases(metrics: Mapping[str, float]) -> dict[str, float]:
    names = {name.partition("/")[2]: name for name in metrics if name.startswith("seconds/")}
    return {phase: float(metrics[name]) for phase, name in names.items()}


def _config(settings: Settings, loader: str) -> Any:
    from taskgym.agents.policy import Sampling
    from taskgym.training import GrpoConfig, LoraConfig, TrainConfig

    return TrainConfig(
        env=work.ENV,
        model=str(settings.model),
        output=str(settings.folder),
        loader=loader,
        policy="vllm",
        server_connections=settings.most,
        max_model_len=work.MODEL_LEN,
        gpu_memory_utilization=work.SHARE,
        prompt_quantile=1.0,
        lora=LoraConfig(rank=work.RANK, alpha=work.ALPHA, targets=work.TARGETS),
        sampling=Sampling(max_tokens=work.MOST),
        grpo=GrpoConfig(
            learning_rate=work.LEARNING_RATE,
            num_generations=work.GROUP,
            micro_batch=settings.micro,
            optim=work.EIGHT_BIT if loader == "unsloth" else "adamw_torch",
            mask_truncated_completions=False,  # all of them are cut at their length
        ),
    )
