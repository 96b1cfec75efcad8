"""What we rely on of TRL's asynchronous trainer, and that it learns as the synchronous one does."""

import json
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.groups import Group
from taskgym.training import LoraConfig, TrainConfig
from taskgym.training.models import Loaded, load_model

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def kernels() -> None:
    """TRL 1.15 computes its losses in Triton alone, which a CPU can only interpret."""
    from trl.trainer import utils

    runs = torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
    if not hasattr(utils, "_use_triton") and not runs:
        pytest.skip("TRL 1.15 wants a GPU, or TRITON_INTERPRET=1 and Triton")


G, P, MICRO = 4, 2, 4


def trajectories() -> list[Trajectory]:
    """P groups of G episodes of different lengths; some masked tokens, one episode cut off."""
    noise = torch.Generator().manual_seed(0)
    found = []
    for n in range(P * G):
        length = 3 + 2 * (n % G)
        t = Trajectory(Start(n // G, None, n, n // G, n % G), "equal", versions=[0])
        t.prompt_ids = tuple(range(50, 55 + n // G))
        t.completion_ids = torch.randint(60, 40000, (length,), generator=noise).tolist()
        t.mask = [1] * length
        if n == 2:
            t.mask[1] = 0  # the env's
        told = sampled(torch.tensor(t.completion_ids)).tolist()
        t.logprobs = [logprob * m for logprob, m in zip(told, t.mask, strict=True)]
        t.reward = float(n % 3)
        found.append(t)
    return found


class Worker:
    """Hands out prepared samples, and again and again the last."""

    def __init__(self, samples: list[Any]):
        self.rollout_buffer, self.metrics_queue = self, queue.SimpleQueue()
        self.samples, self.versions, self.log = list(samples), [], []

    def get(self, timeout: float) -> Any:
        self.log.append("get")
        return self.samples.pop(0) if len(self.samples) > 1 else self.samples[0]

    def qsize(self) -> int:
        return len(self.samples)

    def start(self) -> None:
        self.log.append("start")

    def stop(self) -> None:
        self.log.append("stop")

    def update_model_version(self, version: int) -> None:
        self.log.append(f"version {version}")

    def check_health(self, stale_after_s: float) -> None:
        raise AssertionError("nothing was waited for")

    def unlearned(self, step: int) -> dict[str, object]:
        return {"unlearned": [step], "begun": 9}


def load(tiny_model: Path) -> Loaded:
    from taskgym.training.grpo_trainer import prepare_trl

    prepare_trl()
    return load_model(TrainConfig(model=str(tiny_model), lora=LoraConfig(rank=4)))


@contextmanager
def learning(
    loaded: Loaded, worker: Worker, output: Path, loss_type: str = "dapo", **options: Any
) -> Iterator[Any]:
    from taskgym.training.async_trainer import AsyncTrainer, packed_attention, plain_head
    from trl.experimental.async_grpo import AsyncGRPOConfig

    arguments = AsyncGRPOConfig(
        max_staleness=2,
        token_budget=0,
        warmup_steps=0,
        **shared(output) | options,
    )
    with packed_attention(loaded.model), plain_head(loaded.model):
        yield AsyncTrainer(loaded, worker, arguments, loss_type, [])


def shared(output: Path) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "max_steps": 1,
        "per_device_train_batch_size": MICRO,
        "gradient_accumulation_steps": P * G // MICRO,
        "num_generations": G,
        "max_completion_length": 16,
        "learning_rate": 1.0,
        "optim": "sgd",  # what moves is the gradient itself
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
    }


def samples(cut: bool = False, scale: str = "group") -> list[Any]:
    from taskgym.training.async_sampler import group_advantages, to_sample

    rows = trajectories()
    rows[5].truncated = cut
    groups = [Group(rows[i : i + G]) for i in range(0, P * G, G)]
    scored = zip(rows, [a for g in groups for a in group_advantages(g, scale)], strict=True)
    return [to_sample(t, a, 0, True, pad=0) for t, a in scored]


def synchronous(loaded: Loaded, output: Path, loss_type: str, scale: str) -> dict[str, Any]:
    """The same episodes, learned from by TRL's `GRPOTrainer`, with the ratio to the sampler."""
    from datasets import Dataset

    class Trainer(trl.GRPOTrainer):  # type: ignore[misc,name-defined]
        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            inputs["old_per_token_logps"] = sampled(inputs["completion_ids"])
            return super()._compute_loss(model, inputs)

    rows = trajectories()
    trainer = Trainer(
        model=loaded.model,
        reward_funcs=lambda prompts, ours, **columns: ours,
        args=trl.GRPOConfig(
            **shared(output), loss_type=loss_type, scale_rewards=scale, shuffle_dataset=False
        ),
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(P)]}),
        processing_class=loaded.tokenizer,
        rollout_func=lambda prompts, trainer: {
            "prompt_ids": [list(t.prompt_ids) for t in rows],
            "completion_ids": [t.completion_ids for t in rows],
            "logprobs": [t.logprobs for t in rows],
            "env_mask": [t.mask for t in rows],
            "ours": [t.reward for t in rows],
        },
    )
    before = weights(loaded)
    trainer.train()
    return moved(loaded, before)


def sampled(ids: Any) -> Any:
    """What the sampler is made to have thought of each token, so that some ratios are clipped."""
    return -10.8 + 0.1 * (ids % 7 - 3)


def moved(loaded: Loaded, before: dict[str, Any]) -> dict[str, Any]:
    return {name: after - before[name] for name, after in weights(loaded).items()}


def weights(loaded: Loaded) -> dict[str, Any]:
    return {n: p.detach().clone() for n, p in loaded.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("loss_type", "scale"), [("dapo", "group"), ("dr_grpo", "none")])
def test_it_learns_the_same_as_the_synchronous_trainer_from_the_same_episodes(
    loss_type: str, scale: str, tiny_model: Path, tmp_path: Path
) -> None:
    wanted = synchronous(load(tiny_model), tmp_path, loss_type, scale)
    loaded = load(tiny_model)
    before = weights(loaded)
    with learning(loaded, Worker(samples(scale=scale)), tmp_path, loss_type) as trainer:
        trainer.train()
        assert trainer.state.log_history[0]["clip_ratio/region_mean"] > 0
    came = moved(loaded, before)
    largest = max(gradient.abs().max() for gradient in wanted.values())
    assert largest > 1e-4
    for name, gradient in wanted.items():
        assert torch.allclose(came[name], gradient, atol=1e-4 * largest, rtol=1e-3), name


def test_an_episode_that_is_left_out_moves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    only = [sample for sample in samples(cut=True) if sample.advantage == 0.0]
    assert only and all(sample.completion_mask.sum() >= 1 for sample in only)
    loaded = load(tiny_model)
    before = weights(loaded)
    with learning(loaded, Worker(only * (P * G)), tmp_path) as trainer:
        trainer.train()
    assert all((delta == 0).all() for delta in moved(loaded, before).values())


def test_an_adapter_is_brought_before_the_first_episode_and_after_every_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    worker = Worker(samples() * 3)
    with learning(load(tiny_model), worker, tmp_path, max_steps=2) as trainer:
        trainer.train()
    assert [word for word in worker.log if word != "get"] == [
        *("version 0", "start", "version 1", "version 2", "stop")
    ]
    # A micro-batch of the next step is read before a step is learned from.
    assert worker.log.index("version 1") == 2 + P * G + MICRO


def test_a_checkpoint_holds_the_adapter_alone_and_what_was_being_played(
    tiny_model: Path, tmp_path: Path
) -> None:
    from taskgym.training.async_trainer import UNLEARNED

    options = {"save_strategy": "steps", "save_steps": 1}
    with learning(load(tiny_model), Worker(samples()), tmp_path, **options) as trainer:
        trainer.train()
    saved = tmp_path / "checkpoint-1"
    assert json.loads((saved / UNLEARNED).read_text()) == {"unlearned": [1], "begun": 9}
    assert (saved / "adapter_model.safetensors").exists()
    assert not list(saved.glob("model*.safetensors"))


def test_the_model_is_after_training_as_it_was_before(tiny_model: Path, tmp_path: Path) -> None:
    loaded = load(tiny_model)
    base = loaded.model.get_base_model()
    attention, forward = base.config._attn_implementation, base.forward
    with learning(loaded, Worker(samples()), tmp_path):
        assert base.forward != forward
    assert base.config._attn_implementation == attention
    assert base.forward == forward


def test_a_text_is_as_likely_with_the_tree_s_attention_as_without(tiny_model: Path) -> None:
    from taskgym.training.async_trainer import packed_attention

    model = load(tiny_model).model.eval()
    ids = torch.randint(60, 40000, (1, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
        with packed_attention(model):
            packed = model(input_ids=ids, use_cache=False).logits
    assert torch.allclose(plain, packed, atol=1e-5)
