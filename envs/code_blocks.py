"""Takes the program out of a completion: by its text alone, the code is neither parsed nor run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})([^`]*)")
_HARMONY = ("<|channel|>analysis", "analysis")  # as sampled, and with special tokens left out
_FINAL = ("<|channel|>final<|message|>", "assistantfinal")
_CLOSING_INDENT = 3  # a closing fence indented by more is text of the block (CommonMark 0.31, 4.5)


class Extraction(NamedTuple):
    """The program of a completion, or why there is none.

    Attributes:
        source: The text between the fences, ending in a newline; None if there is no program.
        reason: Why there is none; empty if there is one.
    """

    source: str | None
    reason: str


class Block(NamedTuple):
    """One fenced code block: its text, and whether its closing fence was written."""

    text: str
    closed: bool


def find_program(completion: str, entry: str) -> Extraction:
    """The last closed code fence that defines the function `entry` at its top level.

    Any language label is fine, and so is anything else in the block: imports, helpers, constants.
    Blocks of prose or of other functions are passed over, so are drafts in a reasoning part
    (`<think>`, or the analysis channel of gpt-oss). A fence that is never closed was cut off by a
    token limit and holds no whole program.
    """
    answer = final_answer(completion)
    if answer is None:
        return Extraction(None, "the completion ends before the reasoning does")
    defines = re.compile(
        rf"^(?:(?:async[ \t]+)?def[ \t]+{entry}\b|{entry}[ \t]*[=:])", re.MULTILINE
    )
    blocks = list(code_blocks(answer))
    with_entry = [block for block in blocks if defines.search(block.text)]
    for block in reversed(with_entry):
        if block.closed:
            return Extraction(block.text, "")
    if with_entry:
        return Extraction(None, "the code fence is not closed")
    if blocks:
        return Extraction(None, f"no code fence defines a function {entry}")
    return Extraction(None, "no code fence")


def final_answer(completion: str) -> str | None:
    """A completion without its reasoning part; None if the reasoning never ends."""
    text = completion.lstrip()
    if text.startswith(_HARMONY):
        ends = [completion.rfind(mark) + len(mark) for mark in _FINAL if mark in completion]
        return completion[max(ends) :] if ends else None
    _, closing, answer = completion.rpartition("</think>")
    if not closing and text.startswith("<think>"):
        return None
    return answer


def code_blocks(text: str) -> Iterator[Block]:
    """The fenced code blocks of Markdown text, in order; an indented fence's lines are dedented."""
    lines = iter(text.replace("\r\n", "\n").split("\n"))
    for line in lines:
        opening = _FENCE.fullmatch(line)
        if opening:
            yield _block(lines, indent=len(opening[1]), fence=opening[2])


def _block(lines: Iterator[str], indent: int, fence: str) -> Block:
    """Reads on to the closing fence."""
    inside: list[str] = []
    for line in lines:
        blanks = len(line) - len(line.lstrip(" \t"))
        bare = line.strip(" \t")
        ends = len(bare) >= len(fence) and not bare.strip(fence[0])
        if ends and blanks <= indent + _CLOSING_INDENT:
            return Block("".join(f"{each}\n" for each in inside), closed=True)
        inside.append(line[min(indent, blanks) :])
    return Block("".join(f"{each}\n" for each in inside), closed=False)
