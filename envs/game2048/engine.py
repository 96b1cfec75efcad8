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

    word(k) = mix(a + (k + 1) * G), with b added after the first multiplication

Spawn n takes 22 bits of word(n // 2): the upper ones of its lower half if n is even, of its upper
half if n is odd. They are turned into one of `m = 10 * empty` equally likely numbers by Lemire's
method ("Fast random integer generation in an interval", 2019), which has no bias: with the 22 bits
u the number is `u * m >> 22`, unless `u * m mod 2**22 < 2**22 mod m`; then the word is replaced by
`mix(word + G)`, of which the 22 uppermost bits are tried, and so on. The number's quotient by 10
says which empty cell gets the tile, and the remainder 0 makes it a 4. Empty cells are counted along
the lines that slid: row by row after a move to the left or right and before the first move, column
by column after one up or down.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from operator import eq, index, itemgetter
from struct import Struct
from typing import TypeVar

KEYS = "WASD"  # up, left, down, right

_M = (1 << 64) - 1
_G = 0x9E3779B97F4A7C15
_C1 = 0xBF58476D1CE4E5B9
_C2 = 0x94D049BB133111EB

# What the merges that made a tile 2**k of 2s have scored: f(k + 1) = 2 f(k) + 2**(k + 1).
_WORTH = (0, *((k - 1) << k for k in range(1, 256)))
# Lines remembered of each kind. More than caches hold cost more to look up than to work out again.
_MEMO = 1 << 15


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
    z = (a + (n // 2 + 1) * _G) & _M
    z = ((z ^ (z >> 30)) * _C1 + b) & _M
    z = ((z ^ (z >> 27)) * _C2) & _M
    z ^= z >> 31
    product = (z >> (42 if n % 2 else 10) & 0x3FFFFF) * m
    while product & 0x3FFFFF < (1 << 22) % m:
        z = mix((z + _G) & _M)
        product = (z >> 42) * m
    return product >> 22


_BLOCK = 32  # draws whose bits are made at once, in lanes of 128 bits of one large integer
_ONES = sum(1 << 128 * i for i in range(_BLOCK // 2))
_LANES = _M * _ONES
_STEPS = sum(((i + 1) * _G & _M) << 128 * i for i in range(_BLOCK // 2))
_BITS = (0x3FFFFF << 32 | 0x3FFFFF) * _ONES
_halves = Struct("<" + "II8x" * (_BLOCK // 2)).unpack


def bits_of(a: int, b: int, n: int) -> tuple[int, ...]:
    """The 22 bits of draws n to n + 31 (n is even), at a sixth of the price of one by one."""
    z = ((a + n // 2 * _G & _M) * _ONES + _STEPS) & _LANES
    z = ((z ^ (z >> 30)) & _LANES) * _C1 + b * _ONES & _LANES
    z = ((z ^ (z >> 27)) & _LANES) * _C2 & _LANES
    z = (z ^ (z >> 31)) >> 10 & _BITS
    return _halves(z.to_bytes(8 * _BLOCK, "little"))


_merge_pairs = re.compile(rb"([^\xff])\1").sub
_EDGE = b"\xff"  # between lines; no game gets to a tile 2**255
_SUCCESSORS = [bytes([k + 1]) for k in range(255)]


def _merged(pair: re.Match[bytes]) -> bytes:
    return _SUCCESSORS[pair[0][0]]


def toward_front(line: bytes) -> bytes:
    """A line of exponents (0 is empty) after sliding and merging towards its first cell."""
    return _merge_pairs(_merged, line.translate(None, b"\0")).ljust(len(line), b"\0")


def toward_back(line: bytes) -> bytes:
    """The same towards the last cell."""
    merged = _merge_pairs(_merged, line.translate(None, b"\0")[::-1])
    return merged[::-1].rjust(len(line), b"\0")


_Lines = tuple[bytes, ...]
_Cut = Callable[[bytes], _Lines]
_Slide = Callable[[_Lines], _Lines]


def _all_toward_front(lines: _Lines) -> _Lines:
    """The same of many lines at once, for little more than the price of three."""
    packed = _EDGE.join(lines).translate(None, b"\0")
    merged = _merge_pairs(_merged, packed).split(_EDGE)
    size = len(lines[0])
    return tuple([line.ljust(size, b"\0") for line in merged])


def _all_toward_back(lines: _Lines) -> _Lines:
    """The same towards the last cells."""
    packed = _EDGE.join(lines).translate(None, b"\0")[::-1]
    merged = _merge_pairs(_merged, packed)[::-1].split(_EDGE)
    size = len(lines[0])
    return tuple([line.rjust(size, b"\0") for line in merged])


def _with_tile(cells: bytes, number: int) -> bytes:
    """The cells after the spawn that a draw names."""
    after = cells.split(b"\0", number // 10 + 1)[-1]  # what comes after the chosen cell
    return cells[: ~len(after)] + (b"\1" if number % 10 else b"\2") + after


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


def _one_by_one(slide: Callable[[bytes], bytes]) -> _Slide:
    """Slides lines that are met so often that each is worth remembering."""
    memo = _Memo(slide)
    return lambda lines: itemgetter(*lines)(memo)


# A line that has slid, ten times its empty cells, and that line with a tile, by the number drawn.
_Outcome = tuple[bytes, int, list[bytes]]


def _outcome(line: bytes) -> _Outcome:
    spawned: list[bytes] = []
    for number in range(0, 10 * line.count(0), 10):
        spawned += [_with_tile(line, number)] + 9 * [_with_tile(line, number + 1)]
    return line, len(spawned), spawned


# What becomes of the lines of 4x4, of which there are few, either way.
_outcomes = _Memo(_outcome)
_front_4 = _Memo(lambda line: _outcomes[toward_front(line)])
_back_4 = _Memo(lambda line: _outcomes[toward_back(line)])

_Slides = dict[str, tuple[bool, _Slide, _Memo[_Outcome]]]


@cache
def _shape(size: int) -> tuple[_Cut, _Cut, _Slides, _Memo[list[int]]]:
    """What all games of a size share.

    That is: what cuts the cells into rows, and into columns; for each key whether it slides rows,
    how lines slide, and what becomes of a line of four; and the tiles of a line. Sizes apart, so
    that the many lines of large boards do not drive out those of small ones.
    """
    rows = Struct(f"{size}s" * size).unpack
    columns: _Cut = itemgetter(*(slice(i, None, size) for i in range(size)))
    if size < 6:
        front, back = _one_by_one(toward_front), _one_by_one(toward_back)
    else:
        front, back = _all_toward_front, _all_toward_back
    slides = {
        "W": (False, front, _front_4),
        "A": (True, front, _front_4),
        "S": (False, back, _back_4),
        "D": (True, back, _back_4),
    }
    return rows, columns, slides, _Memo(lambda line: [1 << k if k else 0 for k in line])


class Game:
    """One game of 2048.

    Args:
        seed: From 0 to 2**128 - 1; it decides every spawn.
        size: Rows and columns of the board, from 2 to 255.
        target: The tile that counts as a win, a power of two from 4. The game goes on after it.

    Attributes:
        moves: Moves that changed the board.
        over: Whether no move changes the board.
        size: Rows and columns.
        target: The tile that counts as a win.
    """

    __slots__ = (
        "_a",
        "_b",
        "_bits",
        "_columns",
        "_fours",
        "_lines",
        "_rows",
        "_slides",
        "_tiles",
        "_upright",
        "moves",
        "over",
        "size",
        "target",
    )

    def __init__(self, seed: int, size: int = 4, target: int = 2048):
        seed, size, target = index(seed), index(size), index(target)
        if not 0 <= seed < 1 << 128:
            raise ValueError(f"seed is from 0 to 2**128 - 1, got {seed}")
        if not 2 <= size <= 255:  # beyond, 22 bits are too few for all empty cells
            raise ValueError(f"size is from 2 to 255, got {size}")
        if target < 4 or target & (target - 1):
            raise ValueError(f"target is a power of two from 4, got {target}")
        self.size, self.target = size, target
        self._rows, self._columns, self._slides, self._tiles = _shape(size)
        self._a, self._b = keys_of(seed)
        self.over = False
        self.moves, self._fours = -2, 0  # the two tiles before the first move count up to 0
        cells = bytes(size * size)
        for _ in range(2):
            cells = _with_tile(cells, self._draw(10 * cells.count(0)))
        self._cells, self._upright = cells, True

    @property
    def _cells(self) -> bytes:
        """The exponents as they are held: row by row, or column by column if not upright."""
        return b"".join(self._lines)

    @_cells.setter
    def _cells(self, cells: bytes) -> None:
        self._lines = self._rows(cells)

    @property
    def cells(self) -> bytes:
        """The exponents of the tiles in row-major order, 0 where empty: size**2 bytes."""
        return self._cells if self._upright else b"".join(self._columns(self._cells))

    @property
    def board(self) -> list[list[int]]:
        """The tiles, row by row, 0 where empty: fresh lists each time."""
        rows = self._lines if self._upright else self._columns(self._cells)
        return [tiles[:] for tiles in itemgetter(*rows)(self._tiles)]

    @property
    def score(self) -> int:
        """The sum of all merged tiles.

        The tiles say it: each is worth the merges that made it of 2s, less 4 for every 4 that was
        spawned and not merged.
        """
        return sum(map(_WORTH.__getitem__, self._cells)) - 4 * self._fours

    @property
    def max_tile(self) -> int:
        """The largest tile on the board."""
        return 1 << max(self._cells)

    @property
    def won(self) -> bool:
        """Whether the target was reached."""
        return self.max_tile >= self.target

    def legal(self) -> str:
        """The keys that change the board, in the order W, A, S, D."""
        along, across = self._lines, self._columns(self._cells)
        rows, columns = (along, across) if self._upright else (across, along)
        front, back = self._slides["W"][1], self._slides["S"][1]
        return (
            ("W" if front(columns) != columns else "")
            + ("A" if front(rows) != rows else "")
            + ("S" if back(columns) != columns else "")
            + ("D" if back(rows) != rows else "")
        )

    def move(self, key: str) -> bool:
        """Slides the board up (W), left (A), down (S) or right (D); returns whether it changed."""
        try:
            upright, slide, outcomes = self._slides[key]
        except KeyError:
            raise ValueError(f"a move is one of W, A, S and D, got {key!r}") from None
        # Lines are held as the last move left them; across them, cells are slices with a stride.
        lines = self._lines if upright is self._upright else self._columns(b"".join(self._lines))
        moved = self._moved_4(lines, outcomes) if self.size == 4 else self._moved(lines, slide)
        if not moved:
            return False
        self._lines, self._upright = moved, upright
        if self.over:  # the board is full
            self.over = not self._can_merge()
        return True

    def _moved(self, lines: _Lines, slide: _Slide) -> _Lines:
        """The lines after a slide and a spawn; none if the slide changes nothing."""
        slid = slide(lines)
        if slid == lines:
            return ()
        cells = b"".join(slid)
        number = self._draw(10 * cells.count(0))
        # `_with_tile` written out, as the call costs a fiftieth of a move.
        after = cells.split(b"\0", number // 10 + 1)[-1]
        return self._rows(cells[: ~len(after)] + (b"\1" if number % 10 else b"\2") + after)

    def _moved_4(self, lines: _Lines, outcomes: _Memo[_Outcome]) -> _Lines:
        """The same for 4x4 in half the time: most lines keep their identity, and so their hash."""
        p, q, r, s = lines
        (a, in_a, as_), (b, in_b, bs) = outcomes[p], outcomes[q]
        (c, in_c, cs), (d, in_d, ds) = outcomes[r], outcomes[s]
        if a == p and b == q and c == r and d == s:
            return ()
        number = self._draw(in_a + in_b + in_c + in_d)
        if number < in_a:
            return as_[number], b, c, d
        if (number := number - in_a) < in_b:
            return a, bs[number], c, d
        if (number := number - in_b) < in_c:
            return a, b, cs[number], d
        return a, b, c, ds[number - in_c]

    def _draw(self, m: int) -> int:
        """The number of the next spawn, below `m`: a tenth of it is the cell, 0 of ten a 4."""
        n = self.moves + 2
        at = n % _BLOCK
        if not at:
            self._bits = bits_of(self._a, self._b, n)
        product = self._bits[at] * m
        number = product >> 22
        if product & 0x3FFFFF < m:  # perhaps bits to be replaced
            number = below(self._a, self._b, n, m)
        if not number % 10:
            self._fours += 1
        self.moves = n - 1
        self.over = m == 10  # the last empty cell is filled; `move` looks for merges
        return number

    def _can_merge(self) -> bool:
        """Whether equal tiles are neighbours: on a full board, whether a move is left."""
        cells = self._cells
        if any(map(eq, cells, cells[self.size :])):
            return True
        return self._slides["A"][1](self._lines) != self._lines
