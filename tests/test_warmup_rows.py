"""What the warm-up learns from: the env's gold replies, or worked solutions of other rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from taskgym.agents.chat import Renderer
from taskgym.training.config import TrainConfig, WarmupConfig
from taskgym.training.errors import ConfigError
from taskgym.training.tasks import TaskPlan, env_factory

pytest.importorskip("trl")
SHARED = Path(__file__).resolve().parents[2] / "shared"


def examples(env: str, tokenizer: Any, warmup: WarmupConfig, **kwargs: Any) -> list[dict[str, Any]]:
    from taskgym.training.warmup import _examples, _short

    plan = TaskPlan(env_factory(env, kwargs), seed=0, held_out=8)
    config = TrainConfig(env=env, warmup=warmup)
    short = _short(warmup, list(_examples(config, plan, Renderer(tokenizer))))
    return [example.row(0) for example in short]


def learned(tokenizer: Any, example: dict[str, Any]) -> str:
    return str(tokenizer.decode([label for label in example["labels"] if label >= 0]))


def rows(path: Path, *entries: tuple[str, str, str]) -> str:
    names = ("problem", "generated_solution", "expected_answer")
    path.write_text("\n".join(json.dumps(dict(zip(names, e, strict=True))) for e in entries))
    return str(path)


def test_gold_replies_end_in_eos_and_the_prompt_is_not_learned(tokenizer: Any) -> None:
    for example in examples("Arithmetic-v0", tokenizer, WarmupConfig(data="gold", max_rows=5)):
        assert learned(tokenizer, example).endswith("<|im_end|>")
        assert "user" not in learned(tokenizer, example)
        assert len(example["labels"]) == len(example["input_ids"])


def test_no_held_out_task_is_learned_from(tokenizer: Any) -> None:
    warmup = WarmupConfig(data="gold", max_rows=10_000)
    kwargs = {"high": 9}
    plan = TaskPlan(env_factory("Arithmetic-v0", kwargs), seed=0, held_out=8)
    held_out = {plan.env.tasks[s.index].question for s in plan.evaluation_starts(1)}  # type: ignore[attr-defined]
    texts = [
        tokenizer.decode(e["input_ids"])
        for e in examples("Arithmetic-v0", tokenizer, warmup, **kwargs)
    ]
    assert len(texts) == 55 - 8
    assert not any(f"user\n{question}<" in text for question in held_out for text in texts)


def test_worked_solutions_stand_in_the_env_s_tags_without_think_tags(
    tokenizer: Any, tmp_path: Path
) -> None:
    data = rows(tmp_path / "w.jsonl", ("1+1?", "<think>\none and one\n</think>two", "2"))
    (example,) = examples("Math-DAPO-v0", tokenizer, WarmupConfig(data=data), data="sample")
    reply = learned(tokenizer, example)
    assert "<start_working_out>one and one\ntwo<end_working_out>" in reply
    assert "think>" not in reply and "<SOLUTION>2</SOLUTION><|im_end|>" in reply


def test_what_the_template_has_begun_is_not_said_again(tokenizer: Any, tmp_path: Path) -> None:
    from taskgym.training.readers import chat_template

    data = rows(tmp_path / "w.jsonl", ("1+1?", "one and one", "2"))
    own = tokenizer.chat_template
    tokenizer.chat_template = chat_template(TrainConfig(chat_template="working-out"), own)
    try:
        (example,) = examples("Math-DAPO-v0", tokenizer, WarmupConfig(data=data), data="sample")
    finally:
        tokenizer.chat_template = own
    assert learned(tokenizer, example).startswith("one and one<end_working_out>")
    whole = tokenizer.decode(example["input_ids"])
    assert whole.count("1+1?<start_working_out>one and one") == 1


def test_rows_that_are_held_out_are_no_worked_examples(tokenizer: Any, tmp_path: Path) -> None:
    plan = TaskPlan(env_factory("Math-DAPO-v0", {"data": "sample"}), seed=0, held_out=8)
    asked = sorted(plan.held_out_questions())
    data = rows(tmp_path / "w.jsonl", *((q, "x", "1") for q in [*asked, "another?"]))
    (example,) = examples("Math-DAPO-v0", tokenizer, WarmupConfig(data=data), data="sample")
    assert "another?" in tokenizer.decode(example["input_ids"])


def test_only_numeric_answers_and_short_rows_are_used(tokenizer: Any, tmp_path: Path) -> None:
    data = rows(
        tmp_path / "w.jsonl",
        ("a?", "x", "1,000"),
        ("b?", "x", "1/2"),
        ("c?", "long " * 2000, "3"),
        ("d?", "x", "1e3"),
    )
    (example,) = examples("Math-DAPO-v0", tokenizer, WarmupConfig(data=data), data="sample")
    assert "<SOLUTION>1e3</SOLUTION>" in learned(tokenizer, example)


def test_rows_that_are_all_too_long_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    data = rows(tmp_path / "w.jsonl", ("c?", "long " * 2000, "3"))
    with pytest.raises(ConfigError, match=r"none of the 1 rows .*max_tokens=1024"):
        examples("Math-DAPO-v0", tokenizer, WarmupConfig(data=data), data="sample")


def test_an_env_without_a_place_for_working_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    data = rows(tmp_path / "w.jsonl", ("c?", "x", "3"))
    with pytest.raises(ConfigError, match="no place for a worked solution"):
        examples("Arithmetic-v0", tokenizer, WarmupConfig(data=data))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_the_columns_of_openmathreasoning_are_known(tokenizer: Any) -> None:
    data = str(SHARED / "data/sft/gsm8k_think_500.jsonl")
    kept = examples("Math-DAPO-v0", tokenizer, WarmupConfig(data=data), data="sample")
    assert len(kept) == 256 and all(len(e["input_ids"]) <= 1024 for e in kept)


def test_rows_of_gsm8k_teach_without_calculator_marks_and_their_last_line(
    tokenizer: Any, tmp_path: Path
) -> None:
    path = tmp_path / "w.jsonl"
    row = {"question": "48 / 2?", "answer": "Half is 48/2 = <<48/2=24>>24.\n#### 24"}
    other = {"question": "3 + 4?", "solution": "It is $<<3+4=7>>7.", "answer": "7"}
    path.write_text("\n".join(map(json.dumps, (row, other))))
    found = examples("Math-GSM8K-v0", tokenizer, WarmupConfig(data=str(path)), data="sample")
    first, second = (learned(tokenizer, example) for example in found)
    assert "<reasoning>\nHalf is 48/2 = 24.\n</reasoning>\n<answer>\n24\n</answer>" in first
    assert "<reasoning>\nIt is $7.\n</reasoning>\n<answer>\n7\n</answer>" in second
