"""Whole runs with completions from vLLM, as a person types them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from taskgym.training.folder import RunFolder
from taskgym.training.metrics import MetricsFile

pytest.importorskip("vllm")
pytestmark = pytest.mark.vllm

SIZES = "--steps 2 --grpo.groups-per-step 2 --grpo.num-generations 4 --grpo.micro-batch 8"
SHORT = "--grpo.learning-rate 1e-3 --grpo.max-fresh-groups 0 --sampling.max-tokens 8"
SMALL = [*SIZES.split(), *SHORT.split(), "--evaluation.tasks", "0", "--warmup.data="]


def command(name: str, *flags: str, cwd: Path) -> str:
    module = f"taskgym.training.commands.{name}"
    done = subprocess.run(
        [sys.executable, "-m", module, *flags], cwd=cwd, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module", params=["vllm", "server"])
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("env", ["Arithmetic-v0", "GuessNumber-v0"])
def test_two_steps_train_with_a_sampler_apart(
    policy: str, env: str, smollm2: Path, tmp_path: Path
) -> None:
    train_two_steps(env, policy, cwd=tmp_path)


def test_the_next_step_is_written_while_the_learner_computes(
    policy: str, smollm2: Path, tmp_path: Path
) -> None:
    flags = ("--env", "GuessNumber-v0", "--policy", policy, *SMALL, "--steps", "3")
    flags += ("--grpo.no-mask-truncated-completions",)
    command("train_agent", *flags, "--grpo.max-staleness", "1", cwd=tmp_path)
    (config,) = tmp_path.glob("runs/*/config.yaml")
    folder = RunFolder(config.parent)
    steps: list[Any] = MetricsFile(folder.metrics).read().steps
    assert [step["sampling/staleness"] for step in steps] == [0, 1, 1]
    gaps = [step["sampling/sampling_logp_difference/mean"] for step in steps]
    assert gaps[0] < 1e-3 and max(gaps) < 1
    episodes = [json.loads(line) for line in folder.episodes.read_text().splitlines()]
    written = {(e["step"], version) for e in episodes for version in e["adapter_versions"]}
    assert written == {(1, 0), (2, 0), (3, 1)}
    assert folder.finished and not any(episode["error"] for episode in episodes)


def test_two_steps_train_on_what_serve_model_serves(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    flags = ("--model", str(smollm2), "--port", "18711", "--max-lora-rank", "32")  # the recipe's
    serve = [sys.executable, "-m", "taskgym.training.commands.serve_model", *flags]
    server = subprocess.Popen(serve, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = iter(server.stdout.readline, "")
        assert any(line == "ready at http://127.0.0.1:18711\n" for line in said), "it ended"
        where = ("--server-url", "http://127.0.0.1:18711")
        train_two_steps("Arithmetic-v0", "server", *where, cwd=tmp_path)
        asked = ("--policy", "server", *where, "--n=2", "--k=1", "--sampling.max-tokens=8")
        assert "2 held-out tasks" in command("evaluate_agent", *asked, cwd=tmp_path)
    finally:
        server.terminate()
    assert server.wait(30) == 0


def train_two_steps(env: str, policy: str, *where: str, cwd: Path) -> None:
    """Trains, looks at what the run left, and scores its adapter by the same policy."""
    flags = ("--env", env, "--policy", policy, *where)
    command("train_agent", *flags, *SMALL, cwd=cwd)
    (config,) = cwd.glob("runs/*/config.yaml")
    folder = RunFolder(config.parent)
    assert folder.finished and folder.adapter.exists()
    steps: list[Any] = MetricsFile(folder.metrics).read().steps
    assert [step["step"] for step in steps] == [1, 2]
    assert "sampling/canary_gap" in steps[0]
    for step in steps:
        assert step.get("sampling/canary_gap", 0.0) < 1e-3 and step["sampling/stale"] == 0
        assert step["sampling/sampling_logp_difference/max"] < 1e-2
        assert step["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=0.01)
    episodes = [json.loads(line) for line in folder.episodes.read_text().splitlines()]
    assert len(episodes) == 16 and not any(episode["error"] for episode in episodes)
    for episode in episodes:  # every turn by the adapter of its step
        assert set(episode["adapter_versions"]) == {episode["step"] - 1}
        assert len(episode["mask"]) == len(episode["logprobs"]) == len(episode["completion_ids"])
    assert not (folder.path / "sampler").exists() or not list((folder.path / "sampler").iterdir())
    adapter = ("--adapter", str(folder.adapter), "--n=2", "--k=1")
    said = command("evaluate_agent", *flags, *adapter, cwd=cwd)
    assert "2 held-out tasks" in said
