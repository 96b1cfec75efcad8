"""Plays many games, several at a time: a program's in the sandbox, the ladder's in processes."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from taskgym.envs.errors import MachineryError
from taskgym.envs.game2048.driver import STUCK, play_inside
from taskgym.envs.game2048.engine import Game
from taskgym.envs.game2048.native import compiled
from taskgym.envs.game2048.players import LADDER, player
from taskgym.envs.game2048.seeds import draw_seed
from taskgym.envs.game2048.trial import (
    CALLS,
    DRIVER,
    ENTRY,
    STDOUT,
    WALL,
    Trial,
    Verdict,
    judge,
    program_seed,
)
from taskgym.envs.interrupts import interrupts_blocked
from taskgym.sandbox import Job, Limits, Sandbox, SandboxUnavailable

SECONDS = 60.0  # CPU that a file has for one game
LIMITS = Limits(
    cpu_s=SECONDS,
    wall_s=WALL * SECONDS,
    memory_mb=1024,
    result_bytes=CALLS,  # a key a move
    stdout_bytes=STDOUT,
    source_bytes=1 << 20,
    calls=CALLS,
)
_LOW = (1 << 64) - 1  # a seed's lower half
_TARGET = 2048  # games go on after it


class Played(NamedTuple):
    """One game.

    Attributes:
        seed: The game's 128-bit seed.
        score: What it had scored when it ended.
        max_tile: The largest tile then.
        moves: Moves that changed the board.
        keys: The answers that were keys, in order; those that changed nothing are among them.
        seconds: CPU seconds of the whole game, the engine's included; NaN if they are not known.
        failure: Why it did not end by the rules of the game, in a word or two; empty if it did.
        detail: The same in a sentence.
        line: The line of the file at fault, if it is one.
    """

    seed: int
    score: int
    max_tile: int
    moves: int
    keys: str
    seconds: float
    failure: str = ""
    detail: str = ""
    line: int | None = None


def game_seeds(seed: int, games: int) -> list[int]:
    """The 128-bit seeds of the games; a longer list begins with the shorter."""
    rng = np.random.default_rng(seed)
    return [draw_seed(rng) for _ in range(games)]


def program_games(
    source: str, seeds: Sequence[int], size: int, workers: int
) -> Generator[Played, None, None]:
    """The games of a program as they end, in whatever order that is; each in a new process.

    Closing the iterator ends the games that are running.

    Raises:
        MachineryError: The sandbox failed.
    """
    workers = min(workers, len(seeds))
    # The sandbox is left first: what runs in it ends then, and the threads with it.
    with ThreadPoolExecutor(workers) as pool, _sandbox(workers) as box:
        game = partial(_program_game, box, source, size)
        futures = [pool.submit(game, seed) for seed in seeds]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _sandbox(workers: int) -> Sandbox:
    try:
        return Sandbox(workers=workers, drivers=(DRIVER,))
    except SandboxUnavailable as error:
        raise MachineryError(f"the sandbox is not available: {error}") from error


def _program_game(box: Sandbox, source: str, size: int, seed: int) -> Played:
    """One game inside the sandbox; one that broke off is played again outside, to see how far."""
    trial = _try(box, source, size, seed, "inside")
    if trial.verdict is not Verdict.PLAYED and not trial.games:
        trial = _try(box, source, size, seed, "outside")
    return _played(seed, trial)


def _try(
    box: Sandbox, source: str, size: int, seed: int, mode: Literal["inside", "outside"]
) -> Trial:
    job = Job(
        source,
        entry=ENTRY,
        seed=program_seed(seed),
        limits=LIMITS,
        driver=DRIVER,
        mode=mode,
        task=_task(seed, size),
    )
    (result,) = box.map([job])
    return judge(result)


def _task(seed: int, size: int) -> dict[str, object]:
    return {"seeds": [seed], "size": size, "target": _TARGET, "until_won": False}


def _played(seed: int, trial: Trial) -> Played:
    game = trial.games[0] if trial.games else {}
    failure, detail = str(trial.verdict), trial.reason
    if trial.verdict is Verdict.PLAYED:
        stuck = game["stop"] == "stuck"
        failure, detail = (
            ("stuck", f"{STUCK} answers in a row changed nothing") if stuck else ("", "")
        )
    elif trial.verdict is Verdict.RAISED:
        failure = trial.reason.partition(":")[0]
    return Played(
        seed,
        game.get("score", 0),
        game.get("max_tile", 0),
        game.get("moves", 0),
        game.get("keys", ""),
        game.get("seconds", math.nan),
        _printable(failure),
        _printable(detail),
        trial.line,
    )


def _printable(text: str) -> str:
    """A program's words, which may be meant for a terminal, as plain text of one line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def ladder_games(
    name: str, seeds: Sequence[int], size: int, workers: int
) -> Generator[Played, None, None]:
    """The games of a player of the ladder, likewise."""
    context = multiprocessing.get_context("spawn")
    with interrupts_blocked():
        pool = context.Pool(min(workers, len(seeds)))
    with pool:
        yield from pool.imap_unordered(partial(_ladder_game, name, size), seeds)


def _ladder_game(name: str, size: int, seed: int) -> Played:
    """One game, compiled where that is to be had."""
    began = time.process_time()
    if compiled is not None and size == 4:
        *_, keys = compiled.play(LADDER.index(name), seed & _LOW, seed >> 64)
    else:
        keys = play_inside(_task(seed, size), player(name, seed))[0]["keys"]
    seconds = time.process_time() - began
    game = Game(seed, size)
    for key in keys:
        game.move(key)
    return Played(seed, game.score, game.max_tile, game.moves, keys, seconds)
