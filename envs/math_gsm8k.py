"""Math-GSM8K-v0: grade-school problems, reasoning and answer as XML blocks.

Names, scores and the order of branches are those of Unsloth's Llama 3.1 (8B) GRPO notebook;
docs/rewards.md lists where and why a score differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from taskgym.envs.answers import Verdict
from taskgym.envs.math_env import MathEnv
from taskgym.envs.math_scores import judge
from taskgym.envs.rows import Row
from taskgym.envs.rubric import Rubric, Task
from taskgym.envs.tags import Reading, Tags, read

TAGS = Tags("<reasoning>", "</reasoning>", "<answer>", "</answer>")
SYSTEM_PROMPT = """
Reply in this layout, each tag on a line of its own:
<reasoning>
...
</reasoning>
<answer>
...
</answer>
"""

_PLAIN_NUMBER = re.compile(r"[-+−]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")
_MENTIONS = 64  # of one tag; a reply with more of them has no format
_BLANKS = " \t\r"
_REACH = 16  # blanks tolerated between a tag and the end of its line


def xmlcount_reward_func(completion: str, task: Task) -> float:
    """0.125 for each tag that stands on its line exactly once, less 0.001 per character after."""
    after = _after(completion)
    late = 0.001 * (len(completion) if after is None else len(after))
    return (
        0.125 * _one_line(completion, "", TAGS.open, "\n")
        + 0.125 * _one_line(completion, "\n", TAGS.close, "\n")
        + max(0.0, 0.125 - late) * _one_line(completion, "\n", TAGS.begin, "\n")
        + max(0.0, 0.125 - late) * _one_line(completion, "\n", TAGS.end, "")
    )


def soft_format_reward_func(completion: str, task: Task) -> float:
    """0.5 for a reasoning block at the start and one answer block right after it."""
    return 0.5 if _blocks(read(completion, TAGS)) else 0.0


def strict_format_reward_func(completion: str, task: Task) -> float:
    """0.5 for the blocks with each tag on its own line and nothing after them."""
    reading = read(completion, TAGS)
    if not _blocks(reading) or not reading.ends:
        return 0.0
    own_lines = _on_lines(reading.working) and _on_lines(reading.answer)
    return 0.5 if own_lines and reading.gap.strip(_BLANKS) == "\n" else 0.0


def int_reward_func(completion: str, task: Task) -> float:
    """0.5 for an answer block that holds one plain number, or the gold answer itself."""
    answer = _answer(completion)
    if answer is None:
        return 0.0
    plain = len(answer) <= 64 and _PLAIN_NUMBER.fullmatch(answer)
    return 0.5 if plain or judge(answer, task.answer) is Verdict.EQUAL else 0.0


def correctness_reward_func(completion: str, task: Task) -> float:
    """2 for an answer block equal in value to the gold answer."""
    answer = _answer(completion)
    return 2.0 if answer is not None and judge(answer, task.answer) is Verdict.EQUAL else 0.0


def _answer(completion: str) -> str | None:
    answer = read(completion, TAGS).answer
    return None if answer is None else answer.strip()


def _blocks(reading: Reading) -> bool:
    return (
        reading.complete
        and reading.counts[0] == 1
        and not reading.lead.strip()
        and not reading.gap.strip()
    )


def _on_lines(content: str | None) -> bool:
    """Whether what stands between two tags begins and ends with a line break of its own."""
    inner = (content or "").strip(_BLANKS)
    return len(inner) > 1 and inner[0] == inner[-1] == "\n"


def _one_line(text: str, above: str, tag: str, below: str) -> bool:
    """Whether a tag stands exactly once with a line break above and below it, where asked for."""
    if text.count(tag) == 1 and above + tag + below in text:
        return True  # the usual case, at the cost of two searches
    found = 0
    for at in _places(text, tag):
        begins = not above or text[max(0, at - _REACH) : at].rstrip(_BLANKS).endswith("\n")
        found += begins and (not below or _break(text, at + len(tag)) is not None)
    return found == 1


def _places(text: str, tag: str) -> Iterator[int]:
    if text.count(tag) > _MENTIONS:
        return
    at = text.find(tag)
    while at >= 0:
        yield at
        at = text.find(tag, at + len(tag))


def _break(text: str, at: int) -> int | None:
    """The position after the line break at `at`, blanks aside, or None if there is no break."""
    near = text[at : at + _REACH]
    blanks = len(near) - len(near.lstrip(_BLANKS))
    return at + blanks + 1 if near[blanks : blanks + 1] == "\n" else None


def _after(text: str) -> str | None:
    """What follows the last closing answer tag and its line break; None without such a tag."""
    at = text.rfind(TAGS.end)
    if at < 0:
        return None
    end = at + len(TAGS.end)
    return text[_break(text, end) or end :]


class MathGsm8k(MathEnv):
    """Grade-school word problems: reasoning and answer as XML blocks.

    Args:
        evaluation_split: A split whose rows are never trained on, such as GSM8K's own `test`: what
            a run holds out comes from there. Without it a run holds out rows of `split`.
        dataset: The keyword arguments of `DatasetEnv`.
    """

    source = "openai/gsm8k, or your own rows"
    hub_id = "openai/gsm8k"
    hub_config = "main"
    sample = "gsm8k.jsonl"
    system_prompt = SYSTEM_PROMPT
    tags = TAGS
    layout = "<reasoning>\n{working}\n</reasoning>\n<answer>\n{answer}\n</answer>"
    rubric = Rubric(
        {
            "xmlcount_reward_func": (xmlcount_reward_func, 1.0),
            "soft_format_reward_func": (soft_format_reward_func, 1.0),
            "strict_format_reward_func": (strict_format_reward_func, 1.0),
            "int_reward_func": (int_reward_func, 1.0),
            "correctness_reward_func": (correctness_reward_func, 1.0),
        }
    )
    best = {  # noqa: RUF012
        "xmlcount_reward_func": 0.5,
        "soft_format_reward_func": 0.5,
        "strict_format_reward_func": 0.5,
        "int_reward_func": 0.5,
        "correctness_reward_func": 2.0,
    }

    def __init__(self, *, evaluation_split: str | None = None, **dataset: Any):
        super().__init__(**dataset)
        if evaluation_split == self.split:
            raise ValueError(f"split and evaluation_split are both {self.split!r}")
        self.evaluation_split = evaluation_split

    def load(self) -> Sequence[Row]:
        """The rows of `split`, and then those for evaluation."""
        rows = super().load()
        if self.evaluation_split is None:
            return rows
        apart = MathGsm8k(data=self.data, split=self.evaluation_split).load()
        return [*rows, *({**row, "split": self.evaluation_split} for row in apart)]

    def kept_for_evaluation(self, task: Task) -> bool:
        """Whether it comes from `evaluation_split`."""
        return self.evaluation_split is not None and task.row.get("split") == self.evaluation_split
