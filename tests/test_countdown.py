"""Countdown-v0: solvable puzzles, and a parser that nothing fools or breaks."""

import time
from fractions import Fraction

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs import Task
from taskgym.envs.countdown import Countdown, correct, formatted
from taskgym.envs.expressions import evaluate

TASK = Task("q", "", "id", {"numbers": [2, 3, 4], "target": 14})


def components(expression):
    text = f"Let me see. <answer>{expression}</answer>"
    return correct(text, TASK), formatted(text, TASK)


@pytest.mark.parametrize(
    "expression", ["2 + 3 * 4", "(3*4)+2", "4×3+2", " 2 - -3 * 4 ", "2+(((3*4)))", "2\n+3*4"]
)
def test_solutions_are_correct(expression):
    assert components(expression) == (1.0, 1.0)


@pytest.mark.parametrize(
    "expression",
    ["14", "2 * 7", "7 + 7", "2 + 3 * 4 + 0", "4 + 4 + 4", "3 * 4 + 2 / 1", "2 + 3 + 4", "23 - 9"],
)  # fmt: skip
def test_expressions_with_other_numbers_or_values_are_not(expression):
    assert components(expression) == (0.0, 1.0)


@pytest.mark.parametrize(
    "expression",
    [
        "", " ", "2 ** 3 * 4", "4 // 2", "1 / 0", "3*4+2 = 14", "2 + 3 * 4;", "(2 + 3 * 4", ")",
        "()", "2 3 4", "+", "２ + ３ * ４", "٢+3*4", "2+3*4#", "__import__('os')", "2.0 + 3 * 4",
        "2_0", "0x2", "(" * 10_000 + "2" + ")" * 10_000, "-" * 10_000 + "2", "1" * 5_000,
        "2+" * 3_000_000, "9" * 199, "\0", "\ud800", "2 + 3 * 4 / (3 - 3)",
    ],
)  # fmt: skip
def test_what_is_no_expression_earns_nothing_and_costs_little(expression):
    spent = time.process_time()
    assert components(expression) == (0.0, 0.0)
    assert time.process_time() - spent < 0.1


def test_only_one_answer_counts_and_nothing_may_follow():
    assert correct("<answer>2 + 3 * 4</answer><answer>2 + 3 * 4</answer>", TASK) == 0.0
    assert formatted("<answer>2 + 3 * 4</answer> or so", TASK) == 0.0
    assert correct("2 + 3 * 4", TASK) == formatted("2 + 3 * 4", TASK) == 0.0
    thought = "<think>or <answer>2</answer>?</think><answer>2 + 3 * 4</answer>"
    assert (correct(thought, TASK), formatted(thought, TASK)) == (1.0, 1.0)


EXPRESSIONS = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(
        lambda t: f"({' '.join(t)})"
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS)
def test_values_are_those_of_exact_arithmetic(expression):
    import re

    exact = re.sub(r"(\d+)", r"Fraction(\1)", expression)
    try:
        expected = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        expected = None
    if len(expression) <= 200:
        assert evaluate(expression) == expected


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("0123456789+-*/() "), max_size=30))
def test_no_text_raises(text):
    assert evaluate(text) is None or isinstance(evaluate(text), Fraction)


@pytest.mark.parametrize("numbers", [2, 3, 4, 6])
def test_every_puzzle_is_solved_by_its_gold_expression(numbers):
    env = gym.make("Countdown-v0", numbers=numbers, size=200).unwrapped
    assert len(env.tasks) == 200
    for index in range(200):
        env.reset(options={"index": index})
        assert env.step(env.gold_action())[1] == env.max_reward
        assert 1 <= env.task.row["target"] <= 99


def test_puzzles_depend_on_the_kwargs_alone():
    assert Countdown(size=50).load() == Countdown(size=50).load()
    questions = [row["question"] for row in Countdown(size=500).load()]
    assert len(set(questions)) == 500


def test_a_small_range_gives_what_it_has():
    assert 0 < len(Countdown(numbers=2, low=1, high=3, size=100).load()) < 20


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"numbers": 1}, "numbers=1"), ({"low": 0}, "low=0"), ({"size": 0}, "at least 1")],
)
def test_bad_kwargs_are_refused_by_name(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Countdown(**kwargs)
