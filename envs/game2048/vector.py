"""Many games of 2048 at once: compiled if it was built, else on numpy tables, or cell by cell.

Every game is the one that `engine.Game` plays from the same seed.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from taskgym.envs.game2048 import cells as by_cell
from taskgym.envs.game2048 import native as natively
from taskgym.envs.game2048.cells import Words

_HALF = (1 << 64) - 1


def words(seeds: Iterable[int]) -> Words:
    """128-bit seeds as their halves, low and high: `(N, 2)`."""
    return np.array([(seed & _HALF, seed >> 64) for seed in seeds], np.uint64).reshape(-1, 2)


class Games:
    """N games, each from its own seed. Make them with `games`, which picks the engine.

    Attributes:
        cells: Exponents of the tiles, 0 where empty: `(N, size, size)` uint8.
        legal: Which of W, A, S, D change each board: `(N, 4)` uint8, 0 or 1.
        scores: Sums of all merged tiles: `(N,)` int64.
        spawns: Tiles spawned, two of them before the first move: `(N,)` uint64.
    """

    def __init__(self, seeds: Words, size: int):
        if not 2 <= size <= 15:  # the largest exponent, size * size + 1, fits a byte
            raise ValueError(f"size is from 2 to 15 in a vector of games, got {size}")
        n = len(seeds)
        self.cells = np.zeros((n, size, size), np.uint8)
        self.legal = np.zeros((n, 4), np.uint8)
        self.scores = np.zeros(n, np.int64)
        self.spawns = np.zeros(n, np.uint64)
        self._keys = np.zeros((n, 2), np.uint64)
        self.restart(np.arange(n), seeds)

    def restart(self, which: NDArray[np.int64], seeds: Words) -> None:
        """Starts new games at the positions `which`, from one seed each."""
        keys = by_cell.keys_of(seeds)
        self.cells[which] = by_cell.start(keys, self.cells.shape[1])
        self._keys[which] = keys
        self.scores[which], self.spawns[which] = 0, 2
        self._look(which)

    def _look(self, which: NDArray[np.int64]) -> None:
        """Finds out what follows from the cells of some games: which moves are legal."""
        self.legal[which] = by_cell.legal(self.cells[which])

    def move(self, actions: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Plays one move in every game; one that changes nothing leaves the game as it was.

        Args:
            actions: 0 W, 1 A, 2 S or 3 D for each game: `(N,)` integers.

        Returns:
            The merge scores and which boards changed.
        """
        every = np.arange(len(self.cells))
        return self._move_by_cell(every, np.asarray(actions))

    @property
    def over(self) -> NDArray[np.bool_]:
        """Which games have no legal move left."""
        over: NDArray[np.bool_] = self.legal.view(np.uint32)[:, 0] == 0
        return over

    @property
    def max_tiles(self) -> NDArray[np.int64]:
        """The largest tile of each board."""
        by_position = np.ascontiguousarray(self.cells.reshape(len(self.cells), -1).T)
        exponents: NDArray[np.int64] = by_position.max(axis=0).astype(np.int64)
        return np.int64(1) << exponents

    def _move_by_cell(
        self, which: NDArray[np.int64], actions: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        before = self.cells[which]
        after = by_cell.slide(before, actions)
        changed = (after != before).any(axis=(1, 2))
        gains = np.where(changed, by_cell.worth(after) - by_cell.worth(before), 0)
        at = which[changed]
        spawned = after[changed]
        by_cell.spawn(spawned, self._keys[at], self.spawns[at], actions[changed] % 2 == 0)
        self.cells[at] = spawned
        self.spawns[at] += np.uint64(1)
        self.scores[which] += gains
        self.legal[at] = by_cell.legal(spawned)
        return gains, changed


class NativeGames(Games):
    """The same, moved by the compiled engine."""

    def __init__(self, seeds: Words, size: int, engine: ModuleType):
        self._engine, self._size = engine, size
        self._words = np.zeros((len(seeds), 2 if size == 4 else 0), np.uint64)
        super().__init__(seeds, size)

    @property
    def _state(self) -> tuple[NDArray[Any], ...]:
        return self.cells, self._words, self._keys, self.spawns, self.legal

    def restart(self, which: NDArray[np.int64], seeds: Words) -> None:
        """Starts new games at the positions `which`, from one seed each."""
        at, halves = np.ascontiguousarray(which, np.int64), np.ascontiguousarray(seeds, np.uint64)
        self._engine.start(self._size, at, halves, *self._state)
        self.scores[which] = 0

    def move(self, actions: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Plays one move in every game."""
        gains = np.empty(len(self.cells), np.int64)
        keys = np.ascontiguousarray(actions, np.uint8)
        self._engine.step(self._size, keys, *self._state, gains)
        changed = gains >= 0
        gains *= changed
        self.scores += gains
        return gains, changed


def games(seeds: Words, size: int = 4, native: bool | None = None) -> Games:
    """N games on the quickest engine there is.

    Args:
        seeds: The 128-bit seeds as halves, low and high (see `words`): `(N, 2)` uint64.
        size: Rows and columns, from 2 to 15.
        native: True demands the compiled engine, False declines it, None takes it if it is there.
    """
    if engine := natively.choose(native):
        return NativeGames(seeds, size, engine)
    if size == 4:
        from taskgym.envs.game2048.tables import TableGames

        return TableGames(seeds)
    return Games(seeds, size)
