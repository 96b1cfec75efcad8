"""Math-DAPO-v0: equal to the notebook on clean replies, better where the notebook is weak."""

import re
import time

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs import MachineryError, Task, math_scores
from taskgym.envs.answers import Verdict
from taskgym.envs.math_dapo import (
    MathDapo,
    check_answer,
    check_numbers,
    match_format_approximately,
    match_format_exactly,
)

COMPONENTS = (match_format_exactly, match_format_approximately, check_answer, check_numbers)
E, S, C = "<end_working_out>", "<SOLUTION>", "</SOLUTION>"


def task(answer):
    return Task("q", answer, "id")


def reply(solution, working="Some working."):
    return f"{working}{E}{S}{solution}{C}"


def scores(completion, answer):
    return tuple(component(completion, task(answer)) for component in COMPONENTS)


# The notebook's functions, written from their description: the reference for clean replies.

FORMAT = re.compile(
    rf"{E}.*?{S}(.+?){C}\s*(?:{re.escape('<|endoftext|>')})?\s*$", re.MULTILINE | re.DOTALL
)
NUMBER = re.compile(rf"{S}.*?\s*(-?[\d.,]+)", re.MULTILINE | re.DOTALL)


def notebook(completion, answer):
    found = FORMAT.search(completion)
    exactly = 3.0 if found else 0
    approximately = sum(0.5 if completion.count(tag) == 1 else -1.0 for tag in (E, S, C))
    return exactly, approximately, _answer(found, answer), _numbers(completion, answer)


def _answer(found, answer):
    if not found:
        return -2.0
    guess = found[1]
    if guess == answer:
        return 5.0
    if guess.strip() == answer.strip():
        return 3.5
    try:
        ratio = float(guess) / float(answer)
    except (ValueError, ZeroDivisionError):
        return -4.5
    if 0.9 <= ratio <= 1.1:
        return 2.0
    return 1.5 if 0.8 <= ratio <= 1.2 else -2.5


def _numbers(completion, answer):
    found = NUMBER.search(completion)
    if not found:
        return -2.5
    try:
        return 3.5 if float(found[1].replace(",", "")) == float(answer.strip()) else -1.5
    except ValueError:
        return 0


WORKING = st.text(st.sampled_from("abc 123\n.,+=é中"), max_size=40)
BLANK = st.sampled_from(["", " ", "\n", "\n\n"])
INTEGERS = st.integers(1, 400)


@settings(max_examples=300, deadline=None)
@given(WORKING, BLANK, BLANK, BLANK, BLANK, INTEGERS, INTEGERS, st.booleans(), st.booleans())
def test_clean_replies_score_as_in_the_notebook(
    working, gap, left, right, end, gold, guess, opened, right_answer
):
    guess = gold if right_answer else guess
    opening = "<start_working_out>" if opened else ""
    completion = f"{opening}{working}{E}{gap}{S}{left}{guess}{right}{C}{end}"
    assert scores(completion, str(gold)) == notebook(completion, str(gold))


@settings(max_examples=200, deadline=None)
@given(st.permutations([E, S, C]), st.sets(st.sampled_from([E, S, C])), WORKING, INTEGERS)
def test_replies_that_lack_tags_score_as_in_the_notebook(order, kept, working, gold):
    completion = working.translate({ord(c): None for c in "123.,"})
    completion += "".join(tag for tag in order if tag in kept)
    assert scores(completion, str(gold)) == notebook(completion, str(gold))


@pytest.mark.parametrize("prose", ["no idea", "banana", "???"])
def test_prose_in_the_solution_scores_as_in_the_notebook(prose):
    assert scores(reply(prose), "34") == notebook(reply(prose), "34") == (3.0, 1.5, -4.5, -2.5)


def test_every_branch_of_every_component():
    assert scores(reply("34"), "34") == (3.0, 1.5, 5.0, 3.5)
    assert scores(reply(" 34 "), "34") == (3.0, 1.5, 3.5, 3.5)
    assert scores(reply("35"), "34") == (3.0, 1.5, 2.0, -1.5)
    assert scores(reply("40"), "34") == (3.0, 1.5, 1.5, -1.5)
    assert scores(reply("99"), "34") == (3.0, 1.5, -2.5, -1.5)
    assert scores("prose", "34") == (0.0, -3.0, -2.0, -2.5)
    assert scores("", "34") == (0.0, -3.0, -2.0, -2.5)


def test_identical_text_is_exact_whatever_the_gold_answer_is():
    for gold in ("x^2 + 1", r"\frac{\pi}{3}", "-7", "2,000", "(1, 2]"):
        assert scores(reply(gold), gold) == (3.0, 1.5, 5.0, 3.5)


# One test for each weakness of the notebook.


def test_nothing_may_follow_the_solution():
    for more in ("\nBy the way, 35.", " x", "\n\n<SOLUTION>", "<|im_end|> x"):
        assert match_format_exactly(reply("34") + more, task("34")) == 0.0
        assert check_answer(reply("34") + more, task("34")) == -2.0


@pytest.mark.parametrize("end", ["<|endoftext|>", "\n<|im_end|>\n", "  ", "</s>"])
def test_blanks_and_one_end_of_sequence_may_follow(end):
    assert scores(reply("34") + end, "34") == (3.0, 1.5, 5.0, 3.5)


@pytest.mark.parametrize(
    "completion",
    [
        f"w{E}{S}34{C}{S}34{C}",
        f"w{E}{S}34{C}{E}{S}34{C}",
        f"w{E}{S}{S}34{C}{C}",
        f"w{E}{S}34{S}34{C}",
        f"<start_working_out><start_working_out>w{E}{S}34{C}",
        f"w{E}<start_working_out>{S}34{C}",
    ],
)
def test_duplicated_nested_and_misplaced_tags_are_no_format(completion):
    assert match_format_exactly(completion, task("34")) == 0.0
    assert check_answer(completion, task("34")) == -2.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("5", "5.0"), ("34.", "34"), ("+34", "34"), (".5", "0.5"), ("0.0", "0"), ("0", "0.0"),
        ("$20", "20"), ("50%", "50"), (r"\boxed{34}", "34"), ("$34$", "34"), ("x = 34", "34"),
        ("34 apples", "34"), ("123,456", "123456"), ("2000", "2,000"), (r"\frac{1}{2}", "0.5"),
        ("1/2", "0.5"), ("\u22127", "-7"), ("-$20", "-20"), ("1e3", "1000"),
    ],
)  # fmt: skip
def test_equal_values_earn_the_strip_score_and_the_number(answer, gold):
    assert scores(reply(answer), gold) == (3.0, 1.5, 3.5, 3.5)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("1,2,3", "123"), ("1,2,3", "1"), (r"\frac{1}{2}", "1"), ("\u22122", "2"), ("- 2", "2"),
        ("-$20", "20"), ("34/2", "34"), ("..", "34"), (",", "34"),
    ],
)  # fmt: skip
def test_different_values_earn_neither(answer, gold):
    assert check_answer(reply(answer), task(gold)) < 0
    assert check_numbers(reply(answer), task(gold)) < 0


def test_the_number_is_read_inside_the_block_only():
    assert check_numbers(f"w{E}{S}34", task("34")) == -2.5  # not closed
    assert check_numbers(f"w{E}{S}none{C} 34", task("34")) == -2.5
    assert check_numbers(f"{S}34{C}", task("34")) == 3.5  # the block is enough


def test_punctuation_is_never_better_than_a_wrong_number():
    for junk in ("..", ",", "-", "First, second"):
        assert check_numbers(reply(junk), task("34")) <= -1.5


def test_the_first_number_of_prose_counts_with_its_sign():
    assert check_numbers(reply("First, we get -$1,250 there"), task("-1250")) == 3.5
    assert check_numbers(reply("First, we get -$1,250 there"), task("1250")) == -1.5


def test_large_values_are_compared_exactly():
    assert check_numbers(reply("9" * 400), task("8" * 400)) == -1.5
    assert check_numbers(reply(str(2**53 + 1)), task(str(2**53))) == -1.5


def test_near_miss_bounds_are_exact():
    assert check_answer(reply("0.09"), task("0.1")) == 2.0
    assert check_answer(reply("0.11"), task("0.1")) == 2.0
    assert check_answer(reply("0.0899999"), task("0.1")) == 1.5
    assert check_answer(reply("0.12"), task("0.1")) == 1.5
    assert check_answer(reply("0.1200001"), task("0.1")) == -2.5
    assert check_answer(reply("-34"), task("34")) == -2.5
    assert check_answer(reply("7"), task("0")) == -2.5  # no ratio to zero


def test_near_miss_credit_can_be_switched_off():
    rows = [{"question": "q", "answer": "100"}]
    for near_miss, expected in ((True, 2.0), (False, -2.5)):
        env = gym.make("Math-DAPO-v0", data=rows, near_miss=near_miss)
        env.reset(seed=0)
        assert env.step(reply("101"))[-1]["rewards"]["check_answer"] == expected


def test_tags_mentioned_in_the_working_are_no_tags_of_the_reply():
    working = f"I shall write {S}33{C} at the end."
    assert scores(reply("34", working), "34") == (3.0, 1.5, 5.0, 3.5)


HOSTILE = {
    "tags": (E + S + C) * 90_000,
    "solutions": E + S * 400_000,
    "opens": "<start_working_out>" * 200_000,
    "almost": "<SOLUTION" * 450_000,
    "angles": "<" * 4_000_000,
    "blanks": reply(" " * 4_000_000),
    "newlines": reply("34") + "\n" * 4_000_000,
    "digits": reply("9" * 4_000_000),
    "commas": reply("1," * 2_000_000),
    "minus": reply("-" * 4_000_000),
    "braces": reply("\\frac{" * 600_000),
    "nul": "\0" * 4_000_000,
    "surrogates": reply("\ud800" * 1_000_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_replies_cost_little_and_earn_little(name):
    for component in COMPONENTS:
        spent = time.process_time()
        score = component(HOSTILE[name], task("34"))
        spent = time.process_time() - spent
        assert spent < 0.1, component.__name__
        assert isinstance(score, float)
    if name != "newlines":
        assert sum(scores(HOSTILE[name], "34")) < 13.0


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([E, S, C, "<start_working_out>", "34", " ", "\0", "\ud800", "-"])))
def test_no_order_of_pieces_raises_or_beats_the_maximum(pieces):
    total = sum(scores("".join(pieces), "34"))
    assert -9.0 - 1e-9 <= total <= 13.0


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_no_text_in_the_solution_raises(text):
    scores(reply(text), "34")


def test_none_is_an_empty_reply():
    env = gym.make("Math-DAPO-v0", data=[{"question": "q", "answer": 34}]).unwrapped
    env.reset(seed=0)
    *_, info = env.step(None)
    assert info["verdict"] == "unparsed"
    assert not info["success"]
    env.step(reply("34"))


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        (reply("34.0"), "equal"), (reply("35"), "different"), (reply("banana"), "unparsed"),
        ("34", "unparsed"), (reply("x" * 5000), "unparsed"),
    ],
)  # fmt: skip
def test_the_verdict_stands_in_info(completion, verdict):
    env = MathDapo(data=[{"question": "q", "answer": "34"}])
    env.reset(seed=0)
    *_, info = env.step(completion)
    assert info["verdict"] == verdict
    assert info["success"] == (verdict == "equal")


def test_a_timeout_is_wrong_and_an_error_is_no_score(monkeypatch):
    monkeypatch.setattr(math_scores, "compare", lambda gold, answer: Verdict.TIMEOUT)
    assert scores(reply("33"), "34")[2:] == (-2.5, -1.5)
    assert scores(reply("x+y"), "34")[2:] == (-2.5, -1.5)
    monkeypatch.setattr(math_scores, "compare", lambda gold, answer: Verdict.ERROR)
    with pytest.raises(MachineryError, match="verifier"):
        scores(reply("33"), "34")


def test_a_gold_reply_takes_a_working():
    env = MathDapo(data="sample")
    first = env.tasks[0]
    gold = env.gold(first, "Two steps: {x} and {y}.")
    assert "{x}" in gold
    assert sum(scores(gold, first.answer)) == env.max_reward == 13.0
