"""One completion tried out: its program plays games in the sandbox, and what happened is told."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from taskgym.envs.code_blocks import find_program
from taskgym.envs.errors import MachineryError
from taskgym.sandbox import Job, Limits, Result, SandboxUnavailable, Status, shared_sandbox

ENTRY = "strategy"
DRIVER = Path(__file__).with_name("driver.py")
CALLS = 1 << 22  # moves of all games: time ends them before
STDOUT = 1 << 20  # bytes: a line a move, printed to look for a mistake, is no crime
WALL = 10  # seconds on the clock for each second of CPU: a busy machine costs no score


class Verdict(StrEnum):
    """What became of a program."""

    PLAYED = "played"  # every game to an end that the rules know
    UNPARSED = "unparsed"  # the completion holds no program
    SYNTAX = "syntax_error"  # it is no Python
    REFUSED = "refused"  # it needs what the sandbox does not offer, though nothing bad
    FORBIDDEN = "forbidden"  # a forbidden import, or a construct that leads out of the sandbox
    INVALID = "invalid_move"  # it answered what is none of W, A, S, D
    RAISED = "raised"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    OUTPUT = "output"  # it printed without end
    VIOLATION = "violation"  # the system call filter stopped it: it tried to break out
    CRASHED = "crashed"  # its process died


_ENDS = {
    Status.ERROR: Verdict.RAISED,
    Status.TIMEOUT: Verdict.TIMEOUT,
    Status.MEMORY: Verdict.MEMORY,
    Status.OUTPUT: Verdict.OUTPUT,
    Status.VIOLATION: Verdict.VIOLATION,
    Status.CRASHED: Verdict.CRASHED,
}
# Errors that the sandbox finds rather than the program raises, by their names.
_NAMED = {"EntryNotFound": Verdict.UNPARSED, "BadValue": Verdict.INVALID}
_REFUSALS = {
    "syntax": Verdict.SYNTAX,
    "import": Verdict.FORBIDDEN,
    "escape": Verdict.FORBIDDEN,
    "construct": Verdict.REFUSED,
}


@dataclass(frozen=True)
class Trial:
    """What a program did.

    Attributes:
        verdict: What became of it.
        reason: Why, in a sentence; empty if it played all games.
        line: The line of the program at fault, counted from 1, if it is one.
        games: The outcomes of the games begun, as `driver.py` tells them.
    """

    verdict: Verdict
    reason: str = ""
    line: int | None = None
    games: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Rules:
    """What is played: hashable, so that a trial can be remembered.

    Attributes:
        seeds: The games' seeds, 128 bits each.
        size: Rows and columns of the board.
        target: The tile that wins a game and ends it.
        seconds: CPU seconds that a program has for all games.
    """

    seeds: tuple[int, ...]
    size: int
    target: int
    seconds: float


class _Once:
    """A trial that is made by the first who asks, while others who ask wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trial: Trial | None = None

    def get(self, make: Callable[[], Trial]) -> Trial:
        with self._lock:
            if self._trial is None:
                self._trial = make()
            return self._trial


@lru_cache(maxsize=256)
def _remembered(completion: str, rules: Rules) -> _Once:
    return _Once()


_remembering = threading.Lock()


def try_completion(completion: str, rules: Rules) -> Trial:
    """Plays the games of `rules` with the program in a completion.

    The components of a rubric ask in turn, and members of a group that write the same program ask
    at the same moment: it is played once for all of them.

    The game, its generator and its score stay outside the program's process. A program that draws
    from `random` gets a seed that follows from the games' seeds, so a trial can be repeated.

    Raises:
        MachineryError: The sandbox failed: there is nothing to score.
    """
    with _remembering:
        once = _remembered(completion, rules)
    return once.get(lambda: _play(completion, rules))


def _play(completion: str, rules: Rules) -> Trial:
    source, reason = find_program(completion, ENTRY)
    if source is None:
        return Trial(Verdict.UNPARSED, reason)
    try:
        (result,) = shared_sandbox(drivers=(DRIVER,)).map([_job(source, rules)])
    except SandboxUnavailable as error:
        raise MachineryError(f"the sandbox is not available: {error}") from error
    return judge(result)


def program_seed(seed: int) -> int:
    """The seed of a program's own `random`: nothing about the game follows from it."""
    digest = hashlib.sha256(b"program" + seed.to_bytes(16, "big")).digest()
    return int.from_bytes(digest[:8], "big")


def _job(source: str, rules: Rules) -> Job:
    return Job(
        source,
        entry=ENTRY,
        seed=program_seed(rules.seeds[0]),
        limits=Limits(
            cpu_s=rules.seconds,
            wall_s=WALL * rules.seconds,
            stdout_bytes=STDOUT,
            calls=CALLS,
        ),
        driver=DRIVER,
        task={
            "seeds": list(rules.seeds),
            "size": rules.size,
            "target": rules.target,
            "until_won": True,
        },
    )


def judge(result: Result) -> Trial:
    """What the sandbox's result of a job with this driver says.

    Raises:
        MachineryError: The sandbox failed.
    """
    games = tuple(result.value or ())
    reason = ": ".join(filter(None, (result.error_type, result.error_message)))
    if result.status is Status.INFRA:
        raise MachineryError(f"the sandbox failed: {reason or 'no reason given'}")
    message, line = result.error_message or "", result.error_line
    if result.status is Status.REJECTED:
        verdict = _REFUSALS.get(result.error_type or "", Verdict.REFUSED)
        return Trial(verdict, message.removeprefix(f"line {line}: "), line)
    if result.error_type in _NAMED:
        return Trial(_NAMED[result.error_type], message, None, games)
    if result.status is not Status.OK:
        return Trial(_ENDS[result.status], reason, line, games)
    if games[-1]["stop"] == "invalid_move":
        return Trial(Verdict.INVALID, f"answered {games[-1]['answer']}", None, games)
    return Trial(Verdict.PLAYED, "", None, games)
