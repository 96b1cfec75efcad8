"""Supervised warm-up on gold replies in the env's own format, by TRL's SFTTrainer."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from taskgym.agents.chat import Renderer
from taskgym.agents.vision import Seen, VisionRenderer
from taskgym.envs import SingleTurnEnv, Task
from taskgym.envs.rows import Row, to_tasks
from taskgym.envs.sources import load_rows
from taskgym.training.config import TrainConfig, WarmupConfig
from taskgym.training.devices import has_cuda
from taskgym.training.errors import ConfigError
from taskgym.training.halving import MemoryFullError
from taskgym.training.models import Loaded
from taskgym.training.ranks import share_of, world_size
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
_MARKS = re.compile(r"<<[^<>\n]*>>")  # GSM8K's, for a calculator that nobody runs here
_LAST = "####"  # before GSM8K's answer, in rows that have both in one column
_TAG = re.compile(r"<[^<>|]+>$")


@dataclass(frozen=True)
class Example:
    """A prompt and the reply it should get, as tokens, and the pictures it shows, if any."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    seen: Seen | None

    def row(self, number: int) -> dict[str, Any]:
        """What TRL trains on: the loss is on the reply alone."""
        labels = [_NO_LOSS] * len(self.prompt) + [*self.reply]
        row = {"input_ids": [*self.prompt, *self.reply], "labels": labels}
        return row if self.seen is None else {**row, "number": number}


class Collator:
    """Batches of examples with pictures: padded on the right, with what the model needs to see."""

    def __init__(self, loaded: Loaded, seen: Sequence[Seen]):
        self._renderer = loaded.renderer
        self._pad: int = loaded.tokenizer.pad_token_id
        self._seen = seen

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """One batch; `number` says which pictures a row shows."""
        assert isinstance(self._renderer, VisionRenderer)
        ids_BT = _padded([row["input_ids"] for row in rows], self._pad)
        mask_BT = _padded([[1] * len(row["input_ids"]) for row in rows], 0)
        seen = [self._seen[row["number"]] for row in rows]
        return {
            "input_ids": ids_BT,
            "attention_mask": mask_BT,
            "labels": _padded([row["labels"] for row in rows], _NO_LOSS),
            **self._renderer.model_inputs(seen, ids_BT, mask_BT),
        }


def _padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])


def warm_up(config: TrainConfig, loaded: Loaded, plan: TaskPlan, output: Path) -> float:
    """Fits the adapter to gold replies in the env's format; returns the mean loss.

    With `warmup.data` "gold" the replies are the env's own on tasks it trains on. Otherwise they
    hold the worked solutions of other rows, treated as in the Qwen3-4B notebook: only numeric
    answers, think tags removed, and only as long as `warmup.max_tokens`. Unlike there, the loss is
    on the reply alone, not on the prompt.

    Raises:
        ConfigError: The env has no format to teach, or no row is left.
        MemoryFullError: A batch does not fit into the GPU's memory.
    """
    examples = _short(config.warmup, list(_examples(config, plan, loaded.renderer)))
    seen = [example.seen for example in examples if example.seen is not None]
    trainer = SFTTrainer(
        model=loaded.model,
        args=_arguments(config, output),
        train_dataset=Dataset.from_list([e.row(i) for i, e in enumerate(examples)]),
        processing_class=loaded.tokenizer,
        data_collator=Collator(loaded, seen) if seen else None,
    )
    trainer.remove_callback(PrinterCallback)
    try:
        loss = float(trainer.train().training_loss)
    except torch.OutOfMemoryError as error:
        raise MemoryFullError(
            f"the GPU's memory is full ({str(error).splitlines()[0]}) in a warm-up of "
            f"{config.warmup.batch} rows a step; a smaller warmup.batch or warmup.max_tokens "
            "needs less: see train_agent --plan"
        ) from error
    logger.info("warm-up on %d rows ended at a mean loss of %.3f", len(examples), loss)
    return loss


def worked(task: Task) -> str:
    """The worked solution of a row, without think tags, calculator marks and GSM8K's last line."""
    own = _LAST in str(task.row.get("answer", ""))  # openai/gsm8k: solution and answer in one
    text = str(task.row["answer" if own else _name(task.row, _WORKING)])
    return _MARKS.sub("", _THINK.sub("", text.partition(_LAST)[0])).strip()


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
    messages = env.prompt(task)
    if opened := _TAG.search(renderer.cue()):  # the template has already begun the reply
        gold = gold.removeprefix(opened[0])
    return Example(renderer.opening(messages), renderer.reply(gold), renderer.seen(messages))


def _short(warmup: WarmupConfig, examples: list[Example]) -> list[Example]:
    short = [e for e in examples if len(e.prompt) + len(e.reply) <= warmup.max_tokens]
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
        per_device_train_batch_size=share_of(config, world_size()).warmup.batch,
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
        ddp_find_unused_parameters=False,  # every tensor of the adapter is used in every pass
        remove_unused_columns=False,  # `number` leads to the pictures
    )
