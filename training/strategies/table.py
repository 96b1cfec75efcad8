"""The tables that `evaluate_strategy` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskgym.envs.game2048.games import Played
from taskgym.training.strategies.summary import REACH, Summary

Rows = list[tuple[str, list[str]]]


def results_table(summaries: Mapping[str, Summary], ladder: Mapping[str, Summary]) -> str:
    """Scores and tiles of the strategies played, and below them the ladder's as shipped."""
    rows: Rows = [(name, _scores(summary)) for name, summary in summaries.items()]
    rows += [(f"ladder: {name}", _scores(summary)) for name, summary in ladder.items()]
    tiles: Rows = [(name, _reach(summary)) for name, summary in summaries.items()]
    tiles += [(f"ladder: {name}", _reach(summary)) for name, summary in ladder.items()]
    score_head = ["games", "mean", "± se", "5 %", "median", "95 %", "best", "moves", "us/move"]
    return "\n".join(
        [
            _aligned("score", score_head, rows, len(summaries)),
            "",
            _aligned("games reaching", [f"{tile}" for tile in REACH], tiles, len(summaries)),
        ]
    )


def failures_text(name: str, games: Sequence[Played]) -> str:
    """How many games a strategy broke off, and why, each reason with an example; empty if none."""
    broken: dict[str, list[Played]] = {}
    for game in games:
        if game.failure:
            broken.setdefault(game.failure, []).append(game)
    if not broken:
        return ""
    total = sum(map(len, broken.values()))
    lines = [f"{name}: {total:,} of {len(games):,} games did not end by the rules of the game"]
    for reason, failed in sorted(broken.items(), key=lambda item: -len(item[1])):
        where = f"line {failed[0].line}, " if failed[0].line else ""
        lines.append(
            f"  {len(failed):,} {reason}, such as {where}move {failed[0].moves:,}: "
            f"{failed[0].detail} (seed {failed[0].seed:#x})"
        )
    return "\n".join(lines)


def comparison_text(name: str, other: str, result: Summary) -> str:
    """One sentence on a paired comparison."""
    difference, low, high = (f"{result[key]:+,.0f}" for key in ("difference", "low", "high"))
    if result["games"] == 1:
        return f"{name} scores {difference} against {other} in one game, which shows nothing"
    verdict = {
        "better": f"{name} is better",
        "worse": f"{name} is worse",
    }.get(result["verdict"], "no difference is shown")
    return (
        f"{name} scores {difference} against {other} on the same {result['games']:,} games "
        f"(95 % interval {low} to {high}): {verdict}"
    )


def _scores(summary: Mapping[str, Any]) -> list[str]:
    quantiles = summary.get("quantiles", {})
    return [
        _whole(summary["games"]),
        _whole(summary["mean_score"]),
        f"± {_whole(summary['se'])}" if summary.get("se") is not None else "",
        _whole(quantiles.get("0.05")),
        _whole(summary.get("median_score")),
        _whole(quantiles.get("0.95")),
        _whole(summary.get("best_score")),
        _whole(summary.get("mean_moves")),
        _digits(summary.get("us_per_move")),
    ]


def _reach(summary: Mapping[str, Any]) -> list[str]:
    intervals = summary.get("reach_95", {})
    return [_share(summary["reach"].get(str(t)), intervals.get(str(t))) for t in REACH]


def _share(share: float | None, interval: Sequence[float] | None) -> str:
    if share is None:
        return ""
    if interval is None:
        return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"
    digits = 0 if interval[0] > 0.1 else 1
    low, high = (f"{100 * end:.{digits}f}" for end in interval)
    return f"{share:.1%} [{low}, {high}]"


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _aligned(corner: str, head: Sequence[str], rows: Rows, rule: int) -> str:
    """Columns set flush right, with a rule below the head and below the first `rule` rows."""
    cells = [head, *(row for _, row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    first = max(len(corner), *(len(name) for name, _ in rows))
    lines = [
        f"{name:<{first}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True))
        for name, row in [(corner, list(head)), *rows]
    ]
    line = "-" * len(lines[0])
    lines.insert(1, line)
    if len(rows) > rule:
        lines.insert(2 + rule, line)
    return "\n".join(text.rstrip() for text in lines)
