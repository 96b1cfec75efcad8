"""One path of `gpu_paths.py` in this process: make the model, train, save, reload, compare.

Also the env of these runs, `--env gpu_path_run:Vowels-v0`: even a random model earns something.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "typings")]  # a checkout need not be installed

from taskgym.envs import Rubric, Task  # noqa: E402
from taskgym.envs.arithmetic import Arithmetic  # noqa: E402

TOO_LATE = 30.0  # seconds: a path is not started with less
MOST_TOKENS = 96  # of the fixed text that is scored
SEEN = 5.0  # how many times the gap the adapter's own effect must be
SLACK = 2.0  # how many times the noise without an adapter the gap may be
LEAST_NOISE = 5e-3  # nats a token
CACHE = 2 * 2**30  # bytes of vLLM's cache where it is fixed


@dataclass(frozen=True)
class Way:
    """One way to load and sample.

    Attributes:
        shape: Of `gpu_models.SHAPES`.
        flags: Of `TrainConfig`, besides those that all paths have.
        environment: Variables it needs.
        fp8: Whether the base is a block-scaled FP8 checkpoint.
        seconds: It is ended after this long.
        layers: Most layers, where even a few are large.
        recipe: Whose settings it has, all but the env; always at full depth.
        card: GiB that a smaller card would have: the rest of this one is held meanwhile.
        tokens: Of a completion.
        hangs: Whether it is known to hang, so that where it is is written down now and then.
    """

    shape: str
    flags: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    fp8: bool = False
    seconds: float = 400.0
    layers: int = 0
    recipe: str = ""
    card: int = 0
    tokens: int = 128
    hangs: bool = False


_UNSLOTH = {"loader": "unsloth", "policy": "vllm"}
_PLAIN = {"loader": "transformers", "policy": "vllm"}
_ATTENTION = {"lora": {"targets": ("q_proj", "k_proj", "v_proj", "o_proj")}}
_COMPILED = {"UNSLOTH_COMPILE_DISABLE": "0"}
_FP8 = {"VLLM_USE_DEEP_GEMM": "0"}  # else its kernels are built by a compiler, one by one

PATHS = {
    "unsloth-fp8": Way("qwen3-8b", _UNSLOTH, _FP8, fp8=True),
    "gpt-oss": Way("gpt-oss-20b", _PLAIN | _ATTENTION, layers=2),
    "unsloth-4bit": Way("llama3.1-8b", _UNSLOTH | {"load_in_4bit": True}),
    "unsloth-standby": Way("qwen3-4b", _UNSLOTH | {"standby": True}),
    "compile-default": Way("qwen3-4b", _UNSLOTH, _COMPILED, hangs=True),
    "compile-no-grouper": Way(
        "qwen3-4b", _UNSLOTH, _COMPILED | {"UNSLOTH_GRPO_PREFIX_GROUPER": "0"}, hangs=True
    ),
    "unsloth-gpt-oss": Way(
        "gpt-oss-20b",
        {"loader": "unsloth", "policy": "transformers"} | _ATTENTION,
        layers=2,
    ),
    "hf-4bit": Way("llama3.1-8b", _PLAIN | {"load_in_4bit": True}),
    "hf-standby": Way("llama3.2-3b", _PLAIN | {"standby": True}),
    "compile-one-worker": Way(
        "qwen3-4b", _UNSLOTH, _COMPILED | {"UNSLOTH_FORCE_SINGLE_COMPILE_WORKER": "1"}, hangs=True
    ),
    "compile-partial": Way("qwen3-4b", _UNSLOTH, {"UNSLOTH_COMPILE_DISABLE": "partial"}),
    "unsloth-16bit": Way("qwen3-4b", _UNSLOTH),
    "hf-16bit": Way("llama3.2-3b", _PLAIN),
    "llama3.1-8b-gsm8k-16gb": Way("llama3.1-8b", {}, recipe="llama3.1-8b-gsm8k-16gb", card=16),
    "qwen3-4b-dapo-24gb": Way("qwen3-4b", {}, recipe="qwen3-4b-dapo-24gb", card=24),
    "tiny": Way("tiny", _PLAIN, tokens=8),  # these two run on a CPU as well
    "tiny-shared": Way("tiny", {"loader": "transformers", "policy": "transformers"}, tokens=8),
}


def run_here(name: str, layers: int, work: Path, as_is: bool) -> dict[str, Any]:
    """Trains, saves, reloads and compares; the numbers of one path.

    Args:
        name: Of the path.
        layers: Of the model, 0 for all.
        work: Where models are, made once for all paths, and runs go.
        as_is: Whether vLLM starts as a run does.
    """
    import torch

    way = PATHS[name]
    depth = 0 if way.recipe else layers
    if way.layers:
        depth = min(layers or way.layers, way.layers)
    began = time.perf_counter()
    # In a process of its own, since Unsloth wants to be imported before transformers.
    make = f"import gpu_path_run as g; g.make_base({name!r}, {depth}, {str(work)!r})"
    subprocess.run([sys.executable, "-c", make], check=True)
    plain, base = folders(way, depth, work)
    made = time.perf_counter() - began
    found = train(config_for(way, base, work / f"runs-{name}"), plain, as_is)
    found |= {"shape": way.shape, "layers": depth, "seconds_model": round(made, 1)}
    found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 1)
    found["device"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    gap, noise, effect = found["gap"], found["noise"], found["effect"]
    right = gap <= max(SLACK * noise, LEAST_NOISE) and SEEN * gap <= effect
    found["why"] = "" if right else f"reloaded: gap {gap}, noise {noise}, effect {effect}"
    return found


def folders(way: Way, layers: int, work: Path) -> tuple[Path, Path]:
    """The 16-bit folder that plain transformers load, and the one that is trained on."""
    plain = work / f"{way.shape}-{layers}"
    return plain, work / f"{plain.name}-fp8" if way.fp8 else plain


def make_base(name: str, layers: int, work: str) -> None:
    """Makes both."""
    from gpu_models import make_fp8, make_model

    way = PATHS[name]
    plain, base = folders(way, layers, Path(work))
    make_model(way.shape, layers, plain)
    if way.fp8:
        make_fp8(plain, base)


def config_for(way: Way, base: Path, output: Path) -> Any:
    """Two steps of 4 groups of 8, with a learning rate that moves a random model visibly."""
    from taskgym.agents.policy import Sampling
    from taskgym.training import GrpoConfig, LoraConfig, TrainConfig

    if way.recipe:
        return recipe_config(way, base, output)
    flags = dict(way.flags)
    lora = LoraConfig(rank=32, alpha=64, **flags.pop("lora", {}))
    return TrainConfig(
        env="gpu_path_run:Vowels-v0",
        model=str(base),
        steps=2,
        output=str(output),
        max_model_len=1024,
        gpu_memory_utilization=0.12,
        lora=lora,
        sampling=Sampling(max_tokens=way.tokens),
        # A random model never ends its turn, so that every completion is truncated.
        grpo=GrpoConfig(learning_rate=2e-2, micro_batch=8, mask_truncated_completions=False),
        **flags,
    )


def recipe_config(way: Way, base: Path, output: Path) -> Any:
    """Two steps of a recipe on the vowels: no warm-up, no evaluation, no groups drawn anew."""
    import torch
    from taskgym.training.cli import parse_train_config

    made = parse_train_config(["--recipe", way.recipe])
    total = torch.cuda.mem_get_info()[1] / 2**30
    share = made.gpu_memory_utilization * (way.card or total) / total
    grpo = dataclasses.replace(
        made.grpo, learning_rate=2e-2, max_fresh_groups=0, mask_truncated_completions=False
    )
    return dataclasses.replace(
        made,
        env="gpu_path_run:Vowels-v0",
        env_kwargs={},
        model=str(base),
        steps=2,
        output=str(output),
        prompt_quantile=1.0,
        gpu_memory_utilization=share,
        chat_template="",
        warmup=dataclasses.replace(made.warmup, data=""),
        evaluation=dataclasses.replace(made.evaluation, tasks=0),
        grpo=grpo,
    )


def train(config: Any, plain: Path, as_is: bool) -> dict[str, Any]:
    """`train_agent`'s own loop, and a look at the saved adapter while the sampler is still open."""
    from taskgym.training import train as training
    from taskgym.training.environment import prepare_environment
    from taskgym.training.metrics import MetricsFile
    from taskgym.training.unsloth_loader import import_unsloth

    prepare_environment()
    found: dict[str, Any] = {}
    usual = training._policy

    @contextlib.contextmanager
    def watched(config: Any, loaded: Any, folder: Any) -> Iterator[Any]:
        with usual(config, loaded, folder) as policy:
            found["seconds_start"] = round(time.perf_counter() - began, 1)
            yield policy
            found.update(compare(policy, loaded, folder.adapter, plain, config))

    training._policy = watched
    began = time.perf_counter()
    if config.loader == "unsloth":
        import_unsloth(config)
    if config.policy == "vllm" and not as_is:
        start_quickly()
    folder = training.train(config)
    steps = MetricsFile(folder.metrics).read().steps
    names = ("step_time", "seconds/generate", "seconds/sync", "tokens_per_second", "reward")
    names += ("sampling/canary_gap", "grad_norm", "loss")
    for name in names:
        found[name] = [round(float(step[name]), 4) for step in steps if name in step]
    return found


def start_quickly() -> None:
    """VLLM without compiling, CUDA graphs and a measurement of memory that others disturb."""
    from vllm.engine.arg_utils import EngineArgs

    usual = EngineArgs.create_engine_config

    def quick(self: Any, *arguments: Any, **named: Any) -> Any:
        self.enforce_eager, self.kv_cache_memory_bytes = True, CACHE
        return usual(self, *arguments, **named)

    EngineArgs.create_engine_config = quick


def compare(policy: Any, loaded: Any, adapter: Path, plain: Path, config: Any) -> dict[str, float]:
    """How far the sampler and plain peft are apart on the saved adapter, in nats a token.

    `noise` is how far they are apart without an adapter, `effect` what the adapter changes. A
    policy that is the learner itself reads the files back into it.
    """
    from taskgym.agents.adapter import Adapter

    ids = fixed_ids(loaded.tokenizer)
    if hasattr(policy, "score"):
        policy.load_adapter(Adapter.read(adapter), 1000)
        with_adapter = policy.score(ids)
        policy.load_adapter(None, 1001)
        without = policy.score(ids)
    else:
        with_adapter, without = score_reloaded(loaded.model, adapter, ids)
    if hasattr(policy, "rest"):
        policy.rest()  # room for the fresh process
    bits = "4" if config.load_in_4bit else "16"
    script = str(ROOT / "benchmarks" / "gpu_paths.py")
    command = [sys.executable, script, "--score", str(plain), str(adapter), bits]
    fresh = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    said = next(row for row in fresh.splitlines() if row.startswith("LOGPROBS "))
    plainly = json.loads(said.removeprefix("LOGPROBS "))
    return {
        "gap": _apart(with_adapter, plainly["with"]),
        "noise": _apart(without, plainly["without"]),
        "effect": _apart(with_adapter, without),
    }


def score_reloaded(model: Any, adapter: Path, ids: list[int]) -> tuple[list[float], list[float]]:
    """By the learner, its adapter overwritten with zeros and then read back from the files."""
    import torch
    from taskgym.agents.transformers_policy import load_adapter_weights
    from taskgym.training.canary import _logprobs

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.zero_()
    without = _logprobs(model, ids)
    load_adapter_weights(model, adapter)
    return _logprobs(model, ids), without


def score_plainly(base: str, adapter: str, four_bit: bool) -> dict[str, list[float]]:
    """The log-probabilities of the fixed text by transformers + peft and nothing else."""
    from taskgym.training.canary import _logprobs
    from taskgym.training.models import load_for_sampling

    model, tokenizer = load_for_sampling(base, adapter, four_bit)
    ids = fixed_ids(tokenizer)
    with model.disable_adapter():
        without = _logprobs(model, ids)
    return {"with": _logprobs(model, ids), "without": without}


def fixed_ids(tokenizer: Any) -> list[int]:
    """The canary's text."""
    from taskgym.training.canary import TEXT

    ids: list[int] = tokenizer.encode(TEXT, add_special_tokens=False)[:MOST_TOKENS]
    return ids


def _apart(some: Sequence[float], others: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(some, others, strict=True)) / len(some)


def vowels(completion: str, task: Task) -> float:
    """The share of vowels among the letters."""
    letters = [c for c in completion.lower() if c.isalpha()]
    return sum(c in "aeiou" for c in letters) / max(len(letters), 1)


class Vowels(Arithmetic):
    """Sums whose answers are paid by their share of vowels."""

    rubric = Rubric({"vowels": (vowels, 1.0)})

    def solved(self, completion: str, task: Task, rewards: Any) -> bool:
        """Nobody is after the sum."""
        return False


gym.register("Vowels-v0", entry_point=Vowels)
