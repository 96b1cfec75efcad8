"""One run of `learning_gpu.py`: `train_agent` in this process, with vLLM started as is asked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, cast

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "typings")]  # a checkout need not be installed

SEQUENCES = 512  # that vLLM writes at once
CACHE = 4 * 2**30  # bytes of vLLM's cache: SmolLM2's of 512 sequences of 340 tokens
FREE = 0.05  # of the card: vLLM asks for so much at its start, whatever its cache
GRAPHS = [1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 320, 384, 448, 512]

Start = Literal["usual", "graphs", "eager"]


def run_here(settings: dict[str, Any], start: Start) -> None:
    """`train_agent` in this process: a new run, or the one that is in its output folder."""
    from taskgym.training.commands import train_agent

    if start != "usual":
        start_quickly(start)
    output = Path(settings["output"])
    output.mkdir(parents=True, exist_ok=True)
    path = output / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    known = sorted(config.parent for config in output.glob("*/config.yaml"))
    if any((folder / "finished").exists() for folder in known):
        return
    sys.argv[1:] = ["--resume", str(known[-1])] if known else ["--config", str(path)]
    train_agent.main()


def start_quickly(start: Start) -> None:
    """VLLM without compiling and without measuring memory, which others disturb here."""
    from vllm.config import CompilationConfig
    from vllm.engine.arg_utils import EngineArgs

    usual = EngineArgs.create_engine_config

    def quick(self: Any, *arguments: Any, **named: Any) -> Any:
        self.kv_cache_memory_bytes, self.max_num_seqs = CACHE, SEQUENCES
        self.gpu_memory_utilization = FREE
        if start == "graphs" and not self.enforce_eager:
            self.compilation_config = CompilationConfig(
                mode=0, cudagraph_mode="FULL_DECODE_ONLY", cudagraph_capture_sizes=GRAPHS
            )
        else:
            self.enforce_eager = True
        return usual(self, *arguments, **named)

    EngineArgs.create_engine_config = quick


if __name__ == "__main__":
    run_here(json.loads(sys.argv[2]), cast(Start, sys.argv[1]))
