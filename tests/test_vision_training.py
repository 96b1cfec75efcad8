"""A model that sees is trained through TRL on just the pixels and tokens that were sampled."""

import base64
import json

import gymnasium as gym
import pytest
from taskgym.envs.images import image_hash, open_image

pytest.importorskip("trl")
from vision_models import gemma3

ENV = "Vision-Shapes-v0"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    env = gym.make(ENV, size=12).unwrapped
    texts = [env.prompt(task)[0]["content"][1]["text"] for task in env.tasks]
    return gemma3(tmp_path_factory.mktemp("gemma3"), texts)


def config(model, output, **more):
    from taskgym.agents.policy import Sampling
    from taskgym.training import EvaluationConfig, GrpoConfig, LoraConfig, TrainConfig, WarmupConfig

    return TrainConfig(
        env=ENV,
        env_kwargs={"size": 16},
        model=str(model),
        output=str(output),
        steps=2,
        save_every=1,
        lora=LoraConfig(rank=4, alpha=8),
        sampling=Sampling(max_tokens=6),
        grpo=GrpoConfig(
            num_generations=2,
            groups_per_step=4,
            micro_batch=4,
            max_fresh_groups=2,
            loss_type="dr_grpo",
            scale_rewards="none",
            importance_sampling_level="sequence",
            mask_truncated_completions=False,
        ),
        warmup=WarmupConfig(data="gold", steps=2, max_rows=8),
        evaluation=EvaluationConfig(tasks=2, samples=1),
        **more,
    )


def test_a_run_learns_from_what_was_sampled_and_leaves_everything(model, tmp_path, monkeypatch):
    """With shuffled micro-batches and replaced groups, each row keeps its own picture."""
    import torch
    from taskgym.training import sampler
    from taskgym.training.train import train
    from trl import GRPOTrainer

    sampled, gaps = {}, []
    samples, loss = sampler.Sampler._samples, GRPOTrainer._compute_loss

    def remember(self, positions, kept):
        for row in (t for group in kept.values() for t in group.trajectories):
            sampled[row.prompt_ids, tuple(row.completion_ids)] = row.logprobs
        return samples(self, positions, kept)

    def compare(self, model, inputs):
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        seen = {k: inputs[k] for k in ("pixel_values", "token_type_ids", "num_images")}
        width = inputs["completion_ids"].shape[1]
        with torch.no_grad():
            learned, *_ = self._get_per_token_logps_and_entropies(model, ids, mask, width, **seen)
        for i, row in enumerate(learned.tolist()):
            prompt = inputs["prompt_ids"][i][inputs["prompt_mask"][i].bool()].tolist()
            said = inputs["completion_ids"][i][inputs["completion_mask"][i].bool()].tolist()
            told = sampled[tuple(prompt), tuple(said)]
            gaps.append(max(abs(a - b) for a, b in zip(row, told, strict=False)))
        return loss(self, model, inputs)

    monkeypatch.setattr(sampler.Sampler, "_samples", remember)
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", compare)
    folder = train(config(model, tmp_path))
    assert len(gaps) == 16 and max(gaps) < 2e-5

    records = [json.loads(line) for line in folder.episodes.read_text().splitlines()]
    part = records[0]["messages"][0]["content"][0]
    shown = open_image(base64.b64decode(part["png"]), "record")
    assert image_hash(shown) == part["hash"] == records[0]["image_hash"]
    page = (folder.path / "report.html").read_text()
    assert page.count('<img class="thumb" src="data:image/png;base64,') >= 2
    assert part["hash"] in page and "formatting_reward_func" in page
    assert (folder.adapter / "processor_config.json").exists()
    scores = json.loads(folder.evaluation.read_text())
    assert scores["before"]["tasks"] == scores["after"]["tasks"] == 2


@pytest.mark.slow
def test_a_run_that_sees_can_be_resumed_and_its_adapter_scored(model, tmp_path):
    import dataclasses

    from taskgym.training.commands.evaluate_agent import score
    from taskgym.training.config import EvaluateConfig
    from taskgym.training.train import train

    whole = train(config(model, tmp_path / "whole"))
    first = train(dataclasses.replace(config(model, tmp_path / "part"), steps=1))
    (first.path / "finished").unlink()
    again = train(dataclasses.replace(config(model, tmp_path / "part"), resume=str(first.path)))
    read = [[json.loads(x)["reward"] for x in f.metrics.open()] for f in (whole, again)]
    assert read[0][0] == read[1][0] and len(read[1]) == 2
    summary = score(
        EvaluateConfig(
            env=ENV, env_kwargs={"size": 16}, model=str(model), adapter=str(again.adapter), n=2, k=1
        )
    )
    assert summary["tasks"] == 2


def test_an_env_for_evaluation_alone_is_not_trained_on(model, tmp_path):
    import dataclasses

    from taskgym.training.errors import ConfigError
    from taskgym.training.train import plan_tasks

    asked = dataclasses.replace(config(model, tmp_path), env="Vision-MathVision-v0", data="sample")
    with pytest.raises(ConfigError, match="for evaluation alone"):
        plan_tasks(dataclasses.replace(asked, env_kwargs={}))
