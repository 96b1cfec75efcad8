"""Game2048-Strategy-v0: what each kind of program earns, and that no trick earns more.

Names of the weaknesses that the original notebook has, each mended here, stand in the comments.
"""

import ast
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

import gymnasium as gym
import pytest
from taskgym.envs import MachineryError, Stop
from taskgym.envs.game2048 import programs, trial
from taskgym.envs.game2048.strategy_scores import REFERENCE
from taskgym.sandbox import Result, Status

LETTER = 'def strategy(board):\n    return "W"\n'


def make(**kwargs):
    return gym.make("Game2048-Strategy-v0", **kwargs).unwrapped


def play(code, *, seed=1, fenced=True, **kwargs):
    """The reward and info of one program."""
    env = make(**{"games": 2, "seconds": 0.4, **kwargs})
    env.reset(seed=seed, options={"index": 0})
    _, reward, terminated, truncated, info = env.step(f"```python\n{code}\n```" if fenced else code)
    assert terminated and not truncated and info["stop"] is Stop.DONE
    assert reward == pytest.approx(sum(info["rewards"].values()))
    return reward, info


def scores(code, **kwargs):
    """(function_works, no_cheating, strategy_succeeds, verdict)."""
    _, info = play(code, **kwargs)
    first = [info["rewards"][n] for n in ("function_works", "no_cheating", "strategy_succeeds")]
    return (*first, info["verdict"])


def answer(expression):
    return f"def strategy(board):\n    return {expression}\n"


TABLE = {
    # code: function_works, no_cheating, strategy_succeeds, verdict
    "the first legal move": (programs.source("first_legal"), (1, 1, 2, "played")),
    "one letter, which gets stuck": (LETTER, (1, 1, 0, "played")),
    # Weakness 4: doing nothing was paid more than an honest failure.
    "no answer": ("def strategy(board):\n    pass\n", (1, 1, -1, "invalid_move")),
    "another letter": (answer("'X'"), (1, 1, -1, "invalid_move")),
    # Weakness 3 of the variant: everything that int() takes was a move.
    "a small letter": (answer("'w'"), (1, 1, -1, "invalid_move")),
    "a letter and a blank": (answer("'W '"), (1, 1, -1, "invalid_move")),
    "two letters": (answer("'WA'"), (1, 1, -1, "invalid_move")),
    "nothing in quotes": (answer("''"), (1, 1, -1, "invalid_move")),
    "a number": (answer("0.9"), (1, 1, -1, "invalid_move")),
    "a truth": (answer("True"), (1, 1, -1, "invalid_move")),
    "bytes": (answer("b'W'"), (1, 1, -1, "invalid_move")),
    "a list": (answer("['W']"), (1, 1, -1, "invalid_move")),
    "an object": (answer("object()"), (1, 1, -1, "invalid_move")),
    "a string of one's own": (
        "class Both(str):\n    def __eq__(self, other):\n        return True\n"
        + answer("Both('X')"),
        (1, 1, -1, "invalid_move"),
    ),
    "an exception": (answer("1 // 0"), (1, 1, -1, "raised")),
    "an exception at once": ("x = 1 // 0\n" + LETTER, (1, 1, -1, "raised")),
    # Weakness 9: these left the reward functions and stopped the training.
    "a BaseException": ("def strategy(board):\n    raise BaseException\n", (1, 1, -1, "raised")),
    "an exit": ("def strategy(board):\n    raise SystemExit\n", (1, 1, -1, "raised")),
    "endless recursion": (answer("strategy(board)"), (1, 1, -1, "raised")),
    # Weakness 2: a loop in C held the process for 48 s.
    "a loop": ("def strategy(board):\n    while True:\n        pass\n", (1, 1, -1, "timeout")),
    "a loop in C": (answer("sum(range(10**9))"), (1, 1, -1, "timeout")),
    "all memory": (answer("[0] * 10**10"), (1, 1, -1, "memory")),
    "endless output": (
        "def strategy(board):\n    while True:\n        print('x' * 1000)\n",
        (1, 1, -1, "output"),
    ),
    # Weakness 5: a typo was punished like cheating.
    "a typo": ("def strategy(board)\n    return 'W'\n", (-2, 0, 0, "syntax_error")),
    "async": ("async " + LETTER, (-0.5, 1, 0, "refused")),
    # Weakness 6: all of the standard library was fine, and dynamic imports were not seen.
    "import os": ("import os\n" + LETTER, (-0.5, -20, 0, "forbidden")),
    "import in the function": (
        "def strategy(board):\n    import subprocess\n    return 'W'\n",
        (-0.5, -20, 0, "forbidden"),
    ),
    "another package": ("import numpy as np\n" + LETTER, (-0.5, -20, 0, "forbidden")),
    "a relative import": ("from . import engine\n" + LETTER, (-0.5, -20, 0, "forbidden")),
}


@pytest.mark.parametrize("name", TABLE)
def test_every_kind_of_program_has_its_row_in_the_table(name):
    code, expected = TABLE[name]
    assert scores(code) == expected


ESCAPES = [
    answer("board.__class__"),
    answer("strategy.__globals__"),
    answer("eval('1')"),
    answer("__import__('os')"),
    answer("open('/etc/passwd')"),
]


@pytest.mark.parametrize("code", ESCAPES)
def test_a_way_out_of_the_sandbox_is_cheating(code):
    assert scores(code) == (-0.5, -20, 0, "forbidden")


@pytest.mark.parametrize("completion", ["", None, "I go up.", LETTER, f"```python\n{LETTER}"])
def test_without_a_whole_function_there_is_little_to_say(completion):
    env = make(games=1)
    env.reset(seed=1)
    _, reward, *_, info = env.step(completion)
    assert reward == -3.0
    assert info["rewards"] == {
        "function_works": -2.0,
        "no_cheating": -1.0,
        "strategy_succeeds": 0.0,
        "progress": 0.0,
    }
    assert info["verdict"] == "unparsed"
    assert "fence" in info["reason"]


def test_a_typo_costs_less_than_no_code_and_cheating_most():
    # Weakness 5: truncation beat a typo.
    typo, nothing, cheat = (
        play(c)[0] for c in ("def strategy(b) 1", "nothing", "import os\n" + LETTER)
    )
    assert cheat < nothing < typo


def test_a_real_strategy_earns_more_than_any_that_breaks_off_or_does_nothing():
    # Weakness 4.
    honest = play(programs.source("first_legal"))[0]
    others = [code for name, (code, _) in TABLE.items() if name != "the first legal move"]
    assert all(play(code)[0] < honest for code in others)


HARMLESS = {
    # Weakness 7: all of these were refused, or lost their first lines.
    "recursion": "def strategy(board, n=3):\n    return strategy(board, n - 1) if n else 'W'\n",
    "module-level import and constant": "import math\nKEYS = 'WASD'\n"
    + answer("KEYS[int(math.pi) - 3]"),
    "import as": "from random import choice as pick\n" + answer("pick(['W', 'W'])"),
    "type hints": (
        "from typing import List\n"
        "def strategy(grid: List[List[int]], depth: int = 1) -> 'str':\n"
        "    x: int = 0\n    return 'WASD'[x]\n"
    ),
    "helpers before and after": (
        "def before():\n    return after()\n\n"
        + answer("before()")
        + "\ndef after():\n    return 'W'\n"
    ),
    "except ImportError": (
        "try:\n    import math\nexcept ImportError:\n    math = None\n" + LETTER
    ),
    "a comment that mentions define": "# define the default\n" + LETTER,
    "a decorator": (
        "from functools import lru_cache\n\n@lru_cache\ndef key(n):\n    return 'WASD'[n]\n\n"
        + answer("key(0)")
    ),
    "a class": (
        "class Player:\n    def __init__(self):\n        self.moves = 0\n\n    def key(self):\n"
        "        self.moves += 1\n        return 'W'\n\nplayer = Player()\n"
        + answer("player.key()")
    ),
    "code after the function": LETTER + "\nprint(strategy([[0] * 4] * 4))\n",
    "a future import": "from __future__ import annotations\n" + LETTER,
    "nested functions and nonlocal": (
        "def strategy(board):\n    n = 0\n    def step():\n        nonlocal n\n        n += 1\n"
        "    step()\n    return 'WWWW'[n]\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_python_is_accepted(name):
    assert scores(HARMLESS[name]) == scores(LETTER)


def test_a_star_import_is_refused_but_no_cheating():
    assert scores("from math import *\n" + LETTER) == (-0.5, 1, 0, "refused")


@pytest.mark.parametrize("n", [3_000, 100_000])
def test_a_bomb_for_the_parser_is_a_verdict_not_a_crash(n):
    # Weakness 9: 3,000 unary minuses raised RecursionError out of all three functions.
    _, info = play(answer("-" * min(n, 30_000) + "1"))
    assert info["verdict"] in ("refused", "syntax_error", "crashed", "memory")


BOARD_TRICKS = {
    # Weakness 1, and 2 of the variant: live rows were handed out, so a win could be written down.
    "a tile written on the board": "    board[0][0] = 32\n    return 'W'\n",
    "and an illegal answer": "    board[0][0] = 32\n    return 'X'\n",
    "rows exchanged": "    board[:] = [[32] * 4] * 4\n    return 'W'\n",
    "every row cleared": "    for row in board:\n        row.clear()\n    return 'W'\n",
}


@pytest.mark.parametrize("name", BOARD_TRICKS)
def test_writing_on_the_board_changes_nothing(name):
    _, info = play("def strategy(board):\n" + BOARD_TRICKS[name], target=32)
    assert info["rewards"]["strategy_succeeds"] <= 0
    assert all(game["max_tile"] < 32 for game in info["games"])


def test_each_call_gets_a_board_of_plain_lists():
    code = (
        "def strategy(board):\n"
        "    rows = [type(row) is list and len(row) == 4 for row in board]\n"
        "    cells = [type(cell) is int for row in board for cell in row]\n"
        "    plain = type(board) is list and all(rows + cells) and len(cells) == 16\n"
        "    return 'W' if plain else 'X'\n"
    )
    assert scores(code) == scores(LETTER)


def test_sixteen_answers_that_change_nothing_end_a_game():
    # Weakness 8: such a loop ran to the time limit.
    code = "calls = 0\ndef strategy(board):\n    global calls\n    calls += 1\n" + (
        "    if calls > 1000:\n        raise ValueError\n    return 'W'\n"
    )
    _, info = play(code)
    assert [game["stop"] for game in info["games"]] == ["stuck", "stuck"]


def test_a_program_that_prints_its_board_at_every_move_plays_on():
    code = programs.source("first_legal").replace(
        "    for move", "    print(board)\n    for move", 1
    )
    assert scores(code) == scores(programs.source("first_legal"))


def test_the_board_is_4x4_by_default_and_random_play_does_not_win_there():
    # Weakness 3: on 6x6 random play won 97 % of the games.
    code = "import random\n" + answer("random.choice('WASD')")
    rewards = [play(code, seed=seed)[1]["rewards"] for seed in range(5)]
    assert {r["strategy_succeeds"] for r in rewards} == {2.0}
    assert max(r["progress"] for r in rewards) < 1


def test_better_programs_make_more_progress():
    # Weakness 3: there was no grade between losing and winning.
    random = "import random\n" + answer("random.choice('WASD')")
    codes = [random, programs.source("first_legal"), programs.source("expectimax")]
    kwargs = {"games": 6, "seconds": 20, "target": 512}
    progress = [play(code, **kwargs)[1]["rewards"]["progress"] for code in codes]
    assert progress == sorted(progress)
    assert 0 <= progress[0] < 0.6 < progress[1] < 4 < progress[2] <= 5


def test_progress_is_the_logarithm_between_random_and_expectimax():
    _, info = play(programs.source("snake"), games=4)
    mean = sum(game["score"] for game in info["games"]) / 4
    low, high = REFERENCE[4]
    expected = 5 * math.log(mean / low) / math.log(high / low)
    assert info["rewards"]["progress"] == pytest.approx(expected)


def test_a_game_is_won_by_the_move_that_makes_the_tile():
    # Weakness 1 of the variant: the winning move itself ended the game unseen.
    reward, info = play(programs.source("snake"), target=64)
    assert [game["stop"] for game in info["games"]] == ["won", "won"]
    assert [game["max_tile"] for game in info["games"]] == [64, 64]
    assert info["success"]
    assert reward == make().max_reward == 29.0


def test_shares_of_games_are_paid_in_shares():
    seen = set()
    for seed in range(6):
        _, info = play(programs.source("first_legal"), target=256, games=4, seed=seed)
        stops = [game["stop"] for game in info["games"]]
        won = stops.count("won") / 4
        assert info["rewards"]["strategy_succeeds"] == 20 * won + 2
        assert info["success"] == (won == 1)
        seen.add(won)
    assert len(seen) > 1


def test_a_group_plays_the_same_games_and_info_names_them():
    # Weakness 10: one seed a batch, not logged, drawn from a global generator.
    first, second = (play(programs.source(p), games=3)[1]["games"] for p in ("snake", "corner"))
    seeds = [game["seed"] for game in first]
    assert seeds == [game["seed"] for game in second]
    assert len(set(seeds)) == 3
    assert all(int(seed, 16) < 2**128 for seed in seeds)
    assert any(int(seed, 16) > 2**100 for seed in seeds)
    other = play(programs.source("snake"), games=3, seed=2)[1]["games"]
    assert not set(seeds) & {game["seed"] for game in other}


def test_a_stochastic_program_scores_the_same_again_and_otherwise_on_other_games():
    # Weakness 10: stochastic strategies gave noisy rewards.
    code = "import random\n" + answer("random.choice('WASD')")
    again = [[g["score"] for g in _fresh(code, seed)] for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def _fresh(code, seed):
    trial._remembered.cache_clear()
    return play(code, seed=seed, games=3)[1]["games"]


def test_the_games_seeds_cannot_be_told_from_the_programs_random():
    env = make(games=1)
    env.reset(seed=1)
    seed = env.task.row["rules"].seeds[0]
    assert trial.program_seed(seed) not in (seed, seed & (2**64 - 1), seed >> 64)


def test_a_completion_is_read_and_played_once(monkeypatch):
    # Weakness 13: three functions parsed the same text.
    seen = []
    find = trial.find_program
    monkeypatch.setattr(trial, "find_program", lambda *a: seen.append(a) or find(*a))
    trial._remembered.cache_clear()
    play(LETTER)
    assert len(seen) == 1


def test_members_of_a_group_that_write_the_same_program_share_its_games(monkeypatch):
    seen = []
    find = trial.find_program
    monkeypatch.setattr(trial, "find_program", lambda *a: seen.append(a) or find(*a))
    trial._remembered.cache_clear()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: scores(programs.source("snake")), range(8)))
    assert len(seen) == 1 and len(set(found)) == 1


def test_nothing_of_a_program_is_parsed_or_compiled_here(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a program was parsed in the trainer's process")

    play(LETTER)  # what Python itself compiles on the way has been imported
    trial._remembered.cache_clear()
    monkeypatch.setattr(ast, "parse", refuse)
    monkeypatch.setattr("builtins.compile", refuse)
    monkeypatch.setattr("builtins.exec", refuse)
    assert play(LETTER)[1]["verdict"] == "played"


def test_prose_fences_and_reasoning_are_passed_over():
    # Weakness 11: the first fence won, prose or not.
    wanted = scores(LETTER)
    completion = (
        "<|channel|>analysis<|message|>Draft:\n```python\ndef strategy(board):\n    return None\n"
        f"```<|end|><|start|>assistant<|channel|>final<|message|>Plan:\n```\ngo up\n```\n"
        f"```python\n{LETTER}```\nThat is all.<|return|>"
    )
    assert scores(completion, fenced=False) == wanted


@pytest.mark.parametrize(
    ("code", "line", "reason"),
    [
        ("def strategy(board):\n    x = 1\n    return board[9]\n", 3, "IndexError: list index"),
        ("def strategy(board):\n    x = 1\n    return (\n", 3, "was never closed"),
        ("\nimport os\n" + LETTER, 2, "import of 'os' is not allowed"),
        (answer("7"), None, "answered 7"),
        ("def strategy(board):\n    while True:\n        pass\n", None, "more than"),
    ],
)
def test_every_failure_says_where_and_why(code, line, reason):
    _, info = play(code)
    assert info["line"] == line
    assert reason in info["reason"]


def test_other_threads_than_the_main_one_may_step():
    # Weakness 2: signals only work in the main thread.
    found = []
    thread = threading.Thread(target=lambda: found.append(scores(answer("sum(range(10**9))"))))
    thread.start()
    thread.join()
    assert found == [(1, 1, -1, "timeout")]


@pytest.mark.parametrize("status", [Status.INFRA])
def test_a_failed_sandbox_is_no_score(status, monkeypatch):
    # Weakness 4 of the variant: a failure of the server was charged to the model.
    class Broken:
        def map(self, jobs):
            return [Result(status, error_message="the supervisor died")]

    monkeypatch.setattr(trial, "shared_sandbox", lambda drivers: Broken())
    trial._remembered.cache_clear()
    with pytest.raises(MachineryError, match="supervisor died"):
        play(LETTER, seed=77)


def test_tasks_ask_the_same_and_have_gold_of_every_kind():
    env = make()
    assert len(env.tasks) == 1000
    assert len({task.question for task in env.tasks}) == 1
    assert len({task.task_id for task in env.tasks}) == 1000
    golds = {env.gold(task) for task in env.tasks}
    assert len(golds) == len(programs.PROGRAMS)


def test_the_prompt_says_what_a_program_must_know():
    text = make(size=3, target=64, games=7, seconds=2.5).question()
    for said in (
        "3 x 3",
        "64",
        "7 games",
        "2.5 seconds",
        "list of 3 rows",
        '"W" (up)',
        "```python",
    ):
        assert said in text


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"size": 1}, "size is one of"),
        ({"target": 100}, "power of two"),
        ({"target": 4}, "from 8"),
        ({"target": 2**18}, "131,072"),
        ({"games": 0}, "games is from 1"),
        ({"seconds": 0}, "seconds is from"),
    ],
)
def test_bad_kwargs_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**kwargs)


def test_progress_is_measured_against_the_ladder_as_shipped():
    tables = json.loads(files("taskgym.envs.game2048").joinpath("ladder.json").read_text())
    ladder = next(table["strategies"] for table in tables if table["size"] == 4)
    for name, mean in zip(("random", "expectimax-1"), REFERENCE[4], strict=True):
        assert abs(ladder[name]["mean_score"] - mean) < 4 * ladder[name]["se"]
