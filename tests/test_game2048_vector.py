"""Many games at once: every engine plays the games of the pure-Python one, bit for bit."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs.game2048 import cells as by_cell
from taskgym.envs.game2048 import native
from taskgym.envs.game2048.engine import Game, below, bits_of, keys_of, toward_back, toward_front
from taskgym.envs.game2048.tables import (
    TableGames,
    empty_cells,
    nth_cell,
    tables,
    transpose,
)
from taskgym.envs.game2048.vector import Games, NativeGames, games, words

SEEDS = st.integers(0, 2**128 - 1)
ENGINES = ("cells", "tables", "native")


def make(engine, seeds, size=4):
    if engine == "tables":
        if size != 4:
            pytest.skip("tables are for 4x4")
        return TableGames(words(seeds))
    if engine == "native":
        if native.compiled is None:
            pytest.skip("the compiled engine was not built")
        return NativeGames(words(seeds), size, native.compiled)
    return Games(words(seeds), size)


def assert_same(many, ones):
    assert many.cells.reshape(len(ones), -1).tolist() == [list(game.cells) for game in ones]
    assert many.scores.tolist() == [game.score for game in ones]
    assert many.max_tiles.tolist() == [game.max_tile for game in ones]
    assert many.over.tolist() == [game.over for game in ones]
    assert (many.spawns - 2).tolist() == [game.moves for game in ones]
    letters = [
        "".join(key for key, yes in zip("WASD", row, strict=True) if yes) for row in many.legal
    ]
    assert letters == [game.legal() for game in ones]


def move_and_compare(many, ones, actions):
    scores = [game.score for game in ones]
    changed = [game.move("WASD"[action]) for game, action in zip(ones, actions, strict=True)]
    gains, moved = many.move(np.array(actions))
    assert moved.tolist() == changed
    assert gains.tolist() == [game.score - score for game, score in zip(ones, scores, strict=True)]
    assert_same(many, ones)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=30, deadline=None)
@given(st.lists(SEEDS, min_size=1, max_size=5), st.integers(0, 2**32), st.integers(2, 7))
def test_engines_play_the_same_games(engine, seeds, chance, size):
    size = 4 if engine == "tables" else size
    rng = np.random.default_rng(chance)
    many, ones = make(engine, seeds, size), [Game(seed, size) for seed in seeds]
    assert_same(many, ones)
    for _ in range(40):
        move_and_compare(many, ones, rng.integers(0, 4, len(seeds)).tolist())


@pytest.mark.parametrize("engine", ENGINES)
def test_whole_games_are_the_same(engine):
    seeds = [2**127 + 12345 * i for i in range(24)]
    many, ones = make(engine, seeds), [Game(seed) for seed in seeds]
    rng = np.random.default_rng(0)
    while not many.over.all():
        move_and_compare(many, ones, rng.integers(0, 4, len(seeds)).tolist())


@pytest.mark.parametrize("engine", ENGINES)
def test_some_games_start_again_and_the_others_go_on(engine):
    seeds = list(range(6))
    many, ones = make(engine, seeds), [Game(seed) for seed in seeds]
    for _ in range(10):
        move_and_compare(many, ones, [0, 1, 2, 3, 0, 1])
    many.restart(np.array([4, 1]), words([99, 2**90]))
    ones[4], ones[1] = Game(99), Game(2**90)
    assert_same(many, ones)
    for _ in range(10):
        move_and_compare(many, ones, [3, 2, 1, 0, 3, 2])


def at(many, boards):
    """Puts boards of exponents into a vector of games, and into single ones."""
    many.cells = np.array(boards, np.uint8)
    many.scores = by_cell.worth(many.cells)
    many.spawns[:] = 10_000  # many enough for such tiles
    if isinstance(many, TableGames):
        many._look(np.arange(len(boards)))
    if isinstance(many, NativeGames):
        large = many.cells.max(axis=(1, 2)) >= 15
        packed = TableGames(words(range(len(boards))))
        packed.cells = many.cells
        packed._look(np.arange(len(boards)))
        many._words[:, 0] = np.where(large, 2**64 - 1, packed._board)
        many._words[:, 1] = np.where(large, 2**64 - 1, packed._transposed)
    many.legal = by_cell.legal(many.cells)
    ones = []
    for seed, board in enumerate(boards):
        game = Game(seed, len(board))
        game._cells = bytes(exponent for row in board for exponent in row)
        game._fours, game.moves, game._bits = 0, 9_998, bits_of(game._a, game._b, 9_984)
        game.over = not game.legal()
        ones.append(game)
    return ones


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("top", [14, 15, 16, 17])
def test_tiles_beyond_32768_play_on(engine, top):
    """Merges to 2**15 ... 2**18 beside boards that stay small, each way."""
    large = [[top, top, 1, 0], [top, 0, 0, 2], [0, 15, 15, 1], [14, 0, 14, 2]]
    small = [[1, 1, 2, 0], [3, 0, 0, 2], [0, 4, 4, 1], [5, 0, 5, 2]]
    boards = [large, small, large, small, large]
    many = make(engine, range(5))
    ones = at(many, boards)
    for actions in ([1, 1, 3, 3, 0], [2, 2, 1, 1, 0], [0, 3, 3, 0, 1], [1, 2, 2, 0, 3]) * 5:
        move_and_compare(many, ones, actions)
    assert max(game.max_tile for game in ones) > 1 << top


@pytest.mark.parametrize("engine", ENGINES)
def test_the_longest_chain_there_is_merges_down(engine):
    """From 131072 131072 65536 ... 4, whose moves need every exponent up to 17."""
    chain = [[17, 16, 15, 14], [10, 11, 12, 13], [9, 8, 7, 6], [2, 3, 4, 5]]
    doubled = [[17, 17, 16, 15], [11, 12, 13, 14], [10, 9, 8, 7], [3, 4, 5, 6]]
    many = make(engine, range(2))
    ones = at(many, [chain, doubled])
    for action in (1, 2, 3, 0, 1, 1):
        move_and_compare(many, ones, [action, action])
    assert ones[1].max_tile == 2**18


@settings(deadline=None)
@given(st.lists(st.binary(min_size=5, max_size=5), min_size=1, max_size=20))
def test_lines_slide_as_single_ones_do(lines):
    tiles = np.frombuffer(b"".join(lines), np.uint8).reshape(-1, 5) % 6
    front = by_cell.slide_lines(tiles)
    back = by_cell.slide_lines(tiles[:, ::-1])[:, ::-1]
    for line, slid, other in zip(tiles, front, back, strict=True):
        assert slid.tobytes() == toward_front(line.tobytes())
        assert np.ascontiguousarray(other).tobytes() == toward_back(line.tobytes())


def test_the_table_holds_every_row_that_fits():
    slid, gain, sides, row_cells = tables()
    lines = row_cells.view(np.uint8).reshape(-1, 4)
    fits = (lines < 15).all(axis=1)
    rng = np.random.default_rng(1)
    for row in rng.choice(np.flatnonzero(fits), 3000):
        line = lines[row].tobytes()
        left, right = toward_front(line), toward_back(line)
        assert lines[slid[row]].tobytes() == left
        assert lines[slid[row + 65536]].tobytes() == right
        assert sides[row] == (left != line) + 2 * (right != line)
        assert gain[row] == int(by_cell.worth(np.frombuffer(left, np.uint8)[None, None])[0]) - int(
            by_cell.worth(lines[row][None, None])[0]
        )


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_words_are_turned_and_their_empty_cells_counted(boards):
    x = np.array(boards, np.uint64)
    cells = x[:, None] >> np.arange(0, 64, 4, dtype=np.uint64) & np.uint64(15)
    turned = transpose(x)[:, None] >> np.arange(0, 64, 4, dtype=np.uint64) & np.uint64(15)
    assert (turned.reshape(-1, 4, 4) == cells.reshape(-1, 4, 4).transpose(0, 2, 1)).all()
    for n in range(15):
        found = nth_cell(empty_cells(x), np.full(len(x), n, np.uint64))
        for row, position in zip(cells, found, strict=True):
            (empty,) = np.nonzero(row == 0)
            if len(empty) < 16:
                assert position == (empty[n] if n < len(empty) else 16)


@settings(deadline=None)
@given(st.lists(SEEDS, min_size=1, max_size=10), st.integers(0, 2**40), st.integers(1, 2**22 - 1))
def test_draws_are_those_of_the_single_engine(seeds, n, m):
    """For any m: those of the game are at most 2,250, and seldom reject bits."""
    keys = by_cell.keys_of(words(seeds))
    assert keys.tolist() == [list(keys_of(seed)) for seed in seeds]
    drawn = by_cell.below(
        keys, np.full(len(seeds), n, np.uint64), np.full(len(seeds), m, np.uint64)
    )
    assert drawn.tolist() == [below(*keys_of(seed), n, m) for seed in seeds]


def test_games_takes_the_quickest_engine_there_is(monkeypatch):
    seeds = words([1, 2])
    if native.compiled is not None:
        assert isinstance(games(seeds), NativeGames)
    assert type(games(seeds, native=False)) is TableGames
    assert type(games(seeds, 5, native=False)) is Games
    monkeypatch.setattr(native, "compiled", None)
    assert type(games(seeds)) is TableGames
    with pytest.raises(ModuleNotFoundError, match="install a C compiler"):
        games(seeds, native=True)
    with pytest.raises(ValueError, match="2 to 15"):
        games(seeds, 16)


def test_the_compiled_engine_refuses_buffers_that_do_not_fit():
    if native.compiled is None:
        pytest.skip("the compiled engine was not built")
    engine = importlib.import_module("taskgym.envs.game2048._native")
    fits = [np.zeros(n, np.uint8) for n in (16, 32, 32, 32, 32, 16, 8)]
    engine.start(4, *fits)
    for short in range(7):
        buffers = [b[: b.size - (i == short)] for i, b in enumerate(fits)]
        with pytest.raises(ValueError, match="bytes, wanted"):
            engine.start(4, *buffers)
    with pytest.raises(ValueError, match="size is from 2 to 15"):
        engine.start(16, *fits)
    for position in (-1, 2):
        with pytest.raises(IndexError, match="outside the 2 games"):
            engine.start(4, np.array([0, position]), *fits[1:])
    step = [np.zeros(n, np.uint8) for n in (2, 32, 32, 32, 16, 8, 16)]
    engine.step(4, *step)
    for short in range(1, 7):
        buffers = [b[: b.size - (i == short)] for i, b in enumerate(step)]
        with pytest.raises(ValueError, match="bytes, wanted"):
            engine.step(4, *buffers)
    with pytest.raises(ValueError, match="player is from 0 to 7"):
        engine.play(8, 1, 1)
