"""Is this answer equal to that one? `compare` tells, and says so when it cannot.

Most answers are decided by exact rules in a few microseconds (`taskgym.envs.answer_match`); the
rest go to math-verify in a worker process with a hard limit (`taskgym.envs.answer_pool`). The
policy is written out in docs/answers.md.
"""

from __future__ import annotations

import logging
import re
from enum import StrEnum
from functools import lru_cache

from taskgym.envs.answer_plain import plain, same_plain
from taskgym.envs.answer_text import latex, stated, tail

__all__ = ["Verdict", "compare"]


logger = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What `compare` found."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNPARSED = "unparsed"  # the answer states nothing that can be read
    TIMEOUT = "timeout"  # undecided within the limit
    ERROR = "error"  # the verifier itself failed, or gold cannot be read: not the model's fault


_INTEGER = re.compile(r"\s*(-?)0*(\d+)\s*", re.ASCII)


def compare(gold: str, answer: str, *, timeout: float = 5.0) -> Verdict:
    """Tell whether ``answer`` denotes the same mathematical object as ``gold``.

    An answer may be a whole completion: its last box, or else its last stated answer counts, and
    only its last 4 KiB are read. Safe to call from any thread and after a fork.

    Args:
        gold: the right answer as a data set has it; LaTeX or plain text, with or without a box.
        answer: what the model wrote.
        timeout: seconds that math-verify may take, waiting for a worker and starting one excluded.

    Returns:
        The verdict. A time-out and a crash have verdicts of their own: count them, they are no 0.

    Raises:
        TypeError: one of both is not a string.
    """
    if not isinstance(gold, str) or not isinstance(answer, str):
        raise TypeError(
            f"gold and answer must be str, got {type(gold).__name__} and {type(answer).__name__}"
        )
    wanted = _INTEGER.fullmatch(gold)
    if wanted is not None:
        given = _INTEGER.fullmatch(answer) if len(answer) < 40 else None
        if given is not None:
            return _integers(wanted, given)
    if gold == answer and gold and not gold.isspace():
        return Verdict.EQUAL
    text = tail(answer)
    verdict = _decided(gold, text)
    return _asked(gold, text, timeout) if verdict is None else verdict


def _integers(wanted: re.Match[str], given: re.Match[str]) -> Verdict:
    equal = wanted[2] == given[2] and (wanted[1] == given[1] or wanted[2] == "0")
    return Verdict.EQUAL if equal else Verdict.DIFFERENT


@lru_cache(maxsize=8192)
def _decided(gold: str, text: str) -> Verdict | None:
    """What the exact rules say; None when math-verify has to."""
    if (wanted := plain(gold)) and (given := plain(stated(text))):
        equal = same_plain(wanted, given)
        if equal is not None:
            return Verdict.EQUAL if equal else Verdict.DIFFERENT
    from taskgym.envs import answer_reading as reading

    try:
        return reading.decide(gold, text)
    except Exception:  # a fault of our rules shall cost one trajectory, not the whole run
        logger.exception("the rules failed on the answer %r to the gold %r", text[:200], gold[:200])
        return Verdict.ERROR


def _asked(gold: str, text: str, timeout: float) -> Verdict:
    from taskgym.envs import answer_pool as pool

    return Verdict(pool.shared().ask(latex(stated(gold)), latex(stated(text)), timeout))
