"""Supervised warm-up on gold replies in the env's own format, by TRL's SFTTrainer."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from datasets import Dataset
from taskgym.agents.chat import Renderer
from taskgym.envs import SingleTurnEnv, Task
from taskgym.envs.rows import Row, to_tasks
from taskgym.envs.sources import load_rows
from taskgym.training.config import TrainConfig, WarmupConfig
from taskgym.training.devices import has_cuda
from taskgym.training.errors import ConfigError
from taskgym.training.models import Loaded
from taskgym.training.tasks import TaskPlan
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

logger = logging.getLogger(__name__)

# The columns of OpenMathReasoning-mini, which the Qwen notebooks warm up on, and GSM8K's.
_QUESTION = ("problem", "question", "prompt")
_ANSWER = ("expected_answer", "answer")
_WORKING = ("generated_solution", "solution")
GOLD = "gold"  # warmup.data: the env's own gold replies
_RISE = 5  # steps in which the learning rate rises, as in the notebook; short warm-ups do without
_NO_LOSS = -100  # the label that torch's cross entropy skips
_THINK = re.compile(r"</?think>")
_TAG = re.compile(r"<[^<>|]+>$")

Example = dict[str, list[int]]


def warm_up(config: TrainConfig, loaded: Loaded, plan: TaskPlan, output: Path) -> float:
    """Fits the adapter to gold replies in the env's format; returns the mean loss.

    With `warmup.data` "gold" the replies are the env's own on tasks it trains on. Otherwise they
    hold the worked solutions of other rows, treated as in the Qwen3-4B notebook: only numeric
    answers, think tags removed, and only as long as `warmup.max_tokens`. Unlike there, the loss is
    on the reply alone, not on the prompt.

    Raises:
        ConfigError: The env has no format to teach, or no row is left.
    """
    examples = _short(config.warmup, list(_examples(config, plan, Renderer(loaded.tokenizer))))
    trainer = SFTTrainer(
        model=loaded.model,
        args=_arguments(config, output),
        train_dataset=Dataset.from_list(examples),
        processing_class=loaded.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    loss = float(trainer.train().training_loss)
    logger.info("warm-up on %d rows ended at a mean loss of %.3f", len(examples), loss)
    return loss


def worked(task: Task) -> str:
    """The worked solution of a row, without think tags."""
    return _THINK.sub("", str(task.row[_name(task.row, _WORKING)])).strip()


def _examples(config: TrainConfig, plan: TaskPlan, renderer: Renderer) -> Iterator[Example]:
    env = plan.env
    if not isinstance(env, SingleTurnEnv):
        raise ConfigError(f"{config.env} has no single gold reply that a warm-up could teach")
    if config.warmup.data == GOLD:
        tasks = [env.tasks[i] for i in plan.training_order()]
        yield from (_example(env, task, env.gold(task), renderer) for task in tasks)
        return
    if "working" not in inspect.signature(env.gold).parameters:
        raise ConfigError(f"{config.env} has no place for a worked solution; use data={GOLD!r}")
    rows = load_rows(config.warmup.data, split="train")
    columns = {"question": _name(rows[0], _QUESTION), "answer": _name(rows[0], _ANSWER)}
    held_out = plan.held_out_questions()
    for task in to_tasks(rows, config.warmup.data, columns=columns, numeric=True):
        if task.question in held_out:
            continue
        yield _example(env, task, env.gold(task, working=worked(task)), renderer)  # type: ignore[call-arg]


def _example(env: SingleTurnEnv, task: Task, gold: str, renderer: Renderer) -> Example:
    prompt = renderer.opening(env.prompt(task))
    if opened := _TAG.search(renderer.cue()):  # the template has already begun the reply
        gold = gold.removeprefix(opened[0])
    reply = renderer.reply(gold)
    return {
        "input_ids": [*prompt, *reply],
        "labels": [_NO_LOSS] * len(prompt) + [*reply],
    }


def _short(warmup: WarmupConfig, examples: list[Example]) -> list[Example]:
    short = [e for e in examples if len(e["input_ids"]) <= warmup.max_tokens]
    if not short:
        raise ConfigError(
            f"none of the {len(examples)} rows of {warmup.data} fits into "
            f"warmup.max_tokens={warmup.max_tokens}"
        )
    return short[: warmup.max_rows]


def _name(row: Row, names: tuple[str, ...]) -> str:
    found: Iterator[str] = (name for name in names if name in row)
    try:
        return next(found)
    except StopIteration:
        raise ConfigError(
            f"warm-up rows need a column {' or '.join(names)}, got {', '.join(row)}"
        ) from None


def _arguments(config: TrainConfig, output: Path) -> SFTConfig:
    warmup, cuda = config.warmup, has_cuda()
    return SFTConfig(
        output_dir=str(output),
        max_steps=warmup.steps,
        per_device_train_batch_size=warmup.batch,
        learning_rate=warmup.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=min(_RISE, warmup.steps // 10),
        weight_decay=0.001,
        max_length=None,  # the rows were measured already; cutting one would cut its answer off
        seed=config.seed,
        save_strategy="no",
        report_to="none",
        logging_steps=5,
        use_cpu=not cuda,
        bf16=cuda,
        gradient_checkpointing=cuda,
        disable_tqdm=False,
        packing=False,
    )
