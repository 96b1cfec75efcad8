"""Completions a second on two GPUs beside one: data-parallel, and a sampler on a GPU of its own.

    python benchmarks/two_gpus.py
    python benchmarks/two_gpus.py --shape tiny --completions 16 --steps 2 --warm-up 1   # no GPU

The work is that of `grpo_gpu.py`, which measures the peers on one GPU first: plain TRL with vLLM in
process, and taskgym. Then, one after the other: two processes that learn together, each with an
engine of vLLM, on as many completions a step as one GPU had (`ours-2`) and on twice as many
(`ours-2-double`); and one learner with vLLM's server on the second GPU, one step ahead
(`ours-apart`). Ratios are of completions a second, to each of the two peers.

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
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grpo_gpu import _environment
from grpo_gpu_flags import SAME, parser_of
from grpo_gpu_run import Settings
from grpo_gpu_table import wall_of
from two_gpus_run import SAMPLER_APART

HERE = Path(__file__).resolve().parent
PEERS = ("trl", "ours")  # on one GPU, by grpo_gpu.py
# name -> processes, and how many times the completions of one GPU
CONTENDERS = {"ours-2": (2, 1), "ours-2-double": (2, 2), SAMPLER_APART: (1, 1)}

Json = dict[str, Any]


def main() -> None:
    """Measures what is missing, then prints all there is."""
    asked = _parse()
    asked.out.mkdir(parents=True, exist_ok=True)
    _peers(asked)
    with tempfile.TemporaryDirectory() as work:
        for name in asked.contenders:
            if name in CONTENDERS and name not in _read(asked.out):
                _measure(name, asked, Path(work))
    print(_table(_read(asked.out), asked))


def _parse() -> argparse.Namespace:
    every = [*PEERS, *CONTENDERS]
    parser = parser_of(__doc__, "two_gpus")
    add = parser.add_argument
    add("--contenders", nargs="+", default=every, choices=every, metavar="NAME", help=f"{every}")
    add("--completions", type=int, default=256, help="of a step on one GPU (256)")
    return parser.parse_args()


def _peers(asked: argparse.Namespace) -> None:
    """On one GPU; `grpo_gpu.py` leaves out what is measured already."""
    if not (peers := [name for name in asked.contenders if name in PEERS]):
        return
    same = [f"--{name.replace('_', '-')}={getattr(asked, name)}" for name in SAME]
    model = [f"--shape={asked.shape}", f"--layers={asked.layers}", f"--out={asked.out}"]
    size = [f"--completions={asked.completions}", f"--limit={asked.limit}", "--jobs=1"]
    command = [sys.executable, str(HERE / "grpo_gpu.py"), "--contenders", *peers, *size]
    one = {**os.environ, "CUDA_VISIBLE_DEVICES": _gpus()[0]}
    subprocess.run([*command, *same, *model], env=one, check=False)


def _measure(name: str, asked: argparse.Namespace, work: Path) -> None:
    """One contender, in a session of its own that is ended at the limit."""
    processes, times = CONTENDERS[name]
    settings = _settings(name, asked, work, asked.completions * times)
    (work / name).mkdir()
    (work / f"{name}.json").write_text(json.dumps(asdict(settings), default=str))
    files = [str(work / f"{name}.json"), str(work / f"{name}.result")]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    launched = [sys.executable, *(launcher if processes > 1 else [])]
    command = [*launched, str(HERE / "two_gpus_run.py"), *files]
    both = {**_environment(work / name), "CUDA_VISIBLE_DEVICES": ",".join(_gpus())}
    with (asked.out / f"{name}.log").open("w") as log:
        child = subprocess.Popen(
            command, env=both, stdout=log, stderr=log, start_new_session=True, cwd=work / name
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(asked.limit)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        child.wait()
    _keep(name, asked, work / f"{name}.result")


def _keep(name: str, asked: argparse.Namespace, result: Path) -> None:
    if not result.exists():
        print(f"{name}: FAILED or not done in {asked.limit:.0f} s; see {asked.out / name}.log")
        return
    with (asked.out / "results.jsonl").open("a") as file:
        file.write(result.read_text() + "\n")


def _settings(name: str, asked: argparse.Namespace, work: Path, completions: int) -> Settings:
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
    rows = [["contender", "GPUs", "completions", "s/step", "compl/s", "x ours", "x trl"]]
    for name in (n for n in (*PEERS, *CONTENDERS) if n in found):
        ratios = [f"{speeds[name] / speeds[p]:.2f}" if p in speeds else "" for p in ("ours", "trl")]
        gpus, size = "1" if name in PEERS else "2", str(found[name]["completions"])
        rows.append(
            [name, gpus, size, f"{wall_of(found[name]):.2f}", f"{speeds[name]:.1f}", *ratios]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([head, *lines])


if __name__ == "__main__":
    main()
