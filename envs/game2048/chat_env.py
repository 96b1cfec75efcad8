"""Game2048-v0: the model plays 2048 move by move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, Literal

from taskgym.envs.core import Info, MultiTurnEnv, Reply, Stop
from taskgym.envs.game2048.engine import KEYS, Game
from taskgym.envs.game2048.oracle import plan
from taskgym.envs.game2048.seeds import draw_seed
from taskgym.envs.game2048.text import draw

STUCK = 16  # replies in a row that leave the board as it is and end the game

_WORDS = {"up": "W", "left": "A", "down": "S", "right": "D"} | {key.lower(): key for key in KEYS}
_MARKS = " \t\r*_`'\"()[]<>.:!"  # may stand around it


class Game2048(MultiTurnEnv):
    """Make a tile of 2048, or another target, move by move within a number of turns.

    A reply is whatever the model says and, alone on its last line, W, A, S or D (or up, left, down
    or right, whatever the case). A move that changes nothing spawns nothing but takes a turn; 16
    replies in a row that leave the board as it is end the game (`stop="stuck"`), as does a board
    with no move left (`"done"`) and the target.

    `progress` pays each doubling of the largest tile its share of the way from 2 to the target, and
    so adds up to 1 when the target is reached. `info` has `score`, `max_tile` and `moves` (those
    that changed the board) as well.

    Args:
        size: Rows and columns, at least 2.
        target: The tile that wins, a power of two from 4.
        max_turns: Replies allowed; by default 0.7 for each point of the target, which leaves few
            moves to waste: a move brings 2.2 points on average.
        show_legal: Whether each board is followed by its legal moves.
        invalid: What a reply without a move does: "penalty" asks again and counts `invalid`, "end"
            also ends the game (`stop="invalid_move"`).
        weights: Component -> weight, for those that shall differ from the env's own.
    """

    source = "made from its kwargs"
    weights: Mapping[str, float] = {"won": 1.0, "progress": 1.0, "invalid": -0.1, "unchanged": -0.1}

    def __init__(
        self,
        *,
        size: int = 4,
        target: int = 64,
        max_turns: int | None = None,
        show_legal: bool = False,
        invalid: Literal["penalty", "end"] = "penalty",
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__(weights=weights)
        Game(0, size, target)  # says what is wrong with them
        if target > 2 ** (size * size + 1):
            raise ValueError(f"no {target} fits on {size}x{size}: at most {2 ** (size * size + 1)}")
        if max_turns is not None and max_turns < 1:
            raise ValueError(f"max_turns is at least 1, got {max_turns}")
        if invalid not in ("penalty", "end"):
            raise ValueError(f"invalid is 'penalty' or 'end', got {invalid!r}")
        self.size, self.target, self.show_legal, self.invalid = size, target, show_legal, invalid
        self.max_turns = math.ceil(0.7 * target) if max_turns is None else max_turns

    @property
    def max_reward(self) -> float:
        """The target, without a reply that moves nothing."""
        return self.weights["won"] + self.weights["progress"]

    def begin(self) -> str:
        """Draws the game's 128-bit seed."""
        self._game = Game(draw_seed(self.np_random), self.size, self.target)
        self._largest, self._idle, self._replies = 2, 0, 0
        self._way: dict[bytes, str] = {}
        return (
            f"Play 2048 on a {self.size}x{self.size} board. A move slides all tiles up (W), left "
            "(A), down (S) or right (D); two equal tiles that meet merge into their sum. After "
            "every move that changes the board a 2 or a 4 appears on an empty cell, which a dot "
            f"marks. Make a {self.target} tile within {self.max_turns} moves. Write the letter of "
            f"your move alone on the last line of each reply.\n\n{self._show()}"
        )

    def respond(self, action: str) -> Reply:
        """Plays one move."""
        self._replies += 1
        key = _move(action)
        changed = key is not None and self._game.move(key)
        self._idle = 0 if changed else self._idle + 1
        won, stop = self._game.won, self._stop(key)
        rewards = {
            "won": float(won),
            "progress": self._progress(),
            "invalid": float(key is None),
            "unchanged": float(key is not None and not changed),
        }
        return Reply(self._answer(key, changed), rewards, stop is not None, won, stop or Stop.DONE)

    def gold_action(self) -> str:
        """The next move of a way to the target found by one who knows all spawns to come."""
        if self._game.cells not in self._way:
            game = copy(self._game)
            for key in plan(self._game, self.target, self.max_turns - self._replies):
                self._way[game.cells] = key
                game.move(key)
        return self._way.get(self._game.cells) or self._game.legal()[:1]

    def _stop(self, key: str | None) -> Stop | None:
        if key is None and self.invalid == "end":
            return Stop.INVALID_MOVE
        if self._game.won or self._game.over:
            return Stop.DONE
        return Stop.STUCK if self._idle >= STUCK else None

    def _progress(self) -> float:
        """What the growth of the largest tile since the last reply earns."""
        before, self._largest = self._largest, min(self._game.max_tile, self.target)
        return math.log2(self._largest / before) / math.log2(self.target / 2)

    def _answer(self, key: str | None, changed: bool) -> str:
        if key is None:
            return f"Write W, A, S or D alone on the last line.\n\n{self._show()}"
        return self._show() if changed else f"{key} moves nothing.\n\n{self._show()}"

    def _show(self) -> str:
        board = draw(self._game.board)
        return f"{board}\nLegal: {' '.join(self._game.legal())}" if self.show_legal else board

    def _info(self, rewards: Mapping[str, float], stop: Stop, success: bool) -> Info:
        game: dict[str, Any] = {
            "score": self._game.score,
            "max_tile": self._game.max_tile,
            "moves": self._game.moves,
        }
        return super()._info(rewards, stop, success) | game


def _move(reply: str) -> str | None:
    """The move on the last line of a reply, or None if there is nothing else than one."""
    last = reply.rstrip().rpartition("\n")[2]
    return _WORDS.get(last.strip(_MARKS).lower())
