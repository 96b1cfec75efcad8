"""Plays games, several at a time: a user's files in the sandbox, the ladder in processes."""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Literal

import numpy as np
from taskgym.envs import MachineryError
from taskgym.envs.game2048.driver import STUCK, play_inside
from taskgym.envs.game2048.engine import Game
from taskgym.envs.game2048.native import compiled
from taskgym.envs.game2048.players import LADDER, player
from taskgym.envs.game2048.trial import DRIVER, ENTRY, WALL, Trial, Verdict, judge, program_seed
from taskgym.sandbox import Job, Limits, Sandbox, SandboxUnavailable
from taskgym.training.errors import ConfigError
from taskgym.training.strategies.sources import Strategy
from taskgym.training.strategies.summary import Played

SECONDS = 60.0  # CPU that a file has for one game
LIMITS = Limits(
    cpu_s=SECONDS, wall_s=WALL * SECONDS, memory_mb=1024, result_bytes=1 << 22, calls=1 << 22
)
_LOW = (1 << 64) - 1  # a seed's lower half
_TARGET = 2048  # games go on after it


def game_seeds(seed: int, games: int) -> list[int]:
    """The 128-bit seeds of the games; a longer list begins with the shorter."""
    rng = np.random.default_rng(seed)
    return [int.from_bytes(rng.bytes(16), "big") for _ in range(games)]


def play(
    strategy: Strategy, seeds: Sequence[int], size: int, workers: int
) -> Generator[Played, None, None]:
    """The games of a strategy as they end, in whatever order that is.

    Closing the iterator ends the games that are running.

    Raises:
        MachineryError: The sandbox failed.
    """
    if strategy.path is None:
        yield from _ladder_games(strategy.name, seeds, size, workers)
    else:
        yield from _file_games(strategy, seeds, size, workers)


def check(strategy: Strategy, seed: int, size: int) -> None:
    """Plays one game with a file, so that what is wrong with it shows before all are played.

    Raises:
        ConfigError: The program broke off; names file, line and cause.
    """
    if strategy.path is None:
        return
    (game,) = play(strategy, [seed], size, 1)
    if game.failure and game.failure != "stuck":
        raise ConfigError(_located(strategy, game))


def _located(strategy: Strategy, game: Played) -> str:
    """An error in a file, as a compiler would show it."""
    if game.line is None:
        when = f" (in the first game, after {game.moves} moves)" if game.max_tile else ""
        return f"{strategy.path}: {game.detail}{when}"
    lines = strategy.source.splitlines()
    shown = lines[game.line - 1] if game.line <= len(lines) else ""
    return f"{strategy.path}, line {game.line}: {game.detail}\n    {shown.strip()}"


def _file_games(
    strategy: Strategy, seeds: Sequence[int], size: int, workers: int
) -> Generator[Played, None, None]:
    workers = min(workers, len(seeds))
    # The sandbox is left first: what runs in it ends then, and the threads with it.
    with ThreadPoolExecutor(workers) as pool, _sandbox(workers) as box:
        game = partial(_file_game, box, strategy.source, size)
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


def _file_game(box: Sandbox, source: str, size: int, seed: int) -> Played:
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
        failure,
        detail,
        trial.line,
    )


def _ladder_games(
    name: str, seeds: Sequence[int], size: int, workers: int
) -> Generator[Played, None, None]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(seeds)), _leave_interrupts_to_the_parent) as pool:
        yield from pool.imap_unordered(partial(_ladder_game, name, size), seeds)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
