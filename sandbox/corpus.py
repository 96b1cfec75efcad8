"""An attack corpus: programs, what a sandbox may answer to each, and what must then still hold."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OWN = Path(__file__).parent / "attacks"


class BadCorpus(ValueError):
    """A corpus that cannot be read."""


@dataclass(frozen=True)
class Item:
    """One attack, or a harmless program, which no sandbox may stop.

    Attributes:
        programs: Run one after the other in the same pool; the last one is judged.
        calls: How often its `strategy(board)` is called.
        expect: The statuses that are right.
        canaries: What must hold afterwards: names of checks in `taskgym.sandbox.judge`.
        value: Of a harmless program, what it returns.
    """

    id: str
    category: str
    title: str
    programs: tuple[str, ...]
    calls: int
    expect: tuple[str, ...]
    canaries: tuple[str, ...]
    value: Any = None


@dataclass(frozen=True)
class Corpus:
    """Items that share a board, limits, and a probe that shows whether the pool is as new."""

    items: tuple[Item, ...]
    board: list[list[int]]
    probe: Item
    limits: dict[str, float]

    def fresh_board(self) -> list[list[int]]:
        """A copy of the board."""
        return copy.deepcopy(self.board)


def load(*paths: Path) -> Corpus:
    """Reads files of one corpus; the first one's board, probe and limits are for all.

    Raises:
        BadCorpus: If a file is missing or is not such a corpus.
    """
    tables = [_table(path) for path in paths]
    try:
        items = [_item(each) for t in tables for each in (*t["items"], *t.get("benign", ()))]
        head = tables[0]
        probe = _item({"id": "probe", "category": "benign", "expect": ["ok"], **head["probe"]})
        return Corpus(tuple(items), head["board"], probe, head["limits_used"])
    except (KeyError, TypeError, IndexError) as error:
        raise BadCorpus(f"{paths[0]} is not an attack corpus: {error!r}") from None


def own() -> Corpus:
    """The corpus that ships with the sandbox."""
    return load(*sorted(OWN.glob("*.json")))


def _table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadCorpus(f"cannot read {path}: {error}") from None
    if not isinstance(table, dict):
        raise BadCorpus(f"{path} holds no JSON object")
    return table


def _item(raw: dict[str, Any]) -> Item:
    programs = raw.get("sequence", [raw])
    return Item(
        id=raw["id"],
        category=raw["category"],
        title=raw.get("title", ""),
        programs=tuple(_code(each) for each in programs),
        calls=raw.get("calls", 1),
        expect=tuple(raw["expect"]),
        canaries=tuple(raw.get("canary", ())),
        value=raw.get("value"),
    )


def _code(raw: Any) -> str:
    if isinstance(raw, str):
        return raw
    if "code" in raw:
        return str(raw["code"])
    return "".join(text * times for text, times in raw["code_parts"])
