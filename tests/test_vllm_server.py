"""VLLM's own server: completions, adapters loaded while it runs, and what happens when it dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from asking import PROMPT, VLLM, answers, asked
from taskgym.agents.adapter import Adapter
from taskgym.agents.chat import Renderer, stop_ids
from taskgym.agents.episode import Start
from taskgym.agents.policy import Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.server_adapters import Served
from taskgym.agents.server_client import ServerClient, ServerError
from taskgym.agents.server_policy import ChatServerPolicy, ServerPolicy
from taskgym.training.canary import Canary, SyncError
from taskgym.training.config_flags import PolicyFlags
from taskgym.training.policies import check_policy
from taskgym.training.served import ask_server

pytest.importorskip("vllm")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def server(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from taskgym.agents.vllm_server import VllmServer

    log = tmp_path_factory.mktemp("server") / "server.log"
    started = VllmServer(str(small_model), log=log, **VLLM)
    started.wait_until_ready()
    yield started
    started.stop()
    assert ended(started.pid), "the server left processes behind"


def ended(pid: int) -> bool:
    """Whether all of a process group is gone within half a minute; zombies are gone."""
    for _ in range(150):
        told = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True)
        states = [line.split() for line in told.stdout.splitlines()]
        if not any(group == str(pid) and not state.startswith("Z") for group, state in states):
            return True
        time.sleep(0.2)
    return False


@pytest.fixture
def client(server: Any) -> ServerClient:
    return ServerClient(server.url, key=server.key, on_lost=server.revive)


@pytest.fixture
def policy(client: ServerClient, learner: Any, tmp_path: Path) -> Iterator[ServerPolicy]:
    ends = stop_ids(learner.tokenizer, learner.model.generation_config)
    opened = ServerPolicy(
        [client], "base", learner.tokenizer, ends, folder=tmp_path, max_model_len=256
    )
    yield opened
    opened.close()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_the_learner_s(
    policy: ServerPolicy, learner: Any, temperature: float
) -> None:
    learner.learn(seed=1)
    policy.load_adapter(Adapter.of(learner.model), 5)
    said = answers(
        policy, *(asked(n, Sampling(max_tokens=16, temperature=temperature)) for n in range(4))
    )
    assert {completion.adapter_version for completion in said} == {5}
    for completion in said:
        assert len(completion.ids) == len(completion.logprobs) == 16
        ours = learner.logprobs(PROMPT, completion.ids, temperature)
        torch.testing.assert_close(torch.tensor(completion.logprobs), ours, atol=1e-4, rtol=1e-4)
    assert len({completion.ids for completion in said}) == 4


def test_an_adapter_is_loaded_under_a_new_name_and_the_one_before_goes(
    policy: ServerPolicy, client: ServerClient, learner: Any
) -> None:
    golden = []
    for version in (1, 2, 3):
        learner.learn(seed=version)
        policy.load_adapter(Adapter.of(learner.model), version)
        golden = learner.logprobs(PROMPT[:1], PROMPT[1:])
        served = [card["id"] for card in client.get("/v1/models")["data"] if card.get("parent")]
        assert served == [policy._served.name] and f"-v{version}-" in served[0]
    scored = torch.tensor(policy.score(PROMPT))
    torch.testing.assert_close(scored, golden, atol=1e-4, rtol=1e-4)


def test_a_stop_token_is_kept_as_a_token_and_not_as_text(
    policy: ServerPolicy, learner: Any
) -> None:
    (free,) = answers(policy, asked(1, Sampling(max_tokens=16)))
    policy._stop_ids = [free.ids[4]]
    (said,) = answers(policy, asked(1, Sampling(max_tokens=16)))
    end = free.ids.index(free.ids[4])
    assert said.finish == "stop" and said.ids == free.ids[: end + 1]
    assert said.text == learner.tokenizer.decode(free.ids[:end], skip_special_tokens=True)


def test_a_prompt_that_fills_the_context_is_cut_and_not_an_error(policy: ServerPolicy) -> None:
    said = answers(policy, *(asked(n, Sampling(), range(n)) for n in (250, 256, 300)))
    assert [(len(completion.ids), completion.finish) for completion in said] == [
        (6, "length"),
        (0, "length"),
        (0, "length"),
    ]


def test_strangers_cannot_use_the_server(server: Any) -> None:
    stranger = ServerClient(server.url, key="guessed")
    with pytest.raises(ServerError, match="401"):
        stranger.get("/v1/models")


def test_the_server_s_card_says_that_it_can_be_learned_from(client: ServerClient) -> None:
    served = ask_server(client, "")
    assert (served.model, served.exact, served.processed) == ("base", True, True)
    assert served.max_model_len == 256


def test_a_server_that_serves_another_context_is_taken_as_a_url(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", server.key)
    config = PolicyFlags(policy="server", server_url=(f"{server.url}/v1",))
    check_policy(config, Sampling(temperature=0.7), "any", learns=True)


def test_wrong_and_missing_adapter_names_are_caught(policy: ServerPolicy, learner: Any) -> None:
    canary = Canary(learner.model, learner.tokenizer)
    canary.calibrate(policy)
    learner.learn(seed=1)
    policy.load_adapter(Adapter.of(learner.model), 1)
    assert canary.check(policy) < canary.tolerance < 0.05
    learner.learn(seed=2)  # and the sampler goes on with the name of the version before
    with pytest.raises(SyncError, match="at the last check: the adapter was not replaced"):
        canary.check(policy)
    served, policy._served = policy._served, Served("base", 2)
    with pytest.raises(SyncError, match="answers as the base model: the adapter is not applied"):
        canary.check(policy)
    policy._served = served
    policy.load_adapter(Adapter.of(learner.model), 2)
    canary.check(policy)


def play(policy: Any, learner: Any, episodes: int, renderer: Any) -> Rollout:
    rollout = Rollout(policy, lambda: gym.make("Arithmetic-v0"), Sampling(max_tokens=160), renderer)
    rollout.start([Start(i, None, i, 0, i) for i in range(episodes)])
    return rollout


def test_a_server_killed_in_the_middle_loses_nothing_and_doubles_nothing(
    server: Any, policy: ServerPolicy, learner: Any
) -> None:
    learner.learn(seed=1)
    policy.load_adapter(Adapter.of(learner.model), 7)
    rollout = play(policy, learner, 24, Renderer(learner.tokenizer))
    before = server.pid
    killer = threading.Timer(0.5, os.killpg, (before, signal.SIGKILL))
    killer.start()
    done = list(rollout.finished())
    killer.join()
    rollout.close()
    assert server.pid != before, "it was not killed in time"
    assert Counter(t.start.member for t in done) == Counter(range(24))
    assert all(t.error is None and t.versions == [7] for t in done)
    for trajectory in done[:4]:  # the restarted server has the adapter again
        ours = learner.logprobs(trajectory.prompt_ids, trajectory.completion_ids)
        told = torch.tensor(trajectory.logprobs)
        torch.testing.assert_close(told, ours, atol=1e-4, rtol=1e-4)


def test_chat_scores_a_server_by_its_own_template(client: ServerClient, learner: Any) -> None:
    policy = ChatServerPolicy([client], "base")
    rollout = play(policy, learner, 4, None)
    done = list(rollout.finished())
    rollout.close()
    assert len(done) == 4 and all(t.messages[-1]["role"] == "assistant" for t in done)
    with pytest.raises(ServerError, match="takes no adapters"):
        policy.load_adapter(Adapter({}, {}), 1)


def test_a_server_that_cannot_start_says_why(small_model: Path, tmp_path: Path) -> None:
    from taskgym.agents.vllm_server import VllmServer

    wrong = {**VLLM, "dtype": "no-such-type"}
    broken = VllmServer(str(small_model), log=tmp_path / "server.log", **wrong)
    with pytest.raises(ServerError, match=r"ended while it started: .*no-such-type"):
        broken.wait_until_ready()
    for _ in range(3):  # it is started again three times, and then no more
        with pytest.raises(ServerError, match="ended while it started"):
            broken.revive()
    with pytest.raises(ServerError, match="died 4 times"):
        broken.revive()
    broken.stop()
    broken.revive()  # a stopped one stays stopped
    assert broken._process.poll() is not None


def test_the_server_ends_when_the_trainer_is_killed(small_model: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from taskgym.agents.vllm_server import VllmServer;"
        f"s = VllmServer({str(small_model)!r}, log=Path({str(tmp_path / 'log')!r}), **{VLLM!r});"
        "s.wait_until_ready(); print(s.pid, flush=True); time.sleep(600)"
    )
    trainer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert trainer.stdout is not None
    pid = int(trainer.stdout.readline())
    trainer.kill()
    trainer.wait()
    assert ended(pid)
