"""Learns: models and adapters, warm-up, GRPO, checkpoints, evaluation, commands and recipes."""

from taskgym.training.config import EvaluateConfig, EvaluationConfig, TrainConfig, WarmupConfig
from taskgym.training.config_grpo import GrpoConfig
from taskgym.training.config_lora import LoraConfig
from taskgym.training.errors import ConfigError, ModelError, RunError, UserError
from taskgym.training.folder import RunFolder

__all__ = [
    "ConfigError",
    "EvaluateConfig",
    "EvaluationConfig",
    "GrpoConfig",
    "LoraConfig",
    "ModelError",
    "RunError",
    "RunFolder",
    "TrainConfig",
    "UserError",
    "WarmupConfig",
]
