"""A run beside the band of its recipe: below, inside, above, and what cannot be compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from taskgym.training import bands
from taskgym.training.bands import Band, make_band, read_band, trailing
from taskgym.training.cli import parse_train_config, recipe_config
from taskgym.training.commands import train_agent
from taskgym.training.errors import ConfigError, RunError
from taskgym.training.folder import RunFolder, resolved
from taskgym.training.recipes import names
from taskgym.training.verify import verify

RECIPE = "smollm2-135m-arithmetic"
STEPS = recipe_config(RECIPE).steps


def rewards(first: float, last: float, steps: int = STEPS) -> list[dict[str, Any]]:
    return [{"step": i + 1, "reward": r} for i, r in enumerate(np.linspace(first, last, steps))]


def scores(after: float) -> dict[str, Any]:
    interval = {"mean": after, "low": after, "high": after}
    side = {"sampled": {"accuracy": interval, "reward": interval}}
    return {
        "before": {"sampled": {"accuracy": {"mean": 0.1}, "reward": {"mean": 0.1}}},
        "after": side,
    }


@pytest.fixture
def band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Band:
    runs = [(rewards(0.1 + d / 2, 0.6 + d), scores(0.6 + d)) for d in (-0.05, 0.0, 0.05)]
    made = make_band([s for s, _ in runs], [e for _, e in runs], "a command", "a machine")
    path = tmp_path / f"{RECIPE}.band.json"
    made.write(path)
    monkeypatch.setattr(bands, "band_path", lambda name: tmp_path / f"{name}.band.json")
    monkeypatch.setattr("taskgym.training.verify.band_path", bands.band_path)
    return made


def run(folder: Path, steps: list[dict[str, Any]], evaluation: Any = None, **changes: Any) -> Path:
    folder.mkdir()
    config = resolved(recipe_config(RECIPE)) | {"recipe": RECIPE} | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)))
    if evaluation:
        (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def test_a_run_like_the_measured_ones_is_inside(band: Band, tmp_path: Path) -> None:
    found = verify(run(tmp_path / "run", rewards(0.1, 0.62), scores(0.62), seed=7))
    assert {reading.verdict for reading in found.readings} == {"inside"}
    assert not found.below and not found.different
    assert [r.what for r in found.readings[:5]][-1] == f"reward, step {STEPS}"


def test_a_run_that_does_not_learn_is_below_at_its_later_steps(band: Band, tmp_path: Path) -> None:
    found = verify(run(tmp_path / "run", rewards(0.1, 0.1), scores(0.1)))
    verdicts = [reading.verdict for reading in found.readings if "step" in reading.what]
    assert verdicts[0] == "inside" and verdicts[-1] == "below"
    assert found.below and "below" in found.table()


def test_a_better_run_is_above_and_not_below(band: Band, tmp_path: Path) -> None:
    found = verify(run(tmp_path / "run", rewards(0.1, 2.0), scores(1.0)))
    assert found.readings[-1].verdict == "above" and not found.below


def test_a_good_reward_does_not_hide_a_bad_held_out_score(band: Band, tmp_path: Path) -> None:
    assert verify(run(tmp_path / "run", rewards(0.1, 0.62), scores(0.1))).below


def test_an_unfinished_run_is_compared_as_far_as_it_got(band: Band, tmp_path: Path) -> None:
    found = verify(run(tmp_path / "run", rewards(0.1, 0.62)[: STEPS // 2]))
    assert [r.what for r in found.readings] == ["reward, step 4", "reward, step 9"]


def test_a_run_without_enough_steps_is_refused(band: Band, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has 2 steps; the first that is compared is 4"):
        verify(run(tmp_path / "run", rewards(0.1, 0.2)[:2]))


def test_a_recipe_without_a_band_names_those_that_have_one(band: Band, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"no measured band.* There are bands of: {RECIPE}"):
        verify(run(tmp_path / "run", rewards(0, 1), recipe="smollm2-135m-dapo"))
    with pytest.raises(ConfigError, match="the run has no recipe"):
        verify(run(tmp_path / "other", rewards(0, 1), recipe=""))
    with pytest.raises(RunError, match="is no run folder"):
        verify(tmp_path / "nowhere")


def test_settings_that_are_not_the_recipe_s_are_told(band: Band, tmp_path: Path) -> None:
    changed = resolved(recipe_config(RECIPE))["grpo"] | {"learning_rate": 1.0}
    found = verify(run(tmp_path / "run", rewards(0.1, 0.62), grpo=changed, output="elsewhere"))
    assert list(found.different) == ["grpo.learning_rate"]
    assert "grpo.learning_rate is 1.0, there 0.0006" in found.table()


@pytest.mark.parametrize(("last", "code"), [(0.62, 0), (0.1, 1)])
def test_the_command_exits_with_1_below_the_band(
    band: Band, last: float, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    run(tmp_path / "runs" / "one", rewards(0.1, last))
    monkeypatch.setattr("sys.argv", ["train_agent", "--verify"])
    with pytest.raises(SystemExit) as ended:
        train_agent.main()
    assert ended.value.code == code


def test_a_run_remembers_the_recipe_that_it_took_by_default() -> None:
    assert parse_train_config(["--env", "Arithmetic-v0"]).recipe == RECIPE
    assert parse_train_config(["--env", "Countdown-v0"]).recipe == ""


def test_a_band_is_read_as_it_was_written(band: Band, tmp_path: Path) -> None:
    assert read_band(tmp_path / f"{RECIPE}.band.json") == band


def test_a_range_is_the_prediction_interval_of_one_more_run() -> None:
    made = make_band([rewards(r, r) for r in (0.0, 1.0, 2.0)], [{}, {}, {}], "c", "d")
    half = 4.303 * 1.0 * (1 + 1 / 3) ** 0.5  # t at two degrees of freedom, deviation 1
    assert made.reward[-1].low == pytest.approx(1 - half, rel=1e-3)
    assert made.reward[-1].high == pytest.approx(1 + half, rel=1e-3)


@pytest.mark.parametrize("lengths", [(5,), (5, 6), (0, 0), ()])
def test_runs_that_make_no_band_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="2 to 10 runs of equally many steps"):
        make_band([rewards(0, 1, n) for n in lengths], [{} for _ in lengths], "c", "d")


def test_a_trailing_mean_looks_back_only() -> None:
    assert trailing(np.array([1.0, 3.0, 5.0, 7.0]), 2).tolist() == [1, 2, 4, 6]


@pytest.mark.parametrize("name", [n for n in names() if bands.band_path(n).exists()])
def test_a_shipped_band_is_as_long_as_its_recipe(name: str) -> None:
    made = read_band(bands.band_path(name))
    assert len(made.reward) == recipe_config(name).steps and made.runs >= 3
    assert all(r.low <= r.mean <= r.high for r in made.reward)
    assert set(made.evaluation) == {"before", "after"}


def test_a_run_folder_has_the_files_that_are_read() -> None:
    folder = RunFolder(Path("run"))
    assert (folder.config.name, folder.metrics.name) == ("config.yaml", "metrics.jsonl")
