"""Decide a pair by exact rules alone: find what the answer states, then compare the readings."""

from __future__ import annotations

import re
from functools import lru_cache

from taskgym.envs.answer_match import decide as decide_shapes
from taskgym.envs.answer_match import is_words
from taskgym.envs.answer_rules import LONGEST
from taskgym.envs.answer_text import LIMIT, clean, hedges, stated, statements
from taskgym.envs.answers import Verdict

_COMMANDS = re.compile(r"\\[A-Za-z]+")
_PROSE = re.compile(r"[A-Za-z]{3,}")
_MATHS = re.compile(r"[\\^=<>|]|\d")


def decide(gold: str, text: str) -> Verdict | None:
    """Return what the rules say about a gold answer and the tail of a completion, or None."""
    wanted = _gold(gold)
    if not text or text.isspace():
        return Verdict.UNPARSED
    if not wanted or len(wanted) > LIMIT:
        return Verdict.ERROR
    spoken = stated(text)
    given = clean(spoken)
    if not given:
        return Verdict.UNPARSED
    if given == wanted:
        return Verdict.EQUAL
    verdict = decide_shapes(wanted, given)
    if verdict or not is_words(given):
        return _verdict(_firm(wanted, verdict))
    for statement in map(clean, statements(spoken)):
        if statement and (not is_words(statement) or is_words(wanted)):
            verdict = decide_shapes(wanted, statement)
            if verdict or not is_words(statement):
                return _verdict(_firm(wanted, verdict))
    return _unread(wanted, given)


@lru_cache(maxsize=2048)
def _gold(gold: str) -> str:
    return clean(stated(gold))


def _firm(wanted: str, verdict: bool | None) -> bool | None:
    """Plain words are equal to the same words only: there is nothing to compute."""
    return bool(verdict) if is_words(wanted) and not _MATHS.search(wanted) else verdict


def _verdict(equal: bool | None) -> Verdict | None:
    if equal is None:
        return None
    return Verdict.EQUAL if equal else Verdict.DIFFERENT


def _unread(wanted: str, given: str) -> Verdict | None:
    """Only notation beyond the rules is worth asking math-verify; of prose it reads letters."""
    if len(given) > LONGEST >= len(wanted):
        return Verdict.UNPARSED  # a loop of a model that never stopped, not an answer
    prose = len(_PROSE.findall(_COMMANDS.sub(" ", given))) > 1 or hedges(given)
    if _MATHS.search(given) and not prose:
        return None
    return Verdict.DIFFERENT if is_words(wanted) else Verdict.UNPARSED
