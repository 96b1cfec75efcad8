"""GRPO side by side on one GPU: taskgym, plain TRL with vLLM, and Unsloth's notebooks' loop.

    python benchmarks/grpo_gpu.py                        # all contenders, 32 and 256 completions
    python benchmarks/grpo_gpu.py --contenders trl ours ours-stale --profile 32

All do the same work: a random model of Qwen3 4B's shape, LoRA of rank 32 on every linear layer,
groups of 8, one optimiser step a generation, completions of enforced lengths up to 512 tokens from
one skewed distribution, a reward that depends on the text. Each contender has its own process and
vLLM engine with the same settings. `--jobs` processes start side by side, since starting is most
of the time; then each is measured alone, in turns, while the others hold still. Memory is each
process's own, by torch's allocator.

A line is printed for each result and appended to OUT/results.jsonl (OUT: --out, $OUT or
runs/grpo_gpu); what is in there is not measured again unless --again. OUT/NAME.log holds what a
process said. The table at the end is of everything in the file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from gpu_paths import SETTINGS
from grpo_gpu_flags import SAME, end_on_sigterm, parser_of
from grpo_gpu_run import PROCESSES, ROOT, Settings, parse_settings, run_here
from grpo_gpu_table import line, table

_ENVIRONMENT = {
    **SETTINGS,
    "UNSLOTH_COMPILE_DISABLE": "1",  # else its first step takes minutes (docs/gpu.md)
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
}
_SAID = ("shape", "layers", *SAME)  # with each result
_STAGGER = 2.0  # seconds between two starts: all read the same packages

Json = dict[str, Any]


def main() -> None:
    """Measures the contenders that are asked for, or is one of their processes."""
    arguments = _parse()
    if arguments.one:
        process, report = arguments.one
        out = os.fdopen(int(report), "w")
        run_here(process, parse_settings(sys.stdin.readline()), lambda m: _say(out, m))
        out.flush()
        os._exit(0)  # engines end with their process; tearing them down takes seconds
    end_on_sigterm()
    sys.exit(Runner(arguments).run())


def _parse() -> argparse.Namespace:
    names = [name for ways in PROCESSES.values() for name in ways]
    parser = parser_of(__doc__, "grpo_gpu")
    add = parser.add_argument
    add(
        "--contenders",
        nargs="+",
        default=names,
        choices=names,
        metavar="NAME",
        help=", ".join(names),
    )
    add("--completions", nargs="+", type=int, default=[32, 256], help="of a generation (32 256)")
    add("--jobs", type=int, default=4, help="processes that start side by side (4)")
    add("--start-limit", type=float, default=300, help="seconds for a start (300)")
    add(
        "--profile",
        nargs="*",
        type=int,
        default=[],
        metavar="N",
        help="profile one more step of N completions: OUT/NAME-N.profile",
    )
    add(
        "--peaks",
        action="store_true",
        help="say where memory was highest; steps then take a little longer",
    )
    add("--again", action="store_true", help="measure those too that are done")
    add("--one", nargs=2, help=argparse.SUPPRESS)  # PROCESS and a file descriptor
    return parser.parse_args()


class Child:
    """The process of one or two contenders."""

    def __init__(self, name: str, settings: Settings, log: Path, **environment: str):
        self.name = name
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._messages, told = os.pipe()
        self._unread = b""
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--one", name, str(told)],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env=_environment(settings.folder) | environment,
                cwd=settings.folder,
                pass_fds=[told],
                start_new_session=True,
            )
        os.close(told)
        self.send(json.dumps(asdict(settings), default=str))

    def send(self, line: str) -> None:
        """Says a line to it."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended, as `messages` will tell
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def messages(self, seconds: float) -> Iterator[Json]:
        """What it says until it ends or this many seconds have passed; then TimeoutError."""
        end = time.monotonic() + seconds
        while True:
            while b"\n" in self._unread:
                first, _, self._unread = self._unread.partition(b"\n")
                yield json.loads(first)
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._messages], [], [], left)[0]:
                raise TimeoutError(f"not done after {seconds:.0f} s")
            if not (more := os.read(self._messages, 1 << 16)):
                return
            self._unread += more

    def end(self, patience: float = 0.0) -> int:
        """Ends it and what it started, and so gives its memory back; its exit code.

        Args:
            patience: Seconds to wait for its own end first.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()


class Runner:
    """Starts processes side by side and measures them in turns."""

    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        self._out: Path = arguments.out.resolve()
        self._out.mkdir(parents=True, exist_ok=True)
        self._results = self._out / "results.jsonl"

    def run(self) -> int:
        """Returns how many results are missing."""
        todo = {p: pairs for p in PROCESSES if (pairs := self._todo(p))}
        with tempfile.TemporaryDirectory() as work:
            if todo:
                self._make_model(Path(work) / "model")
            every = iter(todo)
            while wave := list(islice(every, self._arguments.jobs)):
                self._run_wave([self._settings(p, todo[p], Path(work)) for p in wave])
        print(table(self._read()))
        return sum(len(self._todo(p)) for p in PROCESSES)

    def _run_wave(self, wave: Sequence[Settings]) -> None:
        children = []
        try:
            for settings in wave:
                log = self._out / f"{settings.folder.name}.log"
                children.append(Child(settings.folder.name, settings, log))
                time.sleep(_STAGGER)
            end = time.monotonic() + self._arguments.start_limit
            ready = [child for child in children if self._is_ready(child, end)]
            for child in ready:
                self._measure(child)
        finally:
            for child in children:
                child.end()

    def _is_ready(self, child: Child, end: float) -> bool:
        """Waits for it to say so."""
        try:
            for message in child.messages(end - time.monotonic()):
                print(f"{child.name}: started in {message['seconds_start']} s", flush=True)
                return True
            why = f"exit code {child.end(patience=10)}"
        except TimeoutError as error:
            why = f"starting: {error}"
            child.end()
        print(f"{child.name}: FAILED: {why}; see {child.name}.log", flush=True)
        return False

    def _measure(self, child: Child) -> None:
        """Its turn: every result is kept as soon as it is there."""
        child.send("go")
        try:
            for result in child.messages(self._arguments.limit):
                self._keep(result)
        except TimeoutError as error:
            print(f"{child.name}: FAILED: measuring: {error}; see {child.name}.log", flush=True)
        child.end()

    def _keep(self, result: Json) -> None:
        if profile := result.pop("profile", ""):
            name = f"{result['contender']}-{result['completions']}.profile"
            (self._out / name).write_text(profile)
        result |= {name: getattr(self._arguments, name) for name in _SAID}
        with self._results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(line(result), flush=True)

    def _todo(self, process: str) -> list[tuple[str, int]]:
        """What this process shall measure still."""
        asked = self._arguments
        done = {(r["contender"], r["completions"]) for r in self._read() if "why" not in r}
        ways = [name for name in PROCESSES[process] if name in asked.contenders]
        pairs = [(name, n) for name in ways for n in asked.completions]
        return pairs if asked.again else [pair for pair in pairs if pair not in done]

    def _settings(self, process: str, pairs: Sequence[tuple[str, int]], work: Path) -> Settings:
        asked = self._arguments
        same = (*SAME, "profile", "peaks")
        return Settings(
            model=work / "model",
            folder=work / process,
            pairs=pairs,
            most=max(asked.completions),
            **{name: getattr(asked, name) for name in same},
        )

    def _make_model(self, folder: Path) -> None:
        """In a process of its own, which gives the GPU back."""
        asked = self._arguments
        call = f"make_model({asked.shape!r}, {asked.layers}, Path({str(folder)!r}))"
        code = f"from pathlib import Path; from gpu_models import make_model; {call}"
        subprocess.run([sys.executable, "-c", code], env=_environment(folder), check=True)

    def _read(self) -> list[Json]:
        rows = self._results.read_text().splitlines() if self._results.exists() else []
        return [json.loads(row) for row in rows]


def _environment(folder: Path) -> dict[str, str]:
    """For a process that works in a folder: with our packages, and caches that nobody shares."""
    paths = [ROOT / "typings", ROOT / "benchmarks", *(Path(p).resolve() for p in sys.path[1:])]
    own = {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "UNSLOTH_COMPILE_LOCATION": str(folder / "unsloth"),
        "VLLM_CACHE_ROOT": str(folder / "vllm"),
    }
    return {**os.environ, **_ENVIRONMENT, **own}


def _say(out: TextIO, message: Json) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
