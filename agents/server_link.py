"""One server of a policy: the connections to it while it is up, or why it is out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from taskgym.agents.server_client import ServerClient

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Link:
    """The connections to a server from when it came up until it is given up.

    Each call has a thread that waits for the answer. They are daemons: one that waits for a server
    that never answers must not hold up the exit.
    """

    def __init__(self, client: ServerClient):
        self.client = client
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()

    def start(self, call: Callable[[ServerClient], T]) -> Future[T]:
        """Makes a call in a thread of its own."""
        answer: Future[T] = Future()
        self._calls.add(answer)
        answer.add_done_callback(self._calls.discard)
        self._queue.put(lambda: _settle(answer, lambda: call(self.client)))
        if not self._idle.acquire(blocking=False):
            with self._lock:
                self._threads += 1
            threading.Thread(target=self._work, name="taskgym-ask", daemon=True).start()
        return answer

    @property
    def in_flight(self) -> int:
        """Calls that are not answered yet, wanted or not."""
        return len(self._calls)

    def abandon(self) -> None:
        """Ends each thread after its call; the last one closes the connections."""
        with self._lock:
            threads = self._threads
        for _ in range(threads):
            self._queue.put(None)
        if not threads:
            self.client.close()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task()
            self._idle.release()
        with self._lock:
            self._threads -= 1
            last = not self._threads
        if last:
            self.client.close()


class Server:
    """A server as it is now: up, with a link to it, or out, with the reason.

    Attributes:
        url: Where it is.
        link: None while it is out.
        gone: Set while it is out.
    """

    def __init__(self, client: ServerClient):
        self.url = client.url
        self.link: Link | None = Link(client)
        self.gone = threading.Event()
        self._trouble = ""
        self._client = client

    @property
    def told(self) -> tuple[str, str]:
        """Its url, and why it went out or stays out."""
        return self.url, self._trouble

    def leave(self, link: Link, trouble: str) -> bool:
        """Takes it out, unless that link was given up before; returns whether it was up by it."""
        if self.link is not link:
            return False
        self.link, self._trouble = None, trouble
        link.abandon()
        self.gone.set()
        return True

    def say(self, trouble: str) -> None:
        """Notes why it stays out; a reason that is not new is not worth a line."""
        if trouble != self._trouble:
            logger.warning("%s stays out: %s", self.url, trouble)
        self._trouble = trouble

    def reopened(self) -> Link:
        """A new link to it, which it is not up by yet."""
        self._client = self._client.reopened()
        return Link(self._client)

    def enter(self, link: Link) -> None:
        """Lets it back."""
        self.gone.clear()
        self.link = link
        logger.warning("%s is up again", self.url)

    def close(self) -> None:
        """Ends the threads, which nobody waits for."""
        link, self.link = self.link, None
        if link is not None:
            link.abandon()
        self.gone.set()


def _settle(answer: Future[T], ask: Callable[[], T]) -> None:
    """Gets an answer, unless it is not wanted any more; what fails is told to who waits for it."""
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(ask())
    except Exception as error:
        answer.set_exception(error)
