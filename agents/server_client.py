"""Calls to an OpenAI-compatible server that may be slow, busy, down or restarting meanwhile."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from taskgym.envs import TaskgymError

logger = logging.getLogger(__name__)

_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LONGEST_PAUSE = 10.0  # seconds between two tries
_HEALTH_SECONDS = 10.0


class ServerError(TaskgymError, RuntimeError):
    """The server refused a call, or did not answer for longer than anyone should wait."""


class GoneError(ServerError):
    """Nothing answered for as long as a call waits; another server may."""


class NotFoundError(ServerError):
    """The server knows no such path or model; one that was restarted has forgotten adapters."""


class ServerClient:
    """JSON over HTTP, tried again with growing pauses while the server is busy or gone.

    A call is tried again after a lost connection, a timeout, 429 and 5xx; it is idempotent for us,
    because only the answer that arrives counts. The key in `OPENAI_API_KEY`, if any, goes along.

    Args:
        url: Where the server is, with or without `/v1`.
        connections: Requests under way at once; who asks keeps to it.
        timeout: Seconds until one try counts as lost.
        patience: Seconds of trouble after which a call gives up; counted from the end of the
            first try that failed, so that a timeout is always tried once more.
        key: Instead of the one in the environment.
        on_lost: Called when a connection was lost, before the next try: may restart the server.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 64,
        timeout: float = 600.0,
        patience: float = 300.0,
        key: str = "",
        on_lost: Callable[[], None] = lambda: None,
    ):
        import httpx

        host = urlsplit(url).hostname
        if host is None:
            raise ServerError(f"no host in {url!r}; an address looks like http://127.0.0.1:8000")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.connections = connections
        self.retries = 0
        self._patience = patience
        self.on_lost = on_lost
        self.key = key or os.environ.get("OPENAI_API_KEY", "")
        self._again = partial(
            ServerClient,
            url,
            connections=connections,
            timeout=timeout,
            patience=patience,
            key=key,
            on_lost=on_lost,
        )
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
            timeout=httpx.Timeout(timeout, connect=10.0),
            limits=httpx.Limits(),  # none: a look at its health must not wait for a free one
            trust_env=host not in _LOOPBACK,  # a proxy is for what lies beyond this machine
        )

    def get(self, path: str) -> Any:
        """What a GET of this path answers."""
        return self._call("GET", path, None)

    def post(self, path: str, body: dict[str, Any], final: Collection[int] = ()) -> Any:
        """What a POST of this body answers; text where the answer is no JSON.

        Args:
            path: Below the server's address.
            body: Sent as JSON.
            final: Statuses that are an answer to this call and no sign of trouble.

        Raises:
            NotFoundError: No such path, or no such model.
            GoneError: Nothing answered for `patience` seconds.
            ServerError: The call was refused.
        """
        return self._call("POST", path, body, final)

    def attempt(self, path: str, body: dict[str, Any]) -> None:
        """Posts once, whatever comes of it: for what only tidies up."""
        import httpx

        try:
            self._http.post(path, json=body, timeout=5.0)
        except httpx.TransportError as error:
            logger.debug("%s%s: %s", self.url, path, error)

    def healthy(self) -> bool:
        """Whether it answers within ten seconds, and does not say that its engine is dead."""
        import httpx

        try:
            return self._http.get("/health", timeout=_HEALTH_SECONDS).status_code < 500
        except httpx.TransportError:
            return False

    def reopened(self) -> ServerClient:
        """Another client of the same server: after a hang, old connections lead nowhere."""
        return self._again()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, final: Collection[int] = ()
    ) -> Any:
        import httpx

        began, tries = 0.0, 0  # when the trouble began, and how often it was met
        while True:
            pause = min(_LONGEST_PAUSE, 0.25 * 2**tries) * random.uniform(0.5, 1.0)
            try:
                response = self._http.request(method, path, json=body)
            except httpx.TransportError as error:
                trouble = f"{type(error).__name__}: {error}"
                self.on_lost()
            else:
                if response.status_code not in _BUSY or response.status_code in final:
                    return _content(response)
                trouble = f"{response.status_code} {response.text[:200]}"
                pause = max(pause, _asked_pause(response))
            began = began or time.monotonic()  # after `on_lost`: a restart may take minutes
            self._wait(f"{method} {self.url}{path}", trouble, pause, began, tries)
            tries += 1

    def _wait(self, call: str, trouble: str, pause: float, began: float, tries: int) -> None:
        if time.monotonic() + pause - began > self._patience:
            raise GoneError(f"{call}: no answer in {self._patience:.0f} s; last: {trouble}")
        if tries == 3:  # a blip is not worth a line
            logger.warning("%s: %s; trying again", call, trouble)
        self.retries += 1
        time.sleep(pause)


def _content(response: Any) -> Any:
    if response.status_code == 404:
        raise NotFoundError(f"{response.url}: 404 {response.text[:300]}")
    if response.is_error:
        raise ServerError(f"{response.url}: {response.status_code} {response.text[:300]}")
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return response.json() if is_json else response.text


def _asked_pause(response: Any) -> float:
    """Seconds that the server asked to wait; it may name a date instead, which is not read."""
    try:
        return min(60.0, float(response.headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
