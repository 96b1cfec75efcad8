"""What a person may change about a run: frozen dataclasses that become flags, YAML and a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from taskgym.agents.policy import Sampling
from taskgym.training.config_fields import Kwargs, at_least
from taskgym.training.config_flags import EnvFlags, PolicyFlags
from taskgym.training.config_grpo import GrpoConfig
from taskgym.training.config_lora import LoraConfig

Tracker = Literal["tensorboard", "wandb", "trackio"]


@dataclass(frozen=True)
class WarmupConfig:
    """Supervised warm-up on the answer format, before GRPO. Off unless it has data."""

    data: str = ""
    """A `.jsonl`, `.parquet` or hub id with `problem`, `generated_solution`, `expected_answer`;
    `gold`: the env's own gold replies."""
    max_tokens: int = 1024
    """Rows longer than this, prompt included, are left out."""
    max_rows: int = 256
    """Rows used at most."""
    steps: int = 118
    """Optimiser steps."""
    batch: int = 4
    """Rows of one optimiser step."""
    learning_rate: float = 2e-4
    """Rises in 5 steps (a tenth of a shorter warm-up), then falls linearly."""

    def __post_init__(self) -> None:
        for name in ("max_tokens", "max_rows", "steps", "batch"):
            at_least(f"warmup.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class EvaluationConfig:
    """Held-out tasks, never trained on, scored before and after."""

    tasks: int = 0
    """Held-out tasks; 0 evaluates nothing."""
    samples: int = 8
    """Sampled completions of each; one greedy completion is added."""
    temperature: float = 1.0
    """Of the sampled completions; training may explore at another."""

    def __post_init__(self) -> None:
        at_least("evaluation.tasks", self.tasks, 0)
        at_least("evaluation.samples", self.samples, 1)


@dataclass(frozen=True)
class TrainConfig(PolicyFlags, EnvFlags):
    """Trains a LoRA policy on an environment by GRPO.

    Flags win over --config, which wins over the env's recipe.
    """

    prompt_quantile: float = 1.0
    """Leave out tasks whose prompt is longer than this quantile of all prompts, e.g. 0.9."""
    model: str = ""
    """Hub id or folder; empty: the recipe's on a GPU, SmolLM2-135M-Instruct without one."""
    loader: Literal["auto", "unsloth", "transformers"] = "auto"
    """auto takes Unsloth where CUDA and the package are there."""
    chat_template: str = ""
    """A Jinja file in place of the tokenizer's template; `working-out`: the Qwen3 notebooks'."""
    chat_template_kwargs: Kwargs = field(default_factory=dict)
    """Variables of the chat template, e.g. '{reasoning_effort: low}'."""
    load_in_4bit: bool = False
    """Quantise the base model (CUDA only)."""
    standby: bool | None = None
    """vLLM gives its memory to the learner while that computes, and takes it back to write (policy
    vllm). None: where the two have no room beside each other."""
    steps: int = 100
    """Optimiser steps."""
    seed: int = 0
    """Of everything: tasks, sampling, order."""
    output: str = "runs"
    """Where run folders are made."""
    save_every: int = 25
    """Steps between checkpoints."""
    trackers: tuple[Tracker, ...] = ()
    """Where metrics go besides metrics.jsonl. Nothing is uploaded unless asked here."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    sampling: Sampling = field(default_factory=Sampling)
    grpo: GrpoConfig = field(default_factory=GrpoConfig)
    warmup: WarmupConfig = field(default_factory=WarmupConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    recipe: str = ""
    """A recipe by name or YAML file; empty: the env's own, if it has one for this machine."""
    notebook: bool = False
    """Train as the notebook that the recipe comes from does, to compare."""
    config: str = ""
    """A YAML file with these same names."""
    resume: str = ""
    """Continue a run folder; without a value, the newest unfinished one of this env."""
    verify: str = ""
    """Compare this run folder with the measured band of its recipe, and stop; without a value, the
    newest run."""
    dry_run: bool = False
    """Check everything that can be checked, print the resolved config, and stop."""
    plan: str = ""
    """Print what the run takes of the GPU's memory and what is picked for it, and stop; with a
    number: of a card of so many GiB."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("steps", self.steps, 1)
        at_least("save_every", self.save_every, 1)
        if self.standby and self.policy != "vllm":
            raise ValueError(f"standby is for policy=vllm, got policy={self.policy}")
        if self.sampling.temperature == 0:
            raise ValueError(
                "sampling.temperature 0 gives a group of equal completions; train at 1"
            )
        if self.grpo.max_staleness and self.policy == "transformers":
            raise ValueError(
                f"grpo.max_staleness={self.grpo.max_staleness} needs a sampler with weights of "
                "its own: policy vllm or server, got policy=transformers, which writes with the "
                "learner's"
            )
        if self.grpo.max_staleness and self.standby:
            raise ValueError(
                f"grpo.max_staleness={self.grpo.max_staleness} writes while the learner computes, "
                "so the sampler cannot give it its memory: leave standby out"
            )
        mode = self.grpo.vllm_importance_sampling_mode
        if self.policy != "transformers" and self.grpo.loss_type == "vespo" and "token" not in mode:
            raise ValueError(
                "grpo.loss_type=vespo with a sampler apart needs "
                f"grpo.vllm_importance_sampling_mode token_truncate or token_mask, got {mode}"
            )
        if not 0 < self.prompt_quantile <= 1:
            raise ValueError(f"prompt_quantile must be in (0, 1], got {self.prompt_quantile}")

    @property
    def adapters_at_a_time(self) -> int:
        """One, and where it writes ahead those of the steps before."""
        return 1 + self.grpo.max_staleness


@dataclass(frozen=True)
class EvaluateConfig(PolicyFlags, EnvFlags):
    """Scores a model, an adapter or a script on an environment."""

    model: str = ""
    """Hub id or folder, or what the server at --server-url calls it; empty: what that serves, or
    SmolLM2-135M-Instruct."""
    adapter: str = ""
    """Folder of a LoRA adapter, such as a run's `adapter/`."""
    script: Literal["", "gold", "empty", "random"] = ""
    """Instead of a model: the gold answers, nothing, or random text."""
    n: int = 100
    """Tasks; the first ones of the fixed order that training holds out from."""
    k: int = 8
    """Sampled completions of each task; one greedy completion is added."""
    seed: int = 0
    """Of the sampling."""
    load_in_4bit: bool = False
    """Quantise the base model (CUDA only)."""
    sampling: Sampling = field(default_factory=Sampling)
    output: str = ""
    """Write the scores to this JSON file too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("n", self.n, 1)
        at_least("k", self.k, 1)
