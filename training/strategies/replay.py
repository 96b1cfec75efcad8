"""Games played again from their seed and keys, frame by frame, for pictures and pages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import NamedTuple

from taskgym.envs.game2048.engine import Game, toward_front
from taskgym.envs.game2048.games import Played


class Frame(NamedTuple):
    """The board after a move.

    Attributes:
        tiles: In row-major order, 0 where empty.
        score: The score so far.
        key: The move that led here; empty for the opening board.
    """

    tiles: list[int]
    score: int
    key: str


def frames(played: Played, size: int) -> list[Frame]:
    """The opening board and the board after every move; answers that changed nothing are left out.

    Returns:
        One frame more than the game has moves.
    """
    game = Game(played.seed, size)
    seen = [_frame(game, "")]
    seen += [_frame(game, key) for key in played.keys if game.move(key)]
    return seen


def _frame(game: Game, key: str) -> Frame:
    return Frame(list(chain.from_iterable(game.board)), game.score, key)


def spawns(seen: Sequence[Frame], size: int) -> list[int]:
    """For every move the cell, in row-major order, on which the new tile appeared."""
    return [_spawn(before.tiles, after, size) for before, after in pairwise(seen)]


def _spawn(tiles: list[int], after: Frame, size: int) -> int:
    """The one cell that sliding alone would have left otherwise."""
    back, across = after.key in "SD", after.key in "AD"
    for i in range(size):
        line = range(i * size, (i + 1) * size) if across else range(i, size * size, size)
        line = line[::-1] if back else line
        packed = bytes(max(tiles[cell].bit_length() - 1, 0) for cell in line)
        for cell, power in zip(line, toward_front(packed), strict=True):
            if after.tiles[cell] and not power:
                return cell
    raise ValueError(f"{after.key} leads nowhere from {tiles}")


def picks(games: Sequence[Played]) -> dict[str, Played]:
    """The best, the median and the worst game by score; each game once, under its first name."""
    by_score = sorted(games, key=lambda game: game.score)
    wanted = {"best": by_score[-1], "median": by_score[len(games) // 2], "worst": by_score[0]}
    names: dict[int, str] = {}
    for name, game in wanted.items():
        names.setdefault(game.seed, name)
    return {name: game for name, game in wanted.items() if names[game.seed] == name}
