"""How often the ladder's players reach a tile in so many moves: what `Game2048-v0` asks for.

    python benchmarks/game2048_targets.py [--games 4000]

Takes the compiled engine; two minutes of CPU, nearly all of them expectimax-1's.
"""

from __future__ import annotations

import argparse

from taskgym.envs.game2048.engine import Game
from taskgym.envs.game2048.make_ladder import game_seed
from taskgym.envs.game2048.native import choose
from taskgym.envs.game2048.players import LADDER

PLAYERS = ("random", "greedy", "snake", "expectimax-1")
ASKED = ((32, 25), (64, 45), (64, 60), (128, 90))  # tile, moves


def reached(player: str, number: int) -> list[bool]:
    """Whether a player's game number 0, 1, ... met each of `ASKED`."""
    engine, seed = choose(native=True), game_seed(player, number)
    assert engine is not None
    _, _, keys = engine.play(LADDER.index(player), seed & ((1 << 64) - 1), seed >> 64)
    game, largest = Game(seed=seed), []
    for key in keys[: max(moves for _, moves in ASKED)]:
        game.move(key)
        largest.append(game.max_tile)
    return [max(largest[:moves], default=0) >= tile for tile, moves in ASKED]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", type=int, default=4000, help="of each player")
    games = parser.parse_args().games
    met = {name: [reached(name, number) for number in range(games)] for name in PLAYERS}
    print(f"share of {games:,} games that reach the tile in so many moves")
    print("tile, moves" + "".join(f"{name:>14}" for name in PLAYERS))
    for row, (tile, moves) in enumerate(ASKED):
        shares = (sum(game[row] for game in met[name]) / games for name in PLAYERS)
        print(f"{tile:>4}, {moves:<5}" + "".join(f"{100 * share:>12.1f} %" for share in shares))


if __name__ == "__main__":
    main()
