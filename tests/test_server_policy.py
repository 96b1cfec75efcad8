"""Servers as they are: busy, gone, forgetful, answering in text only. Ours speaks real HTTP."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from asking import PROMPT, answers, asked
from taskgym.agents.episode import Start
from taskgym.agents.policy import Completion, Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.server_client import NotFoundError, ServerClient, ServerError
from taskgym.agents.server_policy import ChatServerPolicy, ServerPolicy
from taskgym.training.config_flags import PolicyFlags
from taskgym.training.errors import ConfigError
from taskgym.training.policies import check_policy, open_chat

pytest.importorskip("httpx")
Answer = tuple[int, dict[str, str], Any]


class Server:
    """Answers as its script says and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.keys: list[str | None] = []
        self.answer: Callable[[str, Any], Answer] = self.vllm
        self.adapters: set[str] = set()
        self.cards: list[dict[str, Any]] = [{"id": "base", "max_model_len": 64}]
        self.together = self.most_together = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def vllm(self, path: str, body: Any) -> Answer:
        """As vLLM's server answers, with the prompt's length and the model's name as tokens."""
        if path == "/health":
            return 200, {}, ""
        if path == "/v1/models":
            return (
                200,
                {},
                {"data": [*self.cards, *({"id": a, "parent": "base"} for a in self.adapters)]},
            )
        if path == "/v1/load_lora_adapter":
            self.adapters.add(body["lora_name"])
            return 200, {}, "loaded"
        if path == "/v1/unload_lora_adapter":
            self.adapters.discard(body["lora_name"])
            return 200, {}, "unloaded"
        if body["model"] not in {"base", *self.adapters}:
            return 404, {}, {"error": "no such model"}
        choice = {
            "token_ids": [len(body["prompt"]), 2],
            "logprobs": {"token_logprobs": [0.0, -0.5]},
            "finish_reason": "stop",
        }
        if body["max_tokens"] == 1:
            choice |= {"token_ids": [7], "logprobs": {"token_logprobs": [0.0]}}
        return 200, {}, {"model": body["model"], "choices": [choice]}

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._reply(None)

            def do_POST(self) -> None:
                self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

            def _reply(self, body: Any) -> None:
                server.together += 1
                server.most_together = max(server.most_together, server.together)
                server.asked.append((self.path, body))
                server.keys.append(self.headers.get("authorization"))
                try:
                    status, headers, content = server.answer(self.path, body)
                finally:
                    server.together -= 1
                if status == 0:  # the connection breaks in the middle
                    self.close_connection = True
                    return
                sent = json.dumps(content).encode()
                self.send_response(status)
                kind = "text/plain" if isinstance(content, str) else "application/json"
                for name, value in {"content-type": kind, **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture
def client(server: Server) -> Iterator[ServerClient]:
    opened = ServerClient(server.url, connections=4, patience=5)
    yield opened
    opened.close()


class Letters:
    """A tokenizer, as far as a policy needs one."""

    def decode(self, ids: Any, skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


class Tensors:
    """An adapter whose files nobody reads."""

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True)


@pytest.fixture
def policy(client: ServerClient, tmp_path: Path) -> Iterator[ServerPolicy]:
    opened = ServerPolicy([client], "base", Letters(), {2}, folder=tmp_path, max_model_len=64)
    yield opened
    opened.close()


def in_turn(*answers: Answer | None) -> Callable[[Server], Callable[[str, Any], Answer]]:
    """These answers one after the other, None and afterwards as vLLM does."""
    left = list(answers)

    def script(server: Server) -> Callable[[str, Any], Answer]:
        def answer(path: str, body: Any) -> Answer:
            now = left.pop(0) if left else None
            return now if now is not None else server.vllm(path, body)

        return answer

    return script


BUSY: tuple[Answer, ...] = ((429, {"retry-after": "0"}, "wait"), (503, {}, "starting"), (0, {}, ""))


@pytest.mark.parametrize("trouble", BUSY)
def test_a_busy_or_broken_answer_is_asked_for_again_and_counted_once(
    trouble: Answer, server: Server, policy: ServerPolicy, client: ServerClient
) -> None:
    server.answer = in_turn(trouble, trouble)(server)
    (said,) = answers(policy, asked())
    assert said.ids == (len(PROMPT), 2) and client.retries == 2
    assert server.asked[0] == server.asked[2]


def test_the_pause_that_a_server_asks_for_is_kept(server: Server, client: ServerClient) -> None:
    server.answer = in_turn((429, {"retry-after": "1"}, "wait"))(server)
    began = time.monotonic()
    client.get("/v1/models")
    assert time.monotonic() - began >= 1.0


def test_patience_ends_and_says_what_the_last_trouble_was(server: Server) -> None:
    server.answer = lambda path, body: (503, {}, "no memory left")
    client = ServerClient(server.url, patience=0.5)
    with pytest.raises(ServerError, match=r"no answer in 0 s; last: 503 .*no memory left"):
        client.get("/v1/models")
    client.close()


def test_a_timeout_is_tried_again_however_long_it_was(server: Server) -> None:
    waits = [0.6, 0.0]

    def slow(path: str, body: Any) -> Answer:
        time.sleep(waits.pop(0))
        return server.vllm(path, body)

    server.answer = slow
    client = ServerClient(server.url, timeout=0.4, patience=0.3)
    assert client.get("/v1/models")["data"] and client.retries == 1
    client.close()


def test_a_restart_that_takes_long_does_not_use_up_the_patience(server: Server) -> None:
    server.answer = in_turn((0, {}, ""))(server)
    client = ServerClient(server.url, patience=0.3, on_lost=lambda: time.sleep(0.5))
    assert client.get("/v1/models")["data"]
    client.close()


def test_nobody_there_is_asked_again_and_the_caller_is_told_each_time() -> None:
    lost: list[int] = []
    client = ServerClient("http://127.0.0.1:9", patience=0.6, on_lost=lambda: lost.append(1))
    with pytest.raises(ServerError, match="ConnectError"):
        client.get("/v1/models")
    assert len(lost) > 1


def test_a_refused_call_is_not_repeated(server: Server, client: ServerClient) -> None:
    server.answer = lambda path, body: (400, {}, {"error": "temperature must be positive"})
    with pytest.raises(ServerError, match=r"400 .*temperature must be positive"):
        client.post("/v1/completions", {})
    assert len(server.asked) == 1


def test_the_key_in_the_environment_goes_along(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    client = ServerClient(f"{server.url}/v1/")
    client.get("/v1/models")
    assert server.keys == ["Bearer sesame"] and server.asked == [("/v1/models", None)]


def test_no_more_requests_are_under_way_than_allowed(server: Server, policy: ServerPolicy) -> None:
    def slow(path: str, body: Any) -> Answer:
        time.sleep(0.05)
        return server.vllm(path, body)

    server.answer = slow
    said = answers(policy, *(asked(n) for n in range(20)))
    assert len(said) == 20 and 2 <= server.most_together <= 4


def test_requests_are_exact_whatever_the_model_s_defaults_are(
    server: Server, policy: ServerPolicy
) -> None:
    answers(policy, asked(11, Sampling(max_tokens=9, temperature=0.7, top_p=0.9), range(5)))
    ((_, body),) = server.asked
    assert body == {
        "model": "base",
        "prompt": [0, 1, 2, 3, 4],
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "seed": 11,
        "logprobs": 0,
        "return_token_ids": True,
        "stop_token_ids": [2],
    }


def test_a_completion_never_leaves_the_context(server: Server, policy: ServerPolicy) -> None:
    said = answers(
        policy, *(asked(n, None, range(length)) for n, length in enumerate((60, 64, 80)))
    )
    assert [len(completion.ids) for completion in said] == [2, 0, 0]
    assert [body["max_tokens"] for _, body in server.asked] == [4]
    assert [completion.finish for completion in said[1:]] == ["length", "length"]


def test_a_server_that_forgot_its_adapters_gets_the_right_one_again(
    server: Server, policy: ServerPolicy
) -> None:
    adapter: Any = Tensors()
    policy.load_adapter(adapter, 3)
    (name,) = server.adapters
    server.adapters.clear()
    said = answers(policy, *(asked(n) for n in range(8)))
    assert {completion.adapter_version for completion in said} == {3}
    assert server.adapters == {name}
    loads = [path for path, _ in server.asked if path == "/v1/load_lora_adapter"]
    assert len(loads) == 2, "once at first, and once again for all that missed it"


def test_a_server_that_forgets_twice_is_helped_twice(server: Server, policy: ServerPolicy) -> None:
    adapter: Any = Tensors()
    policy.load_adapter(adapter, 3)
    forgets = [True, True]

    def forgetful(path: str, body: Any) -> Answer:
        if path == "/v1/completions" and forgets:
            forgets.pop()
            server.adapters.clear()
        return server.vllm(path, body)

    server.answer = forgetful
    (said,) = answers(policy, asked())
    assert said.adapter_version == 3 and not forgets


def test_an_adapter_whose_first_reply_was_lost_is_loaded_all_the_same(
    server: Server, policy: ServerPolicy
) -> None:
    def lossy(path: str, body: Any) -> Answer:
        loaded = path == "/v1/load_lora_adapter" and body["lora_name"] in server.adapters
        if loaded:
            return 400, {}, {"error": "has already been loaded"}
        answer = server.vllm(path, body)
        return (0, {}, "") if path == "/v1/load_lora_adapter" else answer

    server.answer = lossy
    adapter: Any = Tensors()
    policy.load_adapter(adapter, 1)
    assert answers(policy, asked())[0].adapter_version == 1


def test_an_adapter_that_requests_wait_for_stays_until_they_are_answered(
    server: Server, policy: ServerPolicy
) -> None:
    adapter: Any = Tensors()
    policy.load_adapter(adapter, 1)
    gate = threading.Event()

    def held(path: str, body: Any) -> Answer:
        if path == "/v1/completions":
            gate.wait(5)
        return server.vllm(path, body)

    server.answer = held
    policy.submit(asked())
    policy.load_adapter(adapter, 2)
    assert len(server.adapters) == 2
    gate.set()
    said: list[Completion] = []
    while not said:
        said = policy.poll()
    assert said[0].adapter_version == 1 and policy.version == 2 and len(server.adapters) == 1


def test_a_server_that_never_answers_does_not_hold_up_the_exit(server: Server) -> None:
    server.answer = lambda path, body: time.sleep(20) or (200, {}, {})  # type: ignore[func-returns-value]
    code = (
        "from taskgym.agents.server_policy import ChatServerPolicy as P, ServerClient as C\n"
        f"policy = P([C({server.url!r})], 'base')\n"
        "policy._ask = lambda client, request, writer: client.get('/v1/models')\n"
        "from taskgym.agents.policy import Request\n"
        "class E: pass\n"
        "policy.submit(Request(0, (), 0, None, E())); import time; time.sleep(0.3); policy.close()"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=15)
    assert time.monotonic() - began < 12


def test_a_completion_that_is_broken_off_each_time_is_no_answer(
    server: Server, policy: ServerPolicy
) -> None:
    def aborted(path: str, body: Any) -> Answer:
        status, headers, content = server.vllm(path, body)
        if path == "/v1/completions":
            content["choices"][0]["finish_reason"] = "abort"
        return status, headers, content

    server.answer = aborted
    with pytest.raises(ServerError, match=r"5 servers went out with one request.*by 'abort'"):
        answers(policy, asked())


def test_adapters_have_new_names_and_the_last_one_is_taken_away_at_the_end(
    server: Server, policy: ServerPolicy, tmp_path: Path
) -> None:
    adapter: Any = Tensors()
    names = []
    for version in (1, 2, 2):
        policy.load_adapter(adapter, version)
        names += list(server.adapters)
    assert len(set(names)) == 3 and len(server.adapters) == 1
    assert len(list(tmp_path.glob("*/*"))) == 1
    policy.close()
    assert not server.adapters and not list(tmp_path.iterdir())


def test_a_server_without_adapters_says_how_to_start_one(
    server: Server, policy: ServerPolicy
) -> None:
    server.answer = lambda path, body: (404, {}, {"detail": "Not Found"})
    adapter: Any = Tensors()
    with pytest.raises(ServerError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"):
        policy.load_adapter(adapter, 1)


def test_an_adapter_that_the_server_refuses_is_told_at_once(
    server: Server, policy: ServerPolicy
) -> None:
    def refusing(path: str, body: Any) -> Answer:
        if path == "/v1/load_lora_adapter":
            return 500, {}, {"error": "LoRA rank 32 is greater than max_lora_rank 16."}
        return server.vllm(path, body)

    server.answer = refusing
    adapter: Any = Tensors()
    with pytest.raises(ServerError, match="LoRA rank 32 is greater than max_lora_rank 16"):
        policy.load_adapter(adapter, 1)
    assert [path for path, _ in server.asked].count("/v1/load_lora_adapter") == 1


def test_an_answer_of_another_model_is_refused(server: Server, policy: ServerPolicy) -> None:
    def swapped(path: str, body: Any) -> Answer:
        status, headers, content = server.vllm(path, body)
        return status, headers, {**content, "model": "another"}

    server.answer = swapped
    with pytest.raises(ServerError, match="asked base and another answered"):
        answers(policy, asked())


def test_an_unknown_model_is_an_error_and_not_a_loop(server: Server, client: ServerClient) -> None:
    with pytest.raises(NotFoundError):
        client.post("/v1/completions", {"model": "gone", "prompt": [1], "max_tokens": 1})
    assert len(server.asked) == 1


# --- may it be learned from? --------------------------------------------------------------------


def check(server: Server, sampling: Sampling | None = None, model: str = "") -> None:
    config = PolicyFlags(policy="server", server_url=(server.url,))
    check_policy(config, sampling or Sampling(), model, learns=True)


def test_vllm_s_server_can_be_learned_from(server: Server) -> None:
    check(server, Sampling(temperature=0.6))


def without(name: str) -> Callable[[Server], Callable[[str, Any], Answer]]:
    def script(server: Server) -> Callable[[str, Any], Answer]:
        def answer(path: str, body: Any) -> Answer:
            status, headers, content = server.vllm(path, body)
            if path == "/v1/completions":
                content["choices"][0][name] = None
            return status, headers, content

        return answer

    return script


@pytest.mark.parametrize("missing", ["token_ids", "logprobs"])
def test_a_server_without_tokens_is_refused_before_training(missing: str, server: Server) -> None:
    server.answer = without(missing)(server)
    with pytest.raises(ConfigError, match="without token ids and log-probabilities"):
        check(server)


def test_raw_log_probabilities_will_do_only_for_plain_sampling(server: Server) -> None:
    def raw(path: str, body: Any) -> Answer:
        status, headers, content = server.vllm(path, body)
        if path == "/v1/completions":
            content["choices"][0]["logprobs"]["token_logprobs"] = [-1.2]
        return status, headers, content

    server.answer = raw
    check(server)
    for sampling in (Sampling(temperature=0.7), Sampling(top_p=0.9), Sampling(top_k=20)):
        with pytest.raises(ConfigError, match="--logprobs-mode processed_logprobs"):
            check(server, sampling)


def test_a_model_must_be_named_where_several_are_served(server: Server) -> None:
    server.cards = [{"id": "small"}, {"id": "large"}]
    with pytest.raises(ConfigError, match="it serves small, large; name one of them: --model"):
        check(server)


@pytest.mark.parametrize("content", ["<html>hello</html>", {"data": []}, ["data"]])
def test_something_else_at_the_address_is_a_clear_error(content: Any, server: Server) -> None:
    server.answer = lambda path, body: (200, {}, content)
    with pytest.raises(ConfigError, match=f"server_url={server.url}"):
        check(server)


def test_a_server_that_hides_its_context_must_be_told(server: Server) -> None:
    server.cards = [{"id": "base"}]
    with pytest.raises(ConfigError, match="how long its context is; say it with --max-model-len"):
        check(server)


def test_an_address_that_is_none_is_a_clear_error() -> None:
    config = PolicyFlags(policy="server", server_url=("localhost",))
    with pytest.raises(ConfigError, match="no host in 'localhost'; an address looks like"):
        check_policy(config, Sampling(), "", learns=True)


def test_another_model_is_not_scored_under_the_name_that_was_asked(server: Server) -> None:
    config = PolicyFlags(policy="server", server_url=(server.url,))
    with pytest.raises(ConfigError, match="it serves base, not gpt"), open_chat(config, "gpt"):
        pass


# --- text alone ---------------------------------------------------------------------------------


def test_any_chat_endpoint_can_be_scored(server: Server, client: ServerClient) -> None:
    def chat(path: str, body: Any) -> Answer:
        text = "Seven" if body["messages"][-1]["role"] == "user" else None
        message = {"role": "assistant", "content": text}
        return 200, {}, {"choices": [{"message": message, "finish_reason": "stop"}]}

    server.answer = chat
    policy = ChatServerPolicy([client], "base")
    rollout = Rollout(policy, lambda: gym.make("Arithmetic-v0"), Sampling(max_tokens=9))
    rollout.start([Start(i, None, i, 0, i) for i in range(3)])
    done = list(rollout.finished())
    rollout.close()
    assert [t.messages[-1]["content"] for t in done] == ["Seven"] * 3
    path, body = server.asked[0]
    assert path == "/v1/chat/completions" and "top_k" not in body and body["max_tokens"] == 9
