"""Where rows come from: lists, files, the hub, the sample, and what is said when they do not."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from taskgym.envs import DataError, sources
from taskgym.envs.sources import load_rows

ROWS = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(5)]
SHARED = Path(__file__).resolve().parents[2] / "shared/data"


def write(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def parquet(path, rows=ROWS):
    pyarrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    writer.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_lists_and_every_kind_of_file_give_the_same_rows(tmp_path):
    listed = tmp_path / "rows.json"
    listed.write_text(json.dumps(ROWS))
    for data in (ROWS, tuple(ROWS), write(tmp_path / "rows.jsonl"), listed):
        assert load_rows(data) == ROWS
    assert load_rows(parquet(tmp_path / "rows.parquet")) == ROWS
    assert load_rows(str(tmp_path / "rows.jsonl")) == ROWS


def test_jsonl_may_hold_blank_lines_a_mark_and_odd_line_separators(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\ufeff{"question": "a\u2028b"}\r\n\n{"question": "c"}', encoding="utf-8")
    assert [row["question"] for row in load_rows(path)] == ["a\u2028b", "c"]


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "rows.jsonl")
    first = gym.make("Math-GSM8K-v0", data=str(path)).unwrapped
    assert len(first.tasks) == 5
    write(path, ROWS[:2])
    assert len(gym.make("Math-GSM8K-v0", data=str(path)).unwrapped.tasks) == 2
    assert len(first.tasks) == 5


def test_copies_of_an_env_share_their_tasks(tmp_path):
    path = str(write(tmp_path / "rows.jsonl"))
    one, two = (gym.make("Math-GSM8K-v0", data=path).unwrapped for _ in range(2))
    assert one.tasks is two.tasks


def test_rows_with_a_split_column_have_splits():
    rows = [{**row, "split": "test" if i > 2 else "train"} for i, row in enumerate(ROWS)]
    assert len(load_rows(rows)) == 3
    assert len(load_rows(rows, split="test")) == 2
    with pytest.raises(DataError, match="no split 'dev'; it has test, train"):
        load_rows(rows, split="dev")


def refused(data, match, **kwargs):
    with pytest.raises(DataError, match=match):
        load_rows(data, **kwargs)


def test_rows_without_a_split_column_are_train_only(tmp_path):
    refused(ROWS, "no split 'test'.*split='train'", split="test")
    refused(write(tmp_path / "rows.jsonl"), "no split 'test'", split="test")


def test_errors_say_what_came_and_what_to_do(tmp_path):
    path = write(tmp_path / "problems.jsonl")
    refused(tmp_path / "problem.jsonl", r"not there.*Did you mean '.*problems.jsonl'")
    refused(tmp_path, "a folder")
    path.write_text('{"question": "q", "answer": "1"}\n{"question": oops}\n')
    refused(path, r"problems.jsonl:2: no JSON .*oops")
    path.write_text('{"question": "q", "answer": "1"}\n[1, 2]\n')
    refused(path, r"problems.jsonl:2: a row is a JSON object, got \[1, 2\]")
    path.write_text("\n\n")
    refused(path, "has no rows")
    path.write_bytes(b'{"question": "\xff\xfe"}')
    refused(path, "UTF-8")
    path.write_text("[" * 100_000)
    refused(path, "no JSON")
    refused(tmp_path / "rows.csv", "not there")
    (tmp_path / "rows.csv").write_text("a,b")
    refused(tmp_path / "rows.csv", r"ends in .jsonl, .json, .parquet")
    refused("just some words", "neither a file")
    refused(42, "got int '42'")
    refused([1, 2], "list of mappings")


def test_a_broken_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 no it is not")
    refused(path, "no readable parquet file")


def test_no_hub_is_said_within_seconds_with_the_way_out(monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr(sources, "_unreachable", lambda repository: "ConnectError: no network")
    refused("some-owner/some-set", r"does not serve 'some-owner/some-set' .*no network.*data=")


def test_the_hub_is_asked_for_the_config_and_split(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(*args, **kwargs):
        asked.append((*args, kwargs["split"]))
        if kwargs["split"] == "dev":
            raise ValueError("Unknown split \"dev\". Should be one of ['train', 'test'].")
        return ROWS

    monkeypatch.setattr(sources, "_unreachable", lambda repository: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_rows("owner/name", config="main") == ROWS
    assert load_rows("owner/name:other", split="test") == ROWS
    assert asked == [("owner/name", "main", "train"), ("owner/name", "other", "test")]
    refused("owner/name", r"split 'dev'.*\['train', 'test'\]", split="dev")


def test_without_hub_the_sample_is_used_and_said_loudly(monkeypatch, caplog):
    monkeypatch.setattr(sources, "_hub", lambda *args: (_ for _ in ()).throw(DataError("no hub")))
    for env_id in ("Math-DAPO-v0", "Math-GSM8K-v0", "Math-GSM8K-Shaped-v0"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            env = gym.make(env_id, numeric=False).unwrapped
            assert len(env.tasks) == 64
        assert "SAMPLE" in caplog.text
        assert "no hub" in caplog.text


def test_the_sample_asked_for_by_name_is_silent(caplog):
    with caplog.at_level(logging.WARNING):
        assert len(gym.make("Math-DAPO-v0", data="sample", numeric=True).unwrapped.tasks) == 64
    assert not caplog.text
    with pytest.raises(DataError, match="no split 'test'"):
        _ = gym.make("Math-DAPO-v0", data="sample", split="test").unwrapped.tasks


def test_the_literal_command_line_env_works_offline():
    code = (
        "import gymnasium as gym, taskgym.envs\n"
        "env = gym.make('Math-DAPO-v0')\n"
        "env.reset(seed=0)\n"
        "print(env.step(env.unwrapped.gold_action())[1])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout.strip() == "13.0", run.stderr
    assert "SAMPLE" in run.stderr


@pytest.mark.parametrize("name", ["dapo.jsonl", "gsm8k.jsonl"])
def test_sample_rows_are_distinct_and_numeric(name):
    path = Path(sources.__file__).parent / "samples" / name
    rows = load_rows(path)
    assert len({row["question"] for row in rows}) == len(rows) == 64
    if name == "gsm8k.jsonl":
        for row in rows:
            working, _, answer = row["answer"].rpartition("\n#### ")
            assert answer.replace(",", "") in working


def test_real_gsm8k_rows_load_and_their_gold_replies_are_full():
    path = SHARED / "math/gsm8k_train.jsonl"
    if not path.exists():
        pytest.skip("the shared data is not beside this checkout")
    for env_id in ("Math-GSM8K-v0", "Math-GSM8K-Shaped-v0"):
        full_on_a_sample(gym.make(env_id, data=str(path)).unwrapped, 1990)


def test_real_dapo_rows_load_and_their_duplicates_are_counted(caplog):
    pytest.importorskip("pyarrow")
    path = SHARED / "math/dapo_math_17k.parquet"
    if not path.exists():
        pytest.skip("the shared data is not beside this checkout")
    with caplog.at_level(logging.INFO):
        env = gym.make("Math-DAPO-v0", data=str(path)).unwrapped
        full_on_a_sample(env, 16_000)
    assert env.tasks.dropped["duplicate"] + env.tasks.dropped["two answers"] >= 614
    assert "duplicate" in caplog.text


def full_on_a_sample(env, least):
    assert len(env.tasks) >= least
    for index in range(0, len(env.tasks), len(env.tasks) // 250):
        env.reset(options={"index": index})
        _, reward, *_, info = env.step(env.gold_action())
        assert reward == env.max_reward, env.task
        assert info["success"]
