"""Where the tags of a reply stand: one pass of linear cost, shared by the maths envs.

A reply has two parts, each between two tags: the working, then the answer. Only substring counts
and searches are used, which Python bounds linearly, so 4 MB of repeated tags cost milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

# End-of-sequence strings that a decoder may leave behind the last tag.
EOS = frozenset(
    [
        "",
        "<|endoftext|>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|end_of_text|>",
        "<|return|>",
        "</s>",
        "<eos>",
        "<end_of_turn>",
    ]
)


class Tags(NamedTuple):
    """The four tags of a reply, in the order in which they are asked for."""

    open: str
    close: str
    begin: str
    end: str


class Reading(NamedTuple):
    """What one pass found in a reply.

    Attributes:
        counts: How often each of the four tags stands. When the working is closed once and both
            tags of an answer follow, these count from there on: tags that are merely mentioned in
            the working are not tags of the reply.
        lead: Text before the first opening tag (empty without one).
        working: Text between the opening (or the start) and the closing tag, None if not closed.
        gap: Text between the working and the answer.
        answer: Text of the one answer block, None if there is none, or more than one.
        rest: Text after the answer block.
    """

    counts: tuple[int, int, int, int]
    lead: str
    working: str | None
    gap: str
    answer: str | None
    rest: str

    @property
    def complete(self) -> bool:
        """Whether a closed working is followed by one answer block."""
        return self.working is not None and self.answer is not None

    @property
    def ends(self) -> bool:
        """Whether nothing but blanks and one end-of-sequence string follows the answer."""
        return self.rest.strip() in EOS


@lru_cache(maxsize=4)  # the components of a rubric read the same reply in turn
def read(reply: str, tags: Tags) -> Reading:
    """Finds the parts of a reply."""
    closings = reply.count(tags.close)
    close = reply.find(tags.close) if closings == 1 else -1
    start = close + len(tags.close)
    closed = close >= 0 and min(reply.find(tags.begin, start), reply.find(tags.end, start)) >= 0
    if not closed:
        start = 0
    opening = reply.find(tags.open)
    counts = (
        reply.count(tags.open),
        closings,
        reply.count(tags.begin, start),
        reply.count(tags.end, start),
    )
    gap, answer, rest = _answer(reply, tags, start) if counts[2:] == (1, 1) else ("", None, "")
    ordered = closed and opening < close
    working = reply[opening + len(tags.open) if opening >= 0 else 0 : close] if ordered else None
    return Reading(counts, reply[: max(opening, 0)], working, gap, answer, rest)


def _answer(reply: str, tags: Tags, start: int) -> tuple[str, str | None, str]:
    begin, end = reply.find(tags.begin, start), reply.find(tags.end, start)
    inside = begin + len(tags.begin)
    if end < inside:
        return "", None, ""
    return reply[start:begin], reply[inside:end], reply[end + len(tags.end) :]
