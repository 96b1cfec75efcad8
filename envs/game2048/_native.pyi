from typing import Any

def play(player: int, low: int, high: int, /) -> tuple[int, int, str]: ...
def start(
    size: int,
    which: Any,
    seeds: Any,
    cells: Any,
    words: Any,
    keys: Any,
    spawns: Any,
    legal: Any,
    /,
) -> None: ...
def step(
    size: int,
    actions: Any,
    cells: Any,
    words: Any,
    keys: Any,
    spawns: Any,
    legal: Any,
    gains: Any,
    /,
) -> None: ...
