"""The ladder's results as they come with the package: what strategies are measured against."""

from __future__ import annotations

import json
from importlib.resources import files

from taskgym.training.strategies.summary import Summary


def ladder_summaries(size: int) -> dict[str, Summary]:
    """Player -> its numbers on a board of this size; empty where the ladder was not played."""
    shipped = files("taskgym.envs.game2048").joinpath("ladder.json")
    tables = json.loads(shipped.read_text(encoding="utf-8"))
    for table in tables:
        if table["size"] == size:
            strategies: dict[str, Summary] = table["strategies"]
            # So many games were played that their intervals would only be in the way.
            return {name: {**each, "reach_95": {}} for name, each in strategies.items()}
    return {}
