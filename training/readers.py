"""Where a model is found, and its readers: tokenizer or processor, and chat template."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from taskgym.training import recipes
from taskgym.training.config import TrainConfig
from taskgym.training.errors import ConfigError, ModelError, disk_is_full

logger = logging.getLogger(__name__)

_NAME_ONE = "name a vision-language model, such as unsloth/gemma-3-4b-it, with --model"


def read_tokenizer(name: str) -> Any:
    """The tokenizer of a hub id or folder.

    Raises:
        ModelError: There is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise missing_model(name, error) from error


def read_processor(name: str) -> Any:
    """The processor of a vision-language model: its tokenizer and image processor.

    A machine without a working torchvision, such as a CPU install, gets the processors that build
    on Pillow; models that have no such one are refused there.

    Raises:
        ModelError: There is none, or it needs torchvision.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise missing_model(name, error) from error
    except ImportError as error:
        raise ModelError(
            f"the processor of {name} needs torchvision, which is not here: {_first_line(error)}. "
            "A CPU install has the processors that build on Pillow, such as Gemma 3's and LLaVA's"
        ) from error
    if getattr(processor, "image_processor", None) is None:
        raise ModelError(f"{name} reads text only, and the env shows pictures; {_NAME_ONE}")
    kind = type(processor.image_processor).__name__
    logger.info("pictures are prepared by %s (%s)", kind, "Pillow" if "Pil" in kind else "torch")
    return processor


def load_reader(name: str, sees: bool) -> Any:
    """The tokenizer of a model, or its processor if it sees."""
    return read_processor(name) if sees else read_tokenizer(name)


def reader_folder(name: str, adapter: str) -> str:
    """Where the tokenizer is read: an adapter's own has the chat template it was trained with."""
    return adapter if (Path(adapter) / "tokenizer_config.json").is_file() else name


def chat_template(config: TrainConfig, own: str | None) -> str | None:
    """The template that the tokenizer shall have; it is saved with the adapter.

    Args:
        config: Names another template than its own, and variables for it.
        own: The tokenizer's own, if it has one.

    Raises:
        ConfigError: There is no such file, or nothing that the variables could be for.
    """
    template = own
    if config.chat_template:
        shipped = Path(recipes.__file__).with_name(f"{config.chat_template}.jinja")
        path = shipped if shipped.is_file() else Path(config.chat_template)
        try:
            template = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"chat_template: cannot read {path}: {error.strerror}") from error
    if not config.chat_template_kwargs:
        return template
    if not template:
        raise ConfigError("chat_template_kwargs: the model has no chat template they could be for")
    values = config.chat_template_kwargs.items()
    return "".join(f"{{% set {name} = {json.dumps(v)} %}}" for name, v in values) + template


def find_model(name: str, sees: bool) -> str:
    """The hub id or folder to load from; the default model where none is named.

    Raises:
        ModelError: It is not to be had here, or none is named and the default cannot see.
    """
    if name:
        return _find(name)
    if sees:
        raise ModelError(f"the env shows pictures and the default model cannot see; {_NAME_ONE}")
    return _default_model()


def _default_model() -> str:
    from taskgym.training.smollm2 import resolve_smollm2

    try:
        return str(resolve_smollm2())
    except ModuleNotFoundError as error:
        raise ModelError(f"no model was named and {error}") from error


def _find(name: str) -> str:
    """A folder as it is, a hub id if the hub answers, or else the folder where it is cached.

    Loading from a hub that does not answer would be retried for a minute and a half.
    """
    from huggingface_hub import snapshot_download
    from taskgym.training.smollm2 import hub_answers

    if Path(name).is_dir() or hub_answers(name):
        return name
    try:
        return str(snapshot_download(name, local_files_only=True))
    except (OSError, ValueError) as error:
        raise missing_model(name, error) from error


def read_config(name: str) -> Any:
    """The config of a hub id or folder.

    Raises:
        ModelError: There is none.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise missing_model(name, error) from error


def missing_model(name: str, error: Exception) -> ModelError:
    """What to tell a person of a model that could not be read, and what can be done about it."""
    if disk_is_full(error):
        return ModelError(
            f"no space left on the disk while {name} was fetched: make room, or set HF_HOME to a "
            "folder on another disk"
        )
    if "gated repo" in str(error):
        return ModelError(
            f"{name} is gated: accept its licence at https://huggingface.co/{name}, then log in "
            "(hf auth login) or set HF_TOKEN; unsloth/ has ungated copies of many"
        )
    reason = _first_line(error)
    if Path(name).is_dir():
        return ModelError(f"the folder {name} holds no model that can be loaded: {reason}")
    return ModelError(
        f"cannot load {name!r}: it is no folder here, and the hub did not give it ({reason}); "
        "name a folder with --model, or leave --model out for the embedded SmolLM2-135M-Instruct"
    )


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
