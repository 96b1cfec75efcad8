"""From the words on the command line to strategies: files to read, players of the ladder."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskgym.envs.game2048.players import LADDER
from taskgym.training.errors import ConfigError


@dataclass(frozen=True)
class Strategy:
    """What plays.

    Attributes:
        name: What tables call it: a player's name, or of a file the shortest end of its path that
            no other strategy has.
        path: The file; None for a player of the ladder.
        source: The file's text, empty for a player.
    """

    name: str
    path: Path | None = None
    source: str = ""


def find_strategies(words: Sequence[str]) -> list[Strategy]:
    """The strategies named, in order.

    Raises:
        ConfigError: No such file or player (the nearest is named), or one is named twice.
    """
    paths = [_path(word) for word in words]
    named = list(zip(words, paths, strict=True))
    places = [word if path is None else str(path.resolve()) for word, path in named]
    for place, count in Counter(places).items():
        if count > 1:
            raise ConfigError(f"{place} is named twice")
    names = _short_names([path.resolve() for path in paths if path is not None])
    return [
        Strategy(word) if path is None else Strategy(names[path.resolve()], path, _read(path))
        for word, path in named
    ]


def _path(word: str) -> Path | None:
    """The file that a word names; None for a player of the ladder."""
    if word in LADDER:
        return None
    path = Path(word)
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"{word} is a folder; name a Python file with a function strategy(board)")
    if path.suffix == ".py" or len(path.parts) > 1:
        siblings = path.parent.glob("*.py") if path.parent.is_dir() else ()
        hint = _near(path.name, [each.name for each in siblings])
        raise ConfigError(f"no file {word}.{hint}")
    raise ConfigError(
        f"no file and no player {word!r}.{_near(word, LADDER)} The ladder is {', '.join(LADDER)}"
    )


def _near(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The fewest last parts of each path that tell it from the others."""
    names: dict[Path, str] = {}
    for path in paths:
        parts = 1
        while any(other.parts[-parts:] == path.parts[-parts:] for other in paths if other != path):
            parts += 1
        names[path] = "/".join(path.parts[-parts:])
    return names
