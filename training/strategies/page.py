"""The HTML page of an evaluation: tables, chart, and replays to step through, all in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskgym.envs.game2048.games import Played
from taskgym.training.report_html import (
    Html,
    join,
    number,
    page,
    percent,
    picture,
    section,
    table,
    tag,
    text,
)
from taskgym.training.strategies.replay import Frame, frames, picks, spawns
from taskgym.training.strategies.summary import REACH, Summary
from taskgym.training.strategies.tiles import colour, ink

if TYPE_CHECKING:
    from taskgym.training.strategies.evaluation import Evaluation

_LONGEST = 20_000  # moves of a replay; of a longer game the last ones are kept
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # one character a tile: its power of two


def write_page(path: Path, title: str, evaluation: Evaluation, chart: Path, size: int) -> None:
    """Writes the page; the chart goes into it."""
    summaries, ladder = evaluation.summaries, evaluation.ladder
    notes = [tag("p", text(line)) for note in evaluation.notes() for line in note.splitlines()]
    body = (
        tag("h1", text("2048 strategies")),
        tag("p", text(title), css="soft"),
        section("Scores", _scores(summaries, ladder), *notes),
        section("Games that reach a tile", _reach(summaries, ladder)),
        section("Chart", picture(chart, "scores and largest tiles")),
        _replays(evaluation.games, size),
    )
    read = files("taskgym.training.strategies").joinpath
    style = read("replay.css").read_text(encoding="utf-8")
    script = read("replay.js").read_text(encoding="utf-8")
    path.write_text(page(title, *body, style=style, script=script), encoding="utf-8")


def _scores(summaries: Mapping[str, Summary], ladder: Mapping[str, Summary]) -> Html:
    head = [
        "strategy",
        "games",
        "mean",
        "± se",
        "5 %",
        "median",
        "95 %",
        "best",
        "moves",
        "us/move",
    ]
    rows = [
        [
            name,
            *(text(number(value)) for value in (s["games"], s["mean_score"], s.get("se"))),
            text(number(s.get("quantiles", {}).get("0.05"))),
            text(number(s.get("median_score"))),
            text(number(s.get("quantiles", {}).get("0.95"))),
            *(text(number(s.get(key))) for key in ("best_score", "mean_moves", "us_per_move")),
        ]
        for name, s in _named(summaries, ladder)
    ]
    return table(head, rows)


def _reach(summaries: Mapping[str, Summary], ladder: Mapping[str, Summary]) -> Html:
    head = ["strategy", *(f"{tile:,}" for tile in REACH)]
    rows = [
        [name, *(_share(s, str(tile)) for tile in REACH)] for name, s in _named(summaries, ladder)
    ]
    return table(head, rows)


def _named(
    summaries: Mapping[str, Summary], ladder: Mapping[str, Summary]
) -> list[tuple[Html, Summary]]:
    played = [(tag("b", text(name)), summary) for name, summary in summaries.items()]
    shipped = [
        (tag("span", text(f"ladder: {name}"), css="soft"), summary)
        for name, summary in ladder.items()
    ]
    return [*played, *shipped]


def _share(summary: Summary, tile: str) -> Html:
    shown = text(percent(summary["reach"].get(tile)))
    if tile not in summary.get("reach_95", {}):
        return shown
    low, high = (f"{100 * end:.1f}" for end in summary["reach_95"][tile])
    return join(shown, tag("span", text(f" {low}–{high}"), css="soft"))


def _replays(games: Mapping[str, Sequence[Played]], size: int) -> Html:
    chosen = [
        {"strategy": name, "rank": rank, **_recorded(frames(played, size), size), **_facts(played)}
        for name, every in games.items()
        for rank, played in picks(every).items()
    ]
    colours = {tile: (colour(tile), ink(tile)) for tile in (0, *(1 << k for k in range(1, 37)))}
    data = {"size": size, "colours": colours, "games": chosen}
    options = "".join(f"<option>{text(name)}</option>" for name in games)
    packed = json.dumps(data).replace("<", "\\u003c")
    return section("Replays", Html(_VIEWER.format(options=options, data=packed)))


def _facts(played: Played) -> dict[str, Any]:
    how = played.detail if played.failure else "no move left"
    return {
        "ending": f"{played.score:,} points, largest tile {played.max_tile:,}; ended: {how}",
        "seed": f"{played.seed:#x}",
    }


def _recorded(seen: Sequence[Frame], size: int) -> dict[str, Any]:
    """The boards of a game as text, a character a cell."""
    first = max(0, len(seen) - 1 - _LONGEST)
    kept = seen[first:]
    return {
        "boards": "".join(_DIGITS[t.bit_length() - 1] if t else "0" for f in kept for t in f.tiles),
        "keys": "".join(frame.key for frame in kept[1:]),
        "scores": [frame.score for frame in kept],
        "spawns": spawns(kept, size),
        "first": first,
        "moves": len(seen) - 1,
    }


_VIEWER = """
<div class="controls">
  <label>strategy <select id="strategy">{options}</select></label>
  <span id="ranks" role="group" aria-label="game">
    <button value="best">best</button> <button value="median">median</button>
    <button value="worst">worst</button>
  </span>
</div>
<div class="replay">
  <div id="board" class="board" role="img"></div>
  <div>
    <div class="facts">
      <div><span>move</span><b id="move"></b></div>
      <div><span>score</span><b id="score"></b></div>
      <div><span>last key</span><b id="key"></b></div>
    </div>
    <input id="at" type="range" min="0" step="1" aria-label="move">
    <div class="controls">
      <button data-step="Home" aria-label="first">|◀</button>
      <button data-step="ArrowLeft" aria-label="back">◀</button>
      <button id="play"></button>
      <button data-step="ArrowRight" aria-label="on">▶</button>
      <button data-step="End" aria-label="last">▶|</button>
      <label>speed <select id="speed"><option value="2">2 moves/s</option>
        <option value="10" selected>10 moves/s</option><option value="50">50 moves/s</option>
        <option value="250">250 moves/s</option></select></label>
    </div>
    <p id="ending"></p>
    <p class="soft">seed <span id="seed"></span></p>
    <p class="soft"><kbd>←</kbd> <kbd>→</kbd> a move, <kbd>PgUp</kbd> <kbd>PgDn</kbd> 25 moves,
      <kbd>Home</kbd> <kbd>End</kbd>, <kbd>space</kbd> plays. The framed tile is the new one.</p>
  </div>
</div>
<script type="application/json" id="games">{data}</script>
"""
