"""The 2048 driver: what it plays inside and outside is the same, and forged games are refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs.game2048 import programs
from taskgym.envs.game2048.driver import check, play, play_inside
from taskgym.envs.game2048.players import player
from taskgym.envs.game2048.trial import DRIVER
from taskgym.sandbox import Job, Limits, Sandbox, Status

SEEDS = [7, 2**127 + 5, 3]
LADDER = {
    "first_legal": "first-legal",
    "corner": "corner",
    "greedy": "greedy",
    "snake": "snake",
    "expectimax": "expectimax-1",
}


def task(**more):
    return {"seeds": SEEDS, "size": 4, "target": 2048, "until_won": False, **more}


class Calls:
    """`call` as the sandbox gives it to a driver, around a function of ours."""

    class Ended(Exception):
        pass

    def __init__(self, function):
        self.function = function

    def __call__(self, board):
        return self.function(board)


def entry_of(name):
    names = {}
    exec(programs.source(name), names)
    return names["strategy"]


def without(key, games):
    return [{name: value for name, value in game.items() if name != key} for game in games]


@pytest.mark.parametrize("name", ["first_legal", "corner", "greedy", "snake"])
def test_inside_and_outside_are_the_same_games(name):
    inside = check(task(), play_inside(task(), entry_of(name)))
    outside = play(task(), Calls(entry_of(name)))
    assert without("seconds", inside) == outside
    assert all(game["stop"] == "over" for game in outside)


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_the_programs_play_as_the_ladder_does(name):
    few = task(seeds=SEEDS[:1], target=512, until_won=True)
    ours, theirs = (play_inside(few, f) for f in (entry_of(name), player(LADDER[name])))
    assert ours[0]["keys"] == theirs[0]["keys"]


@pytest.fixture(scope="module")
def box():
    with Sandbox(workers=1, drivers=(DRIVER,)) as box:
        yield box


@pytest.mark.parametrize("mode", ["inside", "outside"])
@pytest.mark.parametrize("name", ["first_legal", "snake"])
def test_a_sandbox_plays_the_games_that_a_plain_call_plays(box, name, mode):
    job = Job(programs.source(name), driver=DRIVER, mode=mode, task=task(), limits=Limits(cpu_s=9))
    (result,) = box.map([job])
    assert result.status is Status.OK
    assert without("seconds", result.value) == play(task(), Calls(entry_of(name)))


def test_a_program_that_breaks_off_leaves_what_it_had_reached(box):
    code = (
        "moves = 0\ndef strategy(board):\n    global moves\n    moves += 1\n"
        "    return 'WASD'[moves % 4] if moves < 300 else 1 // 0\n"
    )
    (result,) = box.map([Job(code, driver=DRIVER, task=task())])
    assert result.status is Status.ERROR
    assert result.error_line == 5
    assert [game["stop"] for game in result.value][-1] == "failed"
    assert result.value[-1]["score"] > 0


@pytest.fixture(scope="module")
def honest():
    return play_inside(task(), entry_of("first_legal"))


FORGED = {
    "nothing": lambda games: None,
    "no games": lambda games: [],
    "more games": lambda games: [*games, games[0]],
    "games left out": lambda games: games[:2],
    "keys after the end": lambda games: [{**games[0], "keys": games[0]["keys"] + "W"}, *games[1:]],
    "a number for keys": lambda games: [{**games[0], "keys": 7}, *games[1:]],
    "no keys": lambda games: [{"score": 10**9}, *games[1:]],
    "a tuple": tuple,
}


@pytest.mark.parametrize("name", FORGED)
def test_what_is_no_list_of_whole_games_is_refused(honest, name):
    with pytest.raises((ValueError, KeyError)):
        check(task(), FORGED[name](honest))


def test_a_claimed_score_is_not_even_looked_at(honest):
    forged = [{**game, "score": 10**9, "max_tile": 2**17, "won": True} for game in honest]
    assert check(task(), forged) == check(task(), honest)


@settings(max_examples=40, deadline=None)
@given(st.text("WASDwx", max_size=80))
def test_any_keys_are_either_replayed_or_refused(keys):
    claim = [{"keys": keys, "answer": "None", "seconds": 0.0}]
    one = task(seeds=[1])
    try:
        (game,) = check(one, claim)
    except ValueError:
        return
    assert game["stop"] in ("over", "stuck", "invalid_move")
    asked = iter(keys)
    (again,) = play(one, Calls(lambda board: next(asked, None)))
    assert (again["score"], again["moves"], again["stop"]) == (
        game["score"], game["moves"], game["stop"],
    )  # fmt: skip


def test_a_won_game_ends_where_the_task_says_so():
    (game,) = play(task(seeds=[7], target=32, until_won=True), Calls(entry_of("snake")))
    assert (game["stop"], game["max_tile"], game["won"]) == ("won", 32, True)
    (longer,) = play(task(seeds=[7], target=32), Calls(entry_of("snake")))
    assert longer["stop"] == "over"
    assert longer["won"]
    assert longer["moves"] > game["moves"]
