"""The flags that `grpo_gpu.py` and `two_gpus.py` share: what work is done, and how it is timed."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from grpo_gpu_run import ROOT

SAME = ("steps", "warm_up", "micro", "cache", "engine")  # what every contender is told


def parser_of(doc: str | None, folder: str) -> argparse.ArgumentParser:
    """A parser that knows them.

    Args:
        doc: The benchmark's docstring; its first line describes it.
        folder: Below `runs`, where results go unless --out or $OUT says otherwise.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    add = parser.add_argument
    add("--steps", type=int, default=4, help="measured (4)")
    add("--warm-up", type=int, default=2, help="steps before them (2)")
    add("--shape", default="qwen3-4b", help="of gpu_models.SHAPES (qwen3-4b)")
    add("--layers", type=int, default=0, help="of the model; 0: all (0)")
    add("--micro", type=int, default=8, help="completions of one pass (8)")
    add("--cache", type=float, default=12.0, help="GiB of vLLM's cache (12)")
    add("--engine", default="graphs", choices=("graphs", "compiled", "eager"), help="(graphs)")
    add("--limit", type=float, default=300, help="seconds for one process (300)")
    add("--out", type=Path, default=Path(os.environ.get("OUT") or ROOT / "runs" / folder))
    return parser


def end_on_sigterm() -> None:
    """Lets this process end what it has started where it is told to end, as by `timeout`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
