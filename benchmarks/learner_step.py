"""Seconds of one optimiser step, without any sampling: TRL's trainer beside ours on the same rows.

    python benchmarks/learner_step.py [--shape tiny] [--completions 32 256] [--micro-batch 8]
    python benchmarks/learner_step.py --alike 0.5  # half of the groups have no signal

The rows are random tokens with the prompt and completion lengths of `grpo_gpu.py`, told to come
from a sampler apart, so that both trainers weigh their loss by learner over sampler. Rounds
alternate; each leaves out its first step.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from grpo_gpu_work import ALPHA, GROUP, RANK, TARGETS, lengths

_PROMPT = (40, 130)  # tokens, as the prompts of grpo_gpu.py


def rows_of(completions: int, words: int) -> dict[str, list[Any]]:
    """Random tokens; members of a group share their prompt."""
    chance = random.Random(0)
    prompts = []
    for _ in range(completions // GROUP):
        prompts += [[chance.randrange(10, words) for _ in range(chance.randint(*_PROMPT))]] * GROUP
    said = [[chance.randrange(10, words) for _ in range(n)] for n in lengths(completions)]
    likely = [[-11.0] * len(row) for row in said]
    return {"prompt_ids": prompts, "completion_ids": said, "logprobs": likely}


def rewards_of(completions: int, alike: float) -> list[float]:
    """All different in a group, and all the same in this share of the groups."""
    silent = round(alike * completions / GROUP) * GROUP
    return [float(i % GROUP) if i >= silent else 0.0 for i in range(completions)]


def trainer_of(
    kind: Any, model: Any, tokenizer: Any, rows: Any, rewards: list[float], micro: int, steps: int
) -> Any:
    """A trainer that is given these rows in every step."""
    import trl
    from datasets import Dataset
    from taskgym.training.devices import has_cuda

    completions = len(rows["prompt_ids"])
    arguments = trl.GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=completions // micro,
        num_generations=GROUP,
        max_completion_length=max(map(len, rows["completion_ids"])),
        learning_rate=1e-6,
        use_cpu=not has_cuda(),
        bf16=has_cuda(),
        gradient_checkpointing=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        shuffle_dataset=False,
    )
    return kind(
        model=model,
        reward_funcs=lambda prompts, **_: rewards,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(completions // GROUP)]}),
        processing_class=tokenizer,
        rollout_func=lambda prompts, trainer: {k: list(v) for k, v in rows.items()},
    )


def seconds_of_steps(trainer: Any) -> list[float]:
    """Of each step after the first, kernels included."""
    import torch
    from transformers import PrinterCallback, TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer.add_callback(Clock())
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return [after - before for before, after in pairwise(ends)]


def beside_an_engine(trainer: Any) -> None:
    """Makes TRL's own trainer weigh its loss as it does beside its vLLM."""
    from taskgym.training.unsloth_trainer import _Synced

    trainer.use_vllm, trainer.vllm_generation, trainer._last_loaded_step = True, _Synced(), -1


def beside_ours(trainer: Any) -> None:
    """The same of ours."""
    trainer.correct_for_the_sampler(None)


def peak_gib() -> float:
    """GiB that torch had allocated at most since the last call; NaN on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return float("nan")
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return peak


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", default="tiny", help="of gpu_models.py, e.g. qwen3-4b")
    parser.add_argument("--layers", type=int, default=0, help="fewer than the shape has")
    parser.add_argument("--completions", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--alike", type=float, default=0.0, help="share of groups without a signal")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="of a round, the first not counted")
    asked = parser.parse_args()
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

    import trl
    from taskgym.training.grpo_trainer import prepare_trl, trainer_class

    prepare_trl()
    contenders: dict[str, tuple[Any, Callable[[Any], None]]] = {
        f"TRL {trl.__version__}": (trl.GRPOTrainer, beside_an_engine),
        "taskgym": (trainer_class(), beside_ours),
    }
    model, tokenizer = learner(asked.shape, asked.layers)
    print("completions  trainer      s a step  ratio  GiB at peak")
    for completions in asked.completions:
        rows = rows_of(completions, model.config.vocab_size)
        rewards = rewards_of(completions, asked.alike)
        sizes = asked.micro_batch, asked.steps
        spent: dict[str, list[float]] = {name: [] for name in contenders}
        peaks = dict.fromkeys(contenders, 0.0)
        for _ in range(asked.rounds):
            for name, (kind, prepare) in contenders.items():
                trainer = trainer_of(kind, model, tokenizer, rows, rewards, *sizes)
                prepare(trainer)
                peak_gib()
                spent[name] += seconds_of_steps(trainer)
                peaks[name] = peak_gib()
        first = statistics.median(next(iter(spent.values())))
        for name, seconds in spent.items():
            each = statistics.median(seconds)
            print(
                f"{completions:11}  {name:11} {each:9.2f} {first / each:6.2f} {peaks[name]:12.2f}"
            )


def learner(shape: str, layers: int) -> tuple[Any, Any]:
    """A model with random weights and an adapter, and a tokenizer."""
    import torch
    from gpu_models import make_model
    from peft import LoraConfig, get_peft_model
    from taskgym.training.devices import has_cuda
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = Path(tempfile.gettempdir()) / f"taskgym-{shape}-{layers}"
    make_model(shape, layers, folder)
    dtype = torch.bfloat16 if has_cuda() else torch.float32
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    adapter = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS))
    model = get_peft_model(base.cuda() if has_cuda() else base, adapter)
    return model, tokenizer


if __name__ == "__main__":
    main()
