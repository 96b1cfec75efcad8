"""The servers of a policy: which are up, when one goes out, and what lets it come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from taskgym.agents.server_client import GoneError, ServerClient, ServerError
from taskgym.agents.server_link import Link, Server

logger = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE = 300.0  # seconds without any server after which a policy gives up
_WATCH_SECONDS = 5.0  # between two looks at a server's health, and at most between two returns
_FIRST_RETURN = 0.25  # seconds until a server that went out is asked again; doubled each time
_LOOKS = 2  # failed looks at a server's health in a row that take it out
_STEP = 0.05  # seconds between two looks at what a thread has done


class ServerPool:
    """Several servers that write the same; each is up or out.

    One goes out when it does not answer or fails its health check. It is asked again now and then,
    and comes back when `admit` lets it.

    Args:
        clients: One for each server. Their patience is how long a blip may take.
        wanted: What a server must hold to be up, as it is now.
        admit: Brings a server that; raises if it may not come back. Called in threads.
        patience: Seconds without any server after which waiting ends.

    Attributes:
        lock: Held while a server comes back; what is wanted may only change under it.
    """

    def __init__(
        self,
        clients: Sequence[ServerClient],
        *,
        wanted: Callable[[], Any],
        admit: Callable[[ServerClient, Any], None],
        patience: float = PATIENCE,
    ):
        self.lock = threading.RLock()
        self._servers = [Server(client) for client in clients]
        self._wanted = wanted
        self._admit = admit
        self._patience = patience
        self._none_since = 0.0  # when the last server went out
        self._closed = False
        for server in self._servers:
            threading.Thread(target=self._watch, args=(server,), daemon=True).start()

    def links(self) -> list[tuple[Server, Link]]:
        """The servers that are up."""
        return [(server, link) for server in self._servers if (link := server.link)]

    def leave(self, server: Server, link: Link, trouble: str) -> None:
        """Takes a server out, unless that link of it was given up before."""
        if not server.leave(link, trouble):
            return
        up = len(self.links())
        logger.warning("%s is out: %s; %d of %d are up", *server.told, up, len(self._servers))
        if not up:
            self._none_since = time.monotonic()

    def check_patience(self) -> None:
        """Raises a `ServerError` when no server was up for too long."""
        if self.links() or time.monotonic() - self._none_since < self._patience:
            return
        told = "; ".join(": ".join(server.told) for server in self._servers)
        raise ServerError(f"no server was up for {self._patience:.0f} s: {told}")

    def everywhere(self, call: Callable[[ServerClient], T]) -> dict[str, T]:
        """What a call to each server that is up gives, by url; waits for one if none is.

        Raises:
            ServerError: A server refused it, or none was up for too long.
        """
        while True:
            calls = [(link.start(call), server, link) for server, link in self.links()]
            settled = [(c, server) for c, server, link in calls if self._settled(c, server, link)]
            if settled:
                return {server.url: answer.result() for answer, server in settled}
            self.check_patience()
            time.sleep(_STEP)

    def close(self) -> None:
        """Ends the threads, which nobody waits for; connections go with them."""
        self._closed = True
        for server in self._servers:
            server.close()

    def _settled(self, answer: Future[T], server: Server, link: Link) -> bool:
        """Waits for a call; False if its server goes out instead."""
        while server.link is link:
            if wait([answer], _STEP).done:
                if not isinstance(answer.exception(), GoneError):
                    return True
                self.leave(server, link, str(answer.exception()))
        return False

    def _watch(self, server: Server) -> None:
        """Looks at a server for as long as there is a pool: is it well, may it come back?"""
        failed, pause = 0, _FIRST_RETURN
        while not self._closed:
            if (link := server.link) is None:
                time.sleep(pause)
                failed, pause = 0, min(2 * pause, _WATCH_SECONDS)
                self._try_to_return(server)
            elif not server.gone.wait(_WATCH_SECONDS):
                failed, pause = self._looks(link, failed), _FIRST_RETURN
                if failed == _LOOKS:
                    self.leave(server, link, f"it failed {_LOOKS} health checks")

    def _looks(self, link: Link, failed: int) -> int:
        """Failed looks in a row. Where there is one server alone, its answers are waited for."""
        return 0 if len(self._servers) == 1 or link.client.healthy() else failed + 1

    def _try_to_return(self, server: Server) -> None:
        link = server.reopened()
        try:
            self._return(server, link)
        except GoneError:
            link.abandon()
        except Exception as error:  # whatever it answers wrongly, it stays out and says why
            link.abandon()
            server.say(f"{type(error).__name__}: {error}")

    def _return(self, server: Server, link: Link) -> None:
        """Brings a server what is wanted, however often that changes meanwhile."""
        while not self._closed:
            wanted = self._wanted()
            self._admit(link.client, wanted)
            with self.lock:
                if wanted == self._wanted():
                    server.enter(link)
                    return
