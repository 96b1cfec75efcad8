"""From rows to tasks: columns, hashes, duplicates, contradictions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from taskgym.envs import DataError
from taskgym.envs.rows import cut_answer, is_number, task_id, to_tasks

A = {"question": "1 + 1?", "answer": "2"}
B = {"question": "2 + 2?", "answer": "4"}


def test_positions_count_after_duplicates_were_dropped():
    tasks = to_tasks([A, A, B, A], "env")
    assert [task.answer for task in tasks] == ["2", "4"]
    assert tasks.dropped == {"duplicate": 2}


def test_a_question_with_two_answers_is_dropped_whole():
    tasks = to_tasks([A, B, {**A, "answer": "3"}], "env")
    assert [task.answer for task in tasks] == ["4"]
    assert tasks.dropped == {"two answers": 2}


def test_rows_without_question_or_answer_are_counted():
    rows = [A, {"question": " ", "answer": "1"}, {"question": "q", "answer": None}]
    assert to_tasks(rows, "env").dropped == {"no question": 1, "no answer": 1}


@pytest.mark.parametrize("question", ["question", "prompt", "problem"])
@pytest.mark.parametrize("answer", ["answer", "solution"])
def test_the_usual_columns_are_found(question, answer):
    (task,) = to_tasks([{question: "q", answer: 5}], "env")
    assert (task.question, task.answer) == ("q", "5")


def test_columns_can_be_named_and_lie_deeper():
    row = {"text": "q", "reward_model": {"ground_truth": "7"}}
    columns = {"question": "text", "answer": "reward_model.ground_truth"}
    (task,) = to_tasks([row], "env", columns=columns)
    assert (task.question, task.answer) == ("q", "7")


def test_a_missing_column_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"it has qestion, answer\. Did you mean 'qestion'"):
        to_tasks([{"qestion": "q", "answer": "1"}], "env")


def test_nothing_left_is_an_error():
    with pytest.raises(DataError, match="no tasks left"):
        to_tasks([A, {**A, "answer": "3"}], "env")


def test_the_numeric_filter_is_that_of_the_notebooks():
    for text in ("34", "-3.5", "1e3", " 5 ", "10.", "inf", ".5"):
        assert is_number(text)
    for text in ("1,000", "1_000", "5%", "1/2", "٣", "", "x", "nan", "$5"):
        assert not is_number(text)
    assert len(to_tasks([A, {"question": "q", "answer": "1/2"}], "env", numeric=True)) == 1


def test_an_answer_is_cut_at_its_mark():
    assert cut_answer("working #### 2,000 ") == "2,000"
    assert cut_answer("a #### 1 #### 2") == "1"
    assert cut_answer("plain") == "plain"


def test_chat_rows_ask_their_last_user_message():
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert to_tasks([{"prompt": chat, "solution": "1"}], "env")[0].question == "u"


@given(st.text(), st.text(), st.text(), st.text())
def test_ids_differ_when_content_does(q1, a1, q2, a2):
    assert (task_id(q1, a1) == task_id(q2, a2)) == ((q1, a1) == (q2, a2)) or "\0" in q1 + a1 + q2


def test_ids_do_not_depend_on_the_machine():
    assert task_id("1 + 1?", "2") == "7ba19a578a56501d"
    assert len(task_id("\ud800", "2")) == 16
