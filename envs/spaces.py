"""Gymnasium spaces for chat: `Chat` holds messages, `Action` holds any Unicode text."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

Message = dict[str, Any]
Messages = list[Message]

ROLES = frozenset({"system", "user", "assistant", "tool"})
PARTS = {"text": "text", "image": "image"}  # part type -> the key that carries its payload

# Sampled text should meet what models really write: ASCII, accents, CJK, an emoji, LaTeX, newlines.
_ALPHABET = "abcxyzABC 0123456789 \n\t.,;:+-*/=<>(){}[]\\$%'\"éßñ中文字−½²😀"


def _sample_text(rng: np.random.Generator, longest: int = 64) -> str:
    letters = rng.integers(len(_ALPHABET), size=int(rng.integers(longest + 1)))
    return "".join(_ALPHABET[i] for i in letters)


class Action(spaces.Space[str]):
    """Every Python string: what a policy wrote, unchecked and unbounded.

    Gymnasium's own `Text` refuses spaces and non-ASCII letters by default and inspects every
    character; here membership is one type test, so it costs the same for 4 MB as for 4 characters.
    """

    def __init__(self, seed: int | np.random.Generator | None = None):
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no fixed-size array form."""
        return False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """Up to 64 random characters from several scripts."""
        return _sample_text(self.np_random)

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string."""
        return isinstance(x, str)

    def __repr__(self) -> str:
        return "Action()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Action)

    __hash__ = None  # type: ignore[assignment]


class Chat(spaces.Space[Messages]):
    """Lists of OpenAI-style messages, the empty list included (nothing new was said).

    A message is `{"role": ..., "content": str | parts}`; a part is `{"type": "text", "text": str}`
    or `{"type": "image", "image": PIL.Image}`.
    """

    def __init__(self, seed: int | np.random.Generator | None = None):
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Messages have no fixed-size array form."""
        return False

    def sample(self, mask: None = None, probability: None = None) -> Messages:
        """A user message of random text, at times after a system message."""
        roles = ["system", "user"] if self.np_random.random() < 0.5 else ["user"]
        return [{"role": role, "content": _sample_text(self.np_random)} for role in roles]

    def contains(self, x: Any) -> bool:
        """Whether `x` is a list of well-formed messages; the text itself is not inspected."""
        return isinstance(x, list) and all(_is_message(message) for message in x)

    def to_jsonable(self, sample_n: Iterable[Messages]) -> list[Messages]:
        """Messages as JSON: images become PNG as base64, the rest is JSON already."""
        return [[_coded(message, _encoded) for message in messages] for messages in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[Messages]:
        """The inverse of `to_jsonable`."""
        return [[_coded(message, _decoded) for message in messages] for messages in sample_n]

    def __repr__(self) -> str:
        return "Chat()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chat)

    __hash__ = None  # type: ignore[assignment]


def _is_message(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        return False
    content = message.get("content")
    return isinstance(content, str) or (
        isinstance(content, list) and all(_is_part(part) for part in content)
    )


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    payload = PARTS.get(part.get("type", ""))
    return payload is not None and payload in part


def _coded(message: Message, convert: Callable[[dict[str, Any]], dict[str, Any]]) -> Message:
    content = message["content"]
    if isinstance(content, str):
        return message
    return {**message, "content": [convert(part) for part in content]}


def _encoded(part: dict[str, Any]) -> dict[str, Any]:
    from taskgym.envs.images import to_png

    if part["type"] != "image":
        return part
    return {"type": "image", "png": base64.b64encode(to_png(part["image"])).decode()}


def _decoded(part: dict[str, Any]) -> dict[str, Any]:
    from taskgym.envs.images import open_image

    if "png" not in part:
        return part
    return {"type": "image", "image": open_image(base64.b64decode(part["png"]), "an image")}
