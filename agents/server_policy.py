"""Completions from servers: vLLM's with token ids and adapters, any other with text alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import Completion, Finish, Request, Sampling, mean_gap
from taskgym.agents.server_adapters import Served, ServedAdapters
from taskgym.agents.server_balance import BalancedPolicy
from taskgym.agents.server_client import GoneError, ServerClient, ServerError
from taskgym.agents.server_pool import PATIENCE
from taskgym.agents.vision import Seen, check_same_prompt, with_urls

# vLLM's server puts what a model's generation config says wherever a request says nothing.
_PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_TIDY_SECONDS = 5.0
_EXACT = {"logprobs": 0, "return_token_ids": True}
_EXACT_CHAT = {"logprobs": True, "top_logprobs": 0, "return_token_ids": True}


class ChatServerPolicy(BalancedPolicy):
    """Any OpenAI-compatible chat endpoints: text in, text out, for evaluation only.

    They answer without token ids, so what they say cannot be learned from.
    """

    def __init__(self, clients: Sequence[ServerClient], model: str):
        self._model = model
        super().__init__(clients)

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Refuses adapters, which such an endpoint cannot take."""
        if adapter is not None:
            raise ServerError(f"{', '.join(self.up)} answers in text only and takes no adapters")
        self._version = version

    def _admit(self, client: ServerClient, wanted: Any) -> None:
        client.get("/v1/models")

    def _ask(self, client: ServerClient, request: Request, writer: Any) -> Completion:
        messages = with_urls(request.episode.trajectory.messages)
        asked = _drawn(request.sampling, request.seed)
        body = {"model": self._model, "messages": messages, **asked}
        (choice,) = client.post("/v1/chat/completions", body)["choices"]
        text = choice["message"].get("content") or ""
        return Completion(request.request_id, text, (), (), _finish(choice), self._version)


@dataclass(frozen=True)
class _Expected:
    """How a server that comes back must score a text."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    tolerance: float


class ServerPolicy(BalancedPolicy):
    """vLLM's servers: token ids and log-probabilities, and adapters loaded while they run.

    Each adapter is written once, loaded on every server that is up, and bound to the requests that
    are sent while it is the newest; the one before is unloaded when nothing waits for it any more.
    A server that missed it was out, and is not asked for completions until it has the newest.

    Args:
        clients: One for each server; all serve one base model.
        model: Its name there.
        tokenizer: Turns what was sampled into text.
        stop_ids: Every token that ends a completion.
        folder: Where adapters are written; every server must see it under the same path.
        max_model_len: Tokens of a prompt and its completion at most.
        patience: Seconds without any server after which an error is raised.
    """

    def __init__(
        self,
        clients: Sequence[ServerClient],
        model: str,
        tokenizer: Any,
        stop_ids: Collection[int],
        *,
        folder: Path,
        max_model_len: int,
        patience: float = PATIENCE,
    ):
        self._tokenizer = tokenizer
        self._stop_ids = sorted(stop_ids)
        self._max_len = max_model_len
        self._adapters = ServedAdapters(model, folder)
        self._served = self._adapters.written(None, 0)
        self._expected: _Expected | None = None
        self._retired: list[Served] = []  # loaded still, because requests wait for them
        super().__init__(clients, patience=patience)

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Writes with this adapter from now on, under a new name, on every server that is up.

        Raises:
            ServerError: A server refuses it, or none was up for too long.
        """
        served = self._adapters.written(adapter, version)
        with self._pool.lock:
            self._retired.append(self._served)
            self._served, self._expected = served, None
        self._pool.everywhere(lambda client: self._adapters.load(client, served))
        self._version = version
        self._unload_unused()

    def poll(self) -> list[Completion]:
        """Completions that arrived; waits a twentieth of a second for a first one."""
        done = super().poll()
        if self._retired:
            self._unload_unused()
        return done

    def score(self, ids: Sequence[int]) -> list[float]:
        """The log-probability of each token after the first, by the adapter that writes now."""
        return next(iter(self.scores(ids).values()))

    def scores(self, ids: Sequence[int]) -> dict[str, list[float]]:
        """As `score`, of every server that is up, by its address."""
        return self._pool.everywhere(partial(self._scored, ids=ids, served=self._served))

    def expect(self, ids: Sequence[int], logprobs: Sequence[float], tolerance: float) -> None:
        """Only a server that scores `ids` so may come back, until the next adapter is loaded."""
        with self._pool.lock:
            self._expected = _Expected(tuple(ids), tuple(logprobs), tolerance)

    def close(self) -> None:
        """Unloads the adapter where a server is still there, and closes the connections."""
        self.cancel()
        self._tell(partial(self._adapters.tidy, kept=()))
        self._adapters.remove_all()
        super().close()

    def _writer(self) -> Served:
        return self._served

    def _wanted(self) -> tuple[Served, _Expected | None]:
        return self._served, self._expected

    def _admit(self, client: ServerClient, wanted: Any) -> None:
        served, expected = wanted
        self._adapters.load(client, served)
        self._adapters.tidy(client, kept=[served.name])
        if expected is None:
            return
        gap = mean_gap(self._scored(client, expected.ids, served), expected.logprobs)
        if not gap <= expected.tolerance:  # NaN too
            raise ServerError(
                f"it is {gap:.4f} nats a token from the learner, tolerance {expected.tolerance:.4f}"
            )

    def _ask(self, client: ServerClient, request: Request, writer: Served) -> Completion:
        room = self._max_len - len(request.prompt_ids)
        if room < 1:  # the prompt fills the model's context
            return Completion(request.request_id, "", (), (), "length", writer.version)
        drawn = _drawn(request.sampling, request.seed)
        drawn["max_tokens"] = min(request.sampling.max_tokens, room)
        if request.seen is not None:
            return self._ask_about_pictures(client, request, request.seen, writer, drawn)
        body = {"prompt": list(request.prompt_ids), **_PLAIN, **drawn, **_EXACT}
        body["stop_token_ids"] = self._stop_ids
        choice = self._choice(client, body, writer)
        return self._complete(request.request_id, choice, writer.version)

    def _ask_about_pictures(
        self,
        client: ServerClient,
        request: Request,
        seen: Seen,
        served: Served,
        drawn: dict[str, Any],
    ) -> Completion:
        """Only the chat endpoint takes pictures; that it read the same tokens is checked."""
        messages = with_urls(request.episode.trajectory.messages, seen.images)
        never = {str(i): -100.0 for i in seen.unsayable}
        stops = {"stop_token_ids": self._stop_ids, "logit_bias": never}
        body = {"messages": messages, **_PLAIN, **drawn, **_EXACT_CHAT, **stops}
        answer = self._adapters.answer(client, "/v1/chat/completions", body, served)
        check_same_prompt(request.prompt_ids, answer["prompt_token_ids"], client.url)
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

    def _scored(self, client: ServerClient, ids: Sequence[int], served: Served) -> list[float]:
        asked = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        choice = self._choice(client, {"prompt": list(ids), **asked}, served)
        told = choice["prompt_logprobs"][1:]
        return [float(at[str(i)]["logprob"]) for at, i in zip(told, ids[1:], strict=True)]

    def _choice(self, client: ServerClient, body: dict[str, Any], served: Served) -> dict[str, Any]:
        answer = self._adapters.answer(client, "/v1/completions", body, served)
        choice: dict[str, Any] = answer["choices"][0]
        return choice

    def _unload_unused(self) -> None:
        with self._pool.lock:
            waited_for = {asked.writer for asked in self._asked.values()} | {self._served}
            unused = [served for served in self._retired if served not in waited_for]
            self._retired = [served for served in self._retired if served in waited_for]
        for served in unused:
            if served.folder is not None:
                self._tell(partial(self._adapters.unload, name=served.name))
                self._adapters.remove(served)

    def _tell(self, call: Callable[[ServerClient], None]) -> None:
        """Tells every server that is up what only tidies up; one that hangs is not waited for."""
        wait([link.start(call) for _, link in self._pool.links()], _TIDY_SECONDS)


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
        raise GoneError(f"the server ended a completion by {reason!r}")
    return "length" if reason == "length" else "stop"
