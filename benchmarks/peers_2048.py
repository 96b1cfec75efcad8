"""What engine_2048.py measures against: the notebook's board rewritten, gymnasium-2048 and pgx."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from typing import Any

import numpy as np

INSTALL = "pip install gymnasium-2048 pgx"


class NotebookBoard:
    """The GameBoard of Unsloth's gpt-oss 2048 notebook, its algorithm rewritten.

    Lists of lists, a scan of all empty cells for a spawn, and after every action a test for the
    target and for a move that is left.
    """

    def __init__(self, seed: int | None = None, size: int = 4, target: int = 2048):
        self.size, self.target, self.fours = size, target, 0.10
        self.rng = random.Random(seed)
        self.rows = [[0] * size for _ in range(size)]
        self.score, self.state = 0, "ongoing"
        self._spawn()
        self._spawn()
        self._update()

    def do_action(self, key: object) -> None:
        """Plays a, d, w or s; anything else loses."""
        if self.state != "ongoing":
            return
        if not isinstance(key, str) or not key:
            self.state = "failed"
            return
        key = key.strip().lower()
        if key == "q" or key not in ("a", "d", "w", "s"):
            self.state = "failed"
            return
        rows, gain, changed = self._moved(key)
        if changed:
            self.rows = rows
            self.score += gain
            self._spawn()
        self._update()

    def _moved(self, key: str) -> tuple[list[list[int]], int, bool]:
        rows = self.rows if key in "ad" else self._transposed(self.rows)
        moved, total, changed = [], 0, False
        for row in rows:
            slid, gain, differs = self._slide(row if key in "aw" else row[::-1])
            moved.append(slid if key in "aw" else slid[::-1])
            total += gain
            changed = changed or differs
        return (moved if key in "ad" else self._transposed(moved)), total, changed

    def _slide(self, row: list[int]) -> tuple[list[int], int, bool]:
        tiles = [tile for tile in row if tile != 0]
        merged, gain, i = [], 0, 0
        while i < len(tiles):
            if i + 1 < len(tiles) and tiles[i] == tiles[i + 1]:
                merged.append(tiles[i] + tiles[i + 1])
                gain += tiles[i] + tiles[i + 1]
                i += 2
            else:
                merged.append(tiles[i])
                i += 1
        merged += [0] * (self.size - len(merged))
        return merged, gain, merged != row

    @staticmethod
    def _transposed(rows: list[list[int]]) -> list[list[int]]:
        return [list(row) for row in zip(*rows, strict=True)]

    def _spawn(self) -> None:
        n = range(self.size)
        empty = [(i, j) for i in n for j in n if self.rows[i][j] == 0]
        if empty:
            i, j = self.rng.choice(empty)
            self.rows[i][j] = 4 if self.rng.random() < self.fours else 2

    def _update(self) -> None:
        if any(tile == self.target for row in self.rows for tile in row):
            self.state = "success"
        elif not self._can_move():
            self.state = "failed"
        else:
            self.state = "ongoing"

    def _can_move(self) -> bool:
        n, rows = self.size, self.rows
        if any(tile == 0 for row in rows for tile in row):
            return True
        for i in range(n):
            for j in range(n):
                if j + 1 < n and rows[i][j] == rows[i][j + 1]:
                    return True
                if i + 1 < n and rows[i][j] == rows[i + 1][j]:
                    return True
        return False


def missing(package: str) -> bool:
    """Whether a peer is not installed."""
    return importlib.util.find_spec(package) is None


def gymnasium_2048() -> Any:
    """One env of the package gymnasium-2048, without the wrappers of `gymnasium.make`."""
    import gymnasium as gym
    import gymnasium_2048  # noqa: F401 (registers it)

    return gym.make("gymnasium_2048/TwentyFortyEight-v0").unwrapped


def gymnasium_2048_vector(n: int) -> Any:
    """`SyncVectorEnv` over them."""
    from gymnasium.vector import SyncVectorEnv

    envs = SyncVectorEnv([gymnasium_2048] * n)
    envs.reset(seed=0)
    return envs


def pgx_steps(n: int, noise: np.ndarray[Any, Any]) -> Callable[[int], None]:
    """pgx: a function that plays so many steps, each one jitted call with autoreset.

    Args:
        n: Boards.
        noise: Random numbers that pick one of the legal actions: `(T, n, 4)`.
    """
    import jax
    import jax.numpy as jnp
    import pgx
    from pgx.experimental import auto_reset

    env = pgx.make("2048")
    advance = auto_reset(env.step, env.init)

    @jax.jit
    def step(state: Any, random: Any, key: Any) -> Any:
        actions = jnp.argmax(state.legal_action_mask * random, axis=1)
        return jax.vmap(advance)(state, actions, jax.random.split(key, n))

    state = jax.jit(jax.vmap(env.init))(jax.random.split(jax.random.PRNGKey(0), n))
    keys = jax.random.split(jax.random.PRNGKey(1), len(noise))
    random = [jnp.asarray(each) for each in noise]
    jax.block_until_ready(step(state, random[0], keys[0]))

    def play(steps: int) -> None:
        nonlocal state
        for t in range(steps):
            state = step(state, random[t % len(random)], keys[t % len(keys)])
        jax.block_until_ready(state)

    return play
