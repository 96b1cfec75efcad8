"""The base model, its tokenizer and a fresh adapter: from Unsloth or transformers, and why."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgym.agents.adapter import Adapter
from taskgym.agents.chat import stop_ids
from taskgym.training import recipes
from taskgym.training.config import LoraConfig, TrainConfig
from taskgym.training.devices import gpu_memory, has_cuda
from taskgym.training.errors import ConfigError, ModelError, disk_is_full
from taskgym.training.preflight import check_size
from taskgym.training.smollm2 import cache_folder

logger = logging.getLogger(__name__)

_MAX_LENGTH = 32_768  # tokens of a prompt and its completions that Unsloth makes room for at most


@dataclass(frozen=True)
class Base:
    """What a policy apart from the learner must know of the base model.

    Attributes:
        name: Hub id or folder, from which vLLM loads it.
        dtype: Of the learner's weights, such as `bfloat16`.
        tokenizer: The learner's.
        stop_ids: Every token that ends a turn.
        rank: The largest rank of the adapters that will come.
    """

    name: str
    dtype: str
    tokenizer: Any
    stop_ids: Collection[int]
    rank: int


@dataclass(frozen=True)
class Loaded:
    """A model ready to learn.

    Attributes:
        model: The base model wrapped by peft, adapter "default" active and trainable.
        tokenizer: Pads on the left and has a pad token.
        name: What was loaded: a hub id or folder.
        why: Which library loaded it and the reason.
        engine: vLLM's engine on the very same weights, where Unsloth brought one.
    """

    model: Any
    tokenizer: Any
    name: str
    why: str
    engine: Any = None

    def base(self, rank: int) -> Base:
        """What a policy apart must know of it, for adapters up to this rank."""
        ends = stop_ids(self.tokenizer, self.model.generation_config)
        dtype = str(self.model.dtype).removeprefix("torch.")
        return Base(self.name, dtype, self.tokenizer, ends, rank)


def load_model(config: TrainConfig) -> Loaded:
    """Loads the model of a config with a fresh adapter.

    Raises:
        ModelError: It cannot be found or loaded here.
    """
    name = _find(config.model) if config.model else _default_model()
    loader, why = choose_loader(config.loader, has_cuda(), _installed("unsloth"))
    if loader == "unsloth":
        _import_unsloth(config)
    if has_cuda():
        check_size(config, loader, _config(name), gpu_memory(), name)
    logger.info("loading %s with %s: %s", name, loader, why)
    load = _load_unsloth if loader == "unsloth" else _load_transformers
    model, tokenizer = load(name, config)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    tokenizer.chat_template = chat_template(config, tokenizer.chat_template)
    engine = getattr(getattr(model, "vllm_engine", None), "llm_engine", None)
    return Loaded(model, tokenizer, name, f"{loader}: {why}", engine)


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


def load_for_sampling(name: str, adapter: str, load_in_4bit: bool) -> tuple[Any, Any]:
    """A model and its tokenizer, with a saved adapter or none, not to be trained.

    Raises:
        ModelError: It cannot be found or loaded here.
    """
    name = _find(name) if name else _default_model()
    model, tokenizer = _base_model(name, load_in_4bit), read_tokenizer(_spoken(name, adapter))
    if adapter:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, adapter)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{adapter} holds no adapter for {name}: {error}") from error
    return model.eval(), tokenizer


def sampling_base(name: str, adapter: str) -> Base:
    """What a policy apart must know of a base model that nothing here will train.

    Raises:
        ModelError: There is no such model, or no such adapter.
    """
    from transformers import GenerationConfig

    name = _find(name) if name else _default_model()
    tokenizer = read_tokenizer(_spoken(name, adapter))
    try:
        generation = GenerationConfig.from_pretrained(name)
    except (OSError, ValueError):
        generation = None  # many base models have none
    rank = read_adapter(adapter).rank if adapter else 1
    dtype = "bfloat16" if has_cuda() else "float32"
    return Base(name, dtype, tokenizer, stop_ids(tokenizer, generation), rank)


def read_adapter(folder: str) -> Adapter:
    """A saved adapter.

    Raises:
        ModelError: The folder holds none.
    """
    try:
        return Adapter.read(Path(folder))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} holds no adapter: {error}") from error


def choose_loader(asked: str, cuda: bool, unsloth: bool) -> tuple[str, str]:
    """Which library loads the model, and why.

    Args:
        asked: `auto`, or the one the user insists on.
        cuda: Whether a CUDA device is there.
        unsloth: Whether the package is.

    Raises:
        ModelError: Unsloth was asked for where it cannot run.
    """
    if asked == "transformers":
        return "transformers", "asked for"
    if cuda and unsloth:
        return "unsloth", "asked for" if asked == "unsloth" else "CUDA and the package are there"
    missing = "no CUDA device was found" if not cuda else "the package is not installed"
    if asked == "unsloth":
        raise ModelError(f"loader=unsloth cannot be used: {missing}; use loader=transformers")
    return "transformers", missing


def read_tokenizer(name: str) -> Any:
    """The tokenizer of a hub id or folder.

    Raises:
        ModelError: There is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _missing(name, error) from error


def _spoken(name: str, adapter: str) -> str:
    """Where the tokenizer is read: an adapter's own has the chat template it was trained with."""
    return adapter if (Path(adapter) / "tokenizer_config.json").is_file() else name


def _default_model() -> str:
    from taskgym.training.smollm2 import resolve_smollm2

    try:
        return str(resolve_smollm2())
    except ModuleNotFoundError as error:
        raise ModelError(f"no model was named and {error}") from error


def _load_transformers(name: str, config: TrainConfig) -> tuple[Any, Any]:
    import torch
    from peft import get_peft_model

    base, tokenizer = _base_model(name, config.load_in_4bit), read_tokenizer(name)
    torch.manual_seed(config.lora.seed)
    return get_peft_model(base, _peft_config(config.lora, base.config.num_hidden_layers)), tokenizer


def _base_model(name: str, load_in_4bit: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    if load_in_4bit and not has_cuda():
        raise ModelError("load_in_4bit needs CUDA and none was found; drop it on this machine")
    # AVX2 machines multiply bf16 some fifty times slower than float32.
    dtype = torch.bfloat16 if has_cuda() else torch.float32
    quantized = {"quantization_config": _four_bit(dtype)} if load_in_4bit else {}
    device = {"device_map": {"": torch.cuda.current_device()}} if has_cuda() else {}
    try:
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype, **quantized, **device)
    except (OSError, ValueError) as error:
        raise _missing(name, error) from error


def _load_unsloth(name: str, config: TrainConfig) -> tuple[Any, Any]:
    from unsloth import FastLanguageModel

    try:
        model, tokenizer = FastLanguageModel.from_pretrained(
            name,
            max_seq_length=config.max_model_len or _context(name),
            load_in_4bit=config.load_in_4bit,
            **(_shared_engine(config) if config.policy == "vllm" else {}),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _missing(name, error) from error
    layers = range(config.lora.first_layer, model.config.num_hidden_layers)
    model = FastLanguageModel.get_peft_model(
        model,
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        target_modules=list(config.lora.targets),
        layers_to_transform=list(layers) if config.lora.first_layer else None,
        random_state=config.lora.seed,
        use_gradient_checkpointing="unsloth",
    )
    return model, tokenizer


def _import_unsloth(config: TrainConfig) -> None:
    """Before transformers, which it rewrites; what the user has set in the environment stays."""
    # Its rewritten modules would else lie in the folder where the command was typed.
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_folder() / "unsloth_compiled"))
    # Its compiled loss had not finished a first step after minutes (docs/gpu.md).
    os.environ.setdefault("UNSLOTH_COMPILE_DISABLE", "1")
    if config.standby:
        os.environ.setdefault("UNSLOTH_VLLM_STANDBY", "1")
        # Or it would replace gpu_memory_utilization by a share of its own.
        os.environ.setdefault("UNSLOTH_VLLM_STANDBY_UTIL_OVERRIDE", "1")
    importlib.import_module("unsloth")


def _shared_engine(config: TrainConfig) -> dict[str, Any]:
    """What makes Unsloth start vLLM first and build the learner on the engine's own weights."""
    from taskgym.agents.vllm_engine import MAX_LORAS, admitted_rank

    return {
        "fast_inference": True,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "max_lora_rank": admitted_rank(config.lora.rank),
        "max_loras": MAX_LORAS,
    }


def _context(name: str) -> int:
    """The model's own limit, so far as there is memory for it."""
    limit: int = _config(name).get_text_config().max_position_embeddings
    return min(limit, _MAX_LENGTH)


def _config(name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _missing(name, error) from error


def _peft_config(lora: LoraConfig, layers: int) -> Any:
    from peft import LoraConfig as PeftConfig

    if lora.first_layer >= layers:
        raise ModelError(f"lora.first_layer={lora.first_layer}, but the model has {layers} layers")
    return PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
        layers_to_transform=list(range(lora.first_layer, layers)) if lora.first_layer else None,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _four_bit(dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


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
        raise _missing(name, error) from error


def _missing(name: str, error: Exception) -> ModelError:
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
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if Path(name).is_dir():
        return ModelError(f"the folder {name} holds no model that can be loaded: {reason}")
    return ModelError(
        f"cannot load {name!r}: it is no folder here, and the hub did not give it ({reason}); "
        "name a folder with --model, or leave --model out for the embedded SmolLM2-135M-Instruct"
    )
