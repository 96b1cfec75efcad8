"""JSON-lines files survive kills; nothing else passes for one."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.training.metrics import (
    MetricsFile,
    column,
    components,
    plain,
    read_objects,
    truncate_after,
)


@pytest.fixture
def file(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        file.append({"step": step, "reward": step / 10})
    return file


def steps(file):
    return [step["step"] for step in file.read().steps]


def test_what_is_appended_is_read_back(file):
    assert file.read() == ([{"step": n, "reward": n / 10} for n in (1, 2, 3)], 0)


def test_no_file_is_no_steps(tmp_path):
    assert MetricsFile(tmp_path / "none.jsonl").read() == ([], 0)
    assert truncate_after(tmp_path / "none.jsonl", 5) == 0


def test_a_kill_at_any_byte_costs_at_most_the_last_line(file):
    whole = file.path.read_bytes()
    for size in range(len(whole)):
        file.path.write_bytes(whole[:size])
        read = file.read()
        ended = whole[:size].count(b"\n")
        assert ended <= len(read.steps) <= ended + 1
        assert len(read.steps) + read.dropped == len(whole[:size].splitlines())


def test_after_a_kill_at_any_byte_the_next_step_has_a_line_of_its_own(file):
    whole = file.path.read_bytes()
    for size in range(len(whole)):
        file.path.write_bytes(whole[:size])
        before = steps(file)
        file.append({"step": 9})
        assert steps(file) == [*before, 9]
        assert file.read().dropped == 0


def test_a_line_cut_inside_a_character_is_torn_not_fatal(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(b'{"step": 1}\n' + '{"text": "é'.encode()[:-1])
    assert list(read_objects(path)) == [{"step": 1}]


@pytest.mark.parametrize("bad", ["{torn", "[1]", "", "\x00\x00", "3"])
def test_a_broken_line_in_the_middle_raises_with_file_and_line(file, bad):
    with file.path.open("a") as opened:
        opened.write(f'{bad}\n{{"step": 5}}\n')
    before = file.path.read_bytes()
    with pytest.raises(ValueError, match=r"metrics\.jsonl:4: not a JSON object"):
        file.read()
    with pytest.raises(ValueError, match=r"metrics\.jsonl:4"):
        truncate_after(file.path, 1)
    assert file.path.read_bytes() == before


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_any_metrics_become_strict_json(value):
    text = json.dumps(plain(value), allow_nan=False)
    assert json.loads(text) == plain(value)


def test_values_that_are_not_finite_become_null_and_numpy_scalars_numbers(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"step": np.int64(1), "kl": math.nan, "loss": np.float32(0.5), "x": [math.inf]})
    assert file.read().steps == [{"step": 1, "kl": None, "loss": 0.5, "x": [None]}]


def test_truncation_keeps_the_steps_of_the_checkpoint_byte_for_byte(file):
    head = b"".join(file.path.read_bytes().splitlines(keepends=True)[:2])
    with file.path.open("ab") as opened:
        opened.write(b'{"step": 4, "rew')
    assert truncate_after(file.path, 2) == 2
    assert file.path.read_bytes() == head
    assert truncate_after(file.path, 2) == 0
    assert [path.name for path in file.path.parent.iterdir()] == ["metrics.jsonl"]


def test_truncation_drops_later_episodes_wherever_they_stand(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.write_text("".join(f'{{"step": {n}}}\n' for n in (1, 3, 2, 3, 2)))
    assert truncate_after(path, 2) == 2
    assert [found["step"] for found in read_objects(path)] == [1, 2, 2]


def test_a_line_without_a_step_is_named_not_dropped(file):
    with file.path.open("a") as opened:
        opened.write('{"reward": 1}\n{"step": 5}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:4: no whole number 'step'.*None"):
        truncate_after(file.path, 1)


def test_a_column_has_nan_where_a_step_has_no_value():
    rows = [{"kl": 1}, {}, {"kl": None}, {"kl": 0.5}]
    np.testing.assert_equal(column(rows, "kl"), [1.0, math.nan, math.nan, 0.5])
    assert column([], "kl").shape == (0,)


def test_components_are_found_by_their_metric_names():
    rows = [{"rewards/value/mean": 1, "rewards/value/std": 0}, {"rewards/a/b/mean": 1, "reward": 0}]
    assert components(rows) == ["value", "a/b"]
