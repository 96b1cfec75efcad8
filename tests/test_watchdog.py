"""The watchdog names what a silent start waits for, and says nothing of a quick one."""

import json
import subprocess
import sys
import time

import pytest
from taskgym.training.watchdog import describe, watched


def test_a_quick_block_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with watched("loading", patience=5):
        pass
    assert capsys.readouterr().err == ""


def test_a_slow_block_says_again_and_again_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with watched("loading the model", patience=0.05):
        time.sleep(0.18)
    said = capsys.readouterr().err.splitlines()
    assert len(said) >= 2
    assert all(line.startswith("still loading the model after 0 s: at ") for line in said)
    assert "test_watchdog.py:" in said[0]


def test_it_is_silent_after_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), watched("loading", patience=0.05):
        raise KeyError
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_a_program_that_is_waited_for_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with watched("starting", patience=0.1):
        subprocess.run([sys.executable, "-c", "import time; time.sleep(0.4)"], check=True)
    assert "another program is waited for (at" in capsys.readouterr().err


def test_the_innermost_known_place_counts() -> None:
    frames = []

    class Snoop:
        def default(self, value: object) -> object:
            frames.append(sys._getframe())
            return 0

    json.dumps(object(), default=Snoop().default)
    assert describe(frames[0]).startswith("at ")
    assert describe(None) == "at "
