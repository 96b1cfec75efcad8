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
from taskgym.agents.chat import Renderer, stop_ids
from taskgym.training import recipes
from taskgym.training.config import LoraConfig, TrainConfig
from taskgym.training.devices import gpu_memory, has_cuda
from taskgym.training.errors import ConfigError, ModelError, disk_is_full
from taskgym.training.preflight import check_size
from taskgym.training.sight import sight_targets
from taskgym.training.smollm2 import cache_folder

logger = logging.getLogger(__name__)

_NAME_ONE = "name a vision-language model, such as unsloth/gemma-3-4b-it, with --model"

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
        processor: Of a vision-language model, None for text alone.
    """

    name: str
    dtype: str
    tokenizer: Any
    stop_ids: Collection[int]
    rank: int
    processor: Any = None

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
        return Base(self.name, dtype, self.tokenizer, ends, rank, self.processor)


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
    name = _named(config.model, sees)
    loader, why = choose_loader(config.loader, has_cuda(), _installed("unsloth"))
    if loader == "unsloth":
        _import_unsloth(config)
    if has_cuda():
        check_size(config, loader, _config(name), gpu_memory(), name)
    logger.info("loading %s with %s: %s", name, loader, why)
    load = _load_unsloth if loader == "unsloth" else _load_transformers
    model, reader = load(name, config, sees)
    processor, tokenizer = (reader, reader.tokenizer) if sees else (None, reader)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    speaker = processor or tokenizer
    speaker.chat_template = chat_template(config, speaker.chat_template)
    engine = getattr(getattr(model, "vllm_engine", None), "llm_engine", None)
    return Loaded(model, tokenizer, name, f"{loader}: {why}", engine, processor)


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


def load_for_sampling(
    name: str, adapter: str, load_in_4bit: bool, *, sees: bool = False
) -> tuple[Any, Any]:
    """A model and its tokenizer (its processor, if it sees), with a saved adapter or none.

    Raises:
        ModelError: It cannot be found or loaded here, or is shown pictures and cannot see.
    """
    name = _named(name, sees)
    model = _base_model(name, load_in_4bit, sees)
    tokenizer = _reader(_spoken(name, adapter), sees)
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

    name = _named(name, sees)
    reader = _reader(_spoken(name, adapter), sees)
    processor, tokenizer = (reader, reader.tokenizer) if sees else (None, reader)
    try:
        generation = GenerationConfig.from_pretrained(name)
    except (OSError, ValueError):
        generation = None  # many base models have none
    rank = read_adapter(adapter).rank if adapter else 1
    dtype = "bfloat16" if has_cuda() else "float32"
    return Base(name, dtype, tokenizer, stop_ids(tokenizer, generation), rank, processor)


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
        raise _missing(name, error) from error
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


def _reader(name: str, sees: bool) -> Any:
    return read_processor(name) if sees else read_tokenizer(name)


def _named(name: str, sees: bool) -> str:
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


def _load_transformers(name: str, config: TrainConfig, sees: bool) -> tuple[Any, Any]:
    import torch
    from peft import get_peft_model

    reader = _reader(name, sees)
    base = _base_model(name, config.load_in_4bit, sees)
    torch.manual_seed(config.lora.seed)
    layers = base.config.get_text_config().num_hidden_layers
    return get_peft_model(base, _peft_config(config.lora, layers, sees)), reader


def _base_model(name: str, load_in_4bit: bool, sees: bool = False) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    if load_in_4bit and not has_cuda():
        raise ModelError("load_in_4bit needs CUDA and none was found; drop it on this machine")
    # AVX2 machines multiply bf16 some fifty times slower than float32.
    dtype = torch.bfloat16 if has_cuda() else torch.float32
    quantized = {"quantization_config": _four_bit(dtype)} if load_in_4bit else {}
    device = {"device_map": {"": torch.cuda.current_device()}} if has_cuda() else {}
    kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    try:
        return kind.from_pretrained(name, dtype=dtype, **quantized, **device)
    except (OSError, ValueError) as error:
        raise _missing(name, error) from error


def _load_unsloth(name: str, config: TrainConfig, sees: bool) -> tuple[Any, Any]:
    import unsloth

    loader = unsloth.FastVisionModel if sees else unsloth.FastLanguageModel
    try:
        model, reader = loader.from_pretrained(
            name,
            max_seq_length=config.max_model_len or _context(name),
            load_in_4bit=config.load_in_4bit,
            **(_shared_engine(config) if config.policy == "vllm" else {}),
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _missing(name, error) from error
    lora, layers = config.lora, model.config.get_text_config().num_hidden_layers
    chosen: dict[str, Any] = {
        "target_modules": list(lora.targets),
        "layers_to_transform": list(range(lora.first_layer, layers)) if lora.first_layer else None,
    }
    if sees:
        chosen = {"target_modules": sight_targets(lora, layers)}
    model = loader.get_peft_model(
        model,
        r=lora.rank,
        lora_alpha=lora.alpha,
        random_state=lora.seed,
        use_gradient_checkpointing="unsloth",
        **chosen,
    )
    return model, reader


def _import_unsloth(config: TrainConfig) -> None:
    """Before transformers, which it rewrites; what the user has set in the environment stays."""
    # Its rewritten modules would else lie in the folder where the command was typed.
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_folder() / "unsloth_compiled"))
    # Compiling its loss takes minutes, since each row of a batch is unrolled (docs/gpu.md).
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


def _peft_config(lora: LoraConfig, layers: int, sees: bool = False) -> Any:
    from peft import LoraConfig as PeftConfig

    if lora.first_layer >= layers:
        raise ModelError(f"lora.first_layer={lora.first_layer}, but the model has {layers} layers")
    above = list(range(lora.first_layer, layers)) if lora.first_layer and not sees else None
    return PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=sight_targets(lora, layers) if sees else list(lora.targets),
        layers_to_transform=above,
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
