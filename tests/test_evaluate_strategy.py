"""evaluate_strategy: the numbers are right, errors are shown with their line, nothing is lost."""

import json
import math
import os
import re
import select
import signal
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from taskgym.envs.game2048.engine import Game
from taskgym.envs.game2048.games import Played, game_seeds
from taskgym.envs.game2048.players import player
from taskgym.training.commands import evaluate_strategy
from taskgym.training.errors import ConfigError
from taskgym.training.strategies.play import play
from taskgym.training.strategies.replay import frames, picks, spawns
from taskgym.training.strategies.sources import Strategy, find_strategies
from taskgym.training.strategies.summary import compare, summarise
from taskgym.training.strategies.table import comparison_text, failures_text

FIRST_OF = """
def strategy(board):
    for key in "{keys}":
        if moved(board, key) != board:
            return key

def moved(board, key):
    lines = [row[:] for row in board] if key in "AD" else [list(c) for c in zip(*board)]
    for line in lines:
        tiles = [t for t in (line if key in "WA" else line[::-1]) if t]
        out = []
        while tiles:
            tile = tiles.pop(0)
            if tiles and tiles[0] == tile:
                tile += tiles.pop(0)
            out.append(tile)
        out += [0] * (len(line) - len(out))
        line[:] = out if key in "WA" else out[::-1]
    return lines if key in "AD" else [list(row) for row in zip(*lines)]
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, text):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    with open(name, "w") as file:
        file.write(text)
    return name


def run(monkeypatch, capsys, *argv):
    """Exit code, stdout and stderr of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["evaluate_strategy", *map(str, argv)])
    code = 0
    try:
        evaluate_strategy.main()
    except SystemExit as error:
        code = error.code
    return (code, *capsys.readouterr())


def ladder_score(name, seed):
    game, choose = Game(seed), player(name, seed)
    while not game.over:
        game.move(choose(game.board))
    return game.score


def test_a_file_that_plays_like_the_ladder_gets_the_ladders_numbers(here, monkeypatch, capsys):
    write("mine.py", FIRST_OF.format(keys="WASD"))
    argv = ("mine.py", "first-legal", "--games", 12, "--seed", 3, "--jobs", 2, "--json", "out.json")
    code, out, _ = run(monkeypatch, capsys, *argv)
    assert code == 0
    told = json.loads((here / "out.json").read_text())["strategies"]
    scores = [ladder_score("first-legal", seed) for seed in game_seeds(3, 12)]
    for name in ("mine.py", "first-legal"):
        each = told[name]
        assert each["games"] == 12
        assert each["mean_score"] == pytest.approx(np.mean(scores))
        assert each["se"] == pytest.approx(np.std(scores, ddof=1) / math.sqrt(12))
        assert each["median_score"] == np.median(scores)
        assert (each["best_score"], each["worst_score"]) == (max(scores), min(scores))
        assert set(each["reach"]) == {"256", "512", "1024", "2048", "4096", "8192"}
        assert all(0 <= share <= 1 for share in each["reach"].values())
        assert each["failures"] == {}
    assert f"{np.mean(scores):,.0f}" in out
    assert "ladder: expectimax-1" in out


def test_the_same_seed_is_the_same_games_however_many_play_at_a_time(here):
    write("mine.py", "import random\ndef strategy(board):\n    return random.choice('WASD')\n")
    (strategy,) = find_strategies(["mine.py"])
    runs = [
        sorted((g.seed, g.score) for g in play(strategy, game_seeds(5, 8), 4, jobs))
        for jobs in (1, 3)
    ]
    assert runs[0] == runs[1]
    assert len({score for _, score in runs[0]}) > 1
    assert game_seeds(5, 8)[:3] == game_seeds(5, 3)
    assert all(0 <= seed < 2**128 for seed in game_seeds(5, 8))


def test_paired_games_are_compared_with_an_interval_and_a_verdict(here, monkeypatch, capsys):
    argv = ("greedy", "--vs", "random", "--games", 60, "--json", "out.json")
    _, out, _ = run(monkeypatch, capsys, *argv)
    (result,) = json.loads((here / "out.json").read_text())["comparison"].values()
    assert result["vs"] == "random"
    assert result["verdict"] == "better"
    assert 0 < result["low"] < result["difference"] < result["high"]
    assert "greedy is better" in out
    assert "on the same 60 games" in out


def game(seed, score, **more):
    return Played(seed, score, 4, 10, "", 0.001, **more)


def test_a_comparison_pairs_games_by_seed_and_leaves_single_ones_out():
    ours = [game(seed, 1000 * seed + 10) for seed in range(30)]
    theirs = [game(seed, 1000 * seed) for seed in reversed(range(20))]
    result = compare(ours, theirs)
    assert (result["games"], result["difference"], result["verdict"]) == (20, 10.0, "better")
    assert compare(theirs, ours)["verdict"] == "worse"
    assert compare(ours, ours)["verdict"] == "no difference shown"
    assert compare(ours[:1], theirs)["verdict"] == "no difference shown"
    assert "nothing" in comparison_text("a", "b", compare(ours[:1], theirs))


def test_shares_have_wilson_intervals():
    games = [Played(i, 10, 256 if i < 30 else 128, 5, "", 0.0) for i in range(100)]
    told = summarise(games)
    assert told["reach"]["256"] == 0.3
    assert told["reach_95"]["256"] == pytest.approx([0.2189, 0.3959], abs=1e-4)
    assert told["reach_95"]["8192"] == pytest.approx([0.0, 0.0370], abs=1e-4)


def test_games_broken_off_count_with_their_score_and_are_told_by_reason(here, monkeypatch, capsys):
    write(
        "mine.py",
        "moves = 0\nimport random\nfate = random.random()\ndef strategy(board):\n"
        "    global moves\n    moves += 1\n    if fate < 0.4 and moves > 30:\n"
        "        return {}[moves]\n    if fate > 0.8 and moves > 20:\n        return None\n"
        "    return random.choice('WASD')\n",
    )
    seed = next(
        seed for seed in range(20) if not _failures("mine.py", game_seeds(seed, 1))
    )  # the first game must not be one of those
    argv = ("mine.py", "--games", 25, "--seed", seed, "--json", "out.json")
    code, out, _ = run(monkeypatch, capsys, *argv)
    told = json.loads((here / "out.json").read_text())["strategies"]["mine.py"]
    assert code == 0
    assert set(told["failures"]) == {"KeyError", "invalid_move"}
    assert 0 < told["worst_score"] < 400
    assert f"{sum(told['failures'].values())} of 25 games did not end by the rules" in out
    assert re.search(r"KeyError, such as line 8, move \d+: KeyError: 31", out)
    assert "answered None" in out


def _failures(name, seeds):
    (strategy,) = find_strategies([name])
    return [g.failure for g in play(strategy, seeds, 4, 1) if g.failure]


BROKEN = {
    "syntax": ("def strategy(b)\n    pass\n", "bad.py, line 1: expected ':'", "def strategy(b)"),
    "import": ("import os\ndef strategy(b):\n    pass\n", "line 1: import of 'os'", "import os"),
    "raises": (
        "def strategy(board):\n    best = None\n    return helper(board)\n",
        "bad.py, line 3: NameError: name 'helper' is not defined",
        "    return helper(board)",
    ),
    "control codes": (
        "def strategy(b):\n    raise ValueError('\\x1b[31m\\ud800\\n\u202e')\n",
        "bad.py, line 2: ValueError: \\x1b[31m\\ud800\\n\\u202e",
        "raise ValueError",
    ),
    "answers nothing": ("def strategy(b):\n    pass\n", "bad.py: answered None", "after 0 moves"),
    "no function": ("def move(board):\n    return 'W'\n", "bad.py: it defines no strategy", ""),
    "empty": ("", "bad.py: it defines no strategy", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_an_error_in_a_file_is_shown_with_line_and_cause_before_the_games(
    here, monkeypatch, capsys, name
):
    text, said, shown = BROKEN[name]
    write("bad.py", text)
    code, out, err = run(monkeypatch, capsys, "random", "bad.py", "--games", 5, "--json", "o.json")
    assert code == 2
    assert said in err
    assert shown in err
    assert "Traceback" not in err
    assert out == ""  # nothing was played
    assert not (here / "o.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nofile.py"], "no file nofile.py. Did you mean 'my_file.py'"),
        (["my_fil.py"], "Did you mean 'my_file.py'"),
        (["nowhere/x.py"], "no file nowhere/x.py"),
        (["expectimax1"], "Did you mean 'expectimax-1'"),
        (["snak"], "Did you mean 'snake'"),
        (["zzz"], "The ladder is random, cycle"),
        (["folder"], "is a folder"),
        (["random", "random"], "random is named twice"),
        (["my_file.py", "./my_file.py"], "my_file.py is named twice"),
        (["binary.py"], "is not UTF-8"),
    ],
)
def test_what_cannot_be_played_is_said_with_the_nearest_right_thing(here, words, message):
    write("my_file.py", "x = 1")
    (here / "folder").mkdir()
    (here / "binary.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=re.escape(message)):
        find_strategies(words)


def test_files_of_the_same_name_are_told_apart(here):
    for folder in ("a/x", "b/x", "c"):
        write(f"{folder}/mine.py", "x = 1")
    write("other.py", "x = 1")
    found = find_strategies(["a/x/mine.py", "b/x/mine.py", "c/mine.py", "other.py", "snake"])
    assert [s.name for s in found] == [
        "a/x/mine.py", "b/x/mine.py", "c/mine.py", "other.py", "snake",
    ]  # fmt: skip
    assert found[-1] == Strategy("snake")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "at least one strategy"),
        (["random", "--games", "0"], "--games is at least 1, got 0"),
        (["random", "--size", "1"], "--size is from 2 to 8, got 1"),
        (["random", "--jobs", "-1"], "--jobs"),
        (["random", "--seed", "-1"], "--seed"),
        (["random", "--json", "."], ". is a folder"),
        (["random", "--html", "no/page.html"], "there is no folder no"),
        (["random", "--vs", "random"], "named twice"),
    ],
)
def test_bad_arguments_are_refused_before_a_game(here, monkeypatch, capsys, argv, message):
    code, out, err = run(monkeypatch, capsys, *argv)
    assert code == 2
    assert message in re.sub(r"\s*│\s*", " ", out + err)


def test_help_needs_nothing_heavy():
    code = (
        "import sys; import taskgym.training.commands.evaluate_strategy;"
        "bad = {'torch', 'matplotlib', 'PIL', 'RestrictedPython', 'taskgym.sandbox'};"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("slow", ["file", "ladder"])
def test_ctrl_c_keeps_what_was_played(here, slow):
    # The first game of `slow.py` takes long enough for the bar to move; the next ones never end.
    first = Game(game_seeds(0, 1)[0]).board
    write(
        "slow.py",
        f"sum(range(10**7))\nfirst = None\ndef strategy(board):\n    global first\n"
        f"    first = first or board\n"
        f"    while first != {first}:\n        pass\n    return 'W'\n",
    )
    words = ["slow.py", "random"] if slow == "file" else ["expectimax-2", "--size", "5"]
    command = [sys.executable, "-m", "taskgym.training.commands.evaluate_strategy", *words]
    process = subprocess.Popen(
        [*command, "--games", "400", "--jobs", "1", "--json", "out.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    shown, wanted = b"", b" 1/400" if slow == "file" else b" 0/400"
    while wanted not in shown:
        assert select.select([process.stderr], [], [], 60)[0], shown
        shown += (new := os.read(process.stderr.fileno(), 4096))
        assert new, shown
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert b"interrupted" in err
    assert b"Traceback" not in shown + err
    if slow == "file":
        told = json.loads((here / "out.json").read_text())["strategies"]
        assert told["slow.py"]["games"] == 1
        assert b"slow.py" in out


def test_a_page_with_chart_and_replays_is_written(here, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    write("mine.py", FIRST_OF.format(keys="ASDW"))
    argv = ("mine.py", "--vs", "random", "--games", 6, "--html", "page.html")
    code, out, _ = run(monkeypatch, capsys, *argv)
    assert code == 0
    page = (here / "page.html").read_text()
    assert "http" not in re.sub(
        r"http-equiv|http://www\.w3\.org/\S+", "", page.split("data:image")[0]
    )
    assert "script-src 'sha256-" in page
    data = json.loads(page.split('id="games">')[1].split("</script>")[0])
    assert {(g["strategy"], g["rank"]) for g in data["games"]} == {
        (name, rank) for name in ("mine.py", "random") for rank in ("best", "median", "worst")
    }
    for each in data["games"]:
        assert len(each["boards"]) == 16 * (len(each["keys"]) + 1)
        assert len(each["scores"]) == len(each["keys"]) + 1 == len(each["spawns"]) + 1
    gif = image.open(here / "page-mine.py-best.gif")
    assert gif.n_frames > 10
    assert (here / "page-chart.png").exists()
    assert "page-random-worst.gif" in out


def test_the_script_of_a_page_is_the_one_that_its_policy_allows():
    import base64
    import hashlib

    from taskgym.training.report_html import page

    text = page("t", script="alert(1)")
    digest = base64.b64encode(hashlib.sha256(b"alert(1)").digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert "script" not in page("t")


def test_frames_follow_the_game_and_mark_the_new_tile():
    (strategy,) = find_strategies(["cycle"])
    (played,) = play(strategy, [5], 4, 1)
    seen = frames(played, 4)
    assert len(seen) == played.moves + 1
    assert seen[-1].score == played.score
    assert max(seen[-1].tiles) == played.max_tile
    for (before, after), cell in zip(pairwise(seen), spawns(seen, 4), strict=True):
        assert after.tiles[cell] in (2, 4)
        assert sum(after.tiles) - sum(before.tiles) == after.tiles[cell]


def test_one_game_is_shown_once():
    assert list(picks([game(1, 5)])) == ["best"]
    assert list(picks([game(1, 5), game(2, 7)])) == ["best", "worst"]
    three = picks([game(1, 5), game(2, 7), game(3, 6)])
    assert {rank: g.score for rank, g in three.items()} == {"best": 7, "median": 6, "worst": 5}


def test_reasons_are_told_most_frequent_first():
    games = [
        game(1, 5),
        *(game(i, 5, failure="stuck", detail="16 answers") for i in (2, 3)),
        game(4, 5, failure="KeyError", detail="KeyError: 3", line=7),
    ]
    text = failures_text("mine.py", games)
    assert text.index("2 stuck") < text.index("1 KeyError, such as line 7")
    assert failures_text("mine.py", games[:1]) == ""
