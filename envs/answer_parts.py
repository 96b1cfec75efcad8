"""Cut an answer's text into parts: at brackets, outside brackets, and at `and` and `or`."""

from __future__ import annotations

import re

BRACKET = re.compile(r"\\[{}]|\\[lr]angle|[(){}\[\]]")
_OPENING = ("(", "[", "{", "\\{", "\\langle")
_JOIN = re.compile(r"\s+(?:or|and)\s+|\s*[,;]\s*(?:or|and)\s+")
_NAME = re.compile(
    r"([A-Za-z]|\\[A-Za-z]+)(?:_\{?\w+\}?)?'?(?:\s*\(\s*(?:[A-Za-z]|-?\d+)(?:\s*,\s*(?:[A-Za-z]|-?\d+))*\s*\))?"
)


def split(text: str, separators: str) -> list[str]:
    """Split ``text`` at the separators that stand outside every bracket."""
    if not any(separator in text for separator in separators):
        return [text]
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character in separators and depth <= 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]


def joined(text: str) -> list[str]:
    """Split ``text`` at its conjunctions: ``x=1 or x=2``."""
    return _JOIN.split(text)


def closing(text: str) -> int:
    """Return where the bracket that opens ``text`` closes, whatever kind closes it; -1 if never."""
    depth = 0
    for found in BRACKET.finditer(text):
        depth += 1 if found[0] in _OPENING else -1
        if depth == 0:
            return found.start()
    return -1


def is_name(text: str) -> bool:
    r"""Tell whether ``text`` names an unknown or a function: ``x_1``, ``\theta``, ``f(x)``."""
    return _NAME.fullmatch(text) is not None
