"""What the games of a strategy come to: the numbers of the table and of the JSON file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from taskgym.envs.game2048.games import Played
from taskgym.training.statistics import Interval, paired_difference, wilson_interval

REACH = (256, 512, 1024, 2048, 4096, 8192)
_MEASURABLE = 0.02  # CPU seconds: of less a kernel may count whole ticks only
QUANTILES = (0.05, 0.25, 0.75, 0.95)


Summary = dict[str, Any]


def summarise(games: Sequence[Played]) -> Summary:
    """The numbers of a strategy; a game that it broke off counts with the score it had."""
    scores = np.array([game.score for game in games], np.float64)
    timed = [game for game in games if game.seconds == game.seconds and game.moves]
    seconds, moves = sum(g.seconds for g in timed), sum(g.moves for g in timed)
    quantiles = np.quantile(scores, QUANTILES)
    return {
        "games": len(games),
        "mean_score": float(scores.mean()),
        "se": float(scores.std(ddof=1) / len(games) ** 0.5) if len(games) > 1 else None,
        "median_score": float(np.median(scores)),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
        "best_score": int(scores.max()),
        "worst_score": int(scores.min()),
        "reach": {str(tile): reached(games, tile).mean for tile in REACH},
        "reach_95": {str(t): [reached(games, t).low, reached(games, t).high] for t in REACH},
        "mean_moves": float(np.mean([game.moves for game in games])),
        "us_per_move": 1e6 * seconds / moves if seconds > _MEASURABLE else None,
        "failures": dict(Counter(game.failure for game in games if game.failure).most_common()),
    }


def reached(games: Sequence[Played], tile: int) -> Interval:
    """The share of games with a tile of at least this size, with Wilson's interval."""
    return wilson_interval(sum(game.max_tile >= tile for game in games), len(games))


def compare(games: Sequence[Played], others: Sequence[Played]) -> Summary:
    """How much more one strategy scores than another on the same games.

    The games are paired by their seeds, those that only one of them has played are left out. The
    verdict is "better" or "worse" if the 95 % interval of the mean difference leaves out 0.
    """
    theirs = {game.seed: float(game.score) for game in others}
    pairs = [(theirs[g.seed], float(g.score)) for g in games if g.seed in theirs]
    before, after = np.array(pairs, np.float64).T[:, :, None]
    difference = paired_difference(before, after)
    verdict = "no difference shown"
    if difference.low > 0:
        verdict = "better"
    elif difference.high < 0:
        verdict = "worse"
    return {
        "games": len(pairs),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "verdict": verdict,
    }
