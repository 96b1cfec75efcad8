"""Arithmetic-v0: no mirrored rows, right answers, honest components."""

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs import Task
from taskgym.envs.arithmetic import Arithmetic, correct, digits, number_only, unpair, value


def components(completion, answer="12"):
    task = Task("q", answer, "id")
    return correct(completion, task), value(completion, task), number_only(completion, task)


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("12", (1, 1, 1)), (" 12\n", (0, 1, 0)), ("13", (0, 0, 1)), ("It is 12.", (0, 1, 0)),
        ("5 + 7 = 12", (0, 1, 0)), ("12 or 13", (0, 0, 0)), ("twelve", (0, 0, 0)), ("", (0, 0, 0)),
        ("-12", (0, 0, 1)), ("112", (0, 0, 1)), ("12.0", (0, 1, 0)), ("12.5", (0, 0, 0)),
        ("5.12", (0, 0, 0)), ("１２", (0, 0, 0)), ("12 " * 9, (0, 1, 0)), ("1,012", (0, 0, 0)),
    ],
)  # fmt: skip
def test_components(completion, expected):
    assert components(completion) == expected


def test_thousands_and_signs_are_read():
    assert components("It makes 1,012", "1012") == (0, 1, 0)
    assert components("-4", "-4") == (1, 1, 1)
    assert components("9-4", "-4")[1] == 0


def test_digits_pay_for_each_right_position_of_a_bare_number():
    def share(completion):
        return digits(completion, Task("q", "123", "id"))

    assert share("123") == 1.0
    assert share(" 123") == share("123\n") == 0.0
    assert share("124") == share("923") == pytest.approx(2 / 3)
    assert share("321") == pytest.approx(1 / 3)
    for reply in ("", "12", "1234", "It is 123", "１２３", "1 3", "4" * 4_000_000, "\0\0\0"):
        assert share(reply) == 0.0


def test_an_empty_system_message_keeps_chat_templates_from_adding_theirs():
    messages, _ = gym.make("Arithmetic-v0").reset(seed=0)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[0]["content"] == ""


@settings(deadline=None)
@given(st.text(max_size=50))
def test_no_text_raises(text):
    components(text)


def test_long_replies_are_cheap():
    assert components("9" * 4_000_000) == (0, 0, 0)
    assert components("1," * 2_000_000) == (0, 0, 0)


@pytest.mark.parametrize("operations", ["+", "-", "*", "/", "+-*/"])
def test_every_unordered_pair_is_one_row_with_the_right_answer(operations):
    rows = Arithmetic(operations=operations, high=20).load()
    assert len(rows) == len(operations) * 21 * 22 // 2
    for row in rows:
        a, b = row["a"], row["b"]
        by = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
        result = a / b if row["operation"] == "/" else by[row["operation"]](a, b)
        assert result == int(row["answer"]) >= 0
        assert f"{a} {row['operation']} {b}" in row["question"]


@pytest.mark.parametrize("operation", ["+", "*"])
def test_no_row_is_the_mirror_of_another(operation):
    rows = Arithmetic(operations=operation, high=30).load()
    assert len({frozenset((row["a"], row["b"])) for row in rows}) == len(rows)


def test_both_orders_are_presented():
    rows = Arithmetic(high=30).load()
    larger_first = sum(row["a"] > row["b"] for row in rows) / len(rows)
    assert 0.4 < larger_first < 0.6


def test_rows_depend_on_the_kwargs_alone_and_are_mixed():
    first, again = (Arithmetic(operations="+-", high=50).load() for _ in range(2))
    assert first == again
    assert len({row["operation"] for row in first[:20]}) == 2


def test_a_large_table_is_sampled():
    rows = Arithmetic(operations="+*", low=0, high=10**6, size=300).load()
    assert len(rows) == 300 == len({row["question"] for row in rows})


@given(st.integers(0, 10**18))
def test_pairs_are_numbered_without_gap(number):
    larger, smaller = unpair(number)
    assert 0 <= smaller <= larger
    assert larger * (larger + 1) // 2 + smaller == number


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"operations": "+^"}, r"got '\+\^'"),
        ({"operations": ""}, "operations"),
        ({"operations": "++"}, "each once"),
        ({"low": 5, "high": 5}, "low=5, high=5"),
        ({"low": -1}, "low=-1"),
        ({"size": 0}, "at least 1"),
    ],
)
def test_bad_kwargs_are_refused_by_name(kwargs, message):
    with pytest.raises(ValueError, match=message):
        gym.make("Arithmetic-v0", **kwargs)
