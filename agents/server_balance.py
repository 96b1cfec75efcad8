"""Spreads a policy's requests over servers, and sends them again where one of those fails."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from taskgym.agents.episode import Episode
from taskgym.agents.policy import Completion, Request
from taskgym.agents.server_client import GoneError, ServerClient, ServerError
from taskgym.agents.server_link import Link, Server
from taskgym.agents.server_pool import PATIENCE, ServerPool

_POLL_SECONDS = 0.05  # how long `poll` waits for a first answer
_SENDS = 5  # servers that one request may have been with when they went out
# An episode's next turn goes where its last one was written, whose prefix cache holds all of its
# prompt but the new message, unless that server has this many requests more than the least busy.
_NEAR = 4


@dataclass(frozen=True)
class _Waiting:
    """A request that is with no server, and how often it was sent in vain."""

    request: Request
    sends: int = 0


@dataclass(frozen=True)
class _Asked:
    """A request that is with a server, and what of the policy's state it is bound to."""

    waiting: _Waiting
    server: Server
    link: Link
    writer: Any


class BalancedPolicy(ABC):
    """Asks for many completions at once, of one server or several.

    A request goes to the server with the fewest in flight. What exceeds all connections waits here,
    so that a faster server gets more. What was with a server that goes out is sent to another, with
    the same seed, and a late answer is not looked at.

    Requests in flight are counted here and not asked of the servers (vLLM's `/load`, `/metrics`):
    the count needs no call and knows what has not arrived there yet. It does not know of others who
    use the same servers.

    Args:
        clients: One for each server. Their patience is how long a blip may take.
        patience: Seconds without any server after which `poll` gives up.

    Attributes:
        clients: One for each server.
    """

    lockstep = False

    def __init__(self, clients: Sequence[ServerClient], *, patience: float = PATIENCE):
        self.clients = tuple(clients)
        self._version = 0
        self._connections = min(client.connections for client in clients)
        self._queue: deque[_Waiting] = deque()
        self._asked: dict[Future[Completion], _Asked] = {}
        self._homes: WeakKeyDictionary[Episode, Server] = WeakKeyDictionary()
        self._pool = ServerPool(clients, wanted=self._wanted, admit=self._admit, patience=patience)

    @property
    def version(self) -> int:
        """The version of the adapter that writes now."""
        return self._version

    @property
    def up(self) -> list[str]:
        """The addresses of the servers that write now."""
        return [server.url for server, _ in self._pool.links()]

    def submit(self, request: Request) -> None:
        """Takes a request; it is sent when a connection is free."""
        self._queue.append(_Waiting(request))
        self._send()

    def poll(self) -> list[Completion]:
        """Completions that arrived; waits a twentieth of a second for a first one.

        Raises:
            ServerError: A server refused a request, or none was up for too long.
        """
        self._call_back()
        self._send()
        if not self._asked:
            self._pool.check_patience()
            time.sleep(_POLL_SECONDS)
        done, _ = wait(list(self._asked), _POLL_SECONDS, return_when=FIRST_COMPLETED)
        arrived = [completion for answer in done if (completion := self._taken(answer))]
        self._send()
        return arrived

    def cancel(self) -> None:
        """Drops every request that is not answered yet; answers under way are not looked at."""
        self._queue.clear()
        for answer in self._asked:
            answer.cancel()
        self._asked.clear()

    def close(self) -> None:
        """Ends the threads, which nobody waits for; connections go with them."""
        self.cancel()
        self._pool.close()

    def _send(self) -> None:
        with self._pool.lock:
            while self._queue and (free := self._free(self._queue[0].request)):
                server, link = free
                waiting, writer = self._queue.popleft(), self._writer()
                answer = link.start(self._call(waiting.request, writer))
                self._asked[answer] = _Asked(waiting, server, link, writer)
                self._homes[waiting.request.episode] = server

    def _free(self, request: Request) -> tuple[Server, Link] | None:
        """The server that a request goes to now; None if no connection is free."""
        loads = [(link.in_flight, server, link) for server, link in self._pool.links()]
        free = [each for each in loads if each[0] < self._connections]
        if not free:
            return None
        least = min(free, key=lambda each: each[0])
        home = self._homes.get(request.episode)
        near = (each for each in free if each[1] is home and each[0] <= least[0] + _NEAR)
        _, server, link = next(near, least)
        return server, link

    def _call(self, request: Request, writer: Any) -> Callable[[ServerClient], Completion]:
        return lambda client: self._ask(client, request, writer)

    def _taken(self, answer: Future[Completion]) -> Completion | None:
        """The completion; None if its server goes out instead, and another is asked."""
        asked = self._asked.pop(answer)
        try:
            return answer.result()
        except GoneError as error:
            self._pool.leave(asked.server, asked.link, str(error))
            self._again(asked)
            return None

    def _call_back(self) -> None:
        """Takes back what is with servers that went out, whether they are up again or not."""
        for answer, asked in list(self._asked.items()):
            if asked.server.link is not asked.link and not answer.done():
                del self._asked[answer]
                self._again(asked)

    def _again(self, asked: _Asked) -> None:
        sends = asked.waiting.sends + 1
        if sends == _SENDS:
            url, trouble = asked.server.told
            raise ServerError(f"{_SENDS} servers went out with one request; {url}: {trouble}")
        self._queue.appendleft(_Waiting(asked.waiting.request, sends))

    def _writer(self) -> Any:
        """What of the policy's state a request is bound to when it is sent."""
        return None

    def _wanted(self) -> Any:
        """What a server must hold to write for this policy."""
        return None

    @abstractmethod
    def _admit(self, client: ServerClient, wanted: Any) -> None:
        """Brings a server what it must hold; raises if it may not write."""

    @abstractmethod
    def _ask(self, client: ServerClient, request: Request, writer: Any) -> Completion: ...
