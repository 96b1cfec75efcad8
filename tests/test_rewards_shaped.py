"""Math-GSM8K-Shaped-v0: equal to the notebook on clean replies, better where it is weak."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs import Task
from taskgym.envs.math_gsm8k_shaped import (
    MathGsm8kShaped,
    check_answer,
    check_numbers,
    match_format_approximately,
    match_format_exactly,
)

COMPONENTS = (match_format_exactly, match_format_approximately, check_answer, check_numbers)
W, E, S, C = TAGS = ("<start_working_out>", "<end_working_out>", "<SOLUTION>", "</SOLUTION>")


def task(answer):
    return Task("q", answer, "id")


def reply(solution, working="Some working."):
    return f"{W}{working}{E}{S}{solution}{C}"


def scores(completion, answer):
    return tuple(component(completion, task(answer)) for component in COMPONENTS)


# The notebook's functions, written from their description: the reference for clean replies.

FORMAT = re.compile(rf"^\s*{W}.+?{E}.*?{S}(.+?){C}\s*$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(rf"{S}.*?([\d.,]+)", re.MULTILINE | re.DOTALL)


def notebook(completion, answer):
    found = FORMAT.search(completion)
    approximately = sum(0.5 if completion.count(tag) == 1 else -1.0 for tag in TAGS)
    return 3.0 if found else 0, approximately, _answer(found, answer), _numbers(completion, answer)


def _answer(found, answer):
    if not found:
        return 0
    guess = found[1]
    if guess == answer:
        return 3.0
    if guess.strip() == answer.strip():
        return 1.5
    try:
        ratio = float(guess) / float(answer)
    except (ValueError, ZeroDivisionError):
        return -1.5
    if 0.9 <= ratio <= 1.1:
        return 1.0
    return 0.5 if 0.8 <= ratio <= 1.2 else -1.5


def _numbers(completion, answer):
    found = NUMBER.search(completion)
    if not found:
        return 0
    try:
        return 1.5 if float(found[1].replace(",", "")) == float(answer.strip()) else -0.5
    except ValueError:
        return 0


WORKING = st.text(st.sampled_from("abc 123\n.,+=é中"), min_size=1, max_size=40)
BLANK = st.sampled_from(["", " ", "\n", "\n\n"])
INTEGERS = st.integers(1, 400)


@settings(max_examples=300, deadline=None)
@given(BLANK, WORKING, BLANK, BLANK, BLANK, BLANK, INTEGERS, INTEGERS, st.booleans())
def test_clean_replies_score_as_in_the_notebook(
    lead, working, gap, left, right, end, gold, guess, right_answer
):
    guess = gold if right_answer else guess
    completion = f"{lead}{W}x{working}{E}{gap}{S}{left}{guess}{right}{C}{end}"
    assert scores(completion, str(gold)) == notebook(completion, str(gold))


@settings(max_examples=200, deadline=None)
@given(st.permutations(TAGS), st.sets(st.sampled_from(TAGS), max_size=3), INTEGERS)
def test_replies_that_lack_tags_score_as_in_the_notebook(order, kept, gold):
    completion = "".join(f"text {tag} more" for tag in order if tag in kept)
    assert scores(completion, str(gold)) == notebook(completion, str(gold))


def test_every_branch_of_every_component():
    assert scores(reply("34"), "34") == (3.0, 2.0, 3.0, 1.5)
    assert scores(reply(" 34 "), "34") == (3.0, 2.0, 1.5, 1.5)
    assert scores(reply("35"), "34") == (3.0, 2.0, 1.0, -0.5)
    assert scores(reply("40"), "34") == (3.0, 2.0, 0.5, -0.5)
    assert scores(reply("99"), "34") == (3.0, 2.0, -1.5, -0.5)
    assert scores(reply("banana"), "34") == (3.0, 2.0, -1.5, 0.0)
    assert scores("prose", "34") == (0.0, -4.0, 0.0, 0.0)
    assert scores("", "34") == (0.0, -4.0, 0.0, 0.0)


def test_signs_count():
    assert scores(reply("-2"), "-2") == (3.0, 2.0, 3.0, 1.5)
    assert check_numbers(reply("-2"), task("2")) == -0.5


def test_a_comma_in_prose_is_no_number():
    assert check_numbers(reply("First, 34 of them"), task("34")) == 1.5


@pytest.mark.parametrize("answer", ["$34", "34.0", r"\boxed{34}", "34 apples", "+34", "34%"])
def test_equal_values_earn_the_strip_score(answer):
    assert scores(reply(answer), "34") == (3.0, 2.0, 1.5, 1.5)


@pytest.mark.parametrize("working", ["", " ", "\n"])
def test_a_blank_working_pays_in_neither_format_component(working):
    assert match_format_exactly(reply("34", working), task("34")) == 0.0
    assert match_format_approximately(reply("34", working), task("34")) == -1.0


@pytest.mark.parametrize("lead", ["Sure: ", "Sure:\n"])
def test_text_before_the_working_fails_on_any_line(lead):
    assert match_format_exactly(lead + reply("34"), task("34")) == 0.0


@pytest.mark.parametrize(
    "completion",
    [
        reply("34") + "\nmore",
        reply("34") * 2,
        W + reply("34"),
        reply(f"34{C}{S}34"),
        reply("34").replace(W, ""),
        f"{E}x{W}{S}34{C}",
    ],
)
def test_broken_layouts_are_no_format(completion):
    assert match_format_exactly(completion, task("34")) == 0.0
    assert check_answer(completion, task("34")) == 0.0
    assert match_format_approximately(completion, task("34")) <= 2.0


@pytest.mark.parametrize("end", ["<|eot_id|>", "\n<|im_end|>\n", "\n\n"])
def test_an_end_of_sequence_string_is_not_held_against_the_reply(end):
    assert scores(reply("34") + end, "34") == (3.0, 2.0, 3.0, 1.5)


def test_the_format_with_a_wrong_answer_beats_the_right_answer_without_it():
    assert sum(scores(reply("99"), "34")) > sum(scores("34", "34"))
    assert sum(scores(reply("99"), "34")) > sum(scores(f"{S}34{C}", "34"))


@pytest.mark.parametrize(
    "text", ["".join(TAGS) * 70_000, W * 200_000, reply(" " * 4_000_000), W + "\n" * 4_000_000]
)
def test_hostile_replies_cost_little(text):
    for component in COMPONENTS:
        spent = time.process_time()
        component(text, task("34"))
        assert time.process_time() - spent < 0.1, component.__name__


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*TAGS, "34", " ", "\0", "\ud800", "-"])))
def test_no_order_of_pieces_raises_or_leaves_the_scale(pieces):
    assert -6.0 <= sum(scores("".join(pieces), "34")) <= 9.5


def test_near_miss_credit_can_be_switched_off():
    for near_miss, expected in ((True, 1.0), (False, -1.5)):
        env = MathGsm8kShaped(data=[{"question": "q", "answer": "100"}], near_miss=near_miss)
        env.reset(seed=0)
        assert env.step(reply("101"))[-1]["rewards"]["check_answer"] == expected
