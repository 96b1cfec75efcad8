"""Completions a second on two GPUs beside one: data-parallel, and a sampler on a GPU of its own.

    python benchmarks/two_gpus.py
    python benchmarks/two_gpus.py --shape tiny --completions 16 --steps 2 --warm-up 1   # no GPU

The work is that of `grpo_gpu.py`, and so are the peers on one GPU: plain TRL with vLLM in process,
and taskgym. Beside them: two processes that learn together, each with an engine of vLLM, on as many
completions a step as one GPU had (`ours-2`) and on twice as many (`ours-2-double`); and one learner
with vLLM's server on the second GPU, one step ahead (`ours-apart-stale`). Ratios are of completions
a second, to each of the two peers.

`--jobs` contenders start side by side, if the GPUs have room for them all. Then each is measured
while the others hold still; the two peers at the same time, each on a GPU of its own.

Results go to OUT/results.jsonl (OUT: --out, $OUT or runs/two_gpus), logs beside it. What is in
there is not measured again. Without GPUs it runs on the CPU, which proves the script and no speed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from grpo_gpu import Child, _environment
from grpo_gpu_flags import SAME, end_on_sigterm, parser_of
from grpo_gpu_run import Settings
from grpo_gpu_table import line, wall_of
from two_gpus_run import GO, READY, RESULT, SAMPLER_APART, SETTINGS

HERE = Path(__file__).resolve().parent
PEERS = ("trl", "ours")  # on one GPU
# name -> processes, and how many times the completions of one GPU
CONTENDERS = {"ours-2": (2, 1), "ours-2-double": (2, 2), SAMPLER_APART: (1, 1)}

Json = dict[str, Any]


def main() -> None:
    """Measures what is missing, then prints all there is."""
    asked = _parse()
    end_on_sigterm()
    asked.out.mkdir(parents=True, exist_ok=True)
    missing = iter([name for name in asked.contenders if name not in _read(asked.out)])
    with tempfile.TemporaryDirectory() as work:
        while wave := list(islice(missing, asked.jobs)):
            _measure(wave, asked, Path(work))
    print(_table(_read(asked.out), asked))


def _parse() -> argparse.Namespace:
    every = [*PEERS, *CONTENDERS]
    parser = parser_of(__doc__, "two_gpus")
    add = parser.add_argument
    add("--contenders", nargs="+", default=every, choices=every, metavar="NAME", help=f"{every}")
    add("--completions", type=int, default=256, help="of a step on one GPU (256)")
    add("--jobs", type=int, default=1, help="contenders that start side by side (1)")
    return parser.parse_args()


def _measure(wave: Sequence[str], asked: argparse.Namespace, work: Path) -> None:
    """Starts contenders side by side and measures them in turns; every result is kept at once."""
    started: list[Peer | Launched] = []
    try:
        for name in wave:
            settings = _settings(name, asked, work)
            log = asked.out.resolve() / f"{name}.log"
            started.append((Peer if name in PEERS else Launched)(name, settings, log))
        end = time.monotonic() + asked.limit
        ready = [contender for contender in started if contender.is_ready(end)]
        for turn in _turns(ready):
            for contender in turn:
                contender.go()
            for contender in turn:
                _keep(contender.name, contender.result(asked.limit), asked.out)
                contender.end()
    finally:
        for contender in started:
            contender.end()


def _turns(ready: Sequence[Peer | Launched]) -> Iterator[list[Peer | Launched]]:
    """The peers are measured together, since each has a GPU of its own; the others alone."""
    if peers := [contender for contender in ready if contender.name in PEERS]:
        yield [*peers]
    yield from ([contender] for contender in ready if contender.name not in PEERS)


class Peer:
    """A contender on one GPU, as `grpo_gpu.py` runs it."""

    def __init__(self, name: str, settings: Settings, log: Path):
        self.name = name
        gpus = _gpus()
        place = gpus[PEERS.index(name) % len(gpus)]
        self._child = Child(name, settings, log, CUDA_VISIBLE_DEVICES=place)

    def is_ready(self, end: float) -> bool:
        """Whether it waits for its turn, at the latest at that time of the monotonic clock."""
        with contextlib.suppress(TimeoutError):
            return next(self._child.messages(end - time.monotonic()), None) is not None
        return False

    def go(self) -> None:
        """Its turn."""
        self._child.send("go")

    def result(self, limit: float) -> Json | None:
        """What it measured, unless it failed or took longer than so many seconds."""
        with contextlib.suppress(TimeoutError):
            return next(self._child.messages(limit), None)
        return None

    def end(self) -> None:
        """Ends it."""
        self._child.end()


class Launched:
    """A contender of several processes or with a server, which speak through files."""

    def __init__(self, name: str, settings: Settings, log: Path):
        self.name, self._folder = name, settings.folder
        self._processes, _ = CONTENDERS[name]
        self._folder.mkdir()
        (self._folder / SETTINGS).write_text(json.dumps(asdict(settings), default=str))
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        launcher += [f"--nproc-per-node={self._processes}"]
        launched = [sys.executable, *(launcher if self._processes > 1 else [])]
        command = [*launched, str(HERE / "two_gpus_run.py"), str(self._folder)]
        both = {**_environment(self._folder), "CUDA_VISIBLE_DEVICES": ",".join(_gpus())}
        with log.open("w") as said:
            self._child = subprocess.Popen(
                command,
                env=both,
                stdout=said,
                stderr=said,
                start_new_session=True,
                cwd=self._folder,
            )

    def is_ready(self, end: float) -> bool:
        """Whether all of it waits for its turn, at the latest at that time."""
        while time.monotonic() < end and self._child.poll() is None:
            if len(list(self._folder.glob(READY.format("*")))) == self._processes:
                return True
            time.sleep(0.2)
        return False

    def go(self) -> None:
        """Its turn."""
        (self._folder / GO).touch()

    def result(self, limit: float) -> Json | None:
        """What it measured, unless it failed or took longer than so many seconds."""
        end, path = time.monotonic() + limit, self._folder / RESULT
        while time.monotonic() < end and not path.exists() and self._child.poll() is None:
            time.sleep(0.2)
        found: Json | None = json.loads(path.read_text()) if path.exists() else None
        return found

    def end(self) -> None:
        """Ends it, with what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()


def _keep(name: str, result: Json | None, out: Path) -> None:
    if result is None or "why" in result:
        print(f"{name}: FAILED or not done in time; see {out / name}.log", flush=True)
        return
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(line(result), flush=True)


def _settings(name: str, asked: argparse.Namespace, work: Path) -> Settings:
    _, times = CONTENDERS.get(name, (1, 1))
    completions = asked.completions * times
    model = work / "model"
    if not model.exists():
        call = f"make_model({asked.shape!r}, {asked.layers}, Path({str(model)!r}))"
        code = f"from pathlib import Path; from gpu_models import make_model; {call}"
        subprocess.run([sys.executable, "-c", code], env=_environment(model), check=True)
    same = {name: getattr(asked, name) for name in SAME}
    pairs = [(name, completions)]
    return Settings(
        model=model, folder=work / name, pairs=pairs, most=completions, profile=[], **same
    )


def _gpus() -> list[str]:
    """The first two, by the names that CUDA_VISIBLE_DEVICES takes; on a machine without, none."""
    from taskgym.training.devices import visible_gpus

    return visible_gpus()[:2] or [""]


def _read(out: Path) -> dict[str, Json]:
    """The last result of each contender."""
    path = out / "results.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()] if path.exists() else []
    return {row["contender"]: row for row in rows if "why" not in row}


def _table(found: dict[str, Json], asked: argparse.Namespace) -> str:
    depth = asked.layers or "all"
    device = next((r["device"] for r in found.values()), "nothing was measured")
    head = f"{asked.shape}, {depth} layers, vLLM {asked.engine}; {device}"
    speeds = {name: r["completions"] / wall_of(r) for name, r in found.items()}
    rows = [["contender", "GPUs", "completions", "s/step", "tok/s", "compl/s", "x ours", "x trl"]]
    for name in (n for n in (*PEERS, *CONTENDERS) if n in found):
        ratios = [f"{speeds[name] / speeds[p]:.2f}" if p in speeds else "" for p in ("ours", "trl")]
        gpus, result, wall = "1" if name in PEERS else "2", found[name], wall_of(found[name])
        times = [f"{wall:.2f}", f"{result['tokens'] / wall:.0f}", f"{speeds[name]:.1f}"]
        rows.append([name, gpus, str(result["completions"]), *times, *ratios])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([head, *lines])


if __name__ == "__main__":
    main()
