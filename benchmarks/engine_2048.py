"""The engines of 2048 against the notebook's board, gymnasium-2048 and pgx, in one run.

Run `python benchmarks/engine_2048.py`. The peers but for the notebook's board come from
`pip install gymnasium-2048 pgx`, best into a virtual environment of its own; those that are not
installed are left out. Rates are work per second of CPU (all threads of the process): medians of
interleaved rounds. A step is a call with any direction, a move is one that changed the board; pgx
is given legal directions only, so vectors are counted in moves. Nobody's choice of actions counts.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import taskgym.envs  # noqa: F401 (registers the envs)
from peers_2048 import (
    INSTALL,
    NotebookBoard,
    gymnasium_2048,
    gymnasium_2048_vector,
    missing,
    pgx_steps,
)
from taskgym.envs.game2048.engine import Game
from taskgym.envs.game2048.native import compiled
from taskgym.envs.game2048.players import LADDER
from taskgym.envs.game2048.vector import games

ROUNDS = 7
DRAW = random.Random(0)
KEYS = DRAW.choices("WASD", k=1 << 14)
MOVES_A_STEP = 0.84  # of steps with any direction, by random play to the end


class Rate(NamedTuple):
    """How much work a second of CPU, and a second of wall time, gets done."""

    cpu: float
    wall: float


PGX, SYNC = "pgx, one jitted step a call", "SyncVectorEnv(gymnasium-2048)"
PGX_BARS = {"numpy": {64: 1, 1024: 2, 16_384: 4}, "compiled": {64: 1, 1024: 20, 16_384: 20}}
SYNC_BARS = {64: 1, 1024: 150}

Work = Callable[[], int]  # does something for a while and says how much


def measure(works: Mapping[str, Work], rounds: int = ROUNDS) -> dict[str, Rate]:
    """Medians over interleaved rounds, after one that warms up."""
    rates: dict[str, list[Rate]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            cpu, wall = time.process_time(), time.perf_counter()
            done = work()
            rate = Rate(done / (time.process_time() - cpu), done / (time.perf_counter() - wall))
            if turn:
                rates[name].append(rate)
    middle = statistics.median
    return {
        name: Rate(middle(r.cpu for r in each), middle(r.wall for r in each))
        for name, each in rates.items()
    }


def show(title: str, rates: Mapping[str, Rate], unit: str) -> None:
    """Prints a table whose last column is relative to its first row."""
    print(f"\n{title}\n{'':34}{unit + '/CPU-s':>18}{unit + '/wall-s':>18}{'ratio':>8}")
    first = next(iter(rates.values())).cpu
    for name, rate in rates.items():
        print(f"{name:34}{rate.cpu:18,.0f}{rate.wall:18,.0f}{rate.cpu / first:8.1f}")


BARS: list[str] = []


def bar(what: str, value: float, least: float, unit: str = "x", at_most: bool = False) -> None:
    """Notes a figure beside its bar."""
    met = value <= least if at_most else value >= least
    sign = "<=" if at_most else ">="
    BARS.append(f"{what:62}{value:9.2f} {unit:3}{sign}{least:6g}  {'met' if met else 'MISSED'}")


# --- one game, driven from Python ---------------------------------------------------------------


def notebook(size: int = 4, steps: int = 3000) -> int:
    """Random play with the notebook's board."""
    board = NotebookBoard(DRAW.getrandbits(32), size, 1 << 30)
    for t in range(steps):
        board.do_action(KEYS[t])
        if board.state != "ongoing":
            board = NotebookBoard(DRAW.getrandbits(32), size, 1 << 30)
    return steps


def ours(size: int = 4, steps: int = 30_000) -> int:
    """Random play with the pure-Python engine."""
    game = Game(DRAW.getrandbits(128), size)
    for t in range(steps):
        game.move(KEYS[t & 0x3FFF])
        if game.over:
            game = Game(DRAW.getrandbits(128), size)
    return steps


def gymnasium_peer(steps: int = 800) -> Work:
    """Random play with one env of gymnasium-2048."""
    env, actions = gymnasium_2048(), np.random.default_rng(0).integers(0, 4, steps).tolist()
    env.reset(seed=0)

    def work() -> int:
        for action in actions:
            if env.step(action)[2]:
                env.reset()
        return steps

    return work


def strategy(board: list[list[int]]) -> str:
    """The cheapest strategy there is."""
    return KEYS[board[0][0] * 7 + board[1][1] * 5 + board[3][3] & 0x3FFF]


def notebook_game(games: int = 10) -> int:
    """Whole games of the strategy as the notebook plays them."""
    steps = 0
    for _ in range(games):
        board, idle = NotebookBoard(DRAW.getrandbits(32), 4, 1 << 30), 0
        while board.state == "ongoing" and idle < 16:
            before = board.rows
            key = strategy(list(before))
            board.do_action(key)
            idle = 0 if board.rows is not before else idle + 1
            steps += 1
    return steps


def our_game(games: int = 60) -> int:
    """The same with fresh lists for every call."""
    steps = 0
    for _ in range(games):
        game, idle = Game(DRAW.getrandbits(128)), 0
        while idle < 16 and not game.over:
            idle = 0 if game.move(strategy(game.board)) else idle + 1
            steps += 1
    return steps


def list_boards() -> int:
    """Handing out the board as lists."""
    game = Game(5)
    for key in KEYS[:40]:
        game.move(key)
    for _ in range(20_000):
        game.board  # noqa: B018 (is what is measured)
    return 20_000


FIRST = """
import time
from taskgym.envs.game2048.engine import Game
t = time.process_time()
game = Game(1)
for key in "WASD": game.move(key)
print(1000 * (time.process_time() - t))
"""


def single() -> None:
    """One game at a time."""
    works: dict[str, Work] = {"the notebook's board 4x4": notebook, "taskgym engine.Game 4x4": ours}
    if not missing("gymnasium_2048"):
        works["gymnasium-2048"] = gymnasium_peer()
    rates = measure(works)
    show("One game, driven from Python", rates, "steps")
    book, game = rates["the notebook's board 4x4"].cpu, rates["taskgym engine.Game 4x4"].cpu
    bar("engine.Game 4x4 / the notebook's board", game / book, 4)
    if "gymnasium-2048" in rates:
        bar("engine.Game 4x4 / gymnasium-2048", game / rates["gymnasium-2048"].cpu, 25)
    sizes = {
        f"{name} {n}x{n}": (lambda work=work, n=n: work(n))
        for n in (3, 5, 6, 8)
        for name, work in (("notebook", notebook), ("taskgym", ours))
    }
    rates = measure(sizes)
    show("Other sizes", rates, "steps")
    for n in (3, 5, 6, 8):
        ratio = rates[f"taskgym {n}x{n}"].cpu / rates[f"notebook {n}x{n}"].cpu
        bar(f"engine.Game {n}x{n} / the notebook's board", ratio, 3)
    rates = measure({"notebook": notebook_game, "taskgym": our_game, "game.board": list_boards})
    show("Board as lists, a constant-time strategy, the move, the test for the end", rates, "steps")
    bar(
        "overhead of a move / the notebook's",
        rates["notebook"].cpu / rates["taskgym"].cpu,
        0.5,
        "x",
        True,
    )
    bar("game.board", 1e6 / rates["game.board"].cpu, 1, "us", True)
    first = [float(subprocess.check_output([sys.executable, "-c", FIRST])) for _ in range(5)]
    bar("first game after the import", statistics.median(first), 30, "ms", True)


# --- many games at once -------------------------------------------------------------------------


def vector(n: int, native: bool, steps: int) -> Work:
    """Moves of our vector env, all that `step` returns included."""
    envs: Any = gym.make_vec("Game2048-Numeric-v0", num_envs=n, native=native)
    actions = np.random.default_rng(1).integers(0, 4, (64, n))
    envs.reset(seed=0)

    def work() -> int:
        for t in range(steps):
            envs.step(actions[t & 63])
        return int(MOVES_A_STEP * steps * n)

    return work


def engine(n: int, native: bool, steps: int) -> Work:
    """Moves of the engine beneath it, with boards, scores, legal moves, ends and restarts."""
    rng = np.random.default_rng(1)
    actions = rng.integers(0, 4, (64, n), np.uint8)
    playing = games(rng.integers(0, 1 << 64, (n, 2), np.uint64), native=native)

    def work() -> int:
        for t in range(steps):
            playing.move(actions[t & 63])
            if len(ended := playing.over.nonzero()[0]):
                playing.restart(ended, rng.integers(0, 1 << 64, (len(ended), 2), np.uint64))
        return int(MOVES_A_STEP * steps * n)

    return work


def sync_vector(n: int, steps: int) -> Work:
    """Steps of `SyncVectorEnv` over gymnasium-2048."""
    envs = gymnasium_2048_vector(n)
    actions = np.random.default_rng(1).integers(0, 4, (steps, n))

    def work() -> int:
        for each in actions:
            envs.step(each)
        return int(MOVES_A_STEP * steps * n)

    return work


def pgx_vector(n: int, steps: int) -> Work:
    """Moves of pgx."""
    play = pgx_steps(n, np.random.default_rng(1).random((64, n, 4), np.float32) + 0.001)
    play(200)

    def work() -> int:
        play(steps)
        return steps * n

    return work


def many(n: int) -> None:
    """N games at once."""
    works: dict[str, Work] = {}
    steps = max(20, (1 << 18) // n)
    if not missing("pgx"):
        works[PGX] = pgx_vector(n, max(10, steps // 4))
    kinds = {"numpy": False} | ({"compiled": True} if compiled is not None else {})
    for kind, native in kinds.items():
        works[f"taskgym engine, {kind}"] = engine(n, native, steps)
        works[f"taskgym vector env, {kind}"] = vector(n, native, steps)
    if n <= 1024 and not missing("gymnasium_2048"):
        works[SYNC] = sync_vector(n, max(1, 1024 // n))
    for work in works.values():  # until games of all ages are there
        for _ in range(max(1, 150 // steps)):
            work()
    rates = measure(works, 5)
    show(f"{n:,} games at once: boards, scores, legal moves, ends, restarts", rates, "moves")
    for kind in kinds:
        if PGX in rates:
            ratio = rates[f"taskgym engine, {kind}"].cpu / rates[PGX].cpu
            bar(f"engine, {kind} / pgx, {n:,}", ratio, PGX_BARS[kind][n])
    if SYNC in rates:
        for what in ("engine", "vector env"):
            ratio = rates[f"taskgym {what}, numpy"].cpu / rates[SYNC].cpu
            bar(f"{what}, numpy / {SYNC}, {n:,}", ratio, SYNC_BARS[n])


def whole_games() -> None:
    """Seconds a whole game of each player takes on the compiled engine."""
    assert compiled is not None
    print("\nWhole games, compiled" + " " * 14 + "games       ms/game   mean score")
    for i, name in enumerate(LADDER):
        games = {"expectimax-1": 100, "expectimax-2": 10}.get(name, 5000)
        begun = time.process_time()
        scores = [compiled.play(i, DRAW.getrandbits(64), n)[0] for n in range(games)]
        spent = 1000 * (time.process_time() - begun) / games
        print(f"{name:34}{games:6,}{spent:14.3f}{statistics.mean(scores):13,.0f}")


def main() -> None:
    """Prints the tables, then the bars."""
    single()
    for n in (64, 1024, 16_384):
        many(n)
    if compiled is None:
        print("\nThe compiled engine was not built: install a C compiler and taskgym again.")
    else:
        whole_games()
    print("\nBars\n" + "\n".join(BARS))
    if left_out := [name for name in ("gymnasium_2048", "pgx") if missing(name)]:
        print(f"\nLeft out, not installed: {', '.join(left_out)}. {INSTALL}")


if __name__ == "__main__":
    main()
