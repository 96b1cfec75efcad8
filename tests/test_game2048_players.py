"""The ladder: every player plays its definition, compiled or not, and scores what is known."""

import json
import math
import random
import subprocess
import sys
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs.game2048 import make_ladder, native, players
from taskgym.envs.game2048.engine import Game, below, keys_of
from taskgym.envs.game2048.players import LADDER, player

# An independent C engine: games, mean score, its standard error, moves, shares that reach a tile.
REFERENCE = {
    "random": (200_000, 1097, 1.2, 118.5, {256: 0.079, 512: 0.00024}),
    "cycle": (200_000, 2158, 2.3, 188.5, {256: 0.516, 512: 0.043}),
    "first-legal": (200_000, 2293, 2.5, 206.9, {256: 0.476, 512: 0.025}),
    "corner": (200_000, 2294, 2.5, 207.0, {256: 0.477, 512: 0.026}),
    "greedy": (200_000, 3113, 3.4, 261.1, {256: 0.613, 512: 0.137, 1024: 0.001}),
    "snake": (200_000, 3928, 5.2, 301.3, {256: 0.734, 512: 0.280, 1024: 0.027}),
    "expectimax-1": (6_000, 36463, 244, 1812, {1024: 0.935, 2048: 0.779, 4096: 0.274}),
    "expectimax-2": (600, 76277, 1477, 3424, {2048: 0.963, 4096: 0.782, 8192: 0.217}),
}
SHIPPED = json.loads(files("taskgym.envs.game2048").joinpath("ladder.json").read_text("utf-8"))

needs_compiled = pytest.mark.skipif(
    native.compiled is None, reason="the compiled engine was not built"
)


def boards(seed, count, size=4):
    """Boards out of games of random play."""
    draw = random.Random(seed)
    for _ in range(count):
        game = Game(draw.getrandbits(128), size)
        for key in draw.choices("WASD", k=draw.randrange(120)):
            game.move(key)
        if not game.over:
            yield game


def slid(board, key):
    """A board after a slide and what it scored, by other means than the players'."""
    quarter = {"A": 0, "W": 1, "D": 2, "S": 3}[key]
    rows = [list(row) for row in board]
    for _ in range(quarter):  # to the left
        rows = [list(row) for row in zip(*rows, strict=True)][::-1]
    gain, moved = 0, []
    for row in rows:
        tiles, merged = [tile for tile in row if tile], []
        while tiles:
            tile = tiles.pop(0)
            if tiles and tiles[0] == tile:
                tile += tiles.pop(0)
                gain += tile
            merged.append(tile)
        moved.append(merged + [0] * (len(row) - len(merged)))
    for _ in range(-quarter % 4):
        moved = [list(row) for row in zip(*moved, strict=True)][::-1]
    return moved, gain


SNAKE = [[15, 14, 13, 12], [8, 9, 10, 11], [7, 6, 5, 4], [0, 1, 2, 3]]


def snake_sum(board):
    return sum(board[i][j] * 4 ** SNAKE[i][j] for i in range(4) for j in range(4))


def afters(board):
    return {key: slid(board, key)[0] for key in "WASD" if slid(board, key)[0] != board}


def first_best(values):
    """The first of W, A, S, D with the largest value."""
    best = max(values.values())
    return next(key for key in "WASD" if values.get(key) == best)


def chance(board, value):
    """The mean of a value over all spawns."""
    total, empty = 0.0, 0
    for row in board:
        for j, tile in enumerate(row):
            if tile == 0:
                empty += 1
                for new, weight in ((2, 0.9), (4, 0.1)):
                    row[j] = new
                    total += weight * value(board)
                row[j] = 0
    return total / empty


def leaf(board):
    return max(map(snake_sum, afters(board).values()), default=0)


def test_simple_players_play_their_definitions():
    for game in boards(1, 150):
        board = game.board
        legal = game.legal()
        assert players.legal(board) == legal
        assert player("first-legal")(board) == legal[0]
        assert player("corner")(board) == next(key for key in "ASDW" if key in legal)
        gains = {key: slid(board, key)[1] for key in legal}
        assert player("greedy")(board) == first_best(gains)
        sums = {key: snake_sum(after) for key, after in afters(board).items()}
        assert player("snake")(board) == first_best(sums)


def test_cycle_goes_round():
    game, cycle = Game(11), player("cycle")
    for move in range(60):
        order = "WASDWASD"[move % 4 :][:4]
        key = next(key for key in order if key in game.legal())
        assert cycle(game.board) == key
        game.move(key)


def test_random_draws_from_a_seed_of_its_own():
    seed = 2**77 + 5
    game, choose = Game(seed), player("random", seed)
    a, b = keys_of(seed ^ (2**128 - 1))
    move = 0
    while not game.over:
        legal = game.legal()
        assert choose(game.board) == legal[below(a, b, move, len(legal))]
        game.move(legal[below(a, b, move, len(legal))])
        move += 1


def test_expectimax_1_plays_its_definition():
    for game in boards(2, 12):
        values = {key: chance(after, leaf) for key, after in afters(game.board).items()}
        best = max(values.values())
        assert values[player("expectimax-1")(game.board)] >= best * (1 - 1e-12)


def test_expectimax_2_plays_its_definition():
    def deeper(board):
        return max((chance(after, leaf) for after in afters(board).values()), default=0)

    for game in [game for game in boards(3, 400) if game.cells.count(0) <= 1][:4]:
        values = {key: chance(after, deeper) for key, after in afters(game.board).items()}
        best = max(values.values())
        assert values[player("expectimax-2")(game.board)] >= best * (1 - 1e-12)


def test_ties_go_to_the_first_of_w_a_s_d():
    board = [[2, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 2]]
    assert player("greedy")(board) == "W"
    assert player("greedy")([[0, 2, 2, 0], [0] * 4, [0] * 4, [0] * 4]) == "A"


def test_the_snake_runs_through_boards_of_any_size():
    assert players._weights(4) == tuple(4**w for row in SNAKE for w in row)
    assert players._weights(3) == tuple(4**w for w in (8, 7, 6, 3, 4, 5, 2, 1, 0))
    assert players._weights(2) == tuple(4**w for w in (3, 2, 0, 1))


@pytest.mark.parametrize("name", LADDER)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_players_play_on_boards_of_any_size(name, size):
    game, choose = Game(5, size), player(name, 5)
    for _ in range(3 if name == "expectimax-2" else 20):
        if not game.over:
            assert game.move(choose(game.board))


def test_an_unknown_player_is_answered_with_the_ladder():
    with pytest.raises(ValueError, match=r"expectimax-2, got 'best'"):
        player("best")


def game_in_python(name, seed, moves):
    game, choose, keys = Game(seed), player(name, seed), ""
    while not game.over and game.moves < moves:
        keys += choose(game.board)
        game.move(keys[-1])
    return game, keys


@needs_compiled
@pytest.mark.parametrize("name", LADDER[:6])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**128 - 1))
def test_compiled_players_play_the_same_games(name, seed):
    game, keys = game_in_python(name, seed, 10_000)
    played = native.compiled.play(LADDER.index(name), seed & (2**64 - 1), seed >> 64)
    assert played == (game.score, game.max_tile.bit_length() - 1, keys)


@needs_compiled
@pytest.mark.parametrize(("name", "moves"), [("expectimax-1", 300), ("expectimax-2", 6)])
def test_compiled_expectimax_begins_its_games_alike(name, moves):
    for seed in (1, 2**127 + 9):
        _, keys = game_in_python(name, seed, moves)
        *_, compiled = native.compiled.play(LADDER.index(name), seed & (2**64 - 1), seed >> 64)
        assert compiled[: len(keys)] == keys


@needs_compiled
@pytest.mark.slow
@pytest.mark.parametrize("name", LADDER[6:])
def test_compiled_expectimax_plays_late_boards_alike(name):
    """Every hundredth (thousandth) move of a game, where the boards are full of large tiles."""
    seed, every = 3, 100 if name == "expectimax-1" else 1000
    *_, keys = native.compiled.play(LADDER.index(name), seed, 0)
    game, choose = Game(seed), player(name, seed)
    for move, key in enumerate(keys):
        if move % every == every - 1:
            assert choose(game.board) == key
        game.move(key)
    assert game.over


def same(ours, theirs):
    """Whether two means, or shares, given with their standard errors lie within 4 of them."""
    return abs(ours[0] - theirs[0]) < 4 * math.hypot(ours[1], theirs[1])


@pytest.mark.parametrize("name", LADDER)
def test_the_shipped_table_agrees_with_an_independent_engine(name):
    games, mean, se, moves, reach = REFERENCE[name]
    (table,) = (each["strategies"] for each in SHIPPED if each["size"] == 4)
    ours = table[name]
    assert ours["games"] >= {"expectimax-1": 2000, "expectimax-2": 200}.get(name, 20_000)
    assert same((ours["mean_score"], ours["se"]), (mean, se))
    spread = 0.7 * moves / math.sqrt(min(games, ours["games"]))  # no game's moves spread wider
    assert abs(ours["mean_moves"] - moves) < 4 * spread
    for tile, share in reach.items():
        rounded = 0.0005 if share > 0.001 else 0.000005
        errors = [math.sqrt(share * (1 - share) / n) for n in (games, ours["games"])]
        assert abs(ours["reach"][str(tile)] - share) < 4 * math.hypot(*errors) + rounded


@needs_compiled
@pytest.mark.parametrize("name", LADDER[:6])
def test_games_of_today_score_as_the_shipped_table_says(name):
    (table,) = (each["strategies"] for each in SHIPPED if each["size"] == 4)
    games = [make_ladder.play(name, number) for number in range(2000)]
    summary = make_ladder.summary(games)
    assert same(
        (summary["mean_score"], summary["se"]), (table[name]["mean_score"], table[name]["se"])
    )
    assert summary["mean_moves"] == pytest.approx(table[name]["mean_moves"], rel=0.05)


@needs_compiled
def test_the_table_is_made_by_one_command(tmp_path, monkeypatch):
    out = tmp_path / "ladder.json"
    monkeypatch.setattr(make_ladder, "LADDER", LADDER[:2])
    monkeypatch.setattr(
        "sys.argv", ["make_ladder", "--out", str(out), "--jobs", "1", "--share", "0.0005"]
    )
    make_ladder.main()
    (table,) = json.loads(out.read_text())
    assert list(table["strategies"]) == list(LADDER[:2])
    assert table["strategies"]["cycle"].keys() == SHIPPED[0]["strategies"]["cycle"].keys()


def test_wilson_intervals_hold_the_share():
    assert make_ladder.wilson(0, 100) == pytest.approx([0, 0.036993], abs=2e-6)
    assert make_ladder.wilson(50, 100) == pytest.approx([0.403832, 0.596168])


def test_processes_that_play_the_ladder_leave_interrupts_to_their_parent() -> None:
    code = (
        "import multiprocessing, os, signal\n"
        "from taskgym.envs.interrupts import interrupts_blocked\n"
        "if __name__ == '__main__':\n"
        "    with interrupts_blocked():\n"
        "        pool = multiprocessing.get_context('spawn').Pool(2)\n"
        "    with pool:\n"
        "        masks = pool.starmap(signal.pthread_sigmask, [(signal.SIG_BLOCK, [])] * 4)\n"
        "    print(all(signal.SIGINT in mask for mask in masks))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
