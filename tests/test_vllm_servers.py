"""Three servers of vLLM's own behind one policy, one of them killed in the middle."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from asking import PROMPT, VLLM
from taskgym.agents.chat import Renderer, stop_ids
from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.policy import Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.server_client import ServerClient
from taskgym.agents.server_policy import ServerPolicy
from taskgym.training.sync import Sync

pytest.importorskip("vllm")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.vllm
EPISODES = 48


@pytest.fixture(scope="module")
def servers(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    from taskgym.agents.vllm_server import VllmServer

    folder = tmp_path_factory.mktemp("servers")
    started = [VllmServer(str(small_model), log=folder / f"{n}.log", **VLLM) for n in range(3)]
    for server in started:
        server.wait_until_ready()
    yield started
    for server in started:
        server.stop()


@pytest.fixture
def policy(servers: list[Any], learner: Any, tmp_path: Path) -> Iterator[ServerPolicy]:
    ends = stop_ids(learner.tokenizer, learner.model.generation_config)
    clients = [ServerClient(s.url, key=s.key, connections=8, patience=1.0) for s in servers]
    opened = ServerPolicy(
        clients, "base", learner.tokenizer, ends, folder=tmp_path, max_model_len=256
    )
    yield opened
    opened.close()


def test_one_of_three_is_killed_and_comes_back(
    servers: list[Any], policy: ServerPolicy, learner: Any
) -> None:
    """Every episode ends once, by the right adapter, while it is away and when it is back."""
    sync = Sync(policy, learner.loaded)
    learner.learn(seed=1)
    assert sync(7)["sampling/servers"] == 3
    victim = servers[1]
    done = play(policy, learner, kill=victim)
    right(done, 7, learner)
    assert len(policy.up) == 2 and victim.url not in policy.up
    learner.learn(seed=2)
    assert sync(8)["sampling/servers"] == 2, "the dead one misses this"
    right(play(policy, learner), 8, learner)
    victim.revive()
    deadline = time.monotonic() + 30
    while victim.url not in policy.up:
        assert time.monotonic() < deadline, "it never came back"
        time.sleep(0.1)
    client = ServerClient(victim.url, key=victim.key)
    served = [card["id"] for card in client.get("/v1/models")["data"] if card.get("parent")]
    client.close()
    assert served == [policy._served.name] and "-v8-" in served[0]
    for said in policy.scores(PROMPT).values():
        torch.testing.assert_close(torch.tensor(said), learner.logprobs(PROMPT[:1], PROMPT[1:]))
    right(play(policy, learner), 8, learner)
    learner.learn(seed=3)
    assert sync(9)["sampling/servers"] == 3


def play(policy: ServerPolicy, learner: Any, kill: Any = None) -> list[Trajectory]:
    """Plays until the end; the server to kill dies when the first episode is done."""
    rollout = Rollout(
        policy,
        lambda: gym.make("Arithmetic-v0"),
        Sampling(max_tokens=96),
        Renderer(learner.tokenizer),
    )
    rollout.start([Start(i, None, i, 0, i) for i in range(EPISODES)])
    done: list[Trajectory] = []
    for trajectory in rollout.finished():
        done.append(trajectory)
        if kill is not None and len(done) == 1:
            busy = next(link.in_flight for s, link in policy._pool.links() if s.url == kill.url)
            os.killpg(kill.pid, signal.SIGKILL)
            assert busy, "it had nothing to lose"
    rollout._threads.shutdown()
    return done


def right(done: list[Trajectory], version: int, learner: Any) -> None:
    """Each episode once, whole, and as likely to the learner as to the server that wrote it."""
    assert Counter(t.start.member for t in done) == Counter(range(EPISODES))
    assert all(t.error is None and t.versions == [version] for t in done)
    for trajectory in done:
        ours = learner.logprobs(trajectory.prompt_ids, trajectory.completion_ids)
        told = torch.tensor(trajectory.logprobs)
        torch.testing.assert_close(told, ours, atol=1e-4, rtol=1e-4)
