"""What servers serve, asked of them: the model, its context, and whether it can be learned from."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from taskgym.agents.policy import Sampling
from taskgym.agents.server_client import ServerClient, ServerError
from taskgym.training.config_flags import PolicyFlags
from taskgym.training.errors import ConfigError

_NOT_AS_EXPECTED = (ServerError, LookupError, TypeError, ValueError)
_PROBE_PATIENCE = 10.0  # seconds: before any work, a server that is not there is a mistake


@dataclass(frozen=True)
class Served:
    """What a server says of the model it serves.

    Attributes:
        model: Its name there.
        exact: Whether completions come with token ids and log-probabilities.
        processed: Whether those are of the distribution that was drawn from.
        max_model_len: Tokens of a prompt and its completion at most; 0 where it does not say.
    """

    model: str
    exact: bool
    processed: bool
    max_model_len: int


def ask_servers(config: PolicyFlags, model: str) -> dict[str, Served]:
    """What each server at `server_url` serves.

    Raises:
        ConfigError: One does not answer, or not as an OpenAI-compatible server does, or they do
            not serve one model.
    """
    every = {url: _ask_url(url, model) for url in config.server_url}
    served_model(every)
    return every


def ask_server(client: ServerClient, model: str) -> Served:
    """What one server serves: this model, or the only one where the name is not known there.

    Raises:
        ServerError: It does not answer, or serves several models, none of this name.
    """
    cards = {c["id"]: c for c in client.get("/v1/models")["data"] if not c.get("parent")}
    name = model if model in cards else next(iter(cards), "")
    if not cards or (len(cards) > 1 and model not in cards):
        raise ServerError(f"it serves {', '.join(cards) or 'nothing'}; name one of them: --model")
    try:
        exact, processed = _tries_tokens(client, name)
    except _NOT_AS_EXPECTED:
        exact = processed = False
    return Served(name, exact, processed, int(cards[name].get("max_model_len") or 0))


def served_model(every: Mapping[str, Served]) -> str:
    """The name of the one model that all servers serve.

    Raises:
        ConfigError: They serve several.
    """
    names = {served.model for served in every.values()}
    if len(names) > 1:
        told = ", ".join(f"{url} {served.model}" for url, served in every.items())
        raise ConfigError(f"server_url: the servers do not serve one model: {told}")
    return names.pop()


def served_context(config: PolicyFlags, every: Mapping[str, Served]) -> int:
    """Tokens of a prompt and its completion at most, on whichever server.

    Raises:
        ConfigError: No server says it, and neither does the config.
    """
    told = [config.max_model_len, *(served.max_model_len for served in every.values())]
    known = [tokens for tokens in told if tokens]
    if not known:
        raise ConfigError(
            f"server_url={' '.join(every)} does not say how long its context is; say it with "
            "--max-model-len"
        )
    return min(known)


def check_learnable(config: PolicyFlags, sampling: Sampling, every: Mapping[str, Served]) -> None:
    """Refuses servers whose completions nothing can be learned from.

    Raises:
        ConfigError: One gives no token ids, or log-probabilities of another distribution than it
            draws from, or none says how long its context is.
    """
    for url, served in every.items():
        _check_exact(url, served)
        _check_processed(url, sampling, served)
    served_context(config, every)


def _ask_url(url: str, model: str) -> Served:
    try:
        client = ServerClient(url, connections=1, patience=_PROBE_PATIENCE)
        with contextlib.closing(client):
            return ask_server(client, model)
    except _NOT_AS_EXPECTED as error:
        raise ConfigError(f"server_url={url}: {error}") from error


def _tries_tokens(client: ServerClient, model: str) -> tuple[bool, bool]:
    """Whether token ids and log-probabilities come back, and of which distribution.

    With top_k 1 the token is certain: a log-probability of 0 is of what was drawn from, another
    is of the model's own.
    """
    asked = {"max_tokens": 1, "temperature": 1.0, "top_k": 1, "logprobs": 0}
    body = {"model": model, "prompt": [1, 2, 3, 4, 5], "return_token_ids": True, **asked}
    choice = client.post("/v1/completions", body)["choices"][0]
    (logprob,) = choice["logprobs"]["token_logprobs"]
    return len(choice["token_ids"]) == 1, abs(logprob) < 1e-4


def _check_exact(url: str, served: Served) -> None:
    if not served.exact:
        raise ConfigError(
            f"server_url={url}: {served.model} answers without token ids and "
            "log-probabilities, so nothing can be learned from it; train with vLLM's own server "
            "(0.26 or newer). evaluate_agent takes it as it is"
        )


def _check_processed(url: str, sampling: Sampling, served: Served) -> None:
    plain = sampling.temperature == 1 and sampling.top_p == 1
    plain = plain and sampling.top_k == 0 and sampling.min_p == 0
    if not plain and not served.processed:
        raise ConfigError(
            f"server_url={url} gives the model's own log-probabilities, not those of "
            "the distribution that is drawn from; start it with --logprobs-mode "
            "processed_logprobs, or sample at temperature 1 without top_p, top_k and min_p"
        )
