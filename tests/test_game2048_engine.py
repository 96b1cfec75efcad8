"""The pure-Python engine: the rules, the specified generator, and that chance is what it says."""

import importlib.util
import math
import random
import subprocess
import sys
from collections import Counter
from copy import copy
from pathlib import Path

import pytest
import taskgym.envs.game2048.engine as engine
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs.game2048.engine import (
    Game,
    below,
    bits_of,
    keys_of,
    mix,
    toward_back,
    toward_front,
)

SEEDS = st.integers(0, 2**128 - 1)
KEYS = st.text("WASD", max_size=200)


def game_of(board, seed=1):
    """A game that stands at the given tiles."""
    game = Game(seed, len(board))
    set_cells(game, bytes(tile.bit_length() - 1 if tile else 0 for row in board for tile in row))
    return game


def set_cells(game, cells):
    game._cells, game._upright = cells, True
    game.over = 0 not in cells and not game.legal()


def played(seed, keys, size=4):
    game = Game(seed, size)
    for key in keys:
        game.move(key)
    return game


@pytest.mark.parametrize(
    ("line", "slid"),
    [
        ([2, 2, 2, 2], [4, 4, 0, 0]),
        ([4, 2, 2, 0], [4, 4, 0, 0]),
        ([2, 2, 4, 0], [4, 4, 0, 0]),
        ([2, 2, 2, 0], [4, 2, 0, 0]),
        ([0, 2, 0, 2], [4, 0, 0, 0]),
        ([2, 0, 0, 4], [2, 4, 0, 0]),
        ([4, 4, 8, 8], [8, 16, 0, 0]),
        ([8, 4, 4, 8], [8, 8, 8, 0]),
        ([2, 4, 2, 4], [2, 4, 2, 4]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([0, 0, 0, 2], [2, 0, 0, 0]),
        ([2, 2], [4, 0]),
        ([2, 2, 2, 2, 2, 2, 2], [4, 4, 4, 2, 0, 0, 0]),
        ([65536, 65536, 0, 0], [131072, 0, 0, 0]),
    ],
)
def test_a_line_merges_from_the_side_it_slides_to(line, slid):
    exponents = [bytes(t.bit_length() - 1 if t else 0 for t in tiles) for tiles in (line, slid)]
    assert toward_front(exponents[0]) == exponents[1]
    assert toward_back(exponents[0][::-1]) == exponents[1][::-1]


@pytest.mark.parametrize(
    ("key", "board"),
    [
        ("W", [[4, 4], [0, 0]]),
        ("S", [[0, 0], [4, 4]]),
    ],
)
def test_up_and_down_are_what_they_say(key, board):
    game = game_of([[2, 2], [2, 2]])
    assert game.move(key)
    moved = [[tile if tile == 4 else 0 for tile in row] for row in game.board]
    spawned = sum(map(sum, game.board)) - 8
    assert spawned in (2, 4)
    if spawned == 2:
        assert moved == board


def test_left_and_right_are_what_they_say():
    board = [[0, 2, 0, 2], [8, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    left, right = game_of(board), game_of(board)
    left.move("A"), right.move("D")
    assert [row[0] for row in left.board][:2] == [4, 8]
    assert [row[3] for row in right.board][:2] == [4, 8]


def test_the_score_is_the_sum_of_what_was_merged():
    game = game_of([[2, 2, 4, 4], [8, 8, 16, 16], [0] * 4, [0] * 4])
    before = game.score
    game.move("A")
    assert game.score - before == 4 + 8 + 16 + 32


@settings(deadline=None)
@given(SEEDS, st.integers(2, 6), KEYS)
def test_the_score_grows_by_the_merged_tiles_only(seed, size, keys):
    game = Game(seed, size)
    for key in keys:
        before, score, moves = Counter(game.cells), game.score, game.moves
        changed = game.move(key)
        assert game.moves == moves + changed
        assert changed or (Counter(game.cells) == before and game.score == score)
        if changed:
            total, gain = sum(map(sum, game.board)), game.score - score
            spawned = total - sum((1 << tile) * n for tile, n in before.items() if tile)
            assert spawned in (2, 4)
            assert gain >= 0 and gain % 4 == 0


@settings(deadline=None)
@given(SEEDS, st.integers(2, 5), KEYS)
def test_a_move_that_changes_nothing_changes_nothing_later_either(seed, size, keys):
    game, told = Game(seed, size), Game(seed, size)
    for key in keys:
        if key in game.legal():
            game.move(key)
        told.move(key)
        assert (told.cells, told.moves) == (game.cells, game.moves)


@settings(deadline=None)
@given(SEEDS, st.integers(2, 5), KEYS)
def test_legal_names_exactly_the_keys_that_change_the_board(seed, size, keys):
    game = played(seed, keys, size)
    changing = "".join(key for key in "WASD" if copy(game).move(key))
    assert game.legal() == changing
    assert game.over == (not changing)


def turned(cells, size):
    """A board after a quarter turn to the left: what was up is left."""
    return bytes(cells[i * size + size - 1 - j] for j in range(size) for i in range(size))


@settings(deadline=None)
@given(SEEDS, st.integers(2, 5), KEYS)
def test_a_turned_board_allows_the_turned_moves(seed, size, keys):
    game = played(seed, keys, size)
    other = copy(game)
    set_cells(other, turned(game.cells, size))
    turn = dict(zip("WASD", "ASDW", strict=True))
    assert {turn[key] for key in game.legal()} == set(other.legal())


@settings(deadline=None)
@given(SEEDS, KEYS)
def test_a_seed_and_its_keys_are_a_game(seed, keys):
    first, second = played(seed, keys), played(seed, keys)
    assert (first.board, first.score, first.moves) == (second.board, second.score, second.moves)


def test_boards_are_fresh_lists():
    game = Game(7)
    board = game.board
    board[0][0] = 2048
    board.clear()
    assert not game.won and len(game.board) == 4


def test_the_game_goes_on_after_the_target():
    game = game_of([[1024, 1024, 0], [2, 4, 0], [0, 0, 0]])
    assert not game.won
    game.move("A")
    assert game.won and game.max_tile == 2048 and not game.over


def test_a_full_board_with_a_pair_is_not_over_and_without_one_is():
    assert not game_of([[2, 4], [4, 4]]).over
    assert game_of([[2, 4], [4, 2]]).over
    assert game_of([[2, 4], [4, 2]]).legal() == ""
    assert not game_of([[2, 4], [4, 2]]).move("W")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((-1,), "seed is from 0"),
        ((2**128,), "seed is from 0"),
        ((1, 1), "size is from 2"),
        ((1, 4, 100), "power of two"),
        ((1, 4, 2), "power of two from 4"),
    ],
)
def test_bad_arguments_are_named(arguments, error):
    with pytest.raises(ValueError, match=error):
        Game(*arguments)
    with pytest.raises(ValueError, match="'w'"):
        Game(1).move("w")
    with pytest.raises(TypeError):
        Game("1")


def test_the_generator_is_the_specified_one():
    """Written out once more, from the words of the docstring."""
    mask, g = 2**64 - 1, 0x9E3779B97F4A7C15
    seed, m = 0x0123456789ABCDEF_FEDCBA9876543210, 70

    def finalise(z, add=0):
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9 + add) & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        return z ^ z >> 31

    low, high = seed & mask, seed >> 64
    a = (low + finalise((high + g) & mask)) & mask
    b = (high + finalise((a + g) & mask)) & mask
    a = (a + finalise((b + g) & mask)) & mask
    assert keys_of(seed) == (a, b)
    words = [finalise((a + (k + 1) * g) & mask, b) for k in range(40)]
    halves = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
    assert [half >> 10 for half in halves[:32]] == list(bits_of(a, b, 0))
    assert [half >> 10 for half in halves[32:64]] == list(bits_of(a, b, 32))
    assert [below(a, b, n, m) for n in range(80)] == [(half >> 10) * m >> 22 for half in halves]
    # SplitMix64's first words from seed 0, as published with its reference code.
    assert [mix(g * i & mask) for i in (1, 2, 3)] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
    ]  # fmt: skip


PINNED = ("01000001000007050003040200020501", 1044, 100)


def test_games_of_today_are_games_of_tomorrow():
    game = played(2**100 + 3, "WASD" * 25)
    assert (game.cells.hex(), game.score, game.moves) == PINNED


def test_rejected_bits_are_replaced():
    """Of 2**22 bits a quarter is too many for three quarters of the range."""
    m = 2**21 + 2**20
    a, b = keys_of(9)
    drawn = [below(a, b, n, m) for n in range(3200)]
    bits = [bit for n in range(0, 3200, 32) for bit in bits_of(a, b, n)]
    rejected = sum(x != y * m >> 22 for x, y in zip(drawn, bits, strict=True))
    assert 0.2 < rejected / 3200 < 0.3
    assert max(drawn) < m
    assert abs(sum(drawn) / 3200 / m - 0.5) < 4 / math.sqrt(12 * 3200)


def test_the_few_bits_that_a_game_rejects_are_found():
    """About one draw in 40,000 with 13 empty cells."""
    m, rejected = 130, 0
    for seed in range(8000):
        a, b = keys_of(seed)
        for n, bits in enumerate(bits_of(a, b, 0)):
            if bits * m & 0x3FFFFF < 2**22 % m:
                rejected += 1
                word = mix((word_of(a, b, n // 2) + 0x9E3779B97F4A7C15) % 2**64)
                assert below(a, b, n, m) == (word >> 42) * m >> 22
    assert rejected > 0


def word_of(a, b, k):
    mask = 2**64 - 1
    z = (a + (k + 1) * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9 + b) & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def chi_square(counts, expected):
    return sum((count - expected) ** 2 / expected for count in counts)


def limit(degrees):
    """Above this a chi-square is 4 standard deviations too large (Wilson and Hilferty)."""
    return degrees * (1 - 2 / (9 * degrees) + 4 * math.sqrt(2 / (9 * degrees))) ** 3


@pytest.mark.parametrize("seeds", ["random", "consecutive", "high halves only"])
def test_first_spawns_are_uniform_over_the_board_and_a_tenth_are_fours(seeds):
    draw = random.Random(1).getrandbits
    count = 16_000
    cells, fours = Counter(), 0
    for i in range(count):
        seed = {"random": draw(128), "consecutive": i, "high halves only": i << 64}[seeds]
        number = below(*keys_of(seed), 0, 160)
        cells[number // 10] += 1
        fours += number % 10 == 0
    assert chi_square(cells.values(), count / 16) < limit(15)
    assert abs(fours - count / 10) < 4 * math.sqrt(count * 0.09)


def test_spawns_during_play_are_uniform_over_the_empty_cells():
    """Ranks among the empty cells, by how many are empty, over whole games of random play."""
    draw, ranks, fours, spawns = random.Random(2), {}, 0, 0
    for _ in range(400):
        game = Game(draw.getrandbits(128))
        while not game.over:
            key = draw.choice("WASD")
            slid = slide_only(game, key)
            if game.move(key):
                order = range(16) if key in "AD" else [4 * (i % 4) + i // 4 for i in range(16)]
                (at,) = [i for i in order if game.cells[i] != slid[i]]
                empty = [i for i in order if not slid[i]]
                ranks.setdefault(len(empty), Counter())[empty.index(at)] += 1
                fours += game.cells[at] == 2
                spawns += 1
    assert spawns > 40_000
    assert abs(fours - spawns / 10) < 4 * math.sqrt(spawns * 0.09)
    for empty, counts in ranks.items():
        total = counts.total()
        if empty > 1 and total > 20 * empty:
            every = [counts[i] for i in range(empty)]
            assert chi_square(every, total / empty) < limit(empty - 1), (empty, every)


def slide_only(game, key):
    """The cells after a slide, without the spawn, by other means than the engine's."""
    rows = [list(row) for row in game.board]
    if key in "WS":
        rows = [list(row) for row in zip(*rows, strict=True)]
    if key in "SD":
        rows = [row[::-1] for row in rows]
    for row in rows:
        tiles, merged = [t for t in row if t], []
        while tiles:
            tile = tiles.pop(0)
            if tiles and tiles[0] == tile:
                tile += tiles.pop(0)
            merged.append(tile)
        row[:] = merged + [0] * (4 - len(merged))
    if key in "SD":
        rows = [row[::-1] for row in rows]
    if key in "WS":
        rows = [list(row) for row in zip(*rows, strict=True)]
    return [tile.bit_length() - 1 if tile else 0 for row in rows for tile in row]


def test_random_play_scores_what_it_scores_everywhere():
    """Against 200,000 games of an independent engine: mean 1,097, 118.5 moves."""
    draw, scores = random.Random(3), []
    for _ in range(1500):
        game = Game(draw.getrandbits(128))
        while not game.over:
            for key in draw.choices("WASD", k=16):
                game.move(key)
        scores.append(game.score)
    mean = sum(scores) / len(scores)
    error = math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores) / len(scores))
    assert abs(mean - 1097) < 4 * error


def test_the_engine_is_one_file_that_needs_nothing(tmp_path):
    for name in ("engine", "players"):
        source = Path(engine.__file__).with_name(f"{name}.py")
        code = (
            "import importlib.util, sys\n"
            f"spec = importlib.util.spec_from_file_location({name!r}, {str(source)!r})\n"
            "module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            "assert not {'numpy', 'gymnasium', 'taskgym'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, cwd=tmp_path)
    assert importlib.util.find_spec("taskgym.envs.game2048.engine")


def test_memory_does_not_grow_with_the_lines_met():
    memo = engine._Memo(toward_front)
    memo_limit = engine._MEMO
    for i in range(memo_limit + 10):
        memo[bytes(i >> shift & 15 for shift in (0, 4, 8, 12, 16))]
    assert len(memo) <= memo_limit
