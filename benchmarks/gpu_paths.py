"""Every way to load and sample a model on a GPU: two GRPO steps each, and is what was saved right?

    python benchmarks/gpu_paths.py                 # all paths, in the order of --list
    python benchmarks/gpu_paths.py hf-16bit gpt-oss --layers 0      # some, at full depth
    python benchmarks/gpu_paths.py --list

Each path makes a random model of a recipe's architecture (`gpu_models.py`; reduced to --layers
unless 0), trains it by `train_agent`'s own loop, and then asks two strangers about the saved
adapter: vLLM, which loads the files, and plain transformers + peft in a fresh process. Their
log-probabilities must agree far better than the adapter changes them.

Paths run one after another in processes of their own, each with a time limit. A line is printed
when one is done, and written to OUT/results.jsonl (OUT: $OUT or runs/gpu_paths); OUT/gpu_paths.log
holds what they said. Paths that are in results.jsonl as "ok" are skipped unless --again.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # its kernels are built at run time, by a compiler
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}
EAGER = {"UNSLOTH_COMPILE_DISABLE": "1"}
MOST_TOKENS = 96  # of the fixed text that is scored
SEEN = 10.0  # how many times the gap the adapter's own effect must be


@dataclass(frozen=True)
class Path_:
    """One way to load and sample.

    Attributes:
        shape: Of `gpu_models.SHAPES`.
        flags: Of `TrainConfig`, besides those that all paths have.
        environment: Variables it needs.
        fp8: Whether the base is a block-scaled FP8 checkpoint.
        seconds: It is ended after this long.
        layers: Most layers, where even a few are large.
    """

    shape: str
    flags: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    fp8: bool = False
    seconds: float = 240.0
    layers: int = 0


_UNSLOTH = {"loader": "unsloth", "policy": "vllm"}
_PLAIN = {"loader": "transformers", "policy": "vllm"}
_ATTENTION = {"lora": {"targets": ("q_proj", "k_proj", "v_proj", "o_proj")}}

PATHS = {
    "compile-default": Path_("qwen3-4b", _UNSLOTH, seconds=130),
    "unsloth-16bit": Path_("qwen3-4b", _UNSLOTH, EAGER),
    "compile-one-worker": Path_(
        "qwen3-4b", _UNSLOTH, {"UNSLOTH_FORCE_SINGLE_COMPILE_WORKER": "1"}, seconds=130
    ),
    "compile-partial": Path_(
        "qwen3-4b", _UNSLOTH, {"UNSLOTH_COMPILE_DISABLE": "partial"}, seconds=130
    ),
    "hf-16bit": Path_("llama3.2-3b", _PLAIN),
    "unsloth-4bit": Path_("llama3.1-8b", _UNSLOTH | {"load_in_4bit": True}, EAGER),
    "unsloth-fp8": Path_("qwen3-8b", _UNSLOTH, EAGER, fp8=True),
    "unsloth-standby": Path_("qwen3-4b", _UNSLOTH | {"standby": True}, EAGER),
    "gpt-oss": Path_("gpt-oss-20b", _PLAIN | _ATTENTION, layers=4),
    "hf-standby": Path_("llama3.2-3b", _PLAIN | {"standby": True}),
    "hf-4bit": Path_("llama3.1-8b", _PLAIN | {"load_in_4bit": True}),
}


def main() -> None:
    """Runs the named paths, or is one of the processes that do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PATHS))
    parser.add_argument("--layers", type=int, default=4, help="of each model; 0: all (4)")
    parser.add_argument("--list", action="store_true", help="the names, in order")
    parser.add_argument("--again", action="store_true", help="run those too that are done")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # NAME FILE: in this process
    parser.add_argument("--score", nargs=3, help=argparse.SUPPRESS)  # BASE ADAPTER BITS
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PATHS):
        parser.error(f"no such path: {', '.join(unknown)}; there are {', '.join(PATHS)}")
    if arguments.list:
        print("\n".join(PATHS))
    elif arguments.score:
        base, adapter, bits = arguments.score
        print("LOGPROBS", json.dumps(score_plainly(base, adapter, bits == "4")))
    elif arguments.one:
        name, result = arguments.one
        Path(result).write_text(json.dumps(run_here(name, arguments.layers)))
    else:
        sys.exit(run_all(arguments.names or list(PATHS), arguments.layers, arguments.again))


def run_all(names: Sequence[str], layers: int, again: bool) -> int:
    """Runs paths one after another; returns how many failed."""
    out = Path(os.environ.get("OUT") or ROOT / "runs" / "gpu_paths")
    out.mkdir(parents=True, exist_ok=True)
    results = out / "results.jsonl"
    done = {r["path"] for r in _read(results) if r["ok"]}
    failed = 0
    for name in names:
        if name in done and not again:
            print(f"{name}: done before")
            continue
        result = run_apart(name, layers, out / "gpu_paths.log")
        with results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(line(result), flush=True)
        failed += not result["ok"]
    return failed


def run_apart(name: str, layers: int, log: Path) -> dict[str, Any]:
    """Runs a path in a process of its own and reads what came of it."""
    path = PATHS[name]
    environment = {**os.environ, **SETTINGS, **path.environment, "PYTHONPATH": _python_path()}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, log.open("a") as said:
        result = Path(folder) / "result.json"
        said.write(f"\n######## {name} {path}\n")
        said.flush()
        command = [sys.executable, __file__, "--one", name, str(result), "--layers", str(layers)]
        process = subprocess.Popen(
            command, stdout=said, stderr=said, env=environment, start_new_session=True
        )
        ended = _wait(process, path.seconds, said)
        found = json.loads(result.read_text()) if result.exists() else {}
    wall = time.perf_counter() - began
    why = found.get("why") or ("" if found else ended)
    return {"path": name, "ok": not why, "why": why, "wall_s": round(wall, 1), **found}


def run_here(name: str, layers: int) -> dict[str, Any]:
    """Trains, saves, reloads and compares; the numbers of one path."""
    import torch

    faulthandler.dump_traceback_later(45, repeat=True)
    path = PATHS[name]
    depth = min(layers or path.layers, path.layers) if path.layers else layers
    with tempfile.TemporaryDirectory() as work:
        began = time.perf_counter()
        plain, base = make_base(path, depth, Path(work))
        made = time.perf_counter() - began
        found = train(config_for(path, base, Path(work) / "runs"), plain)
    found |= {"shape": path.shape, "layers": depth, "seconds_model": round(made, 1)}
    found["reserved_gib"] = round(torch.cuda.max_memory_reserved() / 2**30, 1)
    found["device"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    gap, effect = found["gap"], found["effect"]
    found["why"] = "" if gap * SEEN <= effect else f"reloaded adapter: gap {gap}, effect {effect}"
    return found


def make_base(path: Path_, layers: int, work: Path) -> tuple[Path, Path]:
    """A 16-bit folder that plain transformers can load, and the one that is trained on."""
    from gpu_models import make_fp8, make_model

    plain = make_model(path.shape, layers, work / path.shape)
    return plain, make_fp8(plain, work / f"{path.shape}-fp8") if path.fp8 else plain


def config_for(path: Path_, base: Path, output: Path) -> Any:
    """Two steps of 4 groups of 8, with a learning rate that moves a random model visibly."""
    from taskgym.agents.policy import Sampling
    from taskgym.training.config import GrpoConfig, LoraConfig, TrainConfig

    flags = dict(path.flags)
    lora = LoraConfig(rank=32, alpha=64, **flags.pop("lora", {}))
    return TrainConfig(
        env="gpu_paths:Vowels-v0",
        model=str(base),
        steps=2,
        output=str(output),
        max_model_len=1024,
        gpu_memory_utilization=0.35,
        lora=lora,
        sampling=Sampling(max_tokens=128),
        # A random model never ends its turn, so that every completion is truncated.
        grpo=GrpoConfig(learning_rate=5e-3, micro_batch=8, mask_truncated_completions=False),
        **flags,
    )


def train(config: Any, plain: Path) -> dict[str, Any]:
    """`train_agent`'s own loop, and a look at the saved adapter while the sampler is still open."""
    from taskgym.training import train as training
    from taskgym.training.environment import prepare_environment
    from taskgym.training.metrics import MetricsFile

    prepare_environment()
    found: dict[str, Any] = {}
    usual = training._policy

    @contextlib.contextmanager
    def watched(config: Any, loaded: Any, folder: Any) -> Iterator[Any]:
        with usual(config, loaded, folder) as policy:
            found["seconds_start"] = round(time.perf_counter() - began, 1)
            yield policy
            found.update(compare(policy, loaded.tokenizer, folder.adapter, plain, config))

    training._policy = watched
    began = time.perf_counter()
    folder = training.train(config)
    steps = MetricsFile(folder.metrics).read().steps
    names = ("step_time", "seconds/generate", "seconds/sync", "tokens_per_second", "reward")
    names += ("sampling/canary_gap", "grad_norm", "loss")
    for name in names:
        found[name] = [round(float(step[name]), 4) for step in steps if name in step]
    return found


def compare(
    policy: Any, tokenizer: Any, adapter: Path, plain: Path, config: Any
) -> dict[str, float]:
    """How far vLLM and plain peft are apart on the saved adapter, in nats a token."""
    from taskgym.agents.adapter import Adapter

    ids = fixed_ids(tokenizer)
    policy.load_adapter(Adapter.read(adapter), 1000)
    with_adapter = policy.score(ids)
    policy.load_adapter(None, 1001)
    without = policy.score(ids)
    if hasattr(policy, "rest"):
        policy.rest()  # room for the fresh process
    bits = "4" if config.load_in_4bit else "16"
    command = [sys.executable, __file__, "--score", str(plain), str(adapter), bits]
    fresh = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    said = next(row for row in fresh.splitlines() if row.startswith("LOGPROBS "))
    plainly = json.loads(said.removeprefix("LOGPROBS "))
    return {"gap": _apart(with_adapter, plainly), "effect": _apart(with_adapter, without)}


def score_plainly(base: str, adapter: str, four_bit: bool) -> list[float]:
    """The log-probabilities of the fixed text by transformers + peft and nothing else."""
    import torch
    from taskgym.training.models import load_for_sampling

    model, tokenizer = load_for_sampling(base, adapter, four_bit)
    ids = torch.tensor([fixed_ids(tokenizer)], device=model.device)
    with torch.no_grad():
        logits_TV = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
    found = logits_TV.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return [float(value) for value in found]


def fixed_ids(tokenizer: Any) -> list[int]:
    """The canary's text."""
    from taskgym.training.canary import TEXT

    ids: list[int] = tokenizer.encode(TEXT, add_special_tokens=False)[:MOST_TOKENS]
    return ids


def line(result: dict[str, Any]) -> str:
    """One path in one line."""
    if not result["ok"]:
        return f"{result['path']:20} FAILED after {result['wall_s']:.0f} s: {result['why']}"
    steps = "/".join(f"{seconds:.1f}" for seconds in result["step_time"])
    return (
        f"{result['path']:20} ok in {result['wall_s']:.0f} s ({result['shape']}, "
        f"{result['layers'] or 'all'} layers): start {result['seconds_start']} s, steps {steps} s, "
        f"reserved {result['reserved_gib']} GiB, gap {result['gap']:.4f} of {result['effect']:.2f}"
    )


def _wait(process: subprocess.Popen[bytes], seconds: float, log: Any) -> str:
    """How it ended; one that takes too long is asked where it is, and ended."""
    try:
        return f"exit code {process.wait(seconds)}; see gpu_paths.log"
    except subprocess.TimeoutExpired:
        log.write(f"\n#### not done after {seconds:.0f} s; where its processes are:\n")
        log.flush()
        _dump_stacks(process.pid, log)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"not done after {seconds:.0f} s; the stacks are in gpu_paths.log"


def _dump_stacks(leader: int, log: Any) -> None:
    """Stacks of every process of the session, by py-spy where it is installed."""
    places = [shutil.which("py-spy"), *(f"{entry}/bin/py-spy" for entry in sys.path)]
    spy = next((place for place in places if place and Path(place).exists()), None)
    if spy is None:
        return
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit() and os.getsid(int(entry.name)) == leader:
                log.write(f"\n## {entry.name}: {(entry / 'cmdline').read_text()[:300]}\n")
                log.flush()
                command = [sys.executable, spy] if not os.access(spy, os.X_OK) else [spy]
                subprocess.run(
                    [*command, "dump", "--pid", entry.name], stdout=log, stderr=log, timeout=20
                )


def _python_path() -> str:
    """So that a checkout that was never installed can be imported, and this file for its env."""
    return os.pathsep.join([str(ROOT / "typings"), str(ROOT / "benchmarks"), *sys.path[1:]])


def _apart(some: Sequence[float], others: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(some, others, strict=True)) / len(some)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []


def register() -> None:
    """The env of these runs: even a random model earns something, and never the same."""
    import gymnasium as gym
    from taskgym.envs import Rubric, Task
    from taskgym.envs.arithmetic import Arithmetic

    def vowels(completion: str, task: Task) -> float:
        letters = [c for c in completion.lower() if c.isalpha()]
        return sum(c in "aeiou" for c in letters) / max(len(letters), 1)

    class Vowels(Arithmetic):
        """Sums whose answers are paid by their share of vowels."""

        rubric = Rubric({"vowels": (vowels, 1.0)})

        def solved(self, completion: str, task: Task, rewards: Any) -> bool:
            return False

    gym.register("Vowels-v0", entry_point=Vowels)


if __name__ == "__main__":
    main()
else:  # imported by `--env gpu_paths:Vowels-v0`
    register()
