"""Our trainer against TRL's own: the same gradients and the same log, with less work."""

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

trl = pytest.importorskip("trl")
torch = pytest.importorskip("torch")

from taskgym.training.sampler_gap import SamplerGapError, most_gap  # noqa: E402

P, G = 4, 2
MICRO = 2
REWARDS = [0.0, 1.0, 2.0, 0.0, 1.0, 3.0, 0.0, 0.5]


def ragged(spread: float = 0.3) -> dict[str, list[Any]]:
    """Eight rows of every kind: prompts of two lengths, masked turns, one that is masked whole."""
    noise = torch.Generator().manual_seed(3)
    lengths = [3, 9, 1, 12, 7, 7, 2, 5]
    prompts = [[7, 8, 9, 10] if row < 4 else [5, 6] for row in range(P * G)]
    said = [torch.randint(10, 400, (n,), generator=noise).tolist() for n in lengths]
    masks = [[1] * n for n in lengths]
    masks[1] = [1, 1, 0, 0, 1, 1, 1, 0, 0]  # the env has the last word
    masks[3] = [0] * 12  # truncated, left out of the loss
    logprobs = [(-10.8 + spread * torch.randn(n, generator=noise)).tolist() for n in lengths]
    return {"prompt_ids": prompts, "completion_ids": said, "logprobs": logprobs, "env_mask": masks}


def train(
    kind: Any,
    model: Path,
    folder: Path,
    rows: Any,
    *,
    apart: bool = True,
    most_gap: float | None = None,
    look: Any = None,
    rewards: Any = REWARDS,
    **options: Any,
) -> Any:
    """One step from the same weights; returns the gradient as the step it made, and the last log.

    `look` is shown the shape of what each forward pass is given.
    """
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from taskgym.training.halving import WrittenOnce, train_within_memory
    from transformers import AutoModelForCausalLM, PrinterCallback

    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    learner = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]))
    for name, weight in learner.named_parameters():
        if "lora_B" in name:  # so that A has a gradient too
            torch.nn.init.normal_(weight, std=0.05)
    if look is not None:
        words = learner.get_input_embeddings()
        words.register_forward_hook(lambda _, inputs, __: look(tuple(inputs[0].shape)))
    before = {n: p.detach().clone() for n, p in learner.named_parameters() if p.requires_grad}
    arguments = {
        "max_steps": 1,
        "num_generations": G,
        "max_completion_length": 12,
        "learning_rate": 1.0,
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "shuffle_dataset": False,
        "report_to": "none",
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "output_dir": str(folder),
    }
    written = WrittenOnce(lambda prompts, trainer: {k: list(v) for k, v in rows.items()})

    def trainer_of(micro: int) -> Any:
        sizes = {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": P * G // micro,
        }
        trainer = kind(
            model=learner,
            reward_funcs=lambda prompts, **_: rewards,
            args=trl.GRPOConfig(**arguments | sizes | options),
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(P)]}),
            processing_class=tokenizer_of(model),
            callbacks=[written],
            rollout_func=written,
        )
        trainer.remove_callback(PrinterCallback)
        if apart:
            beside_a_sampler(trainer, most_gap)
        return trainer

    trainer = train_within_memory(trainer_of, MICRO, written, None)
    step = {n: p.detach() - before[n] for n, p in learner.named_parameters() if n in before}
    return step, [log for log in trainer.state.log_history if "reward" in log][-1]


@cache
def tokenizer_of(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def beside_a_sampler(trainer: Any, most_gap: float | None) -> None:
    from taskgym.training.unsloth_trainer import _Synced

    if hasattr(trainer, "correct_for_the_sampler"):
        trainer.correct_for_the_sampler(most_gap)
    else:  # TRL's own path, led to believe in an engine
        trainer.use_vllm, trainer.vllm_generation, trainer._last_loaded_step = True, _Synced(), -1


def both(model: Path, folder: Path, apart: bool = True, **options: Any) -> Any:
    """What TRL's trainer and ours make of the same rows."""
    from taskgym.training.grpo_trainer import trainer_class

    theirs = train(trl.GRPOTrainer, model, folder, ragged(), apart=apart, **options)
    return theirs, train(trainer_class(), model, folder, ragged(), apart=apart, **options)


def assert_same_step(theirs: Any, ours: Any) -> None:
    assert max(change.abs().max() for change in theirs.values()) > 1e-3
    for name, change in theirs.items():
        torch.testing.assert_close(ours[name], change, rtol=1e-3, atol=1e-6)


def first_is_quick(*names: str) -> Any:
    return [names[0], *(pytest.param(name, marks=pytest.mark.slow) for name in names[1:])]


@pytest.mark.parametrize(
    "loss", first_is_quick("dapo", "grpo", "dr_grpo", "cispo", "sapo", "luspo")
)
def test_the_step_is_trl_s_for_every_loss(loss: str, tiny_model: Path, tmp_path: Path) -> None:
    (theirs, _), (ours, _) = both(tiny_model, tmp_path, apart=False, loss_type=loss, beta=0.04)
    assert_same_step(theirs, ours)


@pytest.mark.parametrize(
    "mode", first_is_quick("sequence_mask", "sequence_truncate", "token_mask", "token_truncate")
)
def test_the_weight_against_the_sampler_is_trl_s(
    mode: str, tiny_model: Path, tmp_path: Path
) -> None:
    options = {"vllm_importance_sampling_mode": mode, "vllm_importance_sampling_clip_max": 1.2}
    (theirs, log), (ours, our_log) = both(tiny_model, tmp_path, **options)
    assert_same_step(theirs, ours)
    sampling = [name for name in log if name.startswith("sampling/")]
    assert len(sampling) == 5
    for name in sampling:
        assert our_log[name] == pytest.approx(log[name], rel=1e-3), name


@pytest.mark.slow
def test_the_weight_is_trl_s_for_vespo_and_sequences(tiny_model: Path, tmp_path: Path) -> None:
    mode = {"vllm_importance_sampling_mode": "token_truncate"}
    for options in ({"loss_type": "vespo"}, {"importance_sampling_level": "sequence"}):
        (theirs, _), (ours, _) = both(tiny_model, tmp_path, **options, **mode)
        assert_same_step(theirs, ours)


def test_each_row_is_looked_at_once_and_no_wider_than_its_micro_batch(
    tiny_model: Path, tmp_path: Path
) -> None:
    from taskgym.training.grpo_trainer import trainer_class

    shapes: list[tuple[int, ...]] = []
    train(trainer_class(), tiny_model, tmp_path, ragged(), look=shapes.append)
    # prompt + tokens up to the last in the loss: 4+7, 2+7 | 2+7, 4+3 | 2+5, 4+1, 4+0 | 2+2; memory
    # for two rows of the longest, 4+12, holds three of 9 tokens
    assert shapes == [(2, 11), (2, 11), (3, 9), (1, 4)]


ALIKE = {"max_steps": 2, "learning_rate": 2.0, "rewards": [2, 0, 1, 1, 3, 3, 3, 3]}


@pytest.mark.parametrize(
    "loss", first_is_quick("dapo", "grpo", "dr_grpo", "cispo", "sapo", "luspo", "vespo")
)
def test_groups_without_a_signal_change_neither_the_step_nor_the_log(
    loss: str, tiny_model: Path, tmp_path: Path
) -> None:
    options = {"loss_type": loss, "vllm_importance_sampling_mode": "token_truncate"}
    (theirs, log), (ours, our_log) = both(tiny_model, tmp_path, **options, **ALIKE)
    assert_same_step(theirs, ours)
    for name in log:
        if name.startswith("sampling/"):
            assert our_log[name] == pytest.approx(log[name], rel=1e-3), name


def test_rows_without_an_advantage_are_read_alone(tiny_model: Path, tmp_path: Path) -> None:
    from taskgym.training.grpo_trainer import trainer_class

    looks: list[tuple[int, bool]] = []

    def look(shape: tuple[int, ...]) -> None:
        looks.append((shape[0], torch.is_grad_enabled()))

    train(trainer_class(), tiny_model, tmp_path, ragged(), look=look, **ALIKE)
    # in the first step all are learned from: there a memory that is too small is to show
    assert looks == [(2, True), (2, True), (3, True), (1, True), (3, False), (3, False), (2, True)]


def test_where_a_kl_moves_every_row_all_are_learned_from(tiny_model: Path, tmp_path: Path) -> None:
    (theirs, _), (ours, _) = both(tiny_model, tmp_path, apart=False, beta=0.04, **ALIKE)
    assert_same_step(theirs, ours)


def test_a_run_whose_sampler_is_another_policy_is_stopped(tiny_model: Path, tmp_path: Path) -> None:
    from taskgym.training.grpo_trainer import trainer_class

    far = ragged()
    far["logprobs"] = [[logprob - 2 for logprob in row] for row in far["logprobs"]]
    with pytest.raises(SamplerGapError, match=r"step 1: .* differ by 1\.9\d+ nats a token"):
        train(trainer_class(), tiny_model, tmp_path, far, most_gap=0.25)
    _, log = train(trainer_class(), tiny_model, tmp_path, ragged(), most_gap=0.5)
    assert 0.1 < log["sampling/sampling_logp_difference/mean"] < 0.4


def test_what_unsloth_s_trainer_deals_out_anew_is_the_same_step(
    tiny_model: Path, tmp_path: Path
) -> None:
    from taskgym.training.unsloth_trainer import UnslothTrainer

    met: list[int] = []

    class Looking(UnslothTrainer):
        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            met.append(int(inputs["prompt_mask"].sum() + inputs["completion_mask"].sum()))
            return super()._compute_loss(model, inputs)

    for loss in ("dapo", "grpo", "dr_grpo", "bnpo"):
        theirs, _ = train(trl.GRPOTrainer, tiny_model, tmp_path, ragged(), loss_type=loss)
        ours, _ = train(Looking, tiny_model, tmp_path, ragged(), loss_type=loss)
        assert_same_step(theirs, ours)
    # rows of 16, 13, 9, 9, 7, 7, 5 and 4 tokens: 16 + 4 | 13 + 5 | 9 + 7 | 9 + 7
    assert met[:4] == met[4:8] == met[8:12] == [20, 18, 16, 16]


def test_unsloth_s_loss_takes_new_log_probabilities_for_old_ones_that_it_lacks() -> None:
    from taskgym.training.unsloth_trainer import take_new_for_old

    def loss(ref: Any, new: Any, old: Any, sampled: Any, *, beta: float) -> Any:
        return (new - old).exp().sum() * (old - sampled).exp().mean() + beta

    names = {"grpo_compute_loss": loss}
    assert take_new_for_old(names) and take_new_for_old(names)  # once, however often it is asked
    new, sampled = torch.tensor([-1.0, -2.0], requires_grad=True), torch.tensor([-1.5, -2.0])
    found = names["grpo_compute_loss"](None, new, None, sampled, beta=0.5)
    assert torch.equal(found, loss(None, new, new.detach(), sampled, beta=0.5))
    older = new.detach() - 1
    found = names["grpo_compute_loss"](None, new, older, sampled, beta=0.5)
    assert torch.equal(found, loss(None, new, older, sampled, beta=0.5))
    assert not take_new_for_old({})


def test_only_a_sampler_of_whole_distributions_can_be_too_far_off() -> None:
    from taskgym.agents.policy import Sampling

    assert most_gap(0.0, Sampling(), 0) == 0.25 and most_gap(0.0, Sampling(), 1) == 1.0
    assert most_gap(0.2, Sampling(), 0) == most_gap(0.2, Sampling(), 1) == 2.0
    for truncated in (Sampling(min_p=0.1), Sampling(top_k=20), Sampling(top_p=0.9)):
        assert most_gap(0.0, truncated, 0) is None
