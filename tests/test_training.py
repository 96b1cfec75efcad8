"""The learner on a tiny random model: TRL's contract, checkpoints, resume, the saved adapter."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from taskgym.agents.policy import Sampling
from taskgym.envs import Rubric, SingleTurnEnv, Task
from taskgym.training import EvaluationConfig, GrpoConfig, LoraConfig, TrainConfig, WarmupConfig
from taskgym.training.folder import RunFolder
from taskgym.training.metrics import MetricsFile
from taskgym.training.train import train

torch = pytest.importorskip("torch")


def letters(completion: str, task: Task) -> float:
    return sum(c.isalpha() for c in completion) / (len(completion) + 1)


class Letters(SingleTurnEnv):
    """Pays for letters: a random model earns something different every time."""

    rubric = Rubric({"letters": (letters, 1.0)})

    def load(self) -> list[dict[str, str]]:
        return [{"question": f"Spell {n}.", "answer": "x"} for n in range(20)]


gym.register("Test-Letters-v0", Letters)


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        env="Test-Letters-v0",
        model=str(tiny_model),
        steps=4,
        save_every=2,
        output=str(tmp_path / "runs"),
        lora=LoraConfig(rank=4, alpha=8),
        sampling=Sampling(max_tokens=6),
        grpo=GrpoConfig(
            num_generations=4,
            groups_per_step=2,
            micro_batch=4,
            learning_rate=1e-2,
            mask_truncated_completions=False,
        ),
    )


def tokens(folder: RunFolder) -> list[list[int]]:
    lines = folder.episodes.read_text().splitlines()
    return [json.loads(line)["completion_ids"] for line in lines]


def test_a_run_leaves_what_the_docs_promise(config: TrainConfig) -> None:
    config = dataclasses.replace(config, evaluation=EvaluationConfig(tasks=4, samples=2))
    folder = train(config)
    steps = MetricsFile(folder.metrics).read().steps
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    for name in (
        "reward",
        "rewards/letters/mean",
        "completions/mean_length",
        "entropy",
        "groups/some",
        "seconds/generate",
        "seconds/learn",
        "tokens_per_second",
    ):
        assert name in steps[0], name
    assert len(tokens(folder)) == 4 * 8
    assert json.loads(folder.evaluation.read_text()).keys() == {"before", "after"}
    assert folder.finished and (folder.path / "report.html").exists()
    assert (folder.path / "reward.png").exists()


def test_truncated_episodes_move_nothing_when_masked(config: TrainConfig) -> None:
    grpo = dataclasses.replace(config.grpo, mask_truncated_completions=True)
    config = dataclasses.replace(config, steps=1, sampling=Sampling(max_tokens=1), grpo=grpo)
    folder = train(config)
    (step,) = MetricsFile(folder.metrics).read().steps
    assert step["completions/clipped_ratio"] == 1.0 and step["completions/mean_length"] == 1.0
    assert step["grad_norm"] == 0.0


def test_the_same_config_gives_the_same_tokens_and_another_seed_others(
    config: TrainConfig,
) -> None:
    config = dataclasses.replace(config, steps=2)
    first, second = train(config), train(config)
    other = train(dataclasses.replace(config, seed=1))
    assert tokens(first) == tokens(second) != tokens(other)


# Above 0 TRL keeps a second adapter in the checkpoint.
@pytest.mark.parametrize("beta", [0.0, pytest.param(0.1, marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_tokens_of_an_unbroken_one(
    beta: float, config: TrainConfig
) -> None:
    config = dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, beta=beta))
    whole = train(config)
    broken = train(config)
    # As a kill between the checkpoint of step 2 and that of step 4 leaves it: a torn checkpoint,
    # a torn line, and steps that were not saved.
    (broken.checkpoints / "checkpoint-4" / "complete").unlink()
    (broken.path / "finished").unlink()
    with broken.metrics.open("a") as file:
        file.write('{"step": 5, "rew')
    resumed = train(dataclasses.replace(config, resume=str(broken.path)))
    assert tokens(resumed) == tokens(whole)
    assert [s["step"] for s in MetricsFile(resumed.metrics).read().steps] == [1, 2, 3, 4]


def logprobs(model: Any, ids: Any) -> Any:
    with torch.no_grad():
        return model(ids).logits.log_softmax(-1)


def test_the_saved_adapter_is_what_was_trained(config: TrainConfig) -> None:
    from peft import PeftModel
    from taskgym.training.models import load_for_sampling
    from transformers import AutoModelForCausalLM

    folder = train(config)
    base = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32)
    ids = torch.arange(3, 40)[None]
    plain = logprobs(base, ids)
    golden = logprobs(PeftModel.from_pretrained(base, folder.adapter).eval(), ids)
    ours, _ = load_for_sampling(config.model, str(folder.adapter), False)
    assert not torch.allclose(golden, plain, atol=1e-3), "training changed nothing"
    torch.testing.assert_close(logprobs(ours, ids), golden)
    last = max(folder.checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name[11:]))
    base = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32)
    torch.testing.assert_close(logprobs(PeftModel.from_pretrained(base, last), ids), golden)


def test_grpo_starts_from_the_adapter_that_the_warm_up_left(config: TrainConfig) -> None:
    from safetensors.torch import load_file

    warmup = WarmupConfig(data="gold", max_rows=8, steps=3, batch=4, learning_rate=1e-1)
    still = dataclasses.replace(config.grpo, learning_rate=0.0)
    folder = train(dataclasses.replace(config, steps=1, warmup=warmup, grpo=still))
    warm = load_file(folder.warmup / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for name, tensor in warm.items() if "lora_B" in name)
    ended = load_file(folder.adapter / "adapter_model.safetensors")
    assert all(torch.equal(warm[name], ended[name]) for name in warm)


def test_evaluation_samples_at_its_own_temperature(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import taskgym.training.stages as module

    seen: list[float] = []
    original = module.evaluate

    def spy(policy: Any, plan: Any, sampling: Sampling, *rest: Any) -> Any:
        seen.append(sampling.temperature)
        return original(policy, plan, sampling, *rest)

    monkeypatch.setattr(module, "evaluate", spy)
    train(
        dataclasses.replace(
            config,
            steps=1,
            sampling=Sampling(max_tokens=4, temperature=1.5),
            evaluation=EvaluationConfig(tasks=2, samples=2),
        )
    )
    assert seen == [1.0, 1.0]


def test_a_run_ended_by_an_error_of_the_env_can_be_resumed(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Letters, action: str) -> Any:
        raise ZeroDivisionError("a bug of the env")

    with monkeypatch.context() as patch:  # the class that is registered: others import this file
        patch.setattr(type(gym.make(config.env).unwrapped), "step", broken)
        with pytest.raises(ZeroDivisionError):
            train(config)
    (path,) = Path(config.output).glob("*/config.yaml")
    assert tokens(train(dataclasses.replace(config, resume=str(path.parent)))) == tokens(
        train(config)
    )


def test_multi_turn_episodes_train_with_the_env_s_tokens_masked(config: TrainConfig) -> None:
    config = dataclasses.replace(
        config, env="GuessNumber-v0", env_kwargs={"high": 3, "max_turns": 2}, steps=1
    )
    folder = train(config)
    records = [json.loads(line) for line in folder.episodes.read_text().splitlines()]
    for record in records:
        assert len(record["mask"]) == len(record["completion_ids"]) == len(record["logprobs"])
    assert MetricsFile(folder.metrics).read().steps[0]["grad_norm"] >= 0.0
