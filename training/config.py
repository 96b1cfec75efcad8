"""What a person may change about a run: frozen dataclasses that become flags, YAML and a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro
import yaml
from taskgym.agents.policy import Sampling

Tracker = Literal["tensorboard", "wandb", "trackio"]
Kwargs = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="YAML",
        instance_from_str=lambda words: _mapping(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [yaml.safe_dump(value, default_flow_style=True).strip()],
    ),
]


_MICRO_BATCH = 16  # where no memory of a GPU says more or less


@dataclass(frozen=True)
class LoraConfig:
    """The adapter."""

    rank: int = 16
    """r, the inner dimension."""
    alpha: int = 32
    """Scale: the update counts alpha / rank."""
    targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of the adapted linear layers."""
    first_layer: int = 0
    """Adapt this layer and those above it; learning gets cheaper the higher it is."""
    language: bool = True
    """Of a vision-language model: adapt the layers that read and write text."""
    vision: bool = False
    """Of a vision-language model: adapt the layers that look at pictures, and the projector."""
    seed: int = 3407
    """Of the adapter's initial weights."""

    def __post_init__(self) -> None:
        _at_least("lora.rank", self.rank, 1)
        _at_least("lora.alpha", self.alpha, 1)
        _at_least("lora.first_layer", self.first_layer, 0)
        if not self.language and not self.vision:
            raise ValueError("lora adapts nothing: lora.language and lora.vision are both off")


@dataclass(frozen=True)
class GrpoConfig:
    """GRPO, by TRL's own names; the defaults are TRL's unless a line says why not."""

    learning_rate: float = 1e-5
    """TRL's 1e-6 is for full weights; adapters learn at about ten times that."""
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    """Shape of the learning rate."""
    warmup_ratio: float = 0.0
    """Share of the steps in which the learning rate rises."""
    num_generations: int = 8
    """G, completions of one task that are compared."""
    groups_per_step: int = 4
    """P, tasks of one optimiser step."""
    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = (
        "dapo"
    )
    """The loss variant."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by the deviation of."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """sequence is GSPO."""
    beta: float = 0.0
    """Weight of the KL to the reference; 0 needs no reference."""
    epsilon: float = 0.2
    """Clip range below, and above unless epsilon_high says."""
    epsilon_high: float | None = None
    """Clip range above."""
    mask_truncated_completions: bool = True
    """Leave truncated episodes out of the loss. TRL's False would punish being cut off."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    weight_decay: float = 0.0
    """Of AdamW."""
    adam_beta2: float = 0.999
    """Of AdamW."""
    optim: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"] = "adamw_torch"
    """The optimiser; the 8-bit ones need bitsandbytes."""
    micro_batch: int = 0
    """Completions of one forward and backward pass; groups are accumulated over these. 0: as many
    as the GPU's memory has room for; without a GPU 16 at most."""
    vllm_importance_sampling_correction: bool = True
    """Weigh the loss by how likely learner and sampler hold what was sampled, when they are apart
    (policy vllm and server)."""
    vllm_importance_sampling_mode: Literal[
        "sequence_mask", "sequence_truncate", "token_mask", "token_truncate"
    ] = "sequence_mask"
    """Ratio of a whole completion or of each token; too large a one is left out or cut."""
    vllm_importance_sampling_clip_max: float = 3.0
    """The largest ratio that counts as it is."""
    vllm_importance_sampling_clip_min: float | None = None
    """The smallest ratio that counts as it is; None: any."""
    max_staleness: int = 0
    """How many optimiser steps older than the learner's the adapter may be that wrote what is
    learned from. 0: learner and sampler take turns. 1: the next step is written while the learner
    computes (policy vllm and server). From 2 on: a process of its own writes so many steps ahead,
    and TRL's asynchronous trainer learns (policy server; see docs/async.md)."""
    max_fresh_groups: int = 0
    """Groups without signal replaced in one step at most, shared out over its positions; each
    costs one more generation."""

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise ValueError(
                "grpo.num_generations must be at least 2 to compare completions, "
                f"got {self.num_generations}"
            )
        _at_least("grpo.groups_per_step", self.groups_per_step, 1)
        _at_least("grpo.max_fresh_groups", self.max_fresh_groups, 0)
        _at_least("grpo.max_staleness", self.max_staleness, 0)
        if self.max_staleness and not self.vllm_importance_sampling_correction:
            raise ValueError(
                f"grpo.max_staleness={self.max_staleness} learns from an older policy, which needs "
                "grpo.vllm_importance_sampling_correction"
            )
        _at_least("grpo.micro_batch", self.micro_batch, 0)
        if self.completions % self.rows:
            raise ValueError(
                f"grpo.micro_batch must divide the {self.completions} completions of a step "
                f"(num_generations x groups_per_step), got {self.micro_batch}"
            )

    @property
    def asynchronous(self) -> bool:
        """Whether a process of its own writes ahead of the learner."""
        return self.max_staleness > 1

    @property
    def completions(self) -> int:
        """Of one step."""
        return self.num_generations * self.groups_per_step

    @property
    def rows(self) -> int:
        """Completions of one pass."""
        if self.micro_batch:
            return min(self.micro_batch, self.completions)
        return max(n for n in range(1, _MICRO_BATCH + 1) if self.completions % n == 0)


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
            _at_least(f"warmup.{name}", getattr(self, name), 1)


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
        _at_least("evaluation.tasks", self.tasks, 0)
        _at_least("evaluation.samples", self.samples, 1)


@dataclass(frozen=True)
class EnvFlags:
    """Which env, and on which rows."""

    env: str = "Arithmetic-v0"
    """Env id; `module:Id-v0` imports the module first, the working directory included."""
    data: str = ""
    """Rows of a dataset env: a hub id, a `.jsonl` or `.parquet`, or `sample`; empty: the env's."""
    split: str = ""
    """Split of the data; empty: the env's own default."""
    columns: dict[str, str] = field(default_factory=dict)
    """Where the rows keep `question` and `answer`, if not under those names."""
    env_kwargs: Kwargs = field(default_factory=dict)
    """More keyword arguments for the env, e.g. '{numeric: true}'."""

    def make_kwargs(self) -> dict[str, Any]:
        """The keyword arguments for `gymnasium.make`."""
        named = {"data": self.data, "split": self.split, "columns": self.columns}
        return {**{name: value for name, value in named.items() if value}, **self.env_kwargs}


@dataclass(frozen=True)
class PolicyFlags:
    """Where completions come from."""

    policy: Literal["transformers", "vllm", "server"] = "transformers"
    """transformers: the learner's own model, batch by batch. vllm: an engine in this process.
    server: vLLM's servers at --server-url, or one started and stopped by us; evaluation takes any
    OpenAI-compatible ones."""
    server_url: tuple[str, ...] = ()
    """Running servers of one model, such as http://node1:8000 http://node2:8000; their key is read
    from OPENAI_API_KEY."""
    server_connections: int = 64
    """Requests to each server under way at once."""
    server_timeout: float = 600.0
    """Seconds until a request to a server counts as lost and is sent again."""
    gpu_memory_utilization: float = 0.0
    """Share of the GPU's memory for vLLM's weights and cache. 0: what the learner leaves and a
    step's completions can use; nine tenths where nothing is learned."""
    decode_rows: int = 0
    """Completions that the learner's own model writes together (policy transformers); 0: as many as
    the GPU's memory has room for, 256 at most."""
    max_model_len: int = 0
    """Tokens of a prompt and its completions at most; 0: the model's own limit."""

    def __post_init__(self) -> None:
        _at_least("server_connections", self.server_connections, 1)
        _at_least("decode_rows", self.decode_rows, 0)
        _at_least("max_model_len", self.max_model_len, 0)
        if self.server_timeout <= 0:
            raise ValueError(f"server_timeout must be above 0, got {self.server_timeout}")
        if not 0 <= self.gpu_memory_utilization < 1:
            raise ValueError(
                f"gpu_memory_utilization must be in [0, 1), got {self.gpu_memory_utilization}"
            )
        if len(set(self.server_url)) < len(self.server_url):
            raise ValueError(f"server_url names a server twice: {' '.join(self.server_url)}")
        if self.server_url and self.policy != "server":
            raise ValueError(f"server_url is for policy=server, got policy={self.policy}")


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
        _at_least("steps", self.steps, 1)
        _at_least("save_every", self.save_every, 1)
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
        _at_least("n", self.n, 1)
        _at_least("k", self.k, 1)


def _mapping(text: str) -> dict[str, Any]:
    value = yaml.safe_load(text)
    if not isinstance(value, dict):
        raise ValueError(f"names and values are wanted, such as '{{numeric: true}}', got {text!r}")
    return value


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
