"""A rollout in a process of its own, as both ends see it: the process, its pipe, and its loop."""

from __future__ import annotations

import multiprocessing
import pickle
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection
from typing import Any

from taskgym.agents.rollout import Rollout
from taskgym.agents.traces import portable
from taskgym.envs.interrupts import interrupts_blocked

# Called in the process: opens what it plays with. It is pickled on its way there.
OpenRollout = Callable[[], AbstractContextManager[Rollout]]
Message = tuple[Any, ...]  # a word and what belongs to it

_BEAT = 1.0  # seconds between two signs of life
_LAST_BREATH = 1.0  # seconds from closing the pipe to the end


class WorkerProcess:
    """The parent's end: a process that plays, and the pipe to it.

    It is spawned, not forked: a fork would copy the learner's threads and its hold on the GPU.
    """

    def __init__(self, open_rollout: OpenRollout):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, open_rollout)
        self._process = context.Process(target=_work, args=arguments, name="rollout", daemon=True)
        with interrupts_blocked():
            self._process.start()
        theirs.close()  # so that its end closes when it dies

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid

    def send(self, *message: Any) -> None:
        """Tells it something; in vain if it is dead."""
        with suppress(OSError):  # who listens will notice
            _send(self._pipe, *message)

    def listen(self, seconds: float) -> Message | None:
        """What it says next, or None after so many seconds.

        Raises:
            EOFError: It is dead.
        """
        try:
            return _receive(self._pipe) if self._pipe.poll(seconds) else None
        except OSError as error:
            raise EOFError from error

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()

    def bury(self) -> str:
        """Says how it ended, which it is about to do by itself if it has not."""
        self._process.join(_LAST_BREATH)
        self._process.kill()
        self._process.join()
        self._pipe.close()
        return f"exit code {self._process.exitcode}"


def _send(pipe: Connection, *message: Any) -> None:
    # Not `pipe.send`: torch would hand tensors over as shared memory, which dies with its owner.
    pipe.send_bytes(pickle.dumps(message))


def _receive(pipe: Connection) -> Message:
    message: Message = pickle.loads(pipe.recv_bytes())
    return message


def _work(pipe: Connection, open_rollout: OpenRollout) -> None:
    """The process: plays until it is told to close, or its parent is gone."""
    try:
        with open_rollout() as rollout:
            _play(pipe, rollout)
    except (EOFError, ConnectionError):
        return
    except BaseException:
        _send(pipe, "failed", traceback.format_exc())
        raise


def _play(pipe: Connection, rollout: Rollout) -> None:
    _send(pipe, "ready")
    beaten = time.monotonic()
    while True:
        while pipe.poll(0 if rollout.running else _BEAT):
            word, *rest = _receive(pipe)
            if word == "close":
                return
            _obey(pipe, rollout, word, *rest)
        for trajectory in rollout.advance():
            _send(pipe, "played", portable(trajectory))
        if time.monotonic() - beaten >= _BEAT:
            beaten = time.monotonic()
            _send(pipe, "beat", dict(rollout.seconds))


def _obey(pipe: Connection, rollout: Rollout, word: str, *rest: Any) -> None:
    if word == "start":
        rollout.start(*rest)
        return
    number, *arguments = rest
    wanted = getattr(rollout.policy, word)
    _send(pipe, "done", number, wanted(*arguments) if callable(wanted) else wanted)
