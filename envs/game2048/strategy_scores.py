"""The reward components of `Game2048-Strategy-v0`: the notebook's scale, and graded progress."""

from __future__ import annotations

import math
from collections.abc import Callable

from taskgym.envs.game2048.trial import Rules, Trial, Verdict, try_completion
from taskgym.envs.rubric import Task

WIN, NATURAL_END, BROKEN = 20.0, 2.0, -1.0
PROGRESS = 5.0

# Mean scores of the ladder's random and expectimax-1, by board size, as
# `evaluate_strategy random expectimax-1 --size N` prints them. Their standard errors are
# below 1 percent, but 5 for expectimax-1 on 5x5 (200 games) and 28 on 6x6 (10 games of 1.5 million
# moves in all): 0.06 and 0.43 of `progress`.
REFERENCE = {
    2: (19.4, 66.9),
    3: (178.0, 1421.0),
    4: (1097.0, 36463.0),
    5: (7790.0, 573_000.0),
    6: (100_700.0, 2_520_000.0),
}

_FUNCTION_WORKS = {
    Verdict.UNPARSED: -2.0,
    Verdict.SYNTAX: -2.0,
    Verdict.REFUSED: -0.5,
    Verdict.FORBIDDEN: -0.5,
}
_NO_CHEATING = {
    Verdict.UNPARSED: -1.0,
    Verdict.SYNTAX: 0.0,
    Verdict.FORBIDDEN: -20.0,
    Verdict.VIOLATION: -20.0,
}
_NOT_RUN = frozenset(_FUNCTION_WORKS)


def rules_of(task: Task) -> Rules:
    """What a task of the env asks to play."""
    rules: Rules = task.row["rules"]
    return rules


def function_works(completion: str, task: Task) -> float:
    """1 if there is a function that the sandbox takes; -0.5 refused, -2 none or no Python."""
    return _FUNCTION_WORKS.get(_trial(completion, task).verdict, 1.0)


def no_cheating(completion: str, task: Task) -> float:
    """1 if nothing forbidden was tried, else -20; -1 without a function, 0 if it is no Python."""
    return _NO_CHEATING.get(_trial(completion, task).verdict, 1.0)


def strategy_succeeds(completion: str, task: Task) -> float:
    """20 x share of games won + 2 x share of games that ended naturally; -1 for broken programs.

    A game ends naturally when it is won or no move is left, not when a program is stuck.
    """
    trial, games = _trial(completion, task), len(rules_of(task).seeds)
    if trial.verdict in _NOT_RUN:
        return 0.0
    if trial.verdict is not Verdict.PLAYED:
        return BROKEN
    stops = [str(game["stop"]) for game in trial.games]
    won, natural = stops.count("won"), stops.count("won") + stops.count("over")
    return (WIN * won + NATURAL_END * natural) / games


def progress(completion: str, task: Task) -> float:
    """0 to 5: where the mean score lies between the ladder's random and expectimax-1, in logs.

    A game that is won ends there and counts as what expectimax-1 scores on the mean. A game that
    was not played, because the program broke off before, counts 0.
    """
    rules = rules_of(task)
    low, high = REFERENCE[rules.size]
    scores = [
        max(float(game["score"]), high if game["stop"] == "won" else 0.0)
        for game in _trial(completion, task).games
    ]
    mean = max(low, sum(scores) / len(rules.seeds))
    return PROGRESS * min(1.0, math.log(mean / low) / math.log(high / low))


COMPONENTS: dict[str, tuple[Callable[[str, Task], float], float]] = {
    "function_works": (function_works, 1.0),
    "no_cheating": (no_cheating, 1.0),
    "strategy_succeeds": (strategy_succeeds, 1.0),
    "progress": (progress, 1.0),
}
BEST = {
    "function_works": 1.0,
    "no_cheating": 1.0,
    "strategy_succeeds": WIN + NATURAL_END,
    "progress": PROGRESS,
}


def _trial(completion: str, task: Task) -> Trial:
    return try_completion(completion, rules_of(task))
