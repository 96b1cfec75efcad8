"""Many 4x4 games at once in numpy: a board is one 64-bit word, and rows are looked up in tables.

Cell i, in row-major order, is bits 4 i to 4 i + 3 of the word, so that row r is its r-th 16 bits. A
tile of 2**15 or more does not fit (or may merge into one that does not): such boards are played
cell by cell.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from taskgym.envs.game2048 import cells as by_cell
from taskgym.envs.game2048.cells import Words
from taskgym.envs.game2048.vector import Games

_U = np.uint64
_SHIFTS = np.arange(0, 64, 4, dtype=_U)
_ONES = _U(0x1111111111111111)  # the lowest bit of every cell
_TEN = _U(10)


class Tables(NamedTuple):
    """What there is to know of each of the 65,536 rows."""

    slid: NDArray[np.uint16]  # after sliding to the left, then all rows after sliding to the right
    gain: NDArray[np.int32]  # what either scores
    sides: NDArray[np.uint8]  # 1: can move to the left, 2: to the right
    cells: NDArray[np.uint32]  # the four exponents as bytes


@cache
def tables() -> Tables:
    """Builds the tables, once a process."""
    rows = np.arange(1 << 16, dtype=np.uint32)
    lines = np.stack([rows >> shift & 15 for shift in (0, 4, 8, 12)], axis=1).astype(np.uint8)
    left = by_cell.slide_lines(lines)
    right = by_cell.slide_lines(lines[:, ::-1])[:, ::-1]
    gain = by_cell.worth(left[:, None]) - by_cell.worth(lines[:, None])
    sides = (left != lines).any(axis=1) + 2 * (right != lines).any(axis=1)
    slid = np.concatenate([_row(left), _row(right)])
    return Tables(slid, gain.astype(np.int32), sides.astype(np.uint8), lines.view("<u4")[:, 0])


def _row(lines: NDArray[np.uint8]) -> NDArray[np.uint16]:
    low = lines & 15  # 2**16 does not fit; such rows are never looked up
    row: NDArray[np.uint16] = low[:, 0].astype(np.uint16)
    for i in range(1, 4):
        row |= low[:, i].astype(np.uint16) << np.uint16(4 * i)
    return row


_MASKS = np.array(  # two bits of the columns and two of the rows -> the bytes for W, A, S, D
    [[bits & 1, bits >> 2 & 1, bits >> 1 & 1, bits >> 3] for bits in range(16)], np.uint8
).view(np.uint32)[:, 0]


def transpose(x: Words) -> Words:
    """Words with rows and columns exchanged."""
    t = (x ^ (x >> _U(12))) & _U(0x0000F0F00000F0F0)
    x = x ^ t ^ (t << _U(12))
    t = (x ^ (x >> _U(24))) & _U(0x00000000FF00FF00)
    turned: Words = x ^ t ^ (t << _U(24))
    return turned


def empty_cells(x: Words) -> Words:
    """The lowest bit of every empty cell."""
    x = x | (x >> _U(2))
    empty: Words = ~(x | (x >> _U(1))) & _ONES
    return empty


def nth_cell(marks: Words, n: Words) -> Words:
    """The position of mark number n = 0, 1, ... of each word; 16 if it has no more than n, n < 15.

    After the multiplication cell i holds the number of marks in cells 0 to i. Bytes leave room to
    compare them all with n at once.
    """
    count = marks * _ONES
    low = _U(0x0F0F0F0F0F0F0F0F)
    high = _U(0x8080808080808080)
    limit = (n + _U(1)) * _U(0x0101010101010101)
    even = ((count & low) | high) - limit
    odd = (((count >> _U(4)) & low) | high) - limit
    beyond = ((even & high) >> _U(7)) + ((odd & high) >> _U(7))
    return _U(16) - ((beyond * _U(0x0101010101010101)) >> _U(56))


class TableGames(Games):
    """N games of 4x4."""

    def __init__(self, seeds: Words):
        self._tables = tables()
        self._board = np.zeros(len(seeds), _U)
        self._transposed = np.zeros(len(seeds), _U)
        super().__init__(seeds, 4)

    def _look(self, which: NDArray[np.int64]) -> None:
        cells = self.cells[which].reshape(-1, 16).astype(_U)
        board = np.bitwise_or.reduce(cells << _SHIFTS, axis=1)
        self._board[which], self._transposed[which] = board, transpose(board)
        self.legal[which] = self._legal(_rows(board), _rows(self._transposed[which]))

    def _legal(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.uint8]:
        sides = self._tables.sides
        bits = _any_of_four(sides.take(columns)) | (_any_of_four(sides.take(rows)) << np.uint32(2))
        return _MASKS.take(bits).view(np.uint8).reshape(-1, 4)

    def move(self, actions: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Plays one move in every game."""
        actions = np.asarray(actions)
        large = self._large()
        before = self.cells[large], self.legal[large]
        gains, changed = self._move_by_table(actions)
        if len(large):
            self.cells[large], self.legal[large] = before
            self.spawns[large] -= changed[large].astype(_U)
            self.scores[large] -= gains[large]
            gains[large], changed[large] = self._move_by_cell(large, actions[large])
        return gains, changed

    def _large(self) -> NDArray[np.int64]:
        """The boards with a tile of 2**15 or more, which 2**13 tiles of at most 4 can be."""
        if self.spawns.max(initial=0) < 1 << 13:
            return np.zeros(0, np.intp)
        return np.flatnonzero((self.cells >= 15).any(axis=(1, 2)))

    def _move_by_table(self, actions: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        slid, gain, _, row_cells = self._tables
        vertical = (actions & 1) == 0
        before = np.where(vertical, self._transposed, self._board)
        rows = _rows(before)
        gains4 = gain.take(rows)
        rows += ((actions >= 2).astype(np.intp) << 16)[:, None]
        after = slid.take(rows).view("<u8")[:, 0]
        changed = after != before
        marks = empty_cells(after)
        count = (marks * _ONES) >> _U(60)
        number = by_cell.below(self._keys, self.spawns, count * _TEN)
        cell = number // _TEN
        tile = (_U(1) + (number == cell * _TEN)) * changed
        after |= tile << (nth_cell(marks, cell) << _U(2))
        turned = transpose(after)
        self._board = np.where(vertical, turned, after)
        self._transposed = np.where(vertical, after, turned)
        self.spawns += changed

        rows, columns = _rows(self._board), _rows(self._transposed)
        self.cells = row_cells.take(rows).view(np.uint8).reshape(-1, 4, 4)
        self.legal = self._legal(rows, columns)
        gains = gains4[:, 0] + gains4[:, 1] + gains4[:, 2] + gains4[:, 3].astype(np.int64)
        self.scores += gains
        return gains, changed


def _rows(x: Words) -> NDArray[np.intp]:
    """The four rows of each word, as positions in the tables."""
    return x.view("<u2").reshape(-1, 4).astype(np.intp)


def _any_of_four(bits: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The bits set in any of four bytes: `(N, 4)` to `(N,)`."""
    four = bits.view(np.uint32)[:, 0]
    four = four | (four >> np.uint32(16))
    return (four | (four >> np.uint32(8))) & np.uint32(3)
