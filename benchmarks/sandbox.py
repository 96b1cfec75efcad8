"""What the sandbox costs: programs and whole games a second, and guards against plain Python.

    python benchmarks/sandbox.py [--rounds 5]

A rate is what two idle cores would give: two seconds of CPU over the CPU that one program costs in
all processes together, the median of the rounds. The last column is what came in the last round on
this machine as busy as it was. The peer is the usual way without isolation: a fork for each
program, `exec` in it, an alarm (as human-eval does). Exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from sandbox_policy import CLASSES, HEURISTIC, guarded, medians, plain
from taskgym.sandbox import Job, Limits, Sandbox

ROOT = Path(__file__).resolve().parents[1]
DRIVER = ROOT / "envs" / "game2048" / "driver.py"
BOARD = [[2, 4, 8, 16], [0, 2, 4, 8], [0, 0, 2, 4], [0, 0, 0, 2]]
TRIVIAL = "def strategy(board):\n    return 'W'\n"
RULES = """
def merge(row):
    tiles = [v for v in row if v]
    out = []
    i = 0
    while i < len(tiles):
        if i + 1 < len(tiles) and tiles[i] == tiles[i + 1]:
            out.append(tiles[i] * 2)
            i += 2
        else:
            out.append(tiles[i])
            i += 1
    return out + [0] * (len(row) - len(out))

def strategy(board):
    columns = [list(column) for column in zip(*board)]
    moves = {
        "A": any(merge(row) != row for row in board),
        "S": any(merge(column[::-1]) != column[::-1] for column in columns),
        "D": any(merge(row[::-1]) != row[::-1] for row in board),
    }
    for key in "ASD":
        if moves[key]:
            return key
    return "W"
"""


class Row(NamedTuple):
    """One line of the table: how to run so many programs, and the rate that is wanted."""

    name: str
    programs: int
    run: Callable[[], object]
    wanted: int | None = None


def tree_cpu() -> float:
    """CPU seconds of this process and of all below it, those that ended included."""
    seconds: dict[int, float] = {}
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        pid = int(path.parent.name)
        seconds[pid] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        below.setdefault(int(fields[1]), []).append(pid)
    return _sum_below(os.getpid(), seconds, below)


def _sum_below(pid: int, seconds: dict[int, float], below: dict[int, list[int]]) -> float:
    return seconds[pid] + sum(_sum_below(each, seconds, below) for each in below.get(pid, ()))


def map_ok(box: Sandbox, jobs: list[Job]) -> None:
    """Runs jobs, of which none may fail."""
    failed = [result for result in box.map(jobs) if not result.ok]
    assert not failed, failed[0]


def game(number: int, mode: str) -> Job:
    """A whole game of 2048 by the strategy of 25 lines; over 205 calls on average."""
    task = {"seeds": [(1 << 100) + number], "size": 4, "target": 2048, "until_won": False}
    return Job(RULES, driver=DRIVER, mode=mode, task=task)  # type: ignore[arg-type]


def fork_and_exec(source: str, programs: int) -> None:
    """The peer: a process for each program, two at a time, without isolation."""
    context = multiprocessing.get_context("fork")
    for _ in range(0, programs, 2):
        pair = [context.Pipe(False) for _ in range(2)]
        workers = [context.Process(target=_exec, args=(source, send)) for _, send in pair]
        for worker in workers:
            worker.start()
        assert all(receive.recv() in "WASD" for receive, _ in pair)
        for worker in workers:
            worker.join()


def _exec(source: str, send: multiprocessing.connection.Connection) -> None:
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 2)
    names: dict[str, object] = {}
    exec(source, names)
    send.send(names["strategy"](BOARD))  # type: ignore[operator]


def rows(process: Sandbox, batch: Sandbox) -> list[Row]:
    """The table's lines."""
    trivial, compiled = Job(TRIVIAL, args=(BOARD,)), Job(RULES, args=(BOARD,))
    table = [
        Row("peer: fork and exec, one line", 200, lambda: fork_and_exec(TRIVIAL, 200)),
        Row("peer: fork and exec, 25 lines", 200, lambda: fork_and_exec(RULES, 200)),
        Row("one line, 1 call", 200, lambda: map_ok(process, [trivial] * 200)),
        Row("25 lines, 1 call", 200, lambda: map_ok(process, [compiled] * 200), 140),
        Row("one line, batch", 1600, lambda: map_ok(batch, [trivial] * 1600), 2500),
        Row("25 lines, batch", 640, lambda: map_ok(batch, [compiled] * 640), 600),
    ]
    for mode, wanted in (("outside", 60), ("inside", 90)) if DRIVER.exists() else ():
        games = [game(number, mode) for number in range(60)]
        name = f"a whole game, played {mode}"
        table.append(Row(name, 60, lambda games=games: map_ok(process, games), wanted))  # type: ignore[misc]
    return table


def measure(row: Row, rounds: int) -> bool:
    """Prints one line; whether its bar is met."""
    row.run()
    spent = []
    for _ in range(rounds):
        cpu, wall = tree_cpu(), time.perf_counter()
        row.run()
        spent.append(tree_cpu() - cpu)
        wall = time.perf_counter() - wall
    each = statistics.median(spent) / row.programs
    wanted = f">= {row.wanted}" if row.wanted else ""
    met = row.wanted is None or 2 / each >= row.wanted
    numbers = f"{1e3 * each:10.2f}{2 / each:12.0f}{wanted:>12}{row.programs / wall:14.0f}"
    print(f"{row.name:32}{numbers}{'' if met else '   MISSED'}", flush=True)
    return met


def overhead(name: str, source: str, wanted: float) -> bool:
    """Prints what the guards cost; whether that is little enough."""
    ours, theirs = guarded(source), plain(source)
    slow, fast = medians(lambda: ours(BOARD), lambda: theirs(BOARD), times=300)
    met = slow / fast <= wanted
    numbers = f"{fast:10.1f}{slow:12.1f}{slow / fast:12.2f}{f'<= {wanted}':>10}"
    print(f"{name:32}{numbers}{'' if met else '   MISSED'}")
    return met


def overshoot(box: Sandbox) -> None:
    """Prints how much more CPU than its limit a loop without end gets."""
    limits = Limits(cpu_s=0.05, wall_s=60)
    loops = [Job("def strategy(board):\n    while True: pass", args=(BOARD,), limits=limits)] * 40
    over = sorted(1e3 * (result.cpu_s - 0.05) for result in box.map(loops))
    numbers = f"median {statistics.median(over):.1f} ms, worst of {len(over)} {over[-1]:.1f} ms"
    print(f"\na loop is killed at its CPU limit plus {numbers}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is shown")
    rounds = parser.parse_args().rounds
    with ExitStack() as stack:
        drivers = [DRIVER] if DRIVER.exists() else []
        process = stack.enter_context(Sandbox(workers=2, drivers=drivers))
        batch = stack.enter_context(Sandbox(workers=2, isolation="batch"))
        print(f"layers: {', '.join(process.layers)}\n")
        print(f"{'':32}{'ms CPU':>10}{'a second':>12}{'wanted':>12}{'seen now':>14}")
        met = [measure(row, rounds) for row in rows(process, batch)]
        overshoot(process)
    print(f"\n{'guards, us a call':32}{'plain':>10}{'policy':>12}{'ratio':>12}{'wanted':>10}")
    met.append(overhead("60-line list heuristic", HEURISTIC, 1.1))
    met.append(overhead("classes and attributes", CLASSES, 1.7))
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
