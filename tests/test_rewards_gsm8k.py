"""Math-GSM8K-v0: equal to the notebook on clean replies, better where the notebook is weak."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs import Task
from taskgym.envs.math_gsm8k import (
    MathGsm8k,
    correctness_reward_func,
    int_reward_func,
    soft_format_reward_func,
    strict_format_reward_func,
    xmlcount_reward_func,
)

COMPONENTS = (
    xmlcount_reward_func,
    soft_format_reward_func,
    strict_format_reward_func,
    int_reward_func,
    correctness_reward_func,
)
TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")


def task(answer):
    return Task("q", answer, "id")


def reply(answer, reasoning="One step."):
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"


def inline(answer, reasoning="One step."):
    return f"<reasoning>{reasoning}</reasoning><answer>{answer}</answer>"


def scores(completion, answer):
    return tuple(component(completion, task(answer)) for component in COMPONENTS)


# The notebook's functions, written from their description: the reference for clean replies.


def notebook(completion, answer):
    extracted = completion.split("<answer>")[-1].split("</answer>")[0].strip()
    soft = re.match(r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>", completion)
    strict = re.match(r"^<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n$", completion)
    return (
        pytest.approx(_xmlcount(completion)),
        0.5 if soft else 0.0,
        0.5 if strict else 0.0,
        0.5 if extracted.isdigit() else 0.0,
        2.0 if extracted == answer else 0.0,
    )


def _xmlcount(text):
    count = 0.0
    count += 0.125 * (text.count("<reasoning>\n") == 1)
    count += 0.125 * (text.count("\n</reasoning>\n") == 1)
    if text.count("\n<answer>\n") == 1:
        count += 0.125 - 0.001 * len(text.split("\n</answer>\n")[-1])
    if text.count("\n</answer>") == 1:
        count += 0.125 - 0.001 * (len(text.split("\n</answer>")[-1]) - 1)
    return count


LINE = st.text(st.sampled_from("abc 123.,+=é中"), max_size=30)
INTEGERS = st.integers(0, 400)


@settings(max_examples=300, deadline=None)
@given(LINE, INTEGERS, INTEGERS, st.booleans(), st.sampled_from(["", "\n", "bye", "x" * 100]))
def test_tags_on_lines_score_as_in_the_notebook(line, gold, guess, right, more):
    # Soft is left out: that it and strict exclude each other is one of the weaknesses.
    completion = reply(gold if right else guess, line) + more
    ours, reference = scores(completion, str(gold)), notebook(completion, str(gold))
    assert ours[:1] + ours[2:] == reference[:1] + reference[2:]
    assert ours[1] == 0.5


@settings(max_examples=300, deadline=None)
@given(LINE, INTEGERS, INTEGERS, st.booleans(), st.sampled_from(["", " ", "\n"]), LINE)
def test_tags_in_one_line_score_as_in_the_notebook(line, gold, guess, right, gap, more):
    guess = gold if right else guess
    completion = f"<reasoning>{line}</reasoning>{gap}<answer>{guess}</answer>{more}"
    assert scores(completion, str(gold)) == notebook(completion, str(gold))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*TAGS, ""]), LINE, INTEGERS)
def test_an_answer_block_alone_scores_as_in_the_notebook(tag, line, guess):
    completion = f"{line}<answer>{guess}</answer>{line}"
    assert scores(completion, str(guess)) == notebook(completion, str(guess))


def test_every_component_has_a_zero_and_a_full_score():
    assert scores(reply("34"), "34") == (0.5, 0.5, 0.5, 0.5, 2.0)
    assert scores(reply("35"), "34") == (0.5, 0.5, 0.5, 0.5, 0.0)
    assert scores(reply("banana"), "34") == (0.5, 0.5, 0.5, 0.0, 0.0)
    assert scores("prose", "34") == scores("", "34") == (0.0,) * 5


def test_each_tag_on_its_line_counts_an_eighth():
    parts = ("<reasoning>\n", "r\n</reasoning>\n", "\n<answer>\n", "5\n</answer>\n")
    assert [round(xmlcount_reward_func(part, task("5")), 3) for part in parts] == [
        0.125,
        0.125,
        0.115,  # not closed: 10 characters are behind
        0.125,
    ]


# One test for each weakness of the notebook.


def test_several_lines_of_reasoning_are_a_format():
    assert scores(reply("34", "One.\n\nTwo.\nThree."), "34") == (0.5, 0.5, 0.5, 0.5, 2.0)


def test_an_answer_without_its_block_earns_nothing():
    assert scores("476", "476") == (0.0,) * 5
    assert scores("<answer>476", "476")[3:] == (0.0, 0.0)
    assert scores("476</answer>", "476")[3:] == (0.0, 0.0)


def test_ending_on_the_closing_tag_costs_nothing():
    assert scores(reply("34", "x" * 3000).rstrip(), "34") == (0.5, 0.5, 0.5, 0.5, 2.0)


def test_xmlcount_is_never_negative():
    for text in (reply("34") + "x" * 10_000, "\n<answer>\n" + "x" * 10_000, "\n</answer>" * 99):
        assert xmlcount_reward_func(text, task("34")) >= 0.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("476.0", "476"), ("$476", "476"), ("476 dollars", "476"), ("0476", "476"),
        ("2000", "2,000"), ("2,000", "2000"), ("-5", "-5"), ("\u22125", "-5"), ("1/2", "0.5"),
    ],
)  # fmt: skip
def test_equal_values_are_correct(answer, gold):
    assert scores(reply(answer), gold) == (0.5, 0.5, 0.5, 0.5, 2.0)


@pytest.mark.parametrize("answer", ["²", "①", "٣", "1e3", "--5", "1,2,3", "5 or 6", "", "+"])
def test_what_is_no_plain_number_earns_no_int_score(answer):
    assert int_reward_func(reply(answer), task("7")) == 0.0


@pytest.mark.parametrize("answer", ["7", "-7", "+7", "7.25", "1,234", "\u22127"])
def test_plain_numbers_earn_the_int_score(answer):
    assert int_reward_func(reply(answer), task("8")) == 0.5


def test_a_repeated_block_is_neither_format_nor_answer():
    for text in (reply("34") * 2, inline("34") * 2, reply("33") + reply("34")):
        assert scores(text, "34")[1:] == (0.0, 0.0, 0.0, 0.0)


def test_a_list_of_answers_is_not_judged_by_its_last_one():
    assert (
        correctness_reward_func("".join(f"<answer>{i}</answer>" for i in range(35)), task("34"))
        == 0.0
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(">\n", "> \n"),
        lambda text: "\n" + text,
        lambda text: text.rstrip(),
        lambda text: text.replace("\n<", "\n  <"),
    ],
)
def test_blanks_around_tags_do_not_break_the_format(change):
    assert scores(change(reply("34")), "34")[1:] == (0.5, 0.5, 0.5, 2.0)
    assert scores(change(reply("34")), "34")[0] == pytest.approx(0.5)


def test_tags_mentioned_in_the_reasoning_do_not_hide_the_answer():
    assert scores(reply("34", "I use <answer> for it."), "34") == (0.5, 0.5, 0.5, 0.5, 2.0)


def test_strict_wants_the_lines_and_soft_does_not():
    assert scores(inline("34"), "34")[1:3] == (0.5, 0.0)
    assert scores(reply("34").replace("</reasoning>\n", "</reasoning>\n\n"), "34")[1:3] == (0.5, 0)
    assert scores("Sure. " + reply("34"), "34")[1:3] == (0.0, 0.0)
    assert scores(reply("34") + "more", "34")[1:3] == (0.5, 0.0)


HOSTILE = {
    "tags": "".join(TAGS) * 90_000,
    "lines": "".join(f"\n{tag}\n" for tag in TAGS) * 90_000,
    "answers": "\n<answer>\n" * 400_000,
    "angles": "<" * 4_000_000,
    "blanks": reply(" " * 4_000_000),
    "newlines": "<reasoning>" + "\n" * 4_000_000,
    "before": "\n" + " " * 4_000_000 + "</answer>",
    "digits": reply("9" * 4_000_000),
    "commas": reply("111," * 1_000_000),
    "nul": "\0" * 4_000_000,
    "surrogates": reply("\ud800" * 1_000_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_replies_cost_little_and_earn_little(name):
    for component in COMPONENTS:
        spent = time.process_time()
        component(HOSTILE[name], task("34"))
        assert time.process_time() - spent < 0.1, component.__name__
    assert sum(scores(HOSTILE[name], "34")) < 4.0


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*TAGS, *(f"\n{t}\n" for t in TAGS), "34", "\0", "\ud800", " "])))
def test_no_order_of_pieces_raises_or_leaves_the_scale(pieces):
    assert 0.0 <= sum(scores("".join(pieces), "34")) <= 4.0


def test_success_needs_the_block():
    env = MathGsm8k(data=[{"question": "q", "answer": "so 17 * 2 #### 34"}])
    env.reset(seed=0)
    for text, verdict in (
        (inline("34.0"), "equal"),
        ("34", "unparsed"),
        (inline("3"), "different"),
    ):
        *_, info = env.step(text)
        assert (info["verdict"], info["success"]) == (verdict, verdict == "equal")


def test_a_split_for_evaluation_is_held_out_and_never_trained_on() -> None:
    from taskgym.training.tasks import TaskPlan, env_factory

    rows = [
        {"question": f"{split} {i}?", "answer": str(i), "split": split}
        for split in ("train", "test", "other")
        for i in range(6)
    ]
    kwargs = {"data": rows, "evaluation_split": "test"}
    plan = TaskPlan(env_factory("Math-GSM8K-v0", kwargs), seed=0, held_out=4)
    tasks = plan.env.tasks  # type: ignore[attr-defined]
    trained = {tasks[i].question for i in plan.training_order()}
    assert trained == {f"train {i}?" for i in range(6)}
    held_out = {tasks[start.index].question for start in plan.evaluation_starts(1)}
    assert len(held_out) == 4 and all(question.startswith("test") for question in held_out)


def test_a_split_cannot_be_for_training_and_for_evaluation() -> None:
    with pytest.raises(ValueError, match="both 'test'"):
        MathGsm8k(data="sample", split="test", evaluation_split="test")
