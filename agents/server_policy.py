"""Completions from a server: vLLM's with token ids and adapters, any other with text alone."""

from __future__ import annotations

import secrets
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import Completion, Finish, Request, Sampling
from taskgym.agents.server_client import NotFoundError, ServerClient, ServerError
from taskgym.agents.vision import Seen, check_same_prompt, with_urls

_POLL_SECONDS = 0.05  # how long `poll` waits for a first answer
# vLLM's server puts what a model's generation config says wherever a request says nothing.
_PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_LOADS = 5  # how often a server may have forgotten the adapter that one request needs
_EXACT = {"logprobs": 0, "return_token_ids": True}
_EXACT_CHAT = {"logprobs": True, "top_logprobs": 0, "return_token_ids": True}


class ConcurrentPolicy(ABC):
    """Asks for many completions at once, each in a thread of its own that waits for the answer."""

    lockstep = False

    def __init__(self, client: ServerClient, model: str):
        self._client = client
        self._model = model
        self._version = 0
        self._asked: dict[Future[Completion], tuple[Any, ...]] = {}
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # Daemons: one that waits for a server that never answers must not hold up the exit.
        self._threads = [
            threading.Thread(target=self._work, name=f"taskgym-ask-{n}", daemon=True)
            for n in range(client.connections)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def version(self) -> int:
        """The version of the adapter that writes now."""
        return self._version

    @property
    def client(self) -> ServerClient:
        """The server that is asked."""
        return self._client

    def submit(self, request: Request) -> None:
        """Takes a request; it is sent when one of the connections is free."""
        answer: Future[Completion] = Future()
        self._asked[answer] = writer = self._writer()
        self._queue.put(lambda: _settle(answer, lambda: self._ask(request, *writer)))

    def poll(self) -> list[Completion]:
        """Completions that arrived; waits a twentieth of a second for a first one.

        Raises:
            ServerError: The server refused a request, or was gone for too long.
        """
        done, _ = wait(self._asked, _POLL_SECONDS, return_when=FIRST_COMPLETED)
        for answer in done:
            del self._asked[answer]
        return [answer.result() for answer in done]

    def cancel(self) -> None:
        """Drops every request that is not answered yet; answers under way are not looked at."""
        for answer in self._asked:
            answer.cancel()
        self._asked.clear()

    def close(self) -> None:
        """Closes the connections and ends the threads, which nobody waits for."""
        self.cancel()
        self._client.close()
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task()

    def _writer(self) -> tuple[Any, ...]:
        """What of the policy's state a request is bound to when it is submitted."""
        return ()

    @abstractmethod
    def _ask(self, request: Request, *writer: Any) -> Completion: ...


def _settle(answer: Future[Completion], ask: Callable[[], Completion]) -> None:
    """Gets an answer, unless it is not wanted any more; what fails is told to who polls."""
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(ask())
    except Exception as error:
        answer.set_exception(error)


class ChatServerPolicy(ConcurrentPolicy):
    """Any OpenAI-compatible chat endpoint: text in, text out, for evaluation only.

    It answers without token ids, so what it says cannot be learned from.
    """

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Refuses adapters, which such an endpoint cannot take."""
        if adapter is not None:
            raise ServerError(f"{self._client.url} answers in text only and takes no adapters")
        self._version = version

    def _ask(self, request: Request, *writer: Any) -> Completion:
        messages = with_urls(request.episode.trajectory.messages)
        asked = _drawn(request.sampling, request.seed)
        body = {"model": self._model, "messages": messages, **asked}
        (choice,) = self._client.post("/v1/chat/completions", body)["choices"]
        text = choice["message"].get("content") or ""
        return Completion(request.request_id, text, (), (), _finish(choice), self._version)


@dataclass(frozen=True)
class _Served:
    """What a server knows an adapter by. The base model has version 0 and no folder."""

    name: str
    version: int
    folder: Path | None = None


class ServerPolicy(ConcurrentPolicy):
    """vLLM's server: token ids and log-probabilities, and adapters loaded while it runs.

    Adapters are written below `folder`, which the server must see under the same path, and loaded
    under names that no other run uses; the one before is unloaded. A server that was restarted has
    forgotten its adapters: the one a request needs is loaded again before it is sent again.

    Args:
        client: The server.
        model: The base model's name there.
        tokenizer: Turns what was sampled into text.
        stop_ids: Every token that ends a completion.
        folder: Where adapters are written.
        max_model_len: Tokens of a prompt and its completion at most.
    """

    def __init__(
        self,
        client: ServerClient,
        model: str,
        tokenizer: Any,
        stop_ids: Collection[int],
        *,
        folder: Path,
        max_model_len: int,
    ):
        super().__init__(client, model)
        self._tokenizer = tokenizer
        self._stop_ids = sorted(stop_ids)
        self._folder = folder.resolve() / f"taskgym-{secrets.token_hex(4)}"
        self._max_len = max_model_len
        self._served = _Served(model, 0)
        self._retired: list[_Served] = []  # loaded still, because requests wait for them
        self._numbers = count(1)
        self._loading = threading.Lock()

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Writes with this adapter from now on, under a new name.

        The one before is unloaded as soon as nothing waits for what it writes.
        """
        before, self._served = self._served, self._brought(adapter, version)
        self._version = version
        self._retired.append(before)
        self._unload_unused()

    def poll(self) -> list[Completion]:
        """Completions that arrived; waits a twentieth of a second for a first one."""
        done = super().poll()
        if self._retired:
            self._unload_unused()
        return done

    def score(self, ids: Sequence[int]) -> list[float]:
        """The log-probability of each token after the first, by the adapter that writes now."""
        asked = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        choice = self._choice({"prompt": list(ids), **asked}, self._served)
        told = choice["prompt_logprobs"][1:]
        return [float(at[str(i)]["logprob"]) for at, i in zip(told, ids[1:], strict=True)]

    def close(self) -> None:
        """Unloads the adapter, if the server is still there, and closes the connections."""
        self.cancel()
        self._retired.append(self._served)
        self._served = _Served(self._model, self._version)
        self._unload_unused()
        shutil.rmtree(self._folder, ignore_errors=True)
        super().close()

    def _writer(self) -> tuple[Any, ...]:
        return (self._served,)

    def _ask(self, request: Request, *writer: Any) -> Completion:
        (served,) = writer
        room = self._max_len - len(request.prompt_ids)
        if room < 1:  # the prompt fills the model's context
            return Completion(request.request_id, "", (), (), "length", served.version)
        drawn = _drawn(request.sampling, request.seed)
        drawn["max_tokens"] = min(request.sampling.max_tokens, room)
        if request.seen is not None:
            return self._ask_about_pictures(request, request.seen, served, drawn)
        body = {"prompt": list(request.prompt_ids), **_PLAIN, **drawn, **_EXACT}
        body["stop_token_ids"] = self._stop_ids
        return self._complete(request.request_id, self._choice(body, served), served.version)

    def _ask_about_pictures(
        self, request: Request, seen: Seen, served: _Served, drawn: dict[str, Any]
    ) -> Completion:
        """Only the chat endpoint takes pictures; that it read the same tokens is checked."""
        messages = with_urls(request.episode.trajectory.messages, seen.images)
        never = {str(i): -100.0 for i in seen.unsayable}
        stops = {"stop_token_ids": self._stop_ids, "logit_bias": never}
        body = {"messages": messages, **_PLAIN, **drawn, **_EXACT_CHAT, **stops}
        answer = self._answer("/v1/chat/completions", body, served)
        check_same_prompt(request.prompt_ids, answer["prompt_token_ids"], self._client.url)
        choice = answer["choices"][0]
        told = [at["logprob"] for at in choice["logprobs"]["content"]]
        choice["logprobs"] = {"token_logprobs": told}
        return self._complete(request.request_id, choice, served.version)

    def _complete(self, request_id: int, choice: dict[str, Any], version: int) -> Completion:
        ids = tuple(choice["token_ids"])
        finish = _finish(choice)
        said = ids[:-1] if finish == "stop" else ids
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        logprobs = tuple(choice["logprobs"]["token_logprobs"])
        return Completion(request_id, text, ids, logprobs, finish, version)

    def _choice(self, body: dict[str, Any], served: _Served) -> dict[str, Any]:
        choice: dict[str, Any] = self._answer("/v1/completions", body, served)["choices"][0]
        return choice

    def _answer(self, path: str, body: dict[str, Any], served: _Served) -> Any:
        """The answer to a request, written by just this adapter."""
        body = {"model": served.name, **body}
        for _ in range(_LOADS):
            try:
                answer = self._client.post(path, body)
            except NotFoundError:
                self._load_again(served)
                continue
            if answer["model"] != served.name:
                raise ServerError(f"asked {served.name} and {answer['model']} answered")
            return answer
        raise ServerError(f"{self._client.url} forgets {served.name} again and again")

    def _brought(self, adapter: Adapter | None, version: int) -> _Served:
        if adapter is None:
            return _Served(self._model, version)
        name = f"{self._folder.name}-v{version}-{next(self._numbers)}"
        served = _Served(name, version, self._folder / name)
        adapter.write(self._folder / name)
        self._load(served)
        return served

    def _load(self, served: _Served) -> None:
        try:
            body = {"lora_name": served.name, "lora_path": str(served.folder)}
            # 500 is how vLLM refuses an adapter, such as one of too large a rank.
            self._client.post("/v1/load_lora_adapter", body, final=(500,))
        except NotFoundError as error:
            raise ServerError(
                f"{self._client.url} cannot load the adapter {served.folder}: start vLLM with "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora, on a machine that sees "
                f"this path ({error})"
            ) from error
        except ServerError:
            if served.name not in self._known():  # else only the reply of a first try was lost
                raise

    def _load_again(self, served: _Served) -> None:
        """Loads what a restarted server has forgotten, once for all threads that miss it."""
        if served.folder is None:
            raise ServerError(f"{self._client.url} does not serve {served.name} any more")
        with self._loading:
            if served.name not in self._known():
                self._load(served)

    def _known(self) -> list[str]:
        return [model["id"] for model in self._client.get("/v1/models")["data"]]

    def _unload_unused(self) -> None:
        waited_for = {served for (served,) in self._asked.values()}
        for served in [s for s in self._retired if s not in waited_for]:
            self._retired.remove(served)
            if served.folder is not None:
                # Once, whatever comes of it: a restarted server has forgotten it already.
                self._client.attempt("/v1/unload_lora_adapter", {"lora_name": served.name})
                shutil.rmtree(served.folder)


def _drawn(sampling: Sampling, seed: int) -> dict[str, Any]:
    """How to draw, in OpenAI's names, and in vLLM's where only those can say it."""
    own = {"top_k": sampling.top_k, "min_p": sampling.min_p}
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed,
        **{name: value for name, value in own.items() if value},
    }


def _finish(choice: dict[str, Any]) -> Finish:
    reason = choice["finish_reason"]
    if reason not in ("stop", "length"):  # such as vLLM's "abort": the answer is not whole
        raise ServerError(f"the server ended a completion by {reason!r}")
    return "length" if reason == "length" else "stop"
