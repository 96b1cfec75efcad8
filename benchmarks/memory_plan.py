"""Memory that the plan foresees for a learner, and what it takes on this GPU.

    python benchmarks/memory_plan.py                    # four pairs of model and length, with peft
    python benchmarks/memory_plan.py --loader unsloth   # the same by Unsloth, without vLLM
    python benchmarks/memory_plan.py tiny               # tries the benchmark itself; on a CPU too

A pair is a random model of a recipe's true size and two GRPO steps of `train_agent`'s own learner
on completions of one exact length, which a script writes: what vLLM takes is not in it. Each runs
in a process of its own, one after the other. "used" and "reserved" are torch's
`max_memory_allocated` and `max_memory_reserved`; "cuda" is what the driver says is taken beyond
that, by other programs too. Seconds are of the second step's learning.
A line of JSON for each pair is written to OUT/memory_plan.jsonl (OUT: $OUT or runs/memory_plan).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "typings")]  # a checkout need not be installed

from taskgym.agents.policy import Completion, LockstepPolicy, Request  # noqa: E402

GIB = 2**30
G, P = 8, 2  # completions of a group, and groups of a step


@dataclass(frozen=True)
class Pair:
    """A model of `gpu_models.SHAPES` and completions of one length.

    Attributes:
        shape: Of the model.
        tokens: Of a completion.
        micro_batch: Completions of one pass.
        four_bit: Whether the weights are quantised to nf4.
    """

    shape: str
    tokens: int
    micro_batch: int
    four_bit: bool = False


PAIRS = {
    "qwen3-4b-512": Pair("qwen3-4b", 512, 16),
    "qwen3-4b-2048": Pair("qwen3-4b", 2048, 4),
    "llama3.2-3b-1024": Pair("llama3.2-3b", 1024, 8),
    "llama3.1-8b-nf4-1024": Pair("llama3.1-8b", 1024, 4, four_bit=True),
    "qwen3-4b-512-by-4": Pair("qwen3-4b", 512, 4),  # is a pass of fewer rows slower?
    "tiny": Pair("tiny", 64, 4),
}


class ExactLength(LockstepPolicy):
    """Writes random tokens, always as many."""

    def __init__(self, tokenizer: Any, tokens: int):
        super().__init__()
        self._tokenizer = tokenizer
        self._tokens = tokens

    def _answer(self, requests: list[Request]) -> list[Completion]:
        return [self._write(request) for request in requests]

    def _write(self, request: Request) -> Completion:
        draw = random.Random(request.seed)
        ids = tuple(draw.randrange(100, len(self._tokenizer)) for _ in range(self._tokens))
        text = self._tokenizer.decode(ids)
        logprobs = (-1.0,) * self._tokens
        return Completion(request.request_id, text, ids, logprobs, "length", self._version)


def main() -> None:
    """Runs the pairs, or is one of the processes that do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pairs", nargs="*", help=f"of {', '.join(PAIRS)}")
    parser.add_argument("--loader", default="transformers", choices=("transformers", "unsloth"))
    parser.add_argument("--limit", type=float, default=150, help="seconds of one pair at most")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    out = Path(os.environ.get("OUT") or "runs/memory_plan").resolve()
    out.mkdir(parents=True, exist_ok=True)
    if args.one:
        print("RESULT " + json.dumps(measured(PAIRS[args.one], args.loader)), flush=True)
        return
    head = ("tensors", "used", "ratio", "with gaps", "reserved", "ratio", "cuda", "learning")
    print(f"{'pair':22}" + "".join(f"{name:>10}" for name in head), flush=True)
    for name in args.pairs or list(PAIRS)[:4]:
        run(name, args.loader, args.limit, out)


def run(name: str, loader: str, limit: float, out: Path) -> None:
    """One pair in its process; prints and writes what it found."""
    command = [sys.executable, __file__, "--one", name, "--loader", loader]
    said = ""
    with (out / f"{name}-{loader}.log").open("w") as log:
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=log, text=True, timeout=limit
            )
            said = done.stdout
        except subprocess.TimeoutExpired:
            log.write(f"not done after {limit} s")
    found = next((line for line in said.splitlines() if line.startswith("RESULT ")), None)
    if found is None:
        print(f"{name:22} failed: see {log.name}", flush=True)
        return
    result = {"pair": name, "loader": loader, **json.loads(found.removeprefix("RESULT "))}
    with (out / "memory_plan.jsonl").open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(f"{name:22}" + row(result), flush=True)


def row(found: dict[str, Any]) -> str:
    """GiB foreseen and measured: of tensors alone, then with the gaps of torch's allocator."""
    parts = dict(found["foreseen"])
    parts.pop("CUDA and kernels")
    gapped, used = sum(parts.values()), found["used"]
    tensors = gapped - parts.pop("allocator's gaps")
    if not used:
        return f"{tensors / GIB:10.2f}  nothing is measured without a GPU"
    compared = [tensors / GIB, used / GIB, tensors / used]
    compared += [gapped / GIB, found["reserved"] / GIB, gapped / found["reserved"]]
    cells = [f"{number:10.3f}" for number in [*compared, found["cuda"] / GIB]]
    return "".join(cells) + f"{found['seconds']:9.1f}s"


def measured(pair: Pair, loader: str) -> dict[str, Any]:
    """What the plan says and what two steps take, in bytes."""
    config = made(pair, loader)
    learned = take_steps(config, pair.tokens)
    return learned | {"foreseen": foreseen(config, pair, learned["prompt"])}


def made(pair: Pair, loader: str) -> Any:
    """The config of a pair's run, whose model is made first."""
    from taskgym.agents.policy import Sampling
    from taskgym.training import GrpoConfig, LoraConfig, TrainConfig
    from taskgym.training.environment import prepare_environment

    prepare_environment()
    work = Path(tempfile.gettempdir()) / "taskgym-memory"
    folder = work / pair.shape
    make_whole(pair.shape, str(folder))
    return TrainConfig(
        env="gpu_path_run:Vowels-v0",
        model=str(folder),
        loader=loader,
        load_in_4bit=pair.four_bit,
        steps=2,
        output=str(work / "runs"),
        max_model_len=pair.tokens + 256,
        lora=LoraConfig(rank=32, alpha=64),
        sampling=Sampling(max_tokens=pair.tokens),
        grpo=GrpoConfig(
            num_generations=G,
            groups_per_step=P,
            micro_batch=pair.micro_batch,
            mask_truncated_completions=False,
        ),
    )


def make_whole(shape: str, folder: str) -> None:
    """Makes a model of all its layers, in a process of its own: Unsloth is imported later here."""
    code = (
        f"import gpu_models, pathlib; gpu_models.make_model({shape!r}, 0, pathlib.Path({folder!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def foreseen(config: Any, pair: Pair, prompt: int) -> dict[str, float]:
    """The parts of the plan for this micro-batch."""
    from taskgym.training.memory.plan import Demand, Plan
    from taskgym.training.memory.sizes import Asked, measure

    asked = Asked(
        config.model, config.lora, False, pair.four_bit, prompt, pair.tokens, (pair.micro_batch,)
    )
    demand = Demand(G * P, prompt, pair.tokens, prompt + pair.tokens)
    return Plan(measure(asked), demand, 0.0, pair.micro_batch, standby=False).learning


def take_steps(config: Any, tokens: int) -> dict[str, Any]:
    """Two steps of the learner, and what torch and the driver say they took."""
    from taskgym.training.folder import new_folder
    from taskgym.training.metrics import MetricsFile
    from taskgym.training.models import load_model
    from taskgym.training.sync import Sync
    from taskgym.training.train import plan_tasks

    tasks = plan_tasks(config)
    loaded = load_model(config)
    from taskgym.training.learner import learn

    folder = new_folder(config)
    policy = ExactLength(loaded.tokenizer, tokens)
    learn(config, loaded, policy, Sync(policy, loaded), tasks, folder, None, lambda metrics: None)
    episodes = [json.loads(line) for line in folder.episodes.read_text().splitlines()]
    steps = MetricsFile(folder.metrics).read().steps
    return {
        "prompt": max(len(episode["prompt_ids"]) for episode in episodes),
        "seconds": steps[-1]["seconds/learn"],
        "grad_norm": steps[0]["grad_norm"],
        **taken(),
    }


def taken() -> dict[str, Any]:
    """Bytes at the most; zeros without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {"used": 0, "reserved": 0, "cuda": 0, "device": "cpu"}
    free, total = torch.cuda.mem_get_info()
    return {
        "used": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "cuda": total - free - torch.cuda.memory_reserved(),
        "device": torch.cuda.get_device_name(0),
    }


if __name__ == "__main__":
    main()
