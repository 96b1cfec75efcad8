"""Seconds a step and completions a second by `grpo.max_staleness`, beside one vLLM server.

    python benchmarks/asynchronous.py [--model FOLDER] [--staleness 0 1 2 4] [--steps 12]

Whole runs of `train_agent`, one after the other, on a server that is started once and has a share
of the same GPU (without a GPU: where vLLM for CPUs is installed, on the same cores). The peer is
the run with 0: TRL's `GRPOTrainer`, in turn with the sampler. Medians over the steps after the
first three.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from taskgym.agents.vllm_server import VllmServer
from taskgym.training import LoraConfig
from taskgym.training.devices import has_cuda
from taskgym.training.environment import prepare_environment
from taskgym.training.metrics import MetricsFile
from taskgym.training.readers import find_model

_SKIPPED = 3  # steps in which kernels are compiled and nothing was played ahead yet
_TIMES = ("wait", "learn", "sync", "canary")  # of which a step consists


@contextmanager
def served(model: str, most: int, args: argparse.Namespace, folder: Path) -> Iterator[VllmServer]:
    """VLLM's server on this model, with room for the adapters of so many versions."""
    cuda = has_cuda()
    server = VllmServer(
        model,
        dtype="bfloat16" if cuda else "float32",
        max_lora_rank=args.rank,
        max_model_len=args.context,
        gpu_memory_utilization=args.share,
        on_cpu=not cuda,
        log=folder / "server.log",
        max_loras=2 + most,
        lora_targets=LoraConfig().targets,
    )
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def run(model: str, staleness: int, server: VllmServer, args: argparse.Namespace) -> list[Any]:
    """What `train_agent` measured with this staleness, step by step."""
    output = server.log.parent / f"staleness-{staleness}"
    flags = {
        "env": args.env,
        "model": model,
        "output": output,
        "policy": "server",
        "server-connections": 512,
        "loader": "transformers",
        "max-model-len": args.context,
        "steps": args.steps,
        "save-every": args.steps,
        "evaluation.tasks": 0,
        "warmup.data": "",
        "lora.rank": args.rank,
        "sampling.max-tokens": args.tokens,
        "grpo.max-staleness": staleness,
        "grpo.groups-per-step": args.groups,
        "grpo.num-generations": args.members,
        "grpo.micro-batch": args.micro_batch,
        "grpo.max-fresh-groups": 0,
        "grpo.loss-type": "dapo",
        "grpo.scale-rewards": "group",
    }
    command = [sys.executable, "-m", "taskgym.training.commands.train_agent"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    subprocess.run(
        [*command, "--grpo.no-mask-truncated-completions", "--server-url", server.url],
        env={**os.environ, "OPENAI_API_KEY": server.key},
        check=True,
    )
    (metrics,) = output.glob("*/metrics.jsonl")
    return MetricsFile(metrics).read().steps


def row(staleness: int, steps: Sequence[Any], completions: int, peer: float) -> tuple[str, float]:
    """A line of the table, and the seconds of a step."""
    counted = steps[_SKIPPED:]
    # The last step brings no adapter where one is played ahead.
    times = [[s.get(f"seconds/{t}", 0.0) for t in ("generate", *_TIMES)] for s in counted]
    seconds = statistics.median(sum(spent[1:]) for spent in times)
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    oldest = max(s.get("sampling/staleness_max", s["sampling/staleness"]) for s in steps)
    stale = sum(s["sampling/stale"] for s in steps)
    told = " ".join(f"{value:8.2f}" for value in medians)
    ratio = (peer or seconds) / seconds
    line = f"{staleness:9} {seconds:8.2f} {completions / seconds:13.1f} {ratio:6.2f} {told}"
    return f"{line} {oldest:7.0f} {stale:6.0f}", seconds


def main() -> None:
    """Runs each and prints the table."""
    args = parsed()
    prepare_environment()
    model, completions = find_model(args.model, sees=False), args.groups * args.members
    lines, peer = [], 0.0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(served(model, max(args.staleness), args, folder))
        for staleness in args.staleness:
            steps = run(model, staleness, server, args)
            line, seconds = row(staleness, steps, completions, peer)
            peer = peer or seconds
            lines.append(line)
    times = " ".join(f"{name:>8}" for name in ("generate", *_TIMES))
    print(f"{args.env}, {completions} completions a step of at most {args.tokens} tokens, {model}")
    print(f"{'staleness':9} {'s/step':>8} {'completions/s':>13} {'ratio':>6} {times} oldest  stale")
    print("\n".join(lines))


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="", help="folder or hub id; empty: SmolLM2-135M")
    parser.add_argument("--env", default="Countdown-v0")
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--groups", type=int, default=16, help="P, tasks of one step")
    parser.add_argument("--members", type=int, default=8, help="G, completions of one task")
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=256, help="of a completion, at most")
    parser.add_argument("--context", type=int, default=1024, help="tokens of prompt and completion")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--share", type=float, default=0.3, help="of the GPU's memory, for vLLM")
    return parser.parse_args()


if __name__ == "__main__":
    main()
