"""The base model, its tokenizer and a fresh adapter: from Unsloth or transformers, and why."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgym.agents.adapter import Adapter
from taskgym.agents.chat import Renderer, stop_ids
from taskgym.training.config import TrainConfig
from taskgym.training.devices import has_cuda
from taskgym.training.errors import ModelError
from taskgym.training.ranks import world_size
from taskgym.training.readers import chat_template, find_model, load_reader, reader_folder
from taskgym.training.transformers_loader import base_model, load_transformers
from taskgym.training.unsloth_loader import import_unsloth, load_unsloth

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """What a policy apart from the learner must know of the base model.

    Attributes:
        name: Hub id or folder, from which vLLM loads it.
        dtype: Of the learner's weights, such as `bfloat16`.
        tokenizer: The learner's.
        stop_ids: Every token that ends a turn.
        rank: The largest rank of the adapters that will come.
        processor: Of a vision-language model, None for text alone.
        targets: Names of the layers that the adapters adapt; empty: any.
    """

    name: str
    dtype: str
    tokenizer: Any
    stop_ids: Collection[int]
    rank: int
    processor: Any = None
    targets: Collection[str] = ()

    @property
    def renderer(self) -> Renderer:
        """Renders observations for this model; pictures too, if it sees."""
        return renderer_for(self.tokenizer, self.processor)


@dataclass(frozen=True)
class Loaded:
    """A model ready to learn.

    Attributes:
        model: The base model wrapped by peft, adapter "default" active and trainable.
        tokenizer: Pads on the left and has a pad token.
        name: What was loaded: a hub id or folder.
        why: Which library loaded it and the reason.
        engine: vLLM's engine on the very same weights, where Unsloth brought one.
        processor: Of a vision-language model, with its tokenizer inside; None for text alone.
    """

    model: Any
    tokenizer: Any
    name: str
    why: str
    engine: Any = None
    processor: Any = None

    @property
    def renderer(self) -> Renderer:
        """Renders observations for this model; pictures too, if it sees."""
        return renderer_for(self.tokenizer, self.processor)

    def base(self, rank: int) -> Base:
        """What a policy apart must know of it, for adapters up to this rank."""
        ends = stop_ids(self.tokenizer, self.model.generation_config)
        dtype = str(self.model.dtype).removeprefix("torch.")
        targets = target_names(self.model.peft_config["default"].target_modules)
        return Base(self.name, dtype, self.tokenizer, ends, rank, self.processor, targets)


def renderer_for(tokenizer: Any, processor: Any) -> Renderer:
    """What renders observations for a model: by its processor if it sees, else its tokenizer."""
    if processor is None:
        return Renderer(tokenizer)
    from taskgym.agents.vision import VisionRenderer

    return VisionRenderer(processor)


def load_model(config: TrainConfig, *, sees: bool = False) -> Loaded:
    """Loads the model of a config with a fresh adapter.

    Args:
        config: Names it, or leaves it to the default.
        sees: Whether it is shown pictures.

    Raises:
        ModelError: It cannot be found or loaded here, or is shown pictures and cannot see.
    """
    name = find_model(config.model, sees)
    asked = "transformers" if config.grpo.asynchronous else config.loader
    loader, why = choose_loader(asked, has_cuda(), has_unsloth(), world_size())
    if loader == "unsloth":
        import_unsloth(config)
    logger.info("loading %s with %s: %s", name, loader, why)
    load = load_unsloth if loader == "unsloth" else load_transformers
    model, reader = load(name, config, sees)
    processor, tokenizer = (reader, reader.tokenizer) if sees else (None, reader)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    speaker = processor or tokenizer
    speaker.chat_template = chat_template(config, speaker.chat_template)
    engine = getattr(getattr(model, "vllm_engine", None), "llm_engine", None)
    return Loaded(model, tokenizer, name, f"{loader}: {why}", engine, processor)


def load_for_sampling(
    name: str, adapter: str, load_in_4bit: bool, *, sees: bool = False
) -> tuple[Any, Any]:
    """A model and its tokenizer (its processor, if it sees), with a saved adapter or none.

    Raises:
        ModelError: It cannot be found or loaded here, or is shown pictures and cannot see.
    """
    name = find_model(name, sees)
    model = base_model(name, load_in_4bit, sees)
    tokenizer = load_reader(reader_folder(name, adapter), sees)
    if adapter:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, adapter)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{adapter} holds no adapter for {name}: {error}") from error
    return model.eval(), tokenizer


def sampling_base(name: str, adapter: str, *, sees: bool = False) -> Base:
    """What a policy apart must know of a base model that nothing here will train.

    Raises:
        ModelError: There is no such model, or no such adapter.
    """
    from transformers import GenerationConfig

    name = find_model(name, sees)
    reader = load_reader(reader_folder(name, adapter), sees)
    processor, tokenizer = (reader, reader.tokenizer) if sees else (None, reader)
    try:
        generation = GenerationConfig.from_pretrained(name)
    except (OSError, ValueError):
        generation = None  # many base models have none
    saved = read_adapter(adapter) if adapter else None
    rank = saved.rank if saved else 1
    targets = target_names(saved.config["target_modules"]) if saved else ()
    dtype = "bfloat16" if has_cuda() else "float32"
    return Base(name, dtype, tokenizer, stop_ids(tokenizer, generation), rank, processor, targets)


def target_names(target_modules: Any) -> list[str]:
    """The layers that a peft config names; none if it describes them by a pattern."""
    return [] if isinstance(target_modules, str) else sorted(target_modules)


def read_adapter(folder: str) -> Adapter:
    """A saved adapter.

    Raises:
        ModelError: The folder holds none.
    """
    try:
        return Adapter.read(Path(folder))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} holds no adapter: {error}") from error


def choose_loader(asked: str, cuda: bool, unsloth: bool, processes: int = 1) -> tuple[str, str]:
    """Which library loads the model, and why.

    Args:
        asked: `auto`, or the one the user insists on.
        cuda: Whether a CUDA device is there.
        unsloth: Whether the package is.
        processes: How many learn together.

    Raises:
        ModelError: Unsloth was asked for where it cannot run.
    """
    if asked == "transformers":
        return "transformers", "asked for"
    if cuda and unsloth and processes == 1:
        return "unsloth", "asked for" if asked == "unsloth" else "CUDA and the package are there"
    missing = "no CUDA device was found" if not cuda else "the package is not installed"
    if cuda and unsloth:
        missing = "it was never tried in several processes"
    if asked == "unsloth":
        raise ModelError(f"loader=unsloth cannot be used: {missing}; use loader=transformers")
    return "transformers", missing


def has_unsloth() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("unsloth") is not None
