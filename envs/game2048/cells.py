"""Many boards of any size at once in numpy, cell by cell: what the tables of 4x4 fall back on.

Boards are `(N, size, size)` uint8 exponents, 0 where empty; actions are 0 W, 1 A, 2 S, 3 D.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.uint8]
Words = NDArray[np.uint64]

_G = np.uint64(0x9E3779B97F4A7C15)
_C1 = np.uint64(0xBF58476D1CE4E5B9)
_C2 = np.uint64(0x94D049BB133111EB)
_LOW = np.uint64(0x3FFFFF)
_1, _10, _22, _27, _30, _31, _32 = map(np.uint64, (1, 10, 22, 27, 30, 31, 32))

# What the merges that made a tile 2**k of 2s have scored (see `engine.Game.score`).
_WORTH = np.array([0, *((k - 1) << k for k in range(1, 58))], np.int64)


def mix(z: Words, add: Any = 0) -> Words:
    """The generator's finaliser; `add` goes in after the first multiplication."""
    z = (z ^ (z >> _30)) * _C1 + np.uint64(add)
    z = (z ^ (z >> _27)) * _C2
    return z ^ (z >> _31)


def keys_of(seeds: Words) -> Words:
    """The two keys of each game from the two halves, low and high, of its seed: `(N, 2)`."""
    low, high = seeds[:, 0], seeds[:, 1]
    a = low + mix(high + _G)
    b = high + mix(a + _G)
    return np.stack([a + mix(b + _G), b], axis=1)


def below(keys: Words, n: Words, m: Words) -> Words:
    """Draw number `n` of every game, below its `m` of at most 2**22: all `(N,)`."""
    z = mix(keys[:, 0] + ((n >> _1) + _1) * _G, keys[:, 1])
    product = ((z >> (_10 + (n & _1) * _32)) & _LOW) * m
    for i in np.flatnonzero((product & _LOW) < m):  # a few in a hundred thousand
        while (product[i] & _LOW) < np.uint64(1 << 22) % m[i]:
            z[i : i + 1] = mix(z[i : i + 1] + _G)
            product[i] = (z[i] >> np.uint64(42)) * m[i]
    return product >> _22


def slide_lines(lines: Cells) -> Cells:
    """Lines `(M, size)` after sliding and merging towards their first cell."""
    tiles = _compact(lines)
    for i in range(tiles.shape[1] - 1):
        pair = (tiles[:, i] == tiles[:, i + 1]) & (tiles[:, i] > 0)
        tiles[:, i] += pair
        tiles[:, i + 1] *= ~pair
    return _compact(tiles)


def _compact(lines: Cells) -> Cells:
    return np.take_along_axis(lines, np.argsort(lines == 0, axis=1, kind="stable"), axis=1)


def slide(cells: Cells, actions: NDArray[Any]) -> Cells:
    """Every board after its action, before the spawn."""
    slid = cells.copy()
    for action in range(4):
        which = np.flatnonzero(actions == action)
        if len(which):
            lines = _turned(cells[which], action)
            moved = slide_lines(lines.reshape(-1, cells.shape[2])).reshape(lines.shape)
            slid[which] = _turned(moved, action, back=True)
    return slid


def _turned(cells: Cells, action: int, back: bool = False) -> Cells:
    """Boards turned so that the action slides to the left; `back` undoes it."""
    if back and action >= 2:
        cells = cells[:, :, ::-1]
    if action % 2 == 0:
        cells = cells.transpose(0, 2, 1)
    return cells[:, :, ::-1] if action >= 2 and not back else cells


def spawn(cells: Cells, keys: Words, spawns: Words, columns: NDArray[Any]) -> None:
    """Puts spawn number `spawns` of each game on its board, in place.

    Empty cells are counted row by row, or column by column where `columns` says so: `(N,)`.
    """
    size = cells.shape[1]
    flat = cells.reshape(len(cells), size * size)
    order = np.arange(size * size)
    order = np.where(np.asarray(columns)[:, None], order % size * size + order // size, order)
    filled = np.cumsum(np.take_along_axis(flat, order, axis=1) == 0, axis=1)
    number = below(keys, spawns, 10 * filled[:, -1].astype(np.uint64)).astype(np.int64)
    every, at = np.arange(len(flat)), np.argmax(filled > (number // 10)[:, None], axis=1)
    flat[every, order[every, at]] = 1 + (number % 10 == 0)


def start(keys: Words, size: int) -> Cells:
    """Boards with the first two spawns of each game."""
    n, count = len(keys), size * size
    draws, most = np.repeat(np.array([0, 1], np.uint64), n), 10 * np.array([count, count - 1])
    numbers = below(np.concatenate([keys, keys]), draws, np.repeat(most.astype(np.uint64), n))
    (first, second), tiles = (
        (numbers // _10).astype(np.intp).reshape(2, n),
        1 + (numbers % _10 == 0),
    )
    cells, every = np.zeros((n, count), np.uint8), np.arange(n)
    cells[every, first] = tiles[:n]
    cells[every, second + (second >= first)] = tiles[n:]
    return cells.reshape(n, size, size)


def legal(cells: Cells) -> NDArray[np.uint8]:
    """Which of W, A, S, D change each board: `(N, 4)`, 0 or 1."""
    columns = cells.transpose(0, 2, 1)
    (up, down), (left, right) = _movable(columns), _movable(cells)
    return np.stack([up, left, down, right], axis=1).astype(np.uint8)


def _movable(cells: Cells) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether some row of each board can move to the left, and to the right."""
    here, after = cells[:, :, :-1], cells[:, :, 1:]
    equal = (here == after) & (here > 0)
    left, right = equal | ((here == 0) & (after > 0)), equal | ((here > 0) & (after == 0))
    return left.any(axis=(1, 2)), right.any(axis=(1, 2))


def worth(cells: Cells) -> NDArray[np.int64]:
    """What merging each board of 2s has scored; a move scores the growth: `(N,)`."""
    total: NDArray[np.int64] = _WORTH[cells].sum(axis=(1, 2))
    return total
