"""Whole training runs with a sampler apart: a second transformers model that takes adapters."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import ApartPolicy, Completion, Sampling
from taskgym.agents.transformers_policy import TransformersPolicy
from taskgym.envs import Rubric, SingleTurnEnv, Task
from taskgym.training import GrpoConfig, LoraConfig, TrainConfig
from taskgym.training.folder import RunFolder, new_folder
from taskgym.training.metrics import MetricsFile
from taskgym.training.models import load_model
from taskgym.training.sync import Sync
from taskgym.training.tasks import TaskPlan

torch = pytest.importorskip("torch")


def letters(completion: str, task: Task) -> float:
    return sum(c.isalpha() for c in completion) / (len(completion) + 1)


class Spelled(SingleTurnEnv):
    rubric = Rubric({"letters": (letters, 1.0)})

    def load(self) -> list[dict[str, str]]:
        return [{"question": f"Spell {n}.", "answer": "x"} for n in range(20)]


gym.register("Test-Spelled-v0", Spelled)


class Apart(TransformersPolicy):
    """A model of its own; `lie` is added to every log-probability that it tells."""

    lie = 0.0

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        from peft import set_peft_model_state_dict

        super().load_adapter(adapter, version)
        weights = dict(adapter.tensors) if adapter else {}
        with torch.no_grad():
            for name, weight in self._model.named_parameters():
                if "lora_B" in name:
                    weight.zero_()
        set_peft_model_state_dict(self._model, weights)

    def score(self, ids: Any) -> list[float]:
        with torch.no_grad():
            logprobs = self._model(torch.tensor([list(ids)])).logits[0, :-1].log_softmax(-1)
        scored: list[float] = logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        return scored

    def poll(self) -> list[Completion]:
        return [
            dataclasses.replace(done, logprobs=tuple(p + self.lie for p in done.logprobs))
            for done in super().poll()
        ]


def run_with(config: TrainConfig, lie: float = 0.0, folder: RunFolder | None = None) -> RunFolder:
    from taskgym.training.learner import learn

    loaded, theirs = load_model(config), load_model(config)
    policy = Apart(theirs.model.eval(), theirs.tokenizer, theirs.renderer)
    policy.lie = lie
    assert isinstance(policy, ApartPolicy)
    plan = TaskPlan(lambda: gym.make(config.env), config.seed, 0)
    folder = folder or new_folder(config)
    sync = Sync(policy, loaded)
    learn(config, loaded, policy, sync, plan, folder, folder.checkpoint(), lambda _: None)
    return folder


@pytest.fixture
def config(tiny_model: Path, tmp_path: Path) -> TrainConfig:
    return tiny_config(tiny_model, tmp_path)


def tiny_config(model: Path, output: Path) -> TrainConfig:
    return TrainConfig(
        env="Test-Spelled-v0",
        model=str(model),
        policy="vllm",  # as far as the config is concerned
        steps=3,
        save_every=2,
        output=str(output),
        lora=LoraConfig(rank=2, alpha=4),
        sampling=Sampling(max_tokens=5),
        grpo=GrpoConfig(
            num_generations=4,
            groups_per_step=2,
            micro_batch=4,
            learning_rate=1e-3,
            mask_truncated_completions=False,
        ),
    )


def ahead(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, grpo=dataclasses.replace(config.grpo, max_staleness=1))


def steps_of(folder: RunFolder) -> list[dict[str, Any]]:
    return MetricsFile(folder.metrics).read().steps


def test_with_one_step_of_staleness_the_gap_is_that_of_one_step(config: TrainConfig) -> None:
    in_turn, stale = steps_of(run_with(config)), steps_of(run_with(ahead(config)))
    assert [step["sampling/staleness"] for step in in_turn] == [0, 0, 0]
    assert [step["sampling/staleness"] for step in stale] == [0, 1, 1]
    gap = "sampling/sampling_logp_difference/mean"
    assert all(step[gap] < 1e-4 for step in in_turn) and stale[0][gap] < 1e-4
    assert all(1e-4 < step[gap] < 0.1 for step in stale[1:])
    assert all(step["sampling/stale"] == 0 for step in stale)
    for step in in_turn + stale:
        assert {"seconds/wait", "seconds/sync", "seconds/learn"} <= step.keys()
    assert stale[2]["seconds/sync"] == 0.0  # nothing more to write


@pytest.mark.slow
def test_a_run_with_staleness_can_be_resumed(config: TrainConfig) -> None:
    config = ahead(config)
    first = run_with(dataclasses.replace(config, steps=2))
    resumed = run_with(config, folder=first)
    assert [step["step"] for step in steps_of(resumed)] == [1, 2, 3]
    assert steps_of(resumed)[2]["sampling/staleness"] == 0  # begins anew
    episodes = [json.loads(line) for line in resumed.episodes.read_text().splitlines()]
    assert [e["step"] for e in episodes] == [1] * 8 + [2] * 8 + [3] * 8


def test_a_sampler_that_lies_about_what_it_wrote_stops_the_run(config: TrainConfig) -> None:
    from taskgym.training.sampler_gap import SamplerGapError

    with pytest.raises(SamplerGapError, match=r"step 1: .* 2\.0\d+ nats a token"):
        run_with(ahead(config), lie=-2.0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"policy": "transformers"}, "weights of its own"),
        ({"standby": True}, "leave standby out"),
    ],
)
def test_staleness_is_refused_where_the_sampler_cannot_write_meanwhile(
    wrong: dict[str, Any], said: str, config: TrainConfig
) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(ahead(config), **wrong)


def test_staleness_needs_the_correction() -> None:
    with pytest.raises(ValueError, match=r"needs grpo\.vllm_importance_sampling_correction"):
        GrpoConfig(max_staleness=1, vllm_importance_sampling_correction=False)
    with pytest.raises(ValueError, match=r"grpo\.max_staleness must be at least 0, got -1"):
        GrpoConfig(max_staleness=-1)


SLOWLY = """
import sys, time
from pathlib import Path
import test_sampler_apart as t

poll = t.Apart.poll
t.Apart.poll = lambda self: (time.sleep(1), poll(self))[1]
config = t.ahead(t.tiny_config(Path(sys.argv[1]), Path(sys.argv[2])))
t.run_with(t.dataclasses.replace(config, steps=1000, save_every=1000))
"""


@pytest.mark.slow
@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_a_run_whose_next_step_is_being_written(
    presses: int, tiny_model: Path, tmp_path: Path
) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(tiny_model), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert run.stderr is not None
    run.send_signal(signal.SIGINT)
    # A second press before the first is seen would be none.
    assert any("ending this step, then saving" in line for line in run.stderr)
    if presses == 2:
        run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert ("KeyboardInterrupt" in said) == (presses == 2)
    assert bool(run.returncode) == (presses == 2)
    assert bool(list(tmp_path.glob("*/checkpoints/*/complete"))) == (presses == 1)
