"""Models that transformers loads, with a fresh adapter of peft's or without one."""

from __future__ import annotations

from typing import Any

from taskgym.training.config import TrainConfig
from taskgym.training.config_lora import LoraConfig
from taskgym.training.devices import has_cuda
from taskgym.training.errors import ModelError
from taskgym.training.readers import load_reader, missing_model
from taskgym.training.sight import sight_targets


def load_transformers(name: str, config: TrainConfig, sees: bool) -> tuple[Any, Any]:
    """A model with a fresh adapter, and its tokenizer, or its processor if it sees.

    Raises:
        ModelError: It cannot be found or loaded here.
    """
    import torch
    from peft import get_peft_model

    reader = load_reader(name, sees)
    base = base_model(name, config.load_in_4bit, sees)
    torch.manual_seed(config.lora.seed)
    layers = base.config.get_text_config().num_hidden_layers
    return get_peft_model(base, peft_config(config.lora, layers, sees)), reader


def base_model(name: str, load_in_4bit: bool, sees: bool = False) -> Any:
    """A model without an adapter, on this process's GPU if there is one.

    Raises:
        ModelError: It cannot be found or loaded here.
    """
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
        raise missing_model(name, error) from error


def peft_config(lora: LoraConfig, layers: int, sees: bool = False) -> Any:
    """The adapter in peft's terms.

    Raises:
        ModelError: The model has fewer layers than the adapter leaves out.
    """
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
