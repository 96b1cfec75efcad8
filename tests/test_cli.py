"""What a person types: layers of settings, errors in one sentence, quick help."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from taskgym.training import GrpoConfig, TrainConfig
from taskgym.training.cli import overlay, parse_train_config
from taskgym.training.errors import ConfigError, ModelError, RunError, disk_is_full, run_command
from taskgym.training.folder import RunFolder, new_folder, newest_unfinished
from taskgym.training.models import choose_loader
from taskgym.training.recipes import DEFAULTS, find_recipe, names


def command(name: str, *argv: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    module = f"taskgym.training.commands.{name}"
    return subprocess.run(
        [sys.executable, "-m", module, *argv], capture_output=True, text=True, cwd=cwd, timeout=120
    )


@pytest.mark.parametrize(
    "name", ["train_agent", "evaluate_agent", "evaluate_strategy", "list_envs"]
)
def test_help_answers_in_under_a_second(name: str, tmp_path: Path) -> None:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        done = command(name, "--help", cwd=tmp_path)
        times.append(time.perf_counter() - began)
        assert done.returncode == 0 and done.stdout
    # A floor on import time, not a benchmark: a torch import alone would take several seconds.
    assert min(times) < 2.0, times


def write(path: Path, content: object) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_flags_win_over_yaml_and_yaml_over_the_recipe(tmp_path: Path) -> None:
    recipe = write(tmp_path / "r.yaml", {"steps": 1, "seed": 1, "lora": {"rank": 1, "alpha": 1}})
    config = write(tmp_path / "c.yaml", {"seed": 2, "lora": {"alpha": 2}})
    argv = ["--recipe", recipe, "--config", config, "--lora.alpha", "3"]
    got = parse_train_config(argv)
    assert (got.steps, got.seed, got.lora.rank, got.lora.alpha) == (1, 2, 1, 3)


def test_a_flag_may_be_written_with_an_equals_sign(tmp_path: Path) -> None:
    config = write(tmp_path / "c.yaml", {"seed": 2})
    assert parse_train_config([f"--config={config}", "--steps=7"]).seed == 2


@pytest.mark.parametrize("recipe", names())
def test_every_shipped_recipe_fits_the_config(recipe: str) -> None:
    assert parse_train_config(["--recipe", recipe]).steps >= 1


def test_every_default_recipe_exists() -> None:
    assert {name for pair in DEFAULTS.values() for name in pair} <= set(names())
    assert find_recipe("", "Nobody-v0") is None


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("grpo: {learning_rate: 1e-4}")
    assert parse_train_config(["--config", str(path)]).grpo.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"stepz": 3}, "unknown name 'stepz'. Did you mean 'steps'"),
        ({"lora": {"rnak": 3}}, "unknown name 'rnak'. Did you mean 'rank'"),
        ({"steps": "many"}, "steps must be int, got 'many'"),
        ({"lora": 3}, "lora must hold names and values, got 3"),
        ({"grpo": {"learning_rate": "fast"}}, "must be a number, got 'fast'"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"grpo": {"loss_type": "foo"}}, "must be one of grpo, dapo"),
        ({"trackers": ["nope"]}, "must be one of tensorboard, wandb, trackio, got 'nope'"),
        ({"grpo": {"epsilon_high": "high"}}, "epsilon_high must be a number, got 'high'"),
    ],
)
def test_what_does_not_fit_is_named_with_the_nearest_right_thing(
    layer: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=r"x\.yaml") as caught:
        overlay(TrainConfig(), layer, "x.yaml")
    assert said in str(caught.value)


def test_a_group_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 to compare completions, got 1"):
        GrpoConfig(num_generations=1)


def test_a_micro_batch_that_does_not_divide_the_step_is_refused() -> None:
    with pytest.raises(ValueError, match="must divide the 32 completions"):
        GrpoConfig(micro_batch=5)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--env", "Math-DAP-v0"], "Did you mean: `Math-DAPO`"),
        (["--env", "nowhere:X-v0"], "nowhere"),
        (["--env", "Arithmetic-v0", "--env-kwargs", "{hihg: 3}"], "hihg"),
        (["--env", "Math-GSM8K-v0", "--data", "no.jsonl"], "no.jsonl"),
        (["--env", "CartPole-v1"], "is no chat env"),
        (["--config", "no.yaml"], "cannot read no.yaml"),
        (["--config", "bad.yaml"], "bad.yaml is not valid YAML"),
        (["--recipe", "qwen3-4b-dap"], "Did you mean 'qwen3-4b-dapo'"),
        (["--resume"], "no unfinished run"),
        (["--resume", "there"], "there"),
        (["--evaluation.tasks", "9999"], "leave some to train on"),
        (["--env-kwargs", "{low: 50}"], "low=50"),
        (["--env-kwargs", "{weights: {corect: 1}}"], "Did you mean 'correct'"),
        (["--trackers", "wandb"], "the package wandb is missing"),
        (["--recipe", "llama3.1-8b-gsm8k"], "load_in_4bit needs CUDA: "),
    ],
)
def test_each_mistake_is_one_clear_sentence(argv: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [")
    done = command("train_agent", *argv, "--dry-run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "bad.yaml"], "nothing is made by a mistake"


def test_a_value_that_no_run_can_have_is_refused(tmp_path: Path) -> None:
    done = command("train_agent", "--sampling.temperature", "0", cwd=tmp_path)
    assert done.returncode == 2 and "sampling.temperature 0 gives a group of equal" in done.stderr


def test_a_wrong_column_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text('{"ask": "1+1?", "answer": "2"}\n')
    argv = ["--env", "Math-GSM8K-v0", "--data", "r.jsonl", "--dry-run"]
    done = command("train_agent", *argv, cwd=tmp_path)
    assert done.returncode == 2 and "it has ask, answer" in done.stderr
    assert "--columns" in done.stderr
    done = command("train_agent", *argv, "--columns", "question", "ask", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_unknown_flags_name_the_nearest(tmp_path: Path) -> None:
    done = command("train_agent", "--lora-rank", "3", cwd=tmp_path)
    assert done.returncode == 2 and "--lora.rank" in done.stderr


def test_a_missing_model_is_one_clear_sentence(tmp_path: Path) -> None:
    argv = ["--env", "Arithmetic-v0", "--model", "no/such-model", "--steps", "1"]
    done = command("train_agent", *argv, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cannot load 'no/such-model'" in done.stderr


def test_a_user_s_env_is_found_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import gymnasium as gym\n"
        "from taskgym.envs import Rubric, SingleTurnEnv\n"
        "class Mine(SingleTurnEnv):\n"
        "    '''Says it back.'''\n"
        "    rubric = Rubric({'same': (lambda c, t: float(c == t.answer), 1.0)})\n"
        "    def load(self):\n"
        "        return [{'question': 'a?', 'answer': 'a'}]\n"
        "gym.register('Mine-v0', 'mine:Mine')\n"
    )
    done = command("train_agent", "--env", "mine:Mine-v0", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0 and "tasks: 1" in done.stdout, done.stderr
    listed = command("list_envs", "mine", cwd=tmp_path)
    assert "Mine-v0\n    Says it back." in listed.stdout


def test_dry_run_prints_the_resolved_config_and_makes_nothing(tmp_path: Path) -> None:
    done = command("train_agent", "--steps", "3", "--dry-run", cwd=tmp_path)
    printed = yaml.safe_load(done.stdout[done.stdout.index("env:") :])
    assert printed["steps"] == 3 and printed["versions"]["gymnasium"]
    assert list(tmp_path.iterdir()) == []


def test_a_script_is_scored_without_a_model(tmp_path: Path) -> None:
    argv = ["--script", "gold", "--n", "5", "--k", "2", "--output", "s.json"]
    done = command("evaluate_agent", *argv, cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "s.json").exists(), done.stderr
    (accuracy,) = [line for line in done.stdout.splitlines() if "mean@2 accuracy" in line]
    assert "1.000" in accuracy


def test_two_runs_of_one_second_have_their_own_folders(tmp_path: Path) -> None:
    config = TrainConfig(output=str(tmp_path))
    assert len({new_folder(config).path for _ in range(4)}) == 4


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the run folder"):
        new_folder(TrainConfig(output=str(tmp_path / "file")))


def run_of(tmp_path: Path, **changes: object) -> RunFolder:
    folder = new_folder(TrainConfig(output=str(tmp_path / "runs")))
    folder.write_config(TrainConfig(**changes))  # type: ignore[arg-type]
    return folder


def test_a_run_folder_s_config_starts_an_equal_run(tmp_path: Path) -> None:
    folder = run_of(tmp_path, steps=7)
    assert parse_train_config(["--config", str(folder.config)]).steps == 7


def test_resume_alone_takes_the_newest_unfinished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = run_of(tmp_path, steps=7)
    for argv in (
        ["--resume"],
        ["--resume", "--steps", "9"],
        ["--env", "Arithmetic-v0", "--resume"],
    ):
        assert Path(parse_train_config(argv).resume).resolve() == folder.path.resolve()


def test_a_resumed_run_may_get_longer_but_not_another(tmp_path: Path) -> None:
    folder = str(run_of(tmp_path, steps=7).path)
    assert parse_train_config(["--resume", folder, "--steps", "9"]).steps == 9
    with pytest.raises(ConfigError, match=r"seed cannot change in a resumed run: it was 0, got 1"):
        parse_train_config(["--resume", folder, "--seed", "1"])


def test_a_torn_config_does_not_hide_the_other_runs(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    for name, text in (("empty", ""), ("torn", "env: [Arith"), ("other", "3")):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "config.yaml").write_text(text)
    assert newest_unfinished(tmp_path / "runs", "Arithmetic-v0").path == folder.path
    assert newest_unfinished(tmp_path / "runs", "").path == folder.path


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    folder = run_of(tmp_path)
    with folder.locked(), pytest.raises(RunError, match="another process"), folder.locked():
        pass


def test_a_full_disk_is_known_by_the_words_of_every_library() -> None:
    assert disk_is_full(OSError(errno.ENOSPC, "No space left on device"))
    assert disk_is_full(RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"))
    assert disk_is_full(Exception("Error while serializing: I/O error: No space left on device"))
    assert not disk_is_full(OSError(errno.EACCES, "Permission denied"))


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_command_whose_reader_is_gone_ends_without_a_word(buffered: str) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "taskgym.training.commands.list_envs"]
    env = {**os.environ, "PYTHONUNBUFFERED": buffered}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=env)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_pipe_that_breaks_is_a_fault() -> None:
    def command() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        run_command(command)


def test_a_torn_checkpoint_is_never_the_newest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (2, 10, 11):
        (folder.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    assert folder.checkpoint() is None
    for step in (2, 10):
        folder.mark_complete(folder.checkpoints / f"checkpoint-{step}")
    assert folder.checkpoint() == folder.checkpoints / "checkpoint-10"


def test_the_loader_says_why() -> None:
    assert choose_loader("auto", True, True)[0] == "unsloth"
    assert choose_loader("auto", True, False) == ("transformers", "the package is not installed")
    assert choose_loader("auto", False, True) == ("transformers", "no CUDA device was found")
    assert choose_loader("transformers", True, True) == ("transformers", "asked for")
    with pytest.raises(ModelError, match="no CUDA device was found"):
        choose_loader("unsloth", False, True)
