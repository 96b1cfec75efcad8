"""Supervised warm-up on worked solutions in the env's own format, by TRL's SFTTrainer."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset
from taskgym.agents.chat import Renderer
from taskgym.envs import ChatEnv, SingleTurnEnv, Task
from taskgym.envs.rows import Row, to_tasks
from taskgym.envs.sources import load_rows
from taskgym.training.config import TrainConfig
from taskgym.training.devices import has_cuda
from taskgym.training.errors import ConfigError
from taskgym.training.models import Loaded
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

logger = logging.getLogger(__name__)

# The columns of OpenMathReasoning-mini, which the Qwen notebooks warm up on, and GSM8K's.
_QUESTION = ("problem", "question", "prompt")
_ANSWER = ("expected_answer", "answer")
_WORKING = ("generated_solution", "solution")
_RISE = 5  # steps in which the learning rate rises, as in the notebook
_THINK = re.compile(r"</?think>")

Example = dict[str, list[int]]


def warm_up(config: TrainConfig, loaded: Loaded, env: ChatEnv, output: Path) -> float:
    """Fits the adapter to worked solutions in the env's format; returns the last loss.

    Rows as in the Qwen3-4B notebook: only numeric answers, think tags removed, and only as long as
    `warmup.max_tokens`. Unlike there, the loss is on the reply alone, not on the prompt.

    Raises:
        ConfigError: The env has no format to teach, or no row is left.
    """
    examples = _examples(config, env, Renderer(loaded.tokenizer))
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


def _examples(config: TrainConfig, env: ChatEnv, renderer: Renderer) -> list[Example]:
    if not _teaches(env):
        raise ConfigError(f"{config.env} has no worked gold reply (`gold(task, working)`) to teach")
    assert isinstance(env, SingleTurnEnv)
    rows = load_rows(config.warmup.data, split="train")
    columns = {"question": _name(rows[0], _QUESTION), "answer": _name(rows[0], _ANSWER)}
    tasks = to_tasks(rows, config.warmup.data, columns=columns, numeric=True)
    examples = [_example(env, task, renderer) for task in tasks]
    short = [e for e in examples if len(e["input_ids"]) <= config.warmup.max_tokens]
    if not short:
        raise ConfigError(
            f"none of the {len(examples)} rows of {config.warmup.data} fits into "
            f"warmup.max_tokens={config.warmup.max_tokens}"
        )
    return short[: config.warmup.max_rows]


def _teaches(env: ChatEnv) -> bool:
    return isinstance(env, SingleTurnEnv) and "working" in inspect.signature(env.gold).parameters


def _example(env: Any, task: Task, renderer: Renderer) -> Example:
    prompt = renderer.opening(env.prompt(task))
    reply = renderer.reply(env.gold(task, working=worked(task)))
    return {
        "input_ids": [*prompt, *reply],
        "completion_mask": [0] * len(prompt) + [1] * len(reply),
    }


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
        num_train_epochs=warmup.epochs,
        per_device_train_batch_size=warmup.batch,
        learning_rate=warmup.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=_RISE,
        weight_decay=0.001,
        max_length=None,  # the rows were measured already; cutting one would cut its answer off
        completion_only_loss=True,
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
