"""Several servers behind one policy: shared out, taken out, sent again, and let back."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import Outside, answers, asked
from taskgym.agents import server_pool
from taskgym.agents.policy import Completion, Request, Sampling
from taskgym.agents.server_client import ServerClient, ServerError
from taskgym.agents.server_policy import ServerPolicy
from taskgym.training.config_flags import PolicyFlags
from taskgym.training.errors import ConfigError
from taskgym.training.policies import check_policy
from test_server_policy import Letters, Server, Tensors

pytest.importorskip("httpx")
ADAPTER: Any = Tensors()


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    started = [Server() for _ in range(3)]
    yield started
    for server in started:
        server.close()


@pytest.fixture
def policy(servers: list[Server], tmp_path: Path) -> Iterator[ServerPolicy]:
    opened = over(servers, tmp_path)
    yield opened
    opened.close()


def over(servers: list[Server], folder: Path, timeout: float = 20.0) -> ServerPolicy:
    clients = [
        ServerClient(server.url, connections=4, timeout=timeout, patience=0.2) for server in servers
    ]
    return ServerPolicy(
        clients, "base", Letters(), {2}, folder=folder, max_model_len=64, patience=0.9
    )


def completions(server: Server) -> list[Any]:
    return [body for path, body in server.asked if path == "/v1/completions"]


def until(true: Callable[[], Any], policy: ServerPolicy, seconds: float = 10.0) -> None:
    """Polls as a rollout does, until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        policy.poll()


def held(server: Server, gate: threading.Event) -> None:
    """The server takes completions and answers none before the gate opens."""

    def answer(path: str, body: Any) -> Any:
        if path == "/v1/completions":
            gate.wait(20)
        return server.vllm(path, body)

    server.answer = answer


def dead(server: Server) -> None:
    """Every connection breaks, as when the process is gone."""
    server.answer = lambda path, body: (0, {}, "")


def loads(server: Server) -> list[str]:
    return [body["lora_name"] for path, body in server.asked if path == "/v1/load_lora_adapter"]


def test_requests_are_shared_out_evenly(servers: list[Server], policy: ServerPolicy) -> None:
    gate = threading.Event()
    for server in servers:
        held(server, gate)
    for number in range(9):
        policy.submit(asked(number))
    gate.set()
    until(lambda: sum(len(completions(s)) for s in servers) == 9, policy)
    assert [len(completions(s)) for s in servers] == [3, 3, 3]


def test_what_no_connection_is_free_for_waits_for_the_server_that_is_first(
    servers: list[Server], policy: ServerPolicy
) -> None:
    gate = threading.Event()
    held(servers[0], gate)
    timer = threading.Timer(0.3, gate.set)
    timer.start()
    said = answers(policy, *(asked(n) for n in range(60)))
    assert len(said) == 60 and len(completions(servers[0])) <= 8
    assert max(server.most_together for server in servers) <= 4


def test_an_episode_s_next_turn_goes_where_its_last_one_was_written(
    servers: list[Server], policy: ServerPolicy
) -> None:
    episodes = [Outside() for _ in range(6)]
    for turn in range(4):  # as many tokens as say whose turn it is
        answers(policy, *(turn_of(n, episode, turn) for n, episode in enumerate(episodes)))
    where = [Counter(len(body["prompt"]) for body in completions(server)) for server in servers]
    assert all(set(counted.values()) == {4} for counted in where)
    assert sum(len(counted) for counted in where) == 6


def turn_of(number: int, episode: Any, turn: int) -> Request:
    return Request(10 * turn + number, tuple(range(1 + number)), 0, Sampling(max_tokens=9), episode)


def test_a_dead_server_s_requests_are_sent_to_others_with_the_same_seeds(
    servers: list[Server], policy: ServerPolicy
) -> None:
    dead(servers[1])
    said = answers(policy, *(asked(n) for n in range(24)))
    assert [completion.request_id for completion in said] == list(range(24))
    seeds = Counter(body["seed"] for s in (servers[0], servers[2]) for body in completions(s))
    assert seeds == Counter(range(24)), "each once, with its own seed"
    assert policy.up == [servers[0].url, servers[2].url]


def test_a_hanging_server_goes_out_and_its_late_answers_are_not_looked_at(
    servers: list[Server], policy: ServerPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_pool, "_WATCH_SECONDS", 0.2)
    slow = over(servers, policy._adapters._folder.parent)  # watched more closely
    gate = threading.Event()
    hangs = servers[2]
    hangs.answer = lambda path, body: (gate.wait(20), hangs.vllm(path, body))[1]
    monkeypatch.setattr("taskgym.agents.server_client._HEALTH_SECONDS", 0.2)
    said = answers(slow, *(asked(n) for n in range(12)))
    assert len(said) == 12 and hangs.url not in slow.up
    gate.set()
    until(lambda: hangs.url in slow.up, slow)
    for _ in range(5):
        assert slow.poll() == []
    slow.close()


def test_a_server_that_missed_a_sync_comes_back_with_the_newest_adapter(
    servers: list[Server], policy: ServerPolicy
) -> None:
    policy.load_adapter(ADAPTER, 1)
    dead(servers[0])
    answers(policy, *(asked(n) for n in range(6)))
    policy.load_adapter(ADAPTER, 2)
    assert servers[0].url not in policy.up
    servers[0].answer = servers[0].vllm  # with the adapter of version 1 still loaded
    until(lambda: servers[0].url in policy.up, policy)
    assert servers[0].adapters == servers[1].adapters and len(servers[0].adapters) == 1
    said = answers(policy, *(asked(n) for n in range(6)))
    assert {completion.adapter_version for completion in said} == {2}
    assert all("-v2-" in body["model"] for body in completions(servers[0])[-2:])


@pytest.mark.parametrize("wrong", [-1.5, float("nan")])
def test_a_server_comes_back_only_when_it_scores_as_the_learner_does(
    wrong: float, servers: list[Server], policy: ServerPolicy
) -> None:
    with_scores(servers)
    policy.load_adapter(ADAPTER, 1)
    policy.expect([5, 6, 7], [-1.0, wrong], tolerance=0.01)
    server, link = policy._pool.links()[0]
    policy._pool.leave(server, link, "for the test")
    until(lambda: "from the learner, tolerance 0.01" in server.told[1], policy)
    assert server.url not in policy.up
    policy.expect([5, 6, 7], [-1.0, -2.0], tolerance=0.01)
    until(lambda: server.url in policy.up, policy)


def with_scores(servers: list[Server]) -> None:
    """They answer with log-probabilities of the prompt too."""
    for server in servers:

        def answer(path: str, body: Any, server: Server = server) -> Any:
            status, headers, content = server.vllm(path, body)
            if path == "/v1/completions" and "prompt_logprobs" in body:
                told = [{str(i): {"logprob": -float(n)}} for n, i in enumerate(body["prompt"])]
                content["choices"][0]["prompt_logprobs"] = [None, *told[1:]]
            return status, headers, content

        server.answer = answer


def test_every_server_that_is_up_is_scored(servers: list[Server], policy: ServerPolicy) -> None:
    with_scores(servers)
    dead(servers[1])
    policy.load_adapter(ADAPTER, 1)
    scored = policy.scores([5, 6, 7])
    assert scored == {servers[0].url: [-1.0, -2.0], servers[2].url: [-1.0, -2.0]}


def test_an_adapter_is_written_once_and_loaded_everywhere_at_the_same_time(
    servers: list[Server], policy: ServerPolicy, tmp_path: Path
) -> None:
    together = threading.Barrier(3, timeout=10)
    for server in servers:

        def answer(path: str, body: Any, server: Server = server) -> Any:
            if path == "/v1/load_lora_adapter":
                together.wait()  # breaks unless the others are asked meanwhile
            return server.vllm(path, body)

        server.answer = answer
    policy.load_adapter(ADAPTER, 1)
    assert len({name for server in servers for name in loads(server)}) == 1
    assert len(list(tmp_path.glob("*/*"))) == 1


def test_a_refused_adapter_is_an_error_that_names_the_server(
    servers: list[Server], policy: ServerPolicy
) -> None:
    last = servers[2]

    def answer(path: str, body: Any) -> Any:
        if path == "/v1/load_lora_adapter":
            return 404, {}, {"error": "no such folder"}
        return last.vllm(path, body)

    last.answer = answer
    with pytest.raises(ServerError, match=f"{last.url} cannot load .* that sees this path"):
        policy.load_adapter(ADAPTER, 1)


def test_all_dead_is_an_error_after_patience_that_names_each(
    servers: list[Server], policy: ServerPolicy
) -> None:
    for server in servers:
        dead(server)
    began = time.monotonic()
    with pytest.raises(ServerError, match="no server was up for 1 s") as raised:
        answers(policy, asked())
    assert all(server.url in str(raised.value) for server in servers)
    assert 0.9 <= time.monotonic() - began < 8


def test_all_dead_for_a_while_loses_nothing(servers: list[Server], policy: ServerPolicy) -> None:
    policy.load_adapter(ADAPTER, 3)
    for server in servers:
        dead(server)
    for number in range(9):
        policy.submit(asked(number))
    until(lambda: not policy.up, policy)
    for server in servers:
        server.adapters.clear()
        server.answer = server.vllm
    said: list[Completion] = []
    while len(said) < 9:
        said += policy.poll()
    assert sorted(completion.request_id for completion in said) == list(range(9))
    assert {completion.adapter_version for completion in said} == {3}


def test_a_dropped_request_is_not_sent_again(servers: list[Server], policy: ServerPolicy) -> None:
    for number in range(20):
        policy.submit(asked(number))
    policy.cancel()
    (said,) = answers(policy, asked(99))
    assert said.request_id == 99 and policy.poll() == []


# --- at the start ---------------------------------------------------------------------------------


def check(*urls: str) -> None:
    check_policy(PolicyFlags(policy="server", server_url=urls), Sampling(), "", learns=True)


def test_every_server_is_asked_before_any_work(servers: list[Server]) -> None:
    check(*(server.url for server in servers))
    servers[1].cards = [{"id": "other", "max_model_len": 64}]
    with pytest.raises(ConfigError, match=f"do not serve one model: .*{servers[1].url} other"):
        check(*(server.url for server in servers))


def test_one_server_without_tokens_is_named(servers: list[Server]) -> None:
    odd = servers[2]
    odd.answer = lambda path, body: (
        odd.vllm(path, body) if path == "/v1/models" else (400, {}, "text only")
    )
    with pytest.raises(ConfigError, match=f"{odd.url}: base answers without token ids"):
        check(*(server.url for server in servers))


def test_a_server_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="names a server twice: http://a:1 http://a:1"):
        PolicyFlags(policy="server", server_url=("http://a:1", "http://a:1"))
