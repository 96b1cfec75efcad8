"""The game of 2048 in pure Python, on a square board of any size.

This file stands alone: it needs the standard library only, and may be loaded by its path. The other
engines (`vector.py`, `_native.c`) play the same games bit for bit; what they must agree on is
written here.

Rules: a move slides every line to one side; of each run of equal neighbours the pair nearest that
side merges first, and a merged tile does not merge again in that move (2 2 2 2 becomes 4 4 . .).
The score grows by every merged tile. A move that changes the board is followed by a spawn: a 2, or
with probability 1/10 a 4, on a cell chosen uniformly from the empty ones. A move that changes
nothing is no move: nothing spawns and nothing is counted. The game is over when no move changes
the board. Two tiles are spawned before the first move.

Chance: spawn number n = 0, 1, 2, ... of a game is a function of the game's 128-bit seed and n only.
All arithmetic is modulo 2**64, and `mix` is the finaliser of SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014, with Stafford's constants):

    mix(z):  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
             z = (z ^ z >> 27) * 0x94D049BB133111EB
             return z ^ z >> 31

    G = 0x9E3779B97F4A7C15
    low, high = the halves of the seed
    a = low + mix(high + G);  b = high + mix(a + G);  a = a + mix(b + G)     # once per game

    word(n) = mix(a + (n + 1) * G), with b added after the first multiplication

A word is turned into one of `m = 10 * empty` equally likely numbers by Lemire's method ("Fast
random integer generation in an interval", 2019), which has no bias: with the word's upper half u,
the number is `u * m >> 32`, unless `u * m mod 2**32 < 2**32 mod m`; then the word is replaced by
`mix(word + G)` and tried again. The number's quotient by 10 says which empty cell (in row-major
order) gets the tile, and the remainder 0 makes it a 4.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from operator import index, itemgetter
from typing import Any, TypeVar

KEYS = "WASD"  # up, left, down, right

_M = (1 << 64) - 1
_G = 0x9E3779B97F4A7C15
_C1 = 0xBF58476D1CE4E5B9
_C2 = 0x94D049BB133111EB

# What the merges that made a tile 2**k of 2s have scored: f(k + 1) = 2 f(k) + 2**(k + 1).
_WORTH = (0, *((k - 1) << k for k in range(1, 256)))
_MEMO = 1 << 16  # lines remembered; all of them on 4x4, and at most some 16 MB on larger boards


def mix(z: int) -> int:
    """The finaliser of SplitMix64: a bijection of the 64-bit numbers."""
    z = ((z ^ (z >> 30)) * _C1) & _M
    z = ((z ^ (z >> 27)) * _C2) & _M
    return z ^ (z >> 31)


def keys_of(seed: int) -> tuple[int, int]:
    """The two 64-bit keys of a game: a bijection of its 128-bit seed."""
    low, high = seed & _M, seed >> 64
    a = (low + mix((high + _G) & _M)) & _M
    b = (high + mix((a + _G) & _M)) & _M
    return (a + mix((b + _G) & _M)) & _M, b


def below(a: int, b: int, n: int, m: int) -> int:
    """Draw number `n` of the game with keys `a` and `b`: one of 0..m-1, all equally likely."""
    z = (a + (n + 1) * _G) & _M
    z = ((z ^ (z >> 30)) * _C1 + b) & _M
    z = ((z ^ (z >> 27)) * _C2) & _M
    z ^= z >> 31
    product = (z >> 32) * m
    while product & 0xFFFFFFFF < m and product & 0xFFFFFFFF < (1 << 32) % m:
        z = mix((z + _G) & _M)
        product = (z >> 32) * m
    return product >> 32


def toward_front(line: bytes) -> bytes:
    """A line of exponents (0 is empty) after sliding and merging towards its first cell."""
    tiles, merged, i = line.replace(b"\0", b""), bytearray(), 0
    while i < len(tiles):
        pair = tiles[i : i + 1] == tiles[i + 1 : i + 2]
        merged.append(tiles[i] + pair)
        i += 1 + pair
    return bytes(merged).ljust(len(line), b"\0")


def toward_back(line: bytes) -> bytes:
    """The same towards the last cell."""
    return toward_front(line[::-1])[::-1]


_T = TypeVar("_T")


class _Memo(dict[bytes, _T]):
    """Remembers what a function made of each line; forgets everything when it is full."""

    def __init__(self, function: Callable[[bytes], _T]):
        super().__init__()
        self._function = function

    def __missing__(self, line: bytes) -> _T:
        if len(self) >= _MEMO:
            self.clear()
        value = self[line] = self._function(line)
        return value


_front = _Memo(toward_front).__getitem__
_back = _Memo(toward_back).__getitem__
_tiles = _Memo(lambda line: [1 << k if k else 0 for k in line]).__getitem__

_Lines = Callable[[bytes], tuple[bytes, ...]]


@cache
def _lines(size: int) -> tuple[_Lines, _Lines]:
    """What splits the cells of a board into its rows, and into its columns."""
    rows: Any = itemgetter(*(slice(i * size, (i + 1) * size) for i in range(size)))
    columns: Any = itemgetter(*(slice(i, None, size) for i in range(size)))
    return rows, columns


class Game:
    """One game of 2048.

    Args:
        seed: From 0 to 2**128 - 1; it decides every spawn.
        size: Rows and columns of the board, at least 2.
        target: The tile that counts as a win, a power of two from 4. The game goes on after it.

    Attributes:
        cells: The exponents of the tiles in row-major order, 0 where empty: size**2 bytes.
        size: Rows and columns.
        target: The tile that counts as a win.
        moves: Moves that changed the board.
    """

    __slots__ = (
        "_a",
        "_b",
        "_columns",
        "_fours",
        "_rows",
        "_spawns",
        "cells",
        "moves",
        "size",
        "target",
    )

    def __init__(self, seed: int, size: int = 4, target: int = 2048):
        seed, size, target = index(seed), index(size), index(target)
        if not 0 <= seed < 1 << 128:
            raise ValueError(f"seed is from 0 to 2**128 - 1, got {seed}")
        if size < 2:
            raise ValueError(f"size is at least 2, got {size}")
        if target < 4 or target & (target - 1):
            raise ValueError(f"target is a power of two from 4, got {target}")
        self.size, self.target, self.moves = size, target, 0
        self._a, self._b = keys_of(seed)
        self._rows, self._columns = _lines(size)
        self._spawns = self._fours = 0
        self.cells = bytes(size * size)
        self._spawn(self.cells)
        self._spawn(self.cells)

    @property
    def board(self) -> list[list[int]]:
        """The tiles, row by row, 0 where empty: fresh lists each time."""
        return [tiles[:] for tiles in map(_tiles, self._rows(self.cells))]

    @property
    def score(self) -> int:
        """The sum of all merged tiles.

        The tiles say it: each is worth the merges that made it of 2s, less 4 for every 4 that was
        spawned and not merged.
        """
        return sum(map(_WORTH.__getitem__, self.cells)) - 4 * self._fours

    @property
    def max_tile(self) -> int:
        """The largest tile on the board."""
        return 1 << max(self.cells)

    @property
    def won(self) -> bool:
        """Whether the target was reached."""
        return self.max_tile >= self.target

    @property
    def over(self) -> bool:
        """Whether no move changes the board."""
        return 0 not in self.cells and not self.legal()

    def legal(self) -> str:
        """The keys that change the board, in the order W, A, S, D."""
        rows, columns, join = self._rows(self.cells), self._columns(self.cells), b"".join
        down = join(columns)
        return (
            ("W" if join(map(_front, columns)) != down else "")
            + ("A" if join(map(_front, rows)) != self.cells else "")
            + ("S" if join(map(_back, columns)) != down else "")
            + ("D" if join(map(_back, rows)) != self.cells else "")
        )

    def move(self, key: str) -> bool:
        """Slides the board up (W), left (A), down (S) or right (D); returns whether it changed."""
        if key == "A":
            cells = b"".join(map(_front, self._rows(self.cells)))
        elif key == "D":
            cells = b"".join(map(_back, self._rows(self.cells)))
        elif key == "W":  # the joined columns are the board transposed: its columns are our rows
            columns = b"".join(map(_front, self._columns(self.cells)))
            cells = b"".join(self._columns(columns))
        elif key == "S":
            columns = b"".join(map(_back, self._columns(self.cells)))
            cells = b"".join(self._columns(columns))
        else:
            raise ValueError(f"a move is one of W, A, S and D, got {key!r}")
        if cells == self.cells:
            return False
        self.moves += 1
        self._spawn(cells)
        return True

    def _spawn(self, cells: bytes) -> None:
        number = below(self._a, self._b, self._spawns, 10 * cells.count(0))
        self._spawns += 1
        cell, tenth = divmod(number, 10)
        at = cells.find(0)
        for _ in range(cell):
            at = cells.find(0, at + 1)
        if tenth:
            self.cells = cells[:at] + b"\1" + cells[at + 1 :]
        else:
            self._fours += 1
            self.cells = cells[:at] + b"\2" + cells[at + 1 :]
