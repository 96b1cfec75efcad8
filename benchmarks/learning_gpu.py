"""Do the GPU recipes learn? Warm-up, then GRPO, three seeds each, side by side on one GPU.

    python benchmarks/learning_gpu.py --jobs 6 --limit 480              # both recipes, three seeds
    python benchmarks/learning_gpu.py --runs benchmarks/learning_gpu_variants.yaml --jobs 2
    python benchmarks/learning_gpu.py --show runs/learning_gpu/results.jsonl  # table, curves, bands

Each run is `train_agent` in a process of its own. At the limit a run is asked to stop, as by
Ctrl-C: it ends its step and saves, and the same command goes on with it later. What a run has left
is written to OUT/results.jsonl as soon as it ends (OUT: $OUT or runs/learning_gpu), and all they
said to OUT/learning_gpu.log.

GSM8K comes from the hub, or from --data: a folder with `gsm8k_train.jsonl` and `gsm8k_test.jsonl`
(`question`, `solution`, `answer`), and perhaps more training rows in `gsm8k_think_500.jsonl`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import tyro
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "typings")]  # a checkout need not be installed

from learning_gpu_results import draw, joined, read, table, write_bands  # noqa: E402
from learning_gpu_run import Start  # noqa: E402

RECIPES = {"gsm8k": "smollm2-135m-gsm8k-gpu", "2048": "smollm2-135m-2048-gpu"}
SETTINGS = {
    "OMP_NUM_THREADS": "2",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # its kernels are built at run time, by a compiler
    "PYTHONUNBUFFERED": "1",
}
STAGGER = 2.0  # seconds between two starts: all read the same packages
GRACE = 45.0  # seconds that a run has to end its step and save


@dataclass(frozen=True)
class Arguments:
    """The GPU recipes, or the runs of a file."""

    runs: str = ""
    """A YAML file: name -> settings of a run, as a config of train_agent; empty: both recipes."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Run seeds of the recipes."""
    only: tuple[str, ...] = ()
    """Only the runs of these names."""
    data: str = ""
    """A folder with GSM8K's rows; empty: the hub."""
    jobs: int = 1
    """Runs side by side; they are spread over the GPUs there are."""
    limit: float = 3600.0
    """Seconds until all runs are asked to stop."""
    start: Start = "usual"
    """How vLLM starts. graphs and eager: not compiled, in seconds, with a cache of fixed size."""
    work: Path = Path("runs/learning_gpu")
    """Where run folders are kept, so that a later call goes on with them."""
    show: str = ""
    """Run nothing; print the table of this results.jsonl and draw its curves beside it."""


def main() -> None:
    """Runs what is asked for, prints the table; exits with 1 if a run missed its bar."""
    arguments = tyro.cli(Arguments)
    if arguments.show:
        results = joined(map(json.loads, Path(arguments.show).read_text().splitlines()))
        draw(results, Path(arguments.show).parent)
        write_bands(results, Path(arguments.show).parent)
    else:
        results = Runner(arguments).run()
    print(table(results))
    sys.exit(not all(result["met"] for result in results))


class Runner:
    """Runs processes side by side and collects what each has left."""

    def __init__(self, arguments: Arguments):
        self._arguments = arguments
        self._out = Path(os.environ.get("OUT") or ROOT / "runs" / "learning_gpu")
        for folder in (self._out, arguments.work):
            folder.mkdir(parents=True, exist_ok=True)
        self._end = time.monotonic() + arguments.limit
        self._writing = threading.Lock()
        self._gpus, self._device = gpus()

    def run(self) -> list[dict[str, Any]]:
        """All runs, in the order of their names."""
        from taskgym.training.smollm2 import resolve_smollm2

        resolve_smollm2()  # converted once, before all runs ask for it
        with ThreadPoolExecutor(self._arguments.jobs) as pool:
            futures = []
            for place, (name, settings) in enumerate(self._planned().items()):
                futures.append(pool.submit(self._run, place, name, settings))
                time.sleep(STAGGER if self._arguments.jobs > 1 else 0)
            return [future.result() for future in futures]

    def _planned(self) -> dict[str, dict[str, Any]]:
        arguments = self._arguments
        if arguments.runs:
            runs = yaml.safe_load(Path(arguments.runs).read_text())
        else:
            runs = {
                f"{name}-{seed}": {"recipe": recipe, "seed": seed}
                for seed in arguments.seeds
                for name, recipe in RECIPES.items()
            }
        if unknown := set(arguments.only) - set(runs):
            sys.exit(f"no such run: {', '.join(unknown)}; there are {', '.join(runs)}")
        rows = join_rows(Path(arguments.data), arguments.work) if arguments.data else None
        chosen = {name: runs[name] for name in arguments.only or runs}
        return {name: with_rows(settings, rows) for name, settings in chosen.items()}

    def _run(self, place: int, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """One run to its end or its limit."""
        output = self._arguments.work / name
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as said:
            why = self._wait(self._begin(place, {**settings, "output": str(output)}, said))
            said.seek(0)
            text = said.read()
        wall = time.perf_counter() - began
        result = {**read(name, output, why, wall), "device": self._device}
        with self._writing:
            with (self._out / "learning_gpu.log").open("a") as log:
                log.write(f"\n######## {name} {settings}\n{text.replace(chr(13), chr(10))}")
            with (self._out / "results.jsonl").open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(f"{name}: {why} after {result['wall']:.0f} s", flush=True)
        return result

    def _begin(self, place: int, settings: dict[str, Any], said: TextIO) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(ROOT / "typings"), str(ROOT / "benchmarks"), *sys.path[1:]])
        own = {"PYTHONPATH": path}
        if self._gpus:
            own["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        script = str(ROOT / "benchmarks" / "learning_gpu_run.py")
        return subprocess.Popen(
            [sys.executable, script, self._arguments.start, json.dumps(settings)],
            stdout=said,
            stderr=said,
            env={**SETTINGS, **os.environ, **own},
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        """How it ended; one that is not done at the limit ends its step and saves."""
        try:
            code = process.wait(max(0.0, self._end - time.monotonic()))
            return "finished" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
            return "stopped at the limit"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "killed at the limit"


def join_rows(data: Path, work: Path) -> str:
    """One file of all GSM8K rows with their splits."""
    rows = [{**row, "split": "train"} for row in read_rows(data / "gsm8k_train.jsonl")]
    more = data / "gsm8k_think_500.jsonl"
    for row in read_rows(more) if more.exists() else []:
        solution = row["generated_solution"].partition("</think>")[0]
        rows.append(
            {
                "question": row["problem"],
                "solution": solution,
                "answer": row["expected_answer"],
                "split": "train",
            }
        )
    rows += [{**row, "split": "test"} for row in read_rows(data / "gsm8k_test.jsonl")]
    path = work / "gsm8k.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a `.jsonl`."""
    return [json.loads(line) for line in path.read_text().split("\n") if line.strip()]


def with_rows(settings: dict[str, Any], rows: str | None) -> dict[str, Any]:
    """A run's settings, with its GSM8K rows from a file if there is one."""
    if rows is None or "gsm8k" not in settings["recipe"]:
        return settings
    return {**settings, "data": rows, "warmup": {**settings.get("warmup", {}), "data": rows}}


def gpus() -> tuple[list[str], str]:
    """The devices as CUDA_VISIBLE_DEVICES names them, none without CUDA, and what they are."""
    import torch

    if not torch.cuda.is_available():
        return [], "a CPU"
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    places = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    return places, torch.cuda.get_device_name(0)


if __name__ == "__main__":
    main()
