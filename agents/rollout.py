"""Runs many episodes at once: each env steps as soon as its own completion is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count

from taskgym.agents.chat import Renderer
from taskgym.agents.episode import Episode, Start, TextEnv, Trajectory
from taskgym.agents.policy import Completion, Policy, Request, Sampling

# Env steps wait for sandboxes and verifiers in other processes, so more threads than cores help.
_THREADS = 4 * (os.cpu_count() or 1)
_PATIENCE = 0.5  # seconds that env steps are waited for before `stop` is looked at
# Seconds that a policy with nothing to write waits for episodes that begin together: an engine
# takes as long to read one prompt as many.
_GATHERING = 0.25


class Rollout:
    """A policy, envs to play it on, and the continuous loop between them.

    No lockstep and no barrier: a finished completion goes to its env at once, in a thread, and
    the next turn joins the completions still being generated. Envs are made once and reused.

    Attributes:
        seconds: Wall time so far by phase: `generate` in the policy, `score` waiting for envs
            with nothing to generate.
        stale: Completions refused so far because an older adapter had written them.
    """

    def __init__(
        self,
        policy: Policy,
        make_env: Callable[[], TextEnv],
        sampling: Sampling,
        renderer: Renderer | None = None,
        max_staleness: int = 0,
    ):
        """Nothing is started yet.

        Args:
            policy: Writes the completions.
            make_env: Makes one more env; called when all are in use.
            sampling: How completions are drawn.
            renderer: Turns messages into tokens; None for policies that read the episode instead.
            max_staleness: How many versions a completion's adapter may lie behind the policy's;
                one that lies further behind is refused, counted and asked for again.
        """
        self.policy = policy
        self.stale = 0
        self._stopped = False
        self._max_staleness = max_staleness
        self.seconds = {"generate": 0.0, "score": 0.0}
        self._make_env = make_env
        self._sampling = sampling
        self._renderer = renderer
        self._numbers = count()
        self._envs: list[TextEnv] = []  # all that were made
        self._idle: list[TextEnv] = []  # those without an episode
        self._steps: dict[Future[Request | None], Episode] = {}
        self._waiting: dict[int, tuple[Request, Episode]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="taskgym-env")
        self._opening: list[Future[Request | None]] = []  # just started, with nothing to write yet

    def start(self, starts: Iterable[Start]) -> None:
        """Begins episodes; `finished` plays them. More may be started while others run."""
        for start in starts:
            env = self._idle.pop() if self._idle else self._new_env()
            number = next(self._numbers)
            episode = Episode(number, env, start, self._sampling, self._renderer)
            opening = self._threads.submit(episode.begin)
            self._steps[opening] = episode
            if not self._waiting:
                self._opening.append(opening)

    @property
    def running(self) -> bool:
        """Whether any episode is under way."""
        return bool(self._steps or self._waiting)

    def finished(self) -> Iterator[Trajectory]:
        """Plays until nothing runs or `stop` is called, yielding each trajectory as it ends."""
        while self.running and not self._stopped:
            yield from self.advance()

    def advance(self) -> Iterator[Trajectory]:
        """One round of the loop: yields the episodes that have ended, then asks the policy."""
        if self._steps and (self.policy.lockstep or not self._waiting):
            self._wait()
        yield from self._collect()
        if self._waiting and not (self.policy.lockstep and self._steps):
            self._generate()

    def stop(self) -> None:
        """Lets `finished` end soon; for another thread than the one that plays."""
        self._stopped = True

    def drop(self) -> None:
        """Forgets the running episodes, once nobody plays them; others can then be started."""
        self.policy.cancel()
        wait(self._steps)  # an env is free when its step has ended
        running = [*self._steps.values(), *(episode for _, episode in self._waiting.values())]
        self._idle += [episode.env for episode in running]
        self._steps.clear()
        self._opening.clear()
        self._waiting.clear()
        self._stopped = False

    def close(self) -> None:
        """Closes the envs and the threads; what is still asked of the policy is dropped."""
        self.policy.cancel()
        self._threads.shutdown(cancel_futures=True)
        for env in self._envs:
            env.close()
        self._envs.clear()
        self._idle.clear()

    def _new_env(self) -> TextEnv:
        self._envs.append(self._make_env())
        return self._envs[-1]

    def _collect(self) -> Iterator[Trajectory]:
        """Takes the env steps that are done: a next turn is submitted, an ended episode yielded."""
        for step in [step for step in self._steps if step.done()]:
            episode = self._steps.pop(step)
            request = step.result()
            if request is not None:
                self._waiting[request.request_id] = request, episode
                self.policy.submit(request)
            else:
                self._idle.append(episode.env)
                yield episode.trajectory

    def _generate(self) -> None:
        began = time.perf_counter()
        completions = self.policy.poll()
        self.seconds["generate"] += time.perf_counter() - began
        for completion in completions:
            self._step(completion)

    def _step(self, completion: Completion) -> None:
        request, episode = self._waiting[completion.request_id]
        if self.policy.version - completion.adapter_version > self._max_staleness:
            self.stale += 1
            self.policy.submit(request)
            return
        del self._waiting[completion.request_id]
        self._steps[self._threads.submit(episode.advance, completion)] = episode

    def _wait(self) -> None:
        began = time.perf_counter()
        wait(self._opening, _GATHERING)
        self._opening.clear()
        enough = all if self.policy.lockstep else any
        until = ALL_COMPLETED if self.policy.lockstep else FIRST_COMPLETED
        while not self._stopped and not enough(step.done() for step in self._steps):
            wait(self._steps, _PATIENCE, return_when=until)
        self.seconds["score"] += time.perf_counter() - began
