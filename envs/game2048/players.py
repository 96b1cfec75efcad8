"""The ladder of 2048 players that strategies are measured against, from random to expectimax.

This file stands alone: it needs the standard library only, and may be loaded by its path. A player
is a function that is called with the board (a list of rows of tiles, 0 where empty) before each
move of one game and returns one of W, A, S and D that changes the board.

| name | plays |
| --- | --- |
| random | a legal move, all equally likely |
| cycle | in move k = 0, 1, ... the first legal of W, A, S, D, going round from letter k mod 4 |
| first-legal | the first legal one of W, A, S, D |
| corner | the first legal one of A, S, D, W |
| greedy | the largest immediate merge score; ties in the order W, A, S, D |
| snake | the largest snake sum of the board before the spawn; ties likewise |
| expectimax-1, expectimax-2 | the largest expected snake sum one, or two, spawns ahead |

The snake sum is the sum of tile * 4**w, where w falls from size**2 - 1 to 0 along the path that
runs through the first row from left to right, through the second from right to left, and so on.
expectimax-d looks d times at each own move and each spawn on every empty cell (2 counts 9 times, 4
once), then takes the best snake sum that one more move gives, and 0 where no move is left.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from itertools import chain
from operator import mul

Board = list[list[int]]
Player = Callable[[Board], str]

LADDER = (
    "random",
    "cycle",
    "first-legal",
    "corner",
    "greedy",
    "snake",
    "expectimax-1",
    "expectimax-2",
)

_Row = tuple[int, ...]
_Rows = tuple[_Row, ...]


def player(name: str, seed: int = 0) -> Player:
    """A player of the ladder for one game.

    Args:
        name: One of `LADDER`.
        seed: The game's seed; what `random` draws depends on it, but not on the game's spawns.

    Raises:
        ValueError: The name is not on the ladder.
    """
    if name == "random":
        return _random(seed)
    if name == "cycle":
        return _cycle()
    if name in _PLAYERS:
        return _PLAYERS[name]
    raise ValueError(f"the ladder is {', '.join(LADDER)}, got {name!r}")


def legal(board: Board) -> str:
    """The keys that change the board, in the order W, A, S, D."""
    rows = _rows(board)
    return "".join(key for key in "WASD" if _slide(rows, key) != rows)


def _random(seed: int) -> Player:
    draw = _draws(seed ^ ((1 << 128) - 1))

    def choose(board: Board) -> str:
        keys = legal(board)
        return keys[draw(len(keys))]

    return choose


def _cycle() -> Player:
    start = -1

    def choose(board: Board) -> str:
        nonlocal start
        start += 1
        return _first("WASDWASD"[start % 4 :], board)

    return choose


def _first(keys: str, board: Board) -> str:
    rows = _rows(board)
    return next(key for key in keys if _slide(rows, key) != rows)


def _first_legal(board: Board) -> str:
    return _first("WASD", board)


def _corner(board: Board) -> str:
    return _first("ASDW", board)


def _greedy(board: Board) -> str:
    rows = _rows(board)
    return _best(rows, lambda key, _: float(_gain(rows, key)))


def _snake(board: Board) -> str:
    return _best(_rows(board), lambda _, after: _snake_sum(after))


def _expectimax(depth: int) -> Player:
    def choose(board: Board) -> str:
        expected = cache(_expected)  # boards met again on another way are not searched again
        return _best(_rows(board), lambda _, after: expected(after, depth, expected))

    return choose


def _best(rows: _Rows, value: Callable[[str, _Rows], float]) -> str:
    """The legal key with the largest value; the first in the order W, A, S, D of several."""
    afters = {key: _slide(rows, key) for key in "WASD"}
    values = {key: value(key, after) for key, after in afters.items() if after != rows}
    return max(values, key=values.__getitem__)


def _expected(after: _Rows, depth: int, expected: Callable[..., float]) -> float:
    """The mean over all spawns of the best that can follow; `after` is a board that was slid."""
    total, empty = 0.0, 0
    for i, row in enumerate(after):
        for j, tile in enumerate(row):
            if not tile:
                two, four = (
                    (*after[:i], (*row[:j], new, *row[j + 1 :]), *after[i + 1 :]) for new in (2, 4)
                )
                total += 9.0 * _value(two, depth, expected) + _value(four, depth, expected)
                empty += 1
    return total / (10.0 * empty)


def _value(rows: _Rows, depth: int, expected: Callable[..., float]) -> float:
    """The best own move: `depth` - 1 more spawns ahead, at last by the snake sum."""
    best = 0.0
    for key in "WASD":
        after = _slide(rows, key)
        if after != rows:
            value = expected(after, depth - 1, expected) if depth > 1 else _snake_sum(after)
            best = max(best, value)
    return best


def _snake_sum(rows: _Rows) -> float:
    return float(sum(map(mul, chain.from_iterable(rows), _weights(len(rows)))))


@cache
def _weights(size: int) -> _Row:
    path = [[4 ** (size * size - 1 - i * size - j) for j in range(size)] for i in range(size)]
    return tuple(chain.from_iterable(row[:: -1 if i % 2 else 1] for i, row in enumerate(path)))


def _rows(board: Board) -> _Rows:
    return tuple(map(tuple, board))


def _slide(rows: _Rows, key: str) -> _Rows:
    if key == "A":
        return tuple([_to_front(row)[0] for row in rows])
    if key == "D":
        return tuple([_to_back(row)[0] for row in rows])
    line = _to_front if key == "W" else _to_back
    return tuple(zip(*[line(column)[0] for column in zip(*rows, strict=True)], strict=True))


def _gain(rows: _Rows, key: str) -> int:
    """The merge score of a move."""
    lines = rows if key in "AD" else tuple(zip(*rows, strict=True))
    return sum((_to_front if key in "WA" else _to_back)(line)[1] for line in lines)


@lru_cache(1 << 16)
def _to_front(line: _Row) -> tuple[_Row, int]:
    """A line after sliding and merging towards its first cell, and the merge score."""
    tiles, merged, gain, i = [tile for tile in line if tile], [], 0, 0
    while i < len(tiles):
        pair = tiles[i : i + 1] == tiles[i + 1 : i + 2]
        merged.append(tiles[i] << pair)
        gain += merged[-1] * pair
        i += 1 + pair
    return (*merged, *(0,) * (len(line) - len(merged))), gain


@lru_cache(1 << 16)
def _to_back(line: _Row) -> tuple[_Row, int]:
    merged, gain = _to_front(line[::-1])
    return merged[::-1], gain


def _draws(seed: int) -> Callable[[int], int]:
    """`draw(m)`: one of 0..m-1, by the generator that `engine.py` specifies, from this seed."""
    mask, golden, n = (1 << 64) - 1, 0x9E3779B97F4A7C15, 0

    def mix(z: int, add: int = 0) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 + add) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    a = ((seed & mask) + mix(((seed >> 64) + golden) & mask)) & mask
    b = ((seed >> 64) + mix((a + golden) & mask)) & mask
    a = (a + mix((b + golden) & mask)) & mask

    def draw(m: int) -> int:
        nonlocal n
        z = mix((a + (n // 2 + 1) * golden) & mask, b)
        bits = z >> (42 if n % 2 else 10) & 0x3FFFFF
        n += 1
        while bits * m % (1 << 22) < (1 << 22) % m:
            z = mix((z + golden) & mask)
            bits = z >> 42
        return bits * m >> 22

    return draw


_PLAYERS: dict[str, Player] = {
    "first-legal": _first_legal,
    "corner": _corner,
    "greedy": _greedy,
    "snake": _snake,
    "expectimax-1": _expectimax(1),
    "expectimax-2": _expectimax(2),
}
