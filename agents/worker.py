"""Episodes played in another process, which is started again when it dies and loses nothing."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

from taskgym.agents.adapter import Adapter
from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.worker_process import Message, OpenRollout, WorkerProcess
from taskgym.envs import TaskgymError

logger = logging.getLogger(__name__)

_MAX_RESTARTS = 3
_TICK = 1.0  # seconds between two looks at what may be wrong
_GOODBYE = 15.0  # seconds to close envs and give adapters back
_UNANSWERED = object()


class WorkerError(TaskgymError, RuntimeError):
    """The process that plays episodes died too often to be started again."""


class RolloutWorker:
    """Plays episodes beside its caller, on a policy of its own.

    A thread listens to the process. When the process dies or falls silent, another one takes its
    place: it gets the adapter of before and the starts of all episodes that had not ended. Those
    that had ended were handed over one by one, so none of them is lost and none comes twice.

    Attributes:
        seconds: Wall time in the process by phase, as `Rollout.seconds`, over all its lives.
        restarts: How often the process was started again.
    """

    def __init__(
        self,
        open_rollout: OpenRollout,
        tend: Callable[[], None] = lambda: None,
        patience: float = 300.0,
    ):
        """Starts the process; `close` ends it.

        Args:
            open_rollout: Opens the rollout in the process; pickled.
            tend: Called about every second here: may look after what the process depends on.
            patience: Seconds of silence after which the process counts as hanging.
        """
        self.seconds: dict[str, float] = {"generate": 0.0, "score": 0.0}
        self.restarts = 0
        self._open_rollout = open_rollout
        self._tend = tend
        self._patience = patience
        self._version = 0
        self._adapter: tuple[Adapter | None, int] | None = None
        self._expected: tuple[list[int], list[float], float] | None = None
        self._running: dict[Start, None] = {}  # in the order they were started
        self._ended: deque[Trajectory] = deque()
        self._calls = count(1)
        self._call: Message = ()
        self._answer: Any = _UNANSWERED
        self._process = WorkerProcess(open_rollout)
        self._briefed = False  # whether the process knows all that it must
        self._failure: BaseException | None = None
        self._closing = False
        self._news = threading.Condition()
        self._listener = threading.Thread(target=self._attend, name="taskgym-worker", daemon=True)
        self._listener.start()

    @property
    def version(self) -> int:
        """The version of the adapter that writes now."""
        return self._version

    @property
    def pid(self) -> int | None:
        """The process that plays now."""
        return self._process.pid

    def start(self, starts: Iterable[Start]) -> None:
        """Begins episodes; no two that run at a time may have equal starts."""
        started = list(starts)
        with self._news:
            self._running |= dict.fromkeys(started)
            process = self._ready()
        if process is not None:
            process.send("start", started)

    def receive(self, timeout: float) -> list[Trajectory]:
        """The episodes that have ended; waits so many seconds for a first one.

        Raises:
            WorkerError: The process died too often; what ended before is handed out first.
        """
        with self._news:
            self._news.wait_for(lambda: self._ended or self._failure, timeout)
            if not self._ended:
                self.check()
            ended = list(self._ended)
            self._ended.clear()
            return ended

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Completions that are asked for from now on are written with this adapter."""
        if adapter is not None:  # the process has no business on the learner's device
            tensors = {name: tensor.cpu() for name, tensor in adapter.tensors.items()}
            adapter = dataclasses.replace(adapter, tensors=tensors)
        self._ask("load_adapter", adapter, version)
        self._adapter, self._version, self._expected = (adapter, version), version, None

    def score(self, ids: Sequence[int]) -> list[float]:
        """The log-probability of each token after the first, by the adapter that writes now."""
        found: list[float] = self._ask("score", list(ids))
        return found

    @property
    def up(self) -> list[str]:
        """The names of the engines that write now."""
        found: list[str] = self._ask("up")
        return found

    def scores(self, ids: Sequence[int]) -> dict[str, list[float]]:
        """As `score`, of every engine that writes, by its name."""
        found: dict[str, list[float]] = self._ask("scores", list(ids))
        return found

    def expect(self, ids: Sequence[int], logprobs: Sequence[float], tolerance: float) -> None:
        """Only an engine that scores `ids` so may come back while this adapter writes."""
        self._expected = (list(ids), list(logprobs), tolerance)
        self._ask("expect", *self._expected)

    def check(self) -> None:
        """Raises what ended the worker for good, if anything did."""
        if self._failure is not None:
            raise WorkerError(f"{self._failure}") from self._failure

    def close(self) -> None:
        """Ends the process; episodes that run are dropped."""
        with self._news:
            self._closing, process = True, self._process
        process.send("close")
        self._listener.join(_GOODBYE)
        process.kill()
        self._listener.join(_GOODBYE)

    def _ready(self) -> WorkerProcess | None:
        """The process, if it takes messages; one that does not yet will be told all it missed.

        Asked for under the lock, but sent to outside: a long message is only read by a process
        that is not kept waiting for who reads its own.
        """
        return self._process if self._briefed else None

    def _ask(self, word: str, *arguments: Any) -> Any:
        """Calls a method of the process's policy and waits for what it returns."""
        with self._news:
            self._call, self._answer = (word, next(self._calls), *arguments), _UNANSWERED
            process = self._ready()
        if process is not None:
            process.send(*self._call)
        with self._news:
            self._news.wait_for(lambda: self._answer is not _UNANSWERED or self._failure)
            self._call = ()
            self.check()
            return self._answer

    def _attend(self) -> None:
        """The thread: listens to one process after the other."""
        try:
            why = self._live()
            while not self._closing:
                if self.restarts == _MAX_RESTARTS:
                    raise WorkerError(f"the rollout worker died {_MAX_RESTARTS + 1} times: {why}")
                logger.warning("the rollout worker died (%s); starting it again", why)
                self.restarts += 1
                self._process = WorkerProcess(self._open_rollout)
                why = self._live()
        except BaseException as error:
            with self._news:
                self._failure = error
                self._news.notify_all()

    def _live(self) -> str:
        """Listens to a process to its end; says what ended it."""
        before, heard, last_words = dict(self.seconds), time.monotonic(), ""
        try:
            while True:
                message = self._process.listen(_TICK)
                if message is not None:
                    heard = time.monotonic()
                    last_words = self._hear(before, *message) or last_words
                elif time.monotonic() - heard > self._patience:
                    self._process.kill()
                    return f"silent for {self._patience:.0f} s"
                self._tend()
        except EOFError:
            return last_words or self._process.bury()
        finally:
            with self._news:
                self._briefed = False
            self._process.bury()

    def _hear(self, before: dict[str, float], word: str, *rest: Any) -> str:
        """Notes what the process says; returns its last words if these are they."""
        with self._news:
            if word == "ready":
                self._brief()
            elif word == "played":
                (trajectory,) = rest
                self._running.pop(trajectory.start)
                self._ended.append(trajectory)
            elif word == "done" and self._call and rest[0] == self._call[1]:
                self._answer = rest[1]
            elif word == "beat":
                for phase in self.seconds:
                    self.seconds[phase] = before[phase] + rest[0][phase]
            self._news.notify_all()
        return str(rest[0]) if word == "failed" else ""

    def _brief(self) -> None:
        """Tells a fresh process what the one before knew; the episodes last, for then it plays."""
        if self._adapter is not None:
            self._process.send("load_adapter", 0, *self._adapter)
        if self._expected is not None:
            self._process.send("expect", 0, *self._expected)
        if self._call:
            self._process.send(*self._call)
        if self._running:
            self._process.send("start", list(self._running))
        self._briefed = True
