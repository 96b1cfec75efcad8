"""What TRL's asynchronous trainer cannot do, refused before any work."""

from __future__ import annotations

from taskgym.training.config import TrainConfig
from taskgym.training.config_grpo import GrpoConfig
from taskgym.training.errors import ConfigError
from taskgym.training.ranks import world_size

_REASONS = {
    "importance_sampling_level": "its ratio is each token's",
    "beta": "it holds no reference model",
    "vllm_importance_sampling_correction": "its ratio is always learner over sampler, and clipped",
    "vllm_importance_sampling_mode": "its ratio is always each token's, and clipped",
    "vllm_importance_sampling_clip_min": "its ratio is clipped by epsilon",
    "vllm_importance_sampling_clip_max": "its ratio is clipped by epsilon",
}


def check_asynchronous(config: TrainConfig, pictures: int) -> None:
    """Refuses what a run that is asked to be asynchronous cannot do.

    Args:
        config: The run's.
        pictures: How many the env shows.

    Raises:
        ConfigError: The message names what to change.
    """
    _check(config.policy == "server", "policy", config.policy, "server", "a server writes apart")
    _check(world_size() == 1, "processes", world_size(), 1, "its worker is one process's")
    known = ("auto", "transformers")
    _check(config.loader in known, "loader", config.loader, "transformers", "Unsloth patches heads")
    loss = config.grpo.loss_type
    reason = "it clips each token's ratio, and only what that is divided by can be chosen"
    _check(loss in ("dapo", "dr_grpo"), "grpo.loss_type", loss, "dapo or dr_grpo", reason)
    for name, reason in _REASONS.items():
        wanted, came = getattr(GrpoConfig(), name), getattr(config.grpo, name)
        _check(came == wanted, f"grpo.{name}", came, wanted, reason)
    scale = config.grpo.scale_rewards
    _check(scale != "batch", "grpo.scale_rewards", scale, "group", "no batch is known in advance")
    for name, off in {"top_p": 1.0, "top_k": 0, "min_p": 0.0}.items():
        came = getattr(config.sampling, name)
        reason = "its ratio holds the learner's whole distribution against the sampler's"
        _check(came == off, f"sampling.{name}", came, off, reason)
    head = "lm_head" in config.lora.targets
    _check(not head, "lora.targets", config.lora.targets, "no lm_head", "its head sees no adapter")
    _check(pictures == 0, "env", config.env, "an env without pictures", "it learns text alone")


def _check(fine: bool, name: str, came: object, wanted: object, reason: str) -> None:
    if not fine:
        raise ConfigError(
            f"{name}={came} does not go with grpo.max_staleness from 2 on, with which TRL's "
            f"asynchronous trainer learns: {reason}; set {name} to {wanted}, or grpo.max_staleness "
            "to 0 or 1"
        )
