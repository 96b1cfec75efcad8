"""The way to a tile for one who knows what will spawn: what `Game2048-v0` calls its best moves."""

from __future__ import annotations

from copy import copy

from taskgym.envs.game2048.engine import KEYS, Game

_WIDTH = 32  # games kept at each move


def plan(game: Game, target: int, moves: int) -> str:
    """Keys that lead to a tile of `target`, or as far as it gets, in at most so many moves.

    A beam search over the game's own future: its spawns follow from its seed, so every line of play
    can be tried. Of the games equally many moves on, those with the largest scores are kept: they
    have merged most of what spawned.
    """
    best: tuple[str, Game] = ("", game)
    beam = {game.cells: best}
    for _ in range(moves):
        if best[1].max_tile >= target or not beam:
            break
        reached: dict[bytes, tuple[str, Game]] = {}
        for keys, before in beam.values():
            for key in KEYS:
                after = copy(before)
                if after.move(key):
                    reached.setdefault(after.cells, (keys + key, after))
        kept = sorted(reached.values(), key=lambda each: -each[1].score)[:_WIDTH]
        beam = {each[1].cells: each for each in kept}
        best = max(kept, key=lambda each: each[1].max_tile, default=best)
    return best[0]
