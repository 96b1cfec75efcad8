"""Every way to load and sample a model on a GPU: two GRPO steps each, and is what was saved right?

    python benchmarks/gpu_paths.py                 # all paths, in the order of --list
    python benchmarks/gpu_paths.py hf-16bit gpt-oss --layers 0      # some, at full depth
    python benchmarks/gpu_paths.py --jobs 5 --limit 420             # side by side, within 7 minutes

Each path makes a random model of a recipe's architecture (`gpu_models.py`; reduced to --layers
unless 0), trains it by `train_agent`'s own loop, and then asks two strangers about the saved
adapter: vLLM, which loads the files, and plain transformers + peft in a fresh process. They must
agree as well as they do without an adapter, and the adapter must be seen far above that noise.

vLLM starts eagerly and with a fixed cache, so that paths can run side by side and start quickly;
--as-is starts it as a run does. A line is printed when a path is done, and written to
OUT/results.jsonl (OUT: $OUT or runs/gpu_paths); OUT/gpu_paths.log holds what they said. Paths that
are in results.jsonl as "ok" are skipped unless --again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from gpu_path_run import PATHS, ROOT, TOO_LATE, Way, run_here, score_plainly

SETTINGS = {
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # its kernels are built at run time, by a compiler
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}
STAGGER = 3.0  # seconds between two starts: all read the same packages
LOOK = 45.0  # seconds between two looks at where a path hangs that is known to


def main() -> None:
    """Runs the named paths, or is one of the processes that do."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PATHS))
    parser.add_argument("--layers", type=int, default=4, help="of each model; 0: all (4)")
    parser.add_argument("--jobs", type=int, default=1, help="paths side by side (1)")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for all of them (3600)")
    parser.add_argument("--as-is", action="store_true", help="vLLM compiled, with CUDA graphs")
    parser.add_argument("--list", action="store_true", help="the names, in order")
    parser.add_argument("--again", action="store_true", help="run those too that are done")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # NAME FILE WORK: here
    parser.add_argument("--score", nargs=3, help=argparse.SUPPRESS)  # BASE ADAPTER BITS: here
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PATHS):
        parser.error(f"no such path: {', '.join(unknown)}; there are {', '.join(PATHS)}")
    if arguments.list:
        print("\n".join(PATHS))
    elif arguments.score:
        base, adapter, bits = arguments.score
        print("LOGPROBS", json.dumps(score_plainly(base, adapter, bits == "4")))
    elif arguments.one:
        name, result, work = arguments.one
        found = run_here(name, arguments.layers, Path(work), arguments.as_is)
        Path(result).write_text(json.dumps(found))
    else:
        sys.exit(Runner(arguments).run(arguments.names or list(PATHS)))


class Runner:
    """Runs paths in processes of their own, some side by side."""

    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        self._out = Path(os.environ.get("OUT") or ROOT / "runs" / "gpu_paths")
        self._out.mkdir(parents=True, exist_ok=True)
        self._results = self._out / "results.jsonl"
        self._end = time.monotonic() + arguments.limit
        self._writing = threading.Lock()

    def run(self, names: Sequence[str]) -> int:
        """Returns how many failed."""
        done = set() if self._arguments.again else {r["path"] for r in self._read() if r["ok"]}
        for name in done & set(names):
            print(f"{name}: done before")
        todo = [name for name in names if name not in done]
        with (
            tempfile.TemporaryDirectory() as work,
            ThreadPoolExecutor(self._arguments.jobs) as pool,
        ):
            futures = []
            for name in todo:
                futures.append(pool.submit(self._run, name, Path(work)))
                time.sleep(STAGGER if self._arguments.jobs > 1 else 0)
            return sum(not future.result() for future in futures)

    def _run(self, name: str, work: Path) -> bool:
        """Runs one and tells; returns whether it was right."""
        with tempfile.TemporaryFile("w+") as said:
            result = self._run_apart(name, work, said)
            said.seek(0)
            text = said.read()
        with self._writing:
            with (self._out / "gpu_paths.log").open("a") as log:
                log.write(f"\n######## {name} {PATHS[name]}\n{text}")
            with self._results.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(line(result), flush=True)
        return bool(result["ok"])

    def _run_apart(self, name: str, work: Path, said: TextIO) -> dict[str, Any]:
        way = PATHS[name]
        seconds = min(way.seconds, self._end - time.monotonic())
        if seconds < TOO_LATE:
            return {"path": name, "ok": False, "why": "no time was left", "wall_s": 0.0}
        began = time.perf_counter()
        result = work / f"{name}.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--one", name, str(result)]
        command += [str(work), "--layers", str(self._arguments.layers)]
        command += ["--as-is"] if self._arguments.as_is or way.card else []
        own = {"PYTHONPATH": _python_path(), "UNSLOTH_COMPILE_LOCATION": str(work / f"un-{name}")}
        with smaller_card(way.card):
            process = subprocess.Popen(
                command,
                stdout=said,
                stderr=said,
                env={**os.environ, **SETTINGS, **own, **way.environment},
                start_new_session=True,
            )
            ended = _wait(process, way, seconds, said)
        found = json.loads(result.read_text()) if result.exists() else {}
        why = found.get("why") or ("" if found else ended)
        wall = round(time.perf_counter() - began, 1)
        return {"path": name, "ok": not why, "why": why, "wall_s": wall, **found}

    def _read(self) -> list[dict[str, Any]]:
        rows = self._results.read_text().splitlines() if self._results.exists() else []
        return [json.loads(row) for row in rows]


@contextlib.contextmanager
def smaller_card(gib: int) -> Iterator[None]:
    """Holds the rest of the GPU's memory, so that only this much is left for others."""
    if not gib:
        yield
        return
    hold = (
        "import torch, sys; free, total = torch.cuda.mem_get_info(); "
        f"kept = torch.empty(free - {gib} * 2**30, dtype=torch.uint8, device='cuda'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout and holder.stdin
    holder.stdout.readline()
    try:
        yield
    finally:
        holder.stdin.close()
        holder.wait()


def line(result: dict[str, Any]) -> str:
    """One path in one line."""
    if not result["ok"]:
        return f"{result['path']:20} FAILED after {result['wall_s']:.0f} s: {result['why']}"
    steps = "/".join(f"{seconds:.1f}" for seconds in result["step_time"])
    return (
        f"{result['path']:20} ok in {result['wall_s']:.0f} s ({result['shape']}, "
        f"{result['layers'] or 'all'} layers): start {result['seconds_start']} s, steps {steps} s, "
        f"reserved {result['reserved_gib']} GiB, gap {result['gap']:.4f}, "
        f"noise {result['noise']:.4f}, effect {result['effect']:.2f}"
    )


def _wait(process: subprocess.Popen[bytes], way: Way, seconds: float, said: TextIO) -> str:
    """How it ended; one that takes too long is asked where it is, and ended."""
    began = time.monotonic()
    while (left := seconds - (time.monotonic() - began)) > 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(min(left, LOOK if way.hangs else left))
            return f"exit code {code}; see gpu_paths.log"
        _dump_stacks(process.pid, f"after {time.monotonic() - began:.0f} s", said)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return f"not done after {seconds:.0f} s; the stacks are in gpu_paths.log"


def _dump_stacks(pid: int, when: str, said: TextIO) -> None:
    """Writes where a process is, by py-spy where it is installed."""
    places = [shutil.which("py-spy"), *(f"{entry}/bin/py-spy" for entry in sys.path)]
    spy = next((place for place in places if place and Path(place).exists()), None)
    if spy is not None:
        Path(spy).chmod(0o755)
        said.write(f"\n#### {when} it is here:\n")
        said.flush()
        with contextlib.suppress(subprocess.TimeoutExpired):
            command = [spy, "dump", "--pid", str(pid)]
            subprocess.run(command, stdout=said, stderr=said, timeout=20)


def _python_path() -> str:
    """So that a checkout that was never installed can be imported, and the env of these runs."""
    return os.pathsep.join([str(ROOT / "typings"), str(ROOT / "benchmarks"), *sys.path[1:]])


if __name__ == "__main__":
    main()
