"""Remakes `ladder.json`, the ladder on 4x4: `python -m taskgym.envs.game2048.make_ladder`.

The same seeds give the same file everywhere. It takes the compiled engine; without it the last two
players would take days.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from taskgym.envs.game2048.native import choose
from taskgym.envs.game2048.players import LADDER

SHIPPED = Path(__file__).with_name("ladder.json")
GAMES = {"expectimax-1": 20_000, "expectimax-2": 1_000}  # of the others 200,000
TILES = (256, 512, 1024, 2048, 4096, 8192)
QUANTILES = (0.05, 0.25, 0.75, 0.95)


class Played(NamedTuple):
    """How one game ended."""

    score: int
    max_tile: int
    moves: int


def game_seed(name: str, number: int) -> int:
    """The 128-bit seed of a player's game number 0, 1, ..."""
    text = f"taskgym 2048 ladder, {name}, game {number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def play(name: str, number: int) -> Played:
    """Plays a player's game number 0, 1, ... on the compiled engine."""
    engine, seed = choose(native=True), game_seed(name, number)
    assert engine is not None
    score, exponent, keys = engine.play(LADDER.index(name), seed & ((1 << 64) - 1), seed >> 64)
    return Played(score, 1 << exponent, len(keys))


def summary(games: Sequence[Played]) -> dict[str, Any]:
    """Means, standard error, quantiles, and the shares of games that reached each tile."""
    scores, tiles, moves = np.array(games, np.int64).T
    reached = {str(tile): int((tiles >= tile).sum()) for tile in TILES}
    quantiles = np.quantile(scores, QUANTILES)
    return {
        "games": len(games),
        "mean_score": round(float(scores.mean()), 2),
        "se": round(float(scores.std(ddof=1) / len(games) ** 0.5), 2),
        "median_score": float(np.median(scores)),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
        "best_score": int(scores.max()),
        "worst_score": int(scores.min()),
        "mean_moves": round(float(moves.mean()), 2),
        "reach": {tile: count / len(games) for tile, count in reached.items()},
        "reach_95": {tile: wilson(count, len(games)) for tile, count in reached.items()},
    }


def wilson(hits: int, n: int) -> list[float]:
    """Wilson's 95 % interval of a share (Wilson, 1927)."""
    z, share = 1.959964, hits / n
    middle, half = share + z * z / (2 * n), z * (share * (1 - share) / n + (z / n / 2) ** 2) ** 0.5
    low, high = ((middle + side * half) / (1 + z * z / n) for side in (-1, 1))
    return [round(max(0.0, low), 6), round(min(1.0, high), 6)]


def main() -> None:
    """Plays the ladder and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where to write (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    parser.add_argument("--share", type=float, default=1.0, help="of the games, for a quick look")
    options = parser.parse_args()
    choose(native=True)  # says what to do where it was not built
    strategies = {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for name in LADDER:
            began, games = time.monotonic(), max(2, int(options.share * GAMES.get(name, 200_000)))
            chunk = max(1, games // (20 * options.jobs))
            played = list(pool.map(partial(play, name), range(games), chunksize=chunk))
            strategies[name] = summary(played)
            mean, seconds = strategies[name]["mean_score"], time.monotonic() - began
            print(f"{name:13} {games:7,} games {mean:10,.1f} {seconds:6.1f} s", flush=True)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(s)}" for name, s in strategies.items())
    options.out.write_text(f'[{{"size": 4, "strategies": {{\n{lines}\n}}}}]\n', encoding="utf-8")
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
