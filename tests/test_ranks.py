"""What several processes agree on, seen from one of them; `test_two_ranks.py` starts two."""

import dataclasses
import logging
import os
import pickle
import subprocess
import sys
from typing import Any

import gymnasium as gym
import pytest
from taskgym.agents.adapter import Adapter
from taskgym.agents.episode import Trajectory
from taskgym.agents.policy import Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.scripted import SCRIPTS, ScriptedPolicy
from taskgym.agents.traces import portable, to_record
from taskgym.agents.vllm_server import _environment
from taskgym.envs import Rubric, SingleTurnEnv, Task
from taskgym.training import GrpoConfig, TrainConfig, WarmupConfig
from taskgym.training.environment import SERVER_GPU, prepare_environment, server_gpu
from taskgym.training.errors import ConfigError, ModelError
from taskgym.training.evaluate import _play
from taskgym.training.models import choose_loader
from taskgym.training.ranks import Ranks, share_of
from taskgym.training.tasks import TaskPlan

LAUNCHED = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "TORCHELASTIC_RUN_ID": "none",
}


def right(completion: str, task: Task) -> float:
    return float(completion == task.answer)


class Say(SingleTurnEnv):
    rubric = Rubric({"right": (right, 1.0)})

    def load(self) -> list[dict[str, str]]:
        return [{"question": f"Say {n}.", "answer": str(n)} for n in range(11)]


gym.register("Test-Say-v0", Say)


def plan(held_out: int) -> TaskPlan:
    return TaskPlan(lambda: gym.make("Test-Say-v0"), 0, held_out)


class Recorded(Ranks):
    """One of several processes, the others of which say what is put into their mouths."""

    def __init__(self, rank: int, size: int, others: Any = None):
        super().__init__(rank, size)
        self.others = others

    def gather(self, value: Any) -> list[Any]:
        self.said = value
        return [value] if self.others is None else [value, *self.others]


def played(rank: int, size: int, tasks: int, samples: int) -> list[Trajectory]:
    rollout = Rollout(
        ScriptedPolicy(SCRIPTS["gold"]), lambda: gym.make("Test-Say-v0"), Sampling(max_tokens=4)
    )
    ranks = Recorded(rank, size)
    with pytest.raises(KeyError):  # the others' are missing in what it would return
        _play(rollout, plan(tasks).evaluation_starts(samples), lambda n: None, ranks)
    return list(ranks.said)


@pytest.mark.parametrize("size", [2, 3])
def test_held_out_tasks_are_dealt_out_whole_each_to_one_process(size: int) -> None:
    parts = [{t.start for t in played(rank, size, 5, 2)} for rank in range(size)]
    assert set.union(*parts) == set(plan(5).evaluation_starts(2))
    groups = [{start.group for start in part} for part in parts]
    assert sum(map(len, groups)) == 5 and len(set.union(*groups)) == 5


def test_a_trajectory_that_travels_leaves_the_same_record() -> None:
    (t,) = [t for t in played(0, 2, 2, 1) if t.start.group == 0]
    t.info["helper"] = lambda: None  # an env may put anything there
    t.seen = object()  # type: ignore[assignment]  # tensors, in truth
    arrived = pickle.loads(pickle.dumps(portable(t)))
    assert to_record(arrived, "Test-Say-v0", 1) == to_record(t, "Test-Say-v0", 1)


def config(groups: int, micro: int = 16, warmup: int = 4) -> TrainConfig:
    grpo = GrpoConfig(num_generations=4, groups_per_step=groups, micro_batch=micro)
    return TrainConfig(grpo=grpo, warmup=WarmupConfig(data="gold", batch=warmup))


@pytest.mark.parametrize(
    ("config", "size", "words"),
    [
        (config(4), 3, "groups_per_step=4 cannot .* 3 processes; make it 6"),
        (config(2, micro=8, warmup=2), 4, "groups_per_step=2 .* make it 4"),
        (
            config(6, micro=8),
            2,
            "each of 2 processes: grpo.micro_batch must divide the 12 completions",
        ),
        (config(6, micro=4, warmup=4), 6, "warmup.batch=4 .* make it 6"),
    ],
)
def test_work_that_cannot_be_dealt_out_is_refused(
    config: TrainConfig, size: int, words: str
) -> None:
    assert share_of(config, 1) == config
    with pytest.raises(ConfigError, match=words):
        share_of(config, size)


def test_work_is_dealt_out_evenly() -> None:
    for size in (1, 2, 4):
        share = share_of(config(4, micro=16), size)
        assert share.grpo.completions == 16 // size and share.warmup.batch == 4 // size
        assert share.grpo.rows == 16 // size  # a smaller share is one micro-batch
    without = dataclasses.replace(config(6, micro=4), warmup=WarmupConfig(batch=4))
    assert share_of(without, 3).warmup == without.warmup


@pytest.mark.parametrize(
    ("gpus", "size", "servers"),
    [
        (["0"], 1, ["0"]),  # one card for both
        (["0", "1"], 1, ["1"]),
        (["GPU-a", "GPU-b", "GPU-c"], 1, ["GPU-b"]),
        (["0", "1"], 2, ["0", "1"]),  # each beside its learner
        (["0", "1", "2"], 2, ["2", "2"]),
        (["4", "5", "6", "7"], 2, ["6", "7"]),
    ],
)
def test_a_server_of_ours_computes_where_no_learner_does(
    gpus: list[str], size: int, servers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "basicConfig", lambda **options: None)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    for rank, server in enumerate(servers):
        with monkeypatch.context() as patch:
            patch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": ",".join(gpus)})
            if size > 1:
                os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
            prepare_environment()
            assert server_gpu() == server
            assert (SERVER_GPU in os.environ) == (len(gpus) > size)
            learners = os.environ["CUDA_VISIBLE_DEVICES"].split(",")[:size]
            assert (server in learners) == (len(gpus) == size)


def test_a_server_of_ours_does_not_take_itself_for_a_learner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    started = _environment("key", "2")
    assert not LAUNCHED.keys() & started.keys()
    assert started["CUDA_VISIBLE_DEVICES"] == "2" and started["PATH"] == os.environ["PATH"]
    assert _environment("key", "")["CUDA_VISIBLE_DEVICES"] == "0,1,2"


def test_only_the_first_process_speaks() -> None:
    code = (
        "from taskgym.training.environment import prepare_environment as prepare\n"
        "from taskgym.training.errors import ConfigError, run_command\n"
        "def command():\n"
        "    prepare()\n"
        "    print('hello')\n"
        "    raise ConfigError('no such thing')\n"
        "run_command(command)\n"
    )
    for rank in ("0", "1"):
        environment = {**os.environ, **LAUNCHED, "RANK": rank}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr == f"error in process {rank} of 2: no such thing\n"
        assert done.stdout == ("hello\n" if rank == "0" else "")


def test_unsloth_is_for_one_process() -> None:
    loader, why = choose_loader("auto", True, True, 2)
    assert loader == "transformers" and "several processes" in why
    with pytest.raises(ModelError, match="several processes"):
        choose_loader("unsloth", True, True, 2)


def test_adapters_that_differ_stop_the_run() -> None:
    torch = pytest.importorskip("torch")
    from taskgym.training.canary import SyncError
    from taskgym.training.sync import check_equal

    tensors = {name: torch.randn(3, 2) for name in "AB"}
    norms = torch.stack([tensor.norm() for tensor in tensors.values()])
    adapter = Adapter({}, tensors)
    check_equal(adapter, Recorded(0, 2, [norms]))
    with pytest.raises(SyncError, match="process 1 is not that of process 0"):
        check_equal(adapter, Recorded(0, 2, [norms * 1.01]))
