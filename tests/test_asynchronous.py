"""What the asynchronous trainer cannot do is refused, with what to change, before any work."""

import dataclasses
from typing import Any

import pytest
from taskgym.agents.policy import Sampling
from taskgym.training import GrpoConfig, LoraConfig, TrainConfig
from taskgym.training.asynchronous import check_asynchronous
from taskgym.training.errors import ConfigError
from taskgym.training.train import plan_tasks

GRPO = GrpoConfig(max_staleness=2)
FINE = TrainConfig(policy="server", grpo=GRPO)


@pytest.mark.parametrize("loss_type", ["dapo", "dr_grpo"])
@pytest.mark.parametrize("loader", ["auto", "transformers"])
def test_what_it_can_do_is_not_refused(loss_type: Any, loader: Any) -> None:
    grpo = dataclasses.replace(GRPO, loss_type=loss_type, scale_rewards="none", epsilon_high=0.28)
    check_asynchronous(dataclasses.replace(FINE, grpo=grpo, loader=loader), pictures=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss_type", "grpo"),
        ("beta", 0.04),
        ("importance_sampling_level", "sequence"),
        ("scale_rewards", "batch"),
        ("vllm_importance_sampling_mode", "token_truncate"),
        ("vllm_importance_sampling_clip_max", 2.0),
        ("vllm_importance_sampling_clip_min", 0.5),
    ],
)
def test_what_its_loss_cannot_do_is_refused_by_name(name: str, value: Any) -> None:
    config = dataclasses.replace(FINE, grpo=dataclasses.replace(GRPO, **{name: value}))
    with pytest.raises(ConfigError, match=rf"grpo\.{name}={value} .*set grpo\.{name} to"):
        check_asynchronous(config, pictures=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"policy": "vllm"}, "policy=vllm .*set policy to server"),
        ({"loader": "unsloth"}, "loader=unsloth .*set loader to transformers"),
        ({"sampling": Sampling(top_p=0.9)}, r"sampling\.top_p=0\.9 .*to 1\.0"),
        ({"sampling": Sampling(top_k=20)}, r"sampling\.top_k=20 .*to 0"),
        ({"lora": LoraConfig(targets=("q_proj", "lm_head"))}, "lora.targets=.*no lm_head"),
    ],
)
def test_what_goes_round_it_is_refused(change: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_asynchronous(dataclasses.replace(FINE, **change), pictures=0)


def test_pictures_are_refused_before_a_model_is_loaded() -> None:
    config = dataclasses.replace(FINE, env="Vision-Shapes-v0")
    with pytest.raises(ConfigError, match="without pictures"):
        plan_tasks(config)


def test_the_learner_s_own_weights_cannot_be_apart_from_it() -> None:
    with pytest.raises(ValueError, match=r"grpo\.max_staleness=2 needs a sampler"):
        TrainConfig(policy="transformers", grpo=GRPO)
    with pytest.raises(ValueError, match=r"max_staleness must be at least 0, got -1"):
        GrpoConfig(max_staleness=-1)
