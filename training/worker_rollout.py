"""What a run's rollout worker opens in its process: envs, and a policy that asks the servers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taskgym.agents.rollout import Rollout
from taskgym.training.config import TrainConfig
from taskgym.training.environment import prepare_environment
from taskgym.training.models import Base
from taskgym.training.policies import open_policy
from taskgym.training.tasks import env_factory


@dataclass(frozen=True)
class OpenRollout:
    """Opens, in the worker's process, a rollout whose policy asks the run's servers.

    Attributes:
        config: The run's, with the servers' addresses.
        base: The base model.
        folder: Where the process keeps adapters for the server.
        key: What the servers ask for.
    """

    config: TrainConfig
    base: Base
    folder: Path
    key: str

    @contextmanager
    def __call__(self) -> Iterator[Rollout]:
        """The rollout; closed with its policy after."""
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the GPUs are the learner's and the server's
        os.environ["OPENAI_API_KEY"] = self.key
        prepare_environment()
        config = self.config
        make_env = env_factory(config.env, config.make_kwargs())
        with open_policy(config, self.base, self.folder) as policy:
            # How old a completion is for the step that learns from it is known when its group is
            # handed out, and judged there alone.
            any_age = sys.maxsize
            rollout = Rollout(policy, make_env, config.sampling, self.base.renderer, any_age)
            try:
                yield rollout
            finally:
                rollout.close()
