"""What `training/` relies on of TRL; a new TRL that changes it fails here by name."""

import os
from pathlib import Path
from typing import Any

import pytest

trl = pytest.importorskip("trl")
torch = pytest.importorskip("torch")

P, G = 2, 3
EOS = 2


class Recorder:
    """A rollout function and a reward function that note how they are called."""

    def __init__(self, mask: list[int], rewards: list[float | None], logprob: float = 0.0):
        self.mask, self.rewards, self.logprob = mask, rewards, logprob
        self.prompts: list[list[str]] = []
        self.seen: list[Any] = []

    def rollout(self, prompts: list[str], trainer: Any) -> dict[str, list[Any]]:
        self.prompts.append(list(prompts))
        self.step = trainer.state.global_step
        return {
            "prompt_ids": [[1, 5]] * len(prompts),
            "completion_ids": [[10 + i, 20, EOS] for i in range(len(prompts))],
            "logprobs": [[self.logprob] * 3] * len(prompts),
            "env_mask": [self.mask] * len(prompts),
            "ours": list(range(len(prompts))),
        }

    def score(self, prompts: list[str], *, log_metric: Any, **columns: Any) -> list[float | None]:
        self.seen.append(columns["ours"])
        log_metric("from_us", float(len(self.seen)))
        return self.rewards


def run(
    tiny_model: Path, tmp_path: Path, recorder: Recorder, steps: int = 1, **options: Any
) -> list[Any]:
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from taskgym.training.grpo_trainer import prepare_trl, trainer_class
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback

    prepare_trl()
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=steps,
        per_device_train_batch_size=G,
        gradient_accumulation_steps=P,
        num_generations=G,
        logging_steps=1,
        shuffle_dataset=False,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        save_strategy="no",
        **options,
    )
    trainer = trainer_class()(
        model=get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"])),
        reward_funcs=recorder.score,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(P)]}),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
        rollout_func=recorder.rollout,
    )
    trainer.remove_callback(PrinterCallback)
    if options:
        trainer.correct_for_the_sampler(None)
    trainer.train()
    return [log for log in trainer.state.log_history if "reward" in log]


REWARDS = [0.0, 1.0, 2.0, 0.0, 0.0, 3.0]


def test_prompts_come_repeated_and_in_order_in_every_step(tiny_model: Path, tmp_path: Path) -> None:
    recorder = Recorder([1, 1, 1], REWARDS)
    run(tiny_model, tmp_path, recorder, steps=2)
    assert recorder.prompts == [["0"] * G + ["1"] * G] * 2
    assert recorder.step == 1


def test_extra_keys_reach_the_reward_function_per_sample(tiny_model: Path, tmp_path: Path) -> None:
    recorder = Recorder([1, 1, 1], REWARDS)
    (log,) = run(tiny_model, tmp_path, recorder)
    assert recorder.seen == [list(range(P * G))]
    assert log["from_us"] == 1.0 and log["reward"] == 1.0


def test_tokens_under_mask_0_carry_no_gradient(tiny_model: Path, tmp_path: Path) -> None:
    (masked,) = run(tiny_model, tmp_path, Recorder([0, 0, 0], REWARDS))
    (learned,) = run(tiny_model, tmp_path, Recorder([1, 1, 1], REWARDS))
    assert masked["grad_norm"] == 0.0 < learned["grad_norm"]


def test_a_reward_of_none_leaves_its_group(tiny_model: Path, tmp_path: Path) -> None:
    (log,) = run(tiny_model, tmp_path, Recorder([1, 1, 1], [None, 1.0, 1.0, 2.0, 2.0, None]))
    assert log["reward"] == 1.5 and log["frac_reward_zero_std"] == 1.0
    assert log["grad_norm"] == pytest.approx(0.0, abs=1e-12)


def test_only_completion_tokens_are_projected_onto_the_vocabulary(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utils = pytest.importorskip("trl.trainer.utils")
    if not hasattr(utils, "_use_triton"):
        pytest.skip("this TRL has no path without Triton")
    rows: list[int] = []
    original = utils._ChunkedLogProbFunction.apply

    def counted(hidden: Any, *rest: Any) -> Any:
        rows.append(len(hidden))
        return original(hidden, *rest)

    monkeypatch.setattr(utils._ChunkedLogProbFunction, "apply", counted)
    run(tiny_model, tmp_path, Recorder([1, 1, 1], REWARDS))
    assert sum(rows) == 2 * G * 3


# --- a sampler apart from the learner -----------------------------------------------------------

# The random model finds every token about equally likely: one of 49,152.
LEARNER = -10.8


@pytest.mark.parametrize("mode", ["token_truncate", "sequence_mask"])
def test_the_sampler_s_log_probabilities_reach_the_correction(
    mode: str, tiny_model: Path, tmp_path: Path
) -> None:
    recorder = Recorder([1, 1, 1], REWARDS, LEARNER - 0.2)
    (log,) = run(tiny_model, tmp_path, recorder, vllm_importance_sampling_mode=mode)
    ratio = 2.718281828**0.2 if mode == "token_truncate" else 2.718281828**0.6
    assert log["sampling/importance_sampling_ratio/mean"] == pytest.approx(ratio, rel=0.15)
    assert log["sampling/sampling_logp_difference/mean"] == pytest.approx(0.2, abs=0.06)
    assert log["grad_norm"] > 0


def test_a_sampler_far_from_the_learner_teaches_nothing(tiny_model: Path, tmp_path: Path) -> None:
    far = Recorder([1, 1, 1], REWARDS, LEARNER - 5)
    (log,) = run(tiny_model, tmp_path, far, vllm_importance_sampling_mode="sequence_mask")
    assert log["sampling/importance_sampling_ratio/max"] == 0.0 == log["grad_norm"]


def test_the_env_s_tokens_do_not_count_in_the_ratio(tiny_model: Path, tmp_path: Path) -> None:
    mode = {"vllm_importance_sampling_mode": "sequence_mask"}
    recorder = Recorder([1, 0, 0], REWARDS, LEARNER - 0.2)
    (log,) = run(tiny_model, tmp_path, recorder, **mode)
    assert log["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.22, rel=0.1)
