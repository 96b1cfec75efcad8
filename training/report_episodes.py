"""The sample episodes of `report.html`: a few of the first steps and a few of the last."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from taskgym.training.metrics import Json
from taskgym.training.report_html import (
    Html,
    fold,
    join,
    number,
    section,
    tag,
    text,
    thumbnail,
)

_STEPS = 3  # how many steps count as the first, and as the last
_MAX_TEXT = 20_000  # characters shown of one message: the page stays small whatever a model wrote


def episodes_section(episodes: Iterable[Json]) -> Html:
    """First, best, worst and last of the first steps and of the last ones; read in one pass."""
    early, late = map(_with_pictures, _ends(episodes))
    parts = [
        join(tag("h3", text(f"Steps {_span(part)}")), *(_show(*pick) for pick in _picks(part)))
        for part in (early, late)
        if part
    ]
    return section("Episodes", *parts)


def _ends(episodes: Iterable[Json]) -> tuple[list[Json], list[Json]]:
    """The episodes of the first steps and of the last steps; none is in both."""
    early: list[Json] = []
    late: deque[Json] = deque()
    for episode in episodes:
        if not early or episode["step"] < early[0]["step"] + _STEPS:
            early.append(episode)
            continue
        late.append(episode)
        while late[0]["step"] <= episode["step"] - _STEPS:
            late.popleft()
    return early, list(late)


def _with_pictures(episodes: Iterable[Json]) -> list[Json]:
    """Episodes that share a picture keep it once in the file; here each has it."""
    whole = list(episodes)
    parts = [part for e in whole for m in e.get("messages", []) for part in _parts(m)]
    known = {part["hash"]: part["png"] for part in parts if "hash" in part and "png" in part}
    for part in parts:
        if part.get("hash") in known:
            part["png"] = known[part["hash"]]
    return whole


def _span(episodes: Sequence[Json]) -> str:
    first, last = episodes[0]["step"], episodes[-1]["step"]
    return f"{first}" if first == last else f"{first} to {last}"


def _picks(episodes: Sequence[Json]) -> list[tuple[str, Json]]:
    """Each episode once, with everything it is an example of."""
    scored = [e for e in episodes if e.get("reward") is not None and not e.get("error")]
    wanted = {"first": episodes[0]}
    if scored:
        wanted["best"] = max(scored, key=lambda episode: float(episode["reward"]))
        wanted["worst"] = min(scored, key=lambda episode: float(episode["reward"]))
    wanted["last"] = episodes[-1]
    names: dict[int, list[str]] = {}
    for name, episode in wanted.items():
        names.setdefault(id(episode), []).append(name)
    found = {id(episode): episode for episode in wanted.values()}
    return [(", ".join(names[key]), episode) for key, episode in found.items()]


def _show(name: str, episode: Json) -> Html:
    outcome = "solved" if episode.get("success") else "not solved"
    chips = [outcome, f"stop: {episode.get('stop')}", f"reward {number(episode.get('reward'))}"]
    chips += [f"step {episode['step']}", f"{len(episode.get('completion_ids', []))} tokens"]
    summary = join(tag("b", text(name)), *(tag("span", text(chip), css="chip") for chip in chips))
    messages = [_message(message) for message in episode.get("messages", [])]
    return fold(summary, _facts(episode), *messages)


def _facts(episode: Json) -> Html:
    """Everything short about an episode: where it came from, its scores, what went wrong."""
    names = ("group", "member", "seed", "index", "env", "task_id", "rewards", "verdict", "error")
    shown = [f"{name}: {_brief(episode[name])}" for name in names if episode.get(name) is not None]
    return tag("p", text(" · ".join(shown)), css="soft")


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {_brief(inner)}" for key, inner in value.items())
    return number(value) if isinstance(value, float) else str(value)


def _message(message: Json) -> Html:
    role = str(message["role"])
    css = "assistant" if role == "assistant" else ""
    said = tag("pre", text(_content(message)), css=css)
    shown = [thumbnail(part["png"], _about(part)) for part in _parts(message) if "png" in part]
    said = tag("div", tag("div", *shown), said, css="beside") if shown else said
    return join(tag("div", text(role), css="role"), said)


def _parts(message: Json) -> list[Json]:
    content = message["content"]
    return content if isinstance(content, list) else []


def _about(part: Json) -> str:
    return f"image {part.get('hash', '')}".strip()


def _content(message: Json) -> str:
    content = message["content"]
    if not isinstance(content, str):
        content = "\n".join(
            part.get("text") or f"[{_about(part) if part['type'] == 'image' else part['type']}]"
            for part in content or []
        )
    left_out = len(content) - _MAX_TEXT
    if left_out <= 0:
        return str(content)
    half = _MAX_TEXT // 2
    return f"{content[:half]}\n\n[... {left_out:,} characters left out ...]\n\n{content[-half:]}"
