"""What `gymnasium.make_vec("Game2048-Numeric-v0")` makes: many games on the vector engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from taskgym.envs.game2048.cells import Words
from taskgym.envs.game2048.numeric_env import STUCK, spaces
from taskgym.envs.game2048.vector import Games, games

Bools = NDArray[np.bool_]
Observations = NDArray[np.uint8]


class Game2048NumericVector(VectorEnv[Observations, NDArray[np.int64], NDArray[Any]]):
    """N games of `Game2048-Numeric-v0`, step by step what `SyncVectorEnv` makes of N single ones.

    Args:
        num_envs: How many games.
        size: Rows and columns, from 2 to 15.
        autoreset_mode: When a finished game is followed by a new one (see Gymnasium's
            `AutoresetMode`): at the next step, at the same step, or when `reset` is called with
            `options={"reset_mask": which}`.
        native: True demands the compiled engine, False declines it, None takes it if it is there.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's spelling)

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 4,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        native: bool | None = None,
    ):
        self.num_envs, self.size, self.native = num_envs, size, native
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = spaces(size)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._games: Games | None = None
        self._generators: dict[int, np.random.Generator] = {}

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts a new game everywhere, or where `options["reset_mask"]` is True.

        Args:
            seed: One seed for each game, or an int that stands for seed, seed + 1, ...; None goes
                on with the generators there are.
            options: Nothing but `reset_mask`, `(num_envs,)` booleans.
        """
        mask = self._mask(dict(options or {}))
        if self._games is None and not mask.all():
            raise gym.error.ResetNeeded("the first reset is one of all games: leave out reset_mask")
        which = np.flatnonzero(mask)
        self._seed(seed, which)
        seeds = self._draw(which)
        if self._games is None:
            self._games = games(seeds, self.size, self.native)
            self._unchanged = np.zeros(self.num_envs, np.int64)
            self._done = np.zeros(self.num_envs, np.bool_)
        else:
            self._restart(which, seeds)
        return self._games.cells.copy(), self._infos(mask)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Observations, NDArray[np.float64], Bools, Bools, dict[str, Any]]:
        """Plays one move in every game; the rewards are what they merged."""
        playing, actions = self._playing(), self._checked(actions)
        gains, changed = playing.move(actions)
        self._unchanged += 1
        self._unchanged *= ~changed
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._done.any():
            gains[self._done] = 0
            self._restart(which := np.flatnonzero(self._done), self._draw(which))
        over = playing.over
        stuck = (self._unchanged >= STUCK) & ~over
        self._done = over | stuck
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._done.any():
            infos = self._final()
            self._restart(which := np.flatnonzero(self._done), self._draw(which))
        every = np.ones(self.num_envs, np.bool_)
        observations = playing.cells.copy()
        return observations, gains.astype(np.float64), over, stuck, infos | self._infos(every)

    def _playing(self) -> Games:
        if self._games is None:
            raise gym.error.ResetNeeded("call reset() before step(): no game is running")
        if self.autoreset_mode is AutoresetMode.DISABLED and self._done.any():
            raise gym.error.ResetNeeded(
                f"game {np.argmax(self._done)} is over and autoreset is disabled: "
                'call reset(options={"reset_mask": ...}) first'
            )
        return self._games

    def _checked(self, actions: NDArray[Any]) -> NDArray[Any]:
        actions = np.asarray(actions, np.int64)
        if actions.shape != (self.num_envs,):
            raise ValueError(f"wanted {self.num_envs} actions, got an array of {actions.shape}")
        if actions.view(np.uint64).max(initial=0) > 3:  # negative ones are large there
            wrong = np.flatnonzero((actions < 0) | (actions > 3))[0]
            raise ValueError(f"an action is 0, 1, 2 or 3, got {actions[wrong]} for game {wrong}")
        return actions

    def _mask(self, options: dict[str, Any]) -> Bools:
        mask = options.pop("reset_mask", None)
        if options:
            raise ValueError(f"the only option of reset is reset_mask, got {sorted(options)}")
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError("reset_mask is a numpy array of booleans")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"reset_mask has shape ({self.num_envs},) and a True, got {mask!r}")
        return mask

    def _seed(self, seed: int | Sequence[int | None] | None, which: NDArray[np.int64]) -> None:
        """Gives these games their generators; a seed of None leaves a game the one it has."""
        seeds: list[int | None]
        if seed is None or isinstance(seed, int):
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"wanted {self.num_envs} seeds, got {len(seeds)}")
        for i in which:
            if seeds[i] is not None or i not in self._generators:
                self._generators[i] = np_random(seeds[i])[0]

    def _draw(self, which: NDArray[np.int64]) -> Words:
        """A 128-bit game seed, low half first, from the generator of each of these games."""
        draws = [self._generators[i].bit_generator.random_raw(2) for i in which.tolist()]
        return np.array(draws, np.uint64).reshape(-1, 2)

    def _restart(self, which: NDArray[np.int64], seeds: Words) -> None:
        assert self._games is not None
        self._games.restart(which, seeds)
        self._unchanged[which] = 0
        self._done[which] = False

    def _infos(self, mask: Bools) -> dict[str, Any]:
        """The infos of the games in `mask`, and zeros for the others, as Gymnasium batches them."""
        assert self._games is not None
        infos: dict[str, Any] = {
            "action_mask": self._games.legal.view(np.int8).copy(),
            "score": self._games.scores.copy(),
            "max_tile": self._games.max_tiles,
            "moves": self._games.spawns.astype(np.int64) - 2,
        }
        if not mask.all():
            for values in infos.values():
                values[~mask] = 0
        return infos | {f"_{name}": mask.copy() for name in infos}

    def _final(self) -> dict[str, Any]:
        """The last observations and infos of the games that just ended."""
        assert self._games is not None
        observations = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(self._done):
            observations[i] = self._games.cells[i].copy()
        return {
            "final_obs": observations,
            "_final_obs": self._done.copy(),
            "final_info": self._infos(self._done),
            "_final_info": self._done.copy(),
        }
