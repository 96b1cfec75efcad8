"""Math-GSM8K-Shaped-v0: grade-school problems, scored step by step towards a tagged solution.

Names, scores and the order of branches are those of Unsloth's advanced Llama 3.2 (3B) GRPO
notebook; docs/rewards.md lists where and why a score differs.
"""

from __future__ import annotations

from taskgym.envs.math_dapo import SYSTEM_PROMPT, TAGS
from taskgym.envs.math_env import SolutionTagsEnv
from taskgym.envs.math_scores import AnswerScores, NumberScores, answer_score, number_score
from taskgym.envs.rubric import Rubric, Task
from taskgym.envs.tags import Reading, read

ANSWER = AnswerScores(
    missing=0.0, exact=3.0, value=1.5, near=1.0, far=0.5, wrong=-1.5, unreadable=-1.5
)
NUMBERS = NumberScores(missing=0.0, equal=1.5, different=-0.5)


def formatted(reading: Reading) -> bool:
    """All four tags once, in order: nothing before them, a working, an answer, nothing after."""
    return (
        reading.complete
        and reading.counts[0] == 1
        and not reading.lead.strip()
        and _worked(reading)
        and bool(reading.answer)
        and reading.ends
    )


def match_format_exactly(completion: str, task: Task) -> float:
    """3 for the whole layout."""
    return 3.0 if formatted(read(completion, TAGS)) else 0.0


def match_format_approximately(completion: str, task: Task) -> float:
    """For each of the four tags: +0.5 where it stands once, else -1.

    A blank working counts as its two tags missing, as the exact format does not accept it either.
    """
    reading = read(completion, TAGS)
    counts = reading.counts if _worked(reading) else (0, 0, *reading.counts[2:])
    return sum(0.5 if count == 1 else -1.0 for count in counts)


def check_answer(completion: str, task: Task, *, near_miss: bool = True) -> float:
    """The solution against the gold answer, provided that the layout is whole."""
    reading = read(completion, TAGS)
    if not formatted(reading) or reading.answer is None:
        return ANSWER.missing
    return answer_score(ANSWER, reading.answer, task.answer, near_miss)


def check_numbers(completion: str, task: Task) -> float:
    """The value in the solution block, whatever stands around the block."""
    return number_score(NUMBERS, read(completion, TAGS).answer, task.answer)


def _worked(reading: Reading) -> bool:
    return reading.working is None or bool(reading.working.strip())


class MathGsm8kShaped(SolutionTagsEnv):
    """Grade-school word problems: four tags, credit for each step towards the format."""

    source = "openai/gsm8k, or your own rows"
    hub_id = "openai/gsm8k"
    hub_config = "main"
    sample = "gsm8k.jsonl"
    system_prompt = SYSTEM_PROMPT
    tags = TAGS
    rubric = Rubric(
        {
            "match_format_exactly": (match_format_exactly, 1.0),
            "match_format_approximately": (match_format_approximately, 1.0),
            "check_answer": (check_answer, 1.0),
            "check_numbers": (check_numbers, 1.0),
        }
    )
    best = {  # noqa: RUF012
        "match_format_exactly": 3.0,
        "match_format_approximately": 2.0,
        "check_answer": 3.0,
        "check_numbers": 1.5,
    }
