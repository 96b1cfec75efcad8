"""A first step that does not fit: a learner with all of this GPU's memory, and with too little.

    python benchmarks/full_memory.py                    # Qwen3 4B's shape, with peft
    python benchmarks/full_memory.py --loader unsloth   # by Unsloth, without vLLM
    python benchmarks/full_memory.py --pair tiny        # tries the benchmark, on a CPU too

Two steps of `train_agent`'s own learner on completions that a script writes (`memory_plan.py`), in
a process of its own each: first with all memory, then with nine tenths of what that took. "begun"
says how often a step began, "gradient" is the norm of the first step's, and "ratio" that to the
one with all memory. Half the rows of a pass should do: one line says so, and the ratio is 1 up to
the rounding of bfloat16.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from typing import Any

from memory_plan import GIB, PAIRS, made, take_steps

_SHARE = 0.9  # more than half the rows take, less than all of them do


def main() -> None:
    """Runs both, or is one of the processes that do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pair", default="qwen3-4b-512", choices=PAIRS)
    parser.add_argument("--loader", default="transformers", choices=("transformers", "unsloth"))
    parser.add_argument("--room", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.room is not None:
        print("RESULT " + json.dumps(learned(args.pair, args.loader, args.room)), flush=True)
        return
    print(f"{'memory':14}{'begun':>8}{'most used':>12}{'gradient':>12}{'ratio':>9}{'learning':>10}")
    whole = run(args.pair, args.loader, 0)
    show("all", whole, whole)
    room = _SHARE * whole["used"]
    show(f"{room / GIB:.2f} GiB", run(args.pair, args.loader, room), whole)


def run(pair: str, loader: str, room: float) -> dict[str, Any]:
    """One process; what it says beside its numbers is shown."""
    command = [sys.executable, __file__, "--pair", pair, "--loader", loader, "--room", str(room)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=250)
    line = next(line for line in said.stdout.splitlines() if line.startswith("RESULT "))
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return found


def learned(name: str, loader: str, room: float) -> dict[str, Any]:
    """Two steps in so many bytes (0: all there are), and how often the first began."""
    again: list[logging.LogRecord] = []
    logging.getLogger("taskgym.training.halving").addFilter(lambda r: again.append(r) or True)
    config = made(PAIRS[name], loader)
    import torch

    if room:
        torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
    return take_steps(config, PAIRS[name].tokens) | {"begun": 1 + len(again)}


def show(memory: str, found: dict[str, Any], whole: dict[str, Any]) -> None:
    """A line of the table."""
    ratio = found["grad_norm"] / whole["grad_norm"]
    numbers = f"{found['used'] / GIB:12.2f}{found['grad_norm']:12.4g}{ratio:9.4f}"
    print(f"{memory:14}{found['begun']:8}{numbers}{found['seconds']:9.1f}s", flush=True)


if __name__ == "__main__":
    main()
