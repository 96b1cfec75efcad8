"""The peers of `grpo_gpu.py`: TRL with its vLLM in process, and Unsloth's notebooks' loop."""

from __future__ import annotations

from typing import Any

import grpo_gpu_work as work
from grpo_gpu_engine import Requests, Stopwatch, settle_engine
from grpo_gpu_run import Meter, Settings


class Trl:
    """`GRPOTrainer(use_vllm=True, vllm_mode="colocate")` as TRL's documents write it.

    Attributes:
        engine: vLLM's, in this process.
        model: The learner's.
    """

    def __init__(self, settings: Settings, requests: Requests):
        self._settings, self._watch = settings, Stopwatch()
        self._before_vllm()
        settle_engine(settings.engine, settings.most, settings.cache)
        requests.install()
        self.model, self._tokenizer = self._load()
        self._watch_phases()
        self._trainer = self._make_trainer(settings.pairs[0][1])  # starts the engine
        self.engine = self._trainer.vllm_generation.llm.llm_engine

    def train(self, way: str, completions: int, meter: Meter) -> None:
        """Trains on so many completions a step, and tells the meter of each step."""
        from accelerate.utils import extract_model_from_parallel

        trainer, self._trainer = self._trainer or self._make_trainer(completions), None
        trainer.add_callback(_on_step(lambda: meter.step(self._watch.lap())))
        trainer.train()
        extract_model_from_parallel(self.model, keep_fp32_wrapper=False)  # for the next trainer

    def _before_vllm(self) -> None:
        """Nothing has to come before."""

    def _load(self) -> tuple[Any, Any]:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        cuda = torch.cuda.is_available()
        model = AutoModelForCausalLM.from_pretrained(
            self._settings.model,
            dtype=torch.bfloat16 if cuda else torch.float32,
            device_map={"": 0} if cuda else None,
        )
        adapter = LoraConfig(
            r=work.RANK,
            lora_alpha=work.ALPHA,
            target_modules=list(work.TARGETS),
            task_type="CAUSAL_LM",
        )
        tokenizer = AutoTokenizer.from_pretrained(self._settings.model)
        return get_peft_model(model, adapter), tokenizer

    def _watch_phases(self) -> None:
        import vllm
        from trl.generation import vllm_generation

        self._watch.watch(vllm.LLM, "generate", "generate")
        self._watch.watch(vllm_generation.VLLMGeneration, "sync_weights", "sync")
        vllm_generation.LLM = _Once(vllm_generation.LLM)

    def _make_trainer(self, completions: int) -> Any:
        from trl import GRPOConfig, GRPOTrainer

        return GRPOTrainer(
            model=self.model,
            processing_class=self._tokenizer,
            reward_funcs=self._reward,
            args=GRPOConfig(**self._arguments(completions)),
            train_dataset=_prompts(),
        )

    def _arguments(self, completions: int) -> dict[str, Any]:
        import torch

        cuda = torch.cuda.is_available()
        return {
            "output_dir": str(self._settings.folder),
            "per_device_train_batch_size": self._settings.micro,
            "gradient_accumulation_steps": completions // self._settings.micro,
            "num_generations": work.GROUP,
            "max_completion_length": work.MOST,
            "max_steps": self._settings.all_steps("", completions),
            "learning_rate": work.LEARNING_RATE,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "bf16": cuda,
            "use_cpu": not cuda,
            "gradient_checkpointing": cuda,
            "use_vllm": True,
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": work.SHARE,
            "vllm_max_model_length": work.MODEL_LEN,
        }

    def _reward(self, completions: list[Any], **columns: Any) -> list[float]:
        with self._watch.time("score"):
            return [work.fraction(completion[0]["content"]) for completion in completions]


class Unsloth(Trl):
    """The loop of Unsloth's GRPO notebooks: `fast_inference=True`, then TRL as Unsloth patches it.

    `UNSLOTH_COMPILE_DISABLE=1` as for our own Unsloth path: compiling takes minutes (docs/gpu.md).
    """

    def _before_vllm(self) -> None:
        import unsloth  # noqa: F401  (wants to be before transformers)

    def _load(self) -> tuple[Any, Any]:
        from unsloth import FastLanguageModel

        model, tokenizer = FastLanguageModel.from_pretrained(
            model_name=str(self._settings.model),
            max_seq_length=work.MODEL_LEN,
            load_in_4bit=False,
            fast_inference=True,
            max_lora_rank=work.RANK,
            gpu_memory_utilization=work.SHARE,
        )
        model = FastLanguageModel.get_peft_model(
            model,
            r=work.RANK,
            target_modules=list(work.TARGETS),
            lora_alpha=work.ALPHA,
            use_gradient_checkpointing="unsloth",
            random_state=3407,
        )
        return model, tokenizer

    def _watch_phases(self) -> None:
        import vllm

        self._watch.watch(vllm.LLM, "generate", "generate")
        self._watch.watch(self.model, "load_lora", "sync")

    def _arguments(self, completions: int) -> dict[str, Any]:
        own = ("use_vllm", "vllm_", "gradient_checkpointing", "bf16", "use_cpu")  # Unsloth decides
        usual = super()._arguments(completions)
        kept = {name: value for name, value in usual.items() if not name.startswith(own)}
        return {**kept, "optim": work.EIGHT_BIT}


class _Once:
    """Makes one engine; whoever asks again gets the same."""

    def __init__(self, make: Any):
        self._make, self._made = make, None

    def __call__(self, **arguments: Any) -> Any:
        self._made = self._made or self._make(**arguments)
        return self._made


def _prompts() -> Any:
    """The prompts of our env, as a TRL user has them."""
    from datasets import Dataset

    env = work.Shelves()
    return Dataset.from_dict({"prompt": [env.prompt(task) for task in env.tasks]})


def _on_step(tell: Any) -> Any:
    from transformers import TrainerCallback

    class OnStep(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
        def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
            tell()

    return OnStep()
