"""Game2048-Numeric-v0: 2048 as arrays and numbers, for agents that are no language models."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from taskgym.envs.game2048.engine import KEYS, Game
from taskgym.envs.game2048.seeds import draw_seed

Observation = NDArray[np.uint8]
STUCK = 16  # moves in a row that change nothing and truncate an episode


def spaces(size: int) -> tuple[gym.Space[Observation], gym.Space[np.int64]]:
    """The observation space, exponents of the tiles, and the action space, W, A, S, D."""
    largest = size * size + 1  # no sequence of spawns leads to a larger exponent
    tiles: gym.Space[Any] = gym.spaces.Box(0, largest, (size, size), np.uint8)
    return tiles, gym.spaces.Discrete(4)


class Game2048Numeric(gym.Env[Observation, np.int64]):
    """2048 with the exponents of the tiles as observation and the merge score as reward.

    Actions are 0 up, 1 left, 2 down and 3 right. The rewards of an episode add up to the game's
    score. An episode terminates when no move is left, and is truncated after 16 moves in a row that
    change nothing; `info["action_mask"]` says which do, in the form that `Discrete.sample` takes.
    `info` also has `score`, `max_tile` and `moves` (those that changed the board).

    `gymnasium.make_vec` plays on the vector engine. One seed is the same episodes here and there.

    Args:
        size: Rows and columns, from 2 to 15.
        render_mode: "ansi" draws the board as text, None draws nothing.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's spelling)

    def __init__(self, *, size: int = 4, render_mode: str | None = None):
        if not 2 <= size <= 15:
            raise ValueError(f"size is from 2 to 15, got {size}")
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode is None or 'ansi', got {render_mode!r}")
        self.size, self.render_mode = size, render_mode
        self.observation_space, self.action_space = spaces(size)
        self._game: Game | None = None

    @property
    def game(self) -> Game:
        """The running game."""
        if self._game is None:
            raise gym.error.ResetNeeded("call reset() before step(): no game is running")
        return self._game

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts a new game, whose 128-bit seed `self.np_random` draws."""
        super().reset(seed=seed)
        self._game = Game(draw_seed(self.np_random), self.size)
        self._unchanged = 0
        return self._observation(), self._info()

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Plays one move; the reward is what it merged."""
        if not 0 <= action < 4:
            raise ValueError(f"an action is 0, 1, 2 or 3, got {action}")
        score = self.game.score
        changed = self.game.move(KEYS[int(action)])
        self._unchanged = 0 if changed else self._unchanged + 1
        over = self.game.over
        stuck = self._unchanged >= STUCK and not over
        return self._observation(), float(self.game.score - score), over, stuck, self._info()

    def render(self) -> str | None:
        """The board as text."""
        from taskgym.envs.game2048.text import draw

        return None if self.render_mode is None else draw(self.game.board)

    def _observation(self) -> Observation:
        return np.frombuffer(self.game.cells, np.uint8).reshape(self.size, self.size).copy()

    def _info(self) -> dict[str, Any]:
        legal = self.game.legal()
        return {
            "action_mask": np.array([key in legal for key in KEYS], np.int8),
            "score": self.game.score,
            "max_tile": self.game.max_tile,
            "moves": self.game.moves,
        }
