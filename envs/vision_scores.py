"""The components of the vision envs, in the notebook's scale: two points for format, two for right.

Names and scores are those of Unsloth's Gemma 3 (4B) vision GRPO notebook; docs/vision.md lists
where and why a score differs.
"""

from __future__ import annotations

from fractions import Fraction

from taskgym.envs.answers import Verdict
from taskgym.envs.math_scores import first_number, judge, plain_number
from taskgym.envs.rubric import Task
from taskgym.envs.tags import Tags, read

TAGS = Tags("<REASONING>", "</REASONING>", "<SOLUTION>", "</SOLUTION>")
INSTRUCTION = (
    "First write your reasoning between <REASONING> and </REASONING>, then only the final answer "
    "between <SOLUTION> and </SOLUTION>."
)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# What stands between the tags where the instruction names them: a copy of it says nothing.
_COPIED = frozenset(["", "and", "...", "…"])
_MOST_BLOCKS = 8  # a reply with more solutions than that is a guess, not an answer


def formatting_reward_func(completion: str, task: Task) -> float:
    """1 for the reasoning first and 1 for one solution after it, both with content, then the end.

    Text outside the blocks and tags that stand twice cost the point of the block they are at.
    """
    said = own_words(completion)
    reading = read(said, TAGS)
    working = reading.working
    if working is None and reading.counts == (1, 1, 0, 0):  # no solution yet
        working = said.partition(TAGS.open)[2].partition(TAGS.close)[0]
    reasoned = reading.counts[0] == 1 and not reading.lead.strip() and _says(working)
    solved = _says(reading.answer) and not reading.gap.strip() and reading.ends
    return float(reasoned) + float(solved)


def correctness_reward_func(completion: str, task: Task) -> float:
    """2 if the solution is right; stating it twice does not make it wrong, another one does."""
    return 2.0 if verdict(completion, task) is Verdict.EQUAL else 0.0


def verdict(completion: str, task: Task) -> Verdict:
    """How the solution compares with the gold answer; of several, the first that is not equal."""
    verdicts = [judge_solution(said, task) for said in solutions(completion)]
    wrong = (v for v in verdicts if v is not Verdict.EQUAL)
    return next(wrong, Verdict.EQUAL if verdicts else Verdict.UNPARSED)


def solutions(completion: str) -> list[str]:
    """The texts of the solution blocks, each once; none if there are too many or one is blank."""
    parts = own_words(completion).split(TAGS.begin)[1:]
    if len(parts) > _MOST_BLOCKS:
        return []
    blocks = [part.split(TAGS.end)[0].strip() for part in parts if TAGS.end in part]
    return list(dict.fromkeys(blocks)) if all(map(_says, blocks)) else []


def judge_solution(said: str, task: Task) -> Verdict:
    """Whether one solution is right: by its choice, to its precision, or by value."""
    choices = task.row.get("choices") or ()
    if choices:
        return _judge_choice(said, task.answer, choices)
    precision, unit = task.row.get("precision"), task.row.get("unit")
    value, gold = plain_number(said), plain_number(task.answer)
    if precision is not None and value is not None and gold is not None:
        half = Fraction(1, 2 * 10 ** int(precision))
        if abs(value - gold) <= half:  # it rounds to the gold answer; its unit is compared still
            said = said.replace(str(first_number(said)), task.answer, 1)
    return judge(said, f"{task.answer} {unit}" if unit else task.answer)


def own_words(completion: str) -> str:
    """The completion without copies of the instruction, which name the tags and say nothing."""
    return completion.replace(INSTRUCTION, "")


def chosen(said: str, choices: tuple[str, ...]) -> str | None:
    """The letter that a solution picks: `B`, `(B)`, `B. 12` or the text or value of that choice.

    Returns:
        None when it picks none, more than one, or a letter beside the text of another choice.
    """
    letter, rest = _lettered(said, len(choices))
    named = _same_text(rest if letter else said, choices)
    if letter is None or not rest or named == letter:
        return letter or named
    return _same_text(said, choices)  # a choice that begins as a letter does: `a cube`


def _judge_choice(said: str, gold: str, choices: tuple[str, ...]) -> Verdict:
    letter = chosen(said, choices)
    if letter is None:
        return Verdict.UNPARSED
    return Verdict.EQUAL if letter == gold else Verdict.DIFFERENT


def _lettered(said: str, count: int) -> tuple[str | None, str]:
    """The letter a solution begins with, if it is one of the choices, and what follows it."""
    bare = said.strip().lstrip("([").lstrip()
    letter, rest = bare[:1], bare[1:]
    upper = letter.upper()
    if not upper or upper not in LETTERS[:count] or rest[:1].isalnum():
        return None, ""
    return upper, rest.lstrip(")].:, \t").strip()


def _same_text(said: str, choices: tuple[str, ...]) -> str | None:
    """The letter of the one choice that the words or the value fit."""
    plain = _folded(said)
    exact = [i for i, choice in enumerate(choices) if _folded(choice) == plain]
    fits = exact or [i for i, c in enumerate(choices) if judge(said, c) is Verdict.EQUAL]
    return LETTERS[fits[0]] if len(fits) == 1 else None


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _says(text: str | None) -> bool:
    return text is not None and text.strip().casefold() not in _COPIED
