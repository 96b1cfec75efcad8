"""Math-DAPO-v0: competition problems, a working and a solution between tags.

Names, scores and the order of branches are those of Unsloth's Qwen3 (4B) GRPO notebook;
docs/rewards.md lists where and why a score differs.
"""

from __future__ import annotations

from taskgym.envs.math_env import SolutionTagsEnv
from taskgym.envs.math_scores import AnswerScores, NumberScores, answer_score, number_score
from taskgym.envs.rubric import Rubric, Task
from taskgym.envs.tags import Reading, Tags, read

TAGS = Tags("<start_working_out>", "<end_working_out>", "<SOLUTION>", "</SOLUTION>")
ANSWER = AnswerScores(
    missing=-2.0, exact=5.0, value=3.5, near=2.0, far=1.5, wrong=-2.5, unreadable=-4.5
)
NUMBERS = NumberScores(missing=-2.5, equal=3.5, different=-1.5)
SYSTEM_PROMPT = (
    "You will be given a problem.\n"
    "Think it through and write down your working.\n"
    "Put the working between <start_working_out> and <end_working_out>.\n"
    "After that, state the final answer between <SOLUTION> and </SOLUTION>."
)


def formatted(reading: Reading) -> bool:
    """Working, its closing tag, one non-empty solution, and nothing after it.

    The opening tag is optional, as a chat template may have written it; twice is once too often.
    """
    return reading.complete and bool(reading.answer) and reading.ends and reading.counts[0] <= 1


def match_format_exactly(completion: str, task: Task) -> float:
    """3 for the whole layout."""
    return 3.0 if formatted(read(completion, TAGS)) else 0.0


def match_format_approximately(completion: str, task: Task) -> float:
    """For each tag but the opening one: +0.5 where it stands once, else -1."""
    return sum(0.5 if count == 1 else -1.0 for count in read(completion, TAGS).counts[1:])


def check_answer(completion: str, task: Task, *, near_miss: bool = True) -> float:
    """The solution against the gold answer, provided that the layout is whole."""
    reading = read(completion, TAGS)
    if not formatted(reading) or reading.answer is None:
        return ANSWER.missing
    return answer_score(ANSWER, reading.answer, task.answer, near_miss)


def check_numbers(completion: str, task: Task) -> float:
    """The value in the solution block, whatever stands around the block."""
    return number_score(NUMBERS, read(completion, TAGS).answer, task.answer)


class MathDapo(SolutionTagsEnv):
    """Competition maths with integer answers: working and solution between tags."""

    source = "open-r1/DAPO-Math-17k-Processed, or your own rows"
    hub_id = "open-r1/DAPO-Math-17k-Processed"
    hub_config = "en"
    sample = "dapo.jsonl"
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
        "match_format_approximately": 1.5,
        "check_answer": 5.0,
        "check_numbers": 3.5,
    }
