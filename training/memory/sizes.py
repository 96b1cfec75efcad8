"""What a model takes in memory, part by part, from its config: nothing of it is loaded.

Runs in a process of its own (`measure`), because Unsloth wants to be imported before transformers
and because no GPU shall be touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from taskgym.training.config_lora import LoraConfig
from taskgym.training.errors import ModelError

# Bytes that a weight takes. 4 bits come with a scale for each block: of 64 weights, itself in one
# byte (nf4 with double quantisation), or of 32 weights (mxfp4).
_PLAIN, _FP8, _NF4, _MXFP4 = 2.0, 1.0, 0.5 + 1 / 64 + 4 / (64 * 256), 0.5 + 1 / 32
_KINDS = {"nf4": _NF4, "mxfp4": _MXFP4, "fp8": _FP8, "": _PLAIN}


class UnforeseenError(RuntimeError):
    """A model that cannot be run without its weights, so that nothing is known of its memory."""


@dataclass(frozen=True)
class Asked:
    """Of which model and micro-batches the sizes are asked.

    Attributes:
        model: Hub id or folder.
        lora: The adapter.
        sees: Whether it is shown pictures.
        four_bit: Whether its weights are quantised when they are loaded.
        prompt: Tokens of a prompt.
        completion: Tokens of a completion.
        rows: Sizes of micro-batches.
        warmup: Rows of the warm-up's batches, and tokens of a row; zeros without one.
    """

    model: str
    lora: LoraConfig
    sees: bool
    four_bit: bool
    prompt: int
    completion: int
    rows: tuple[int, ...]
    warmup: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Sizes:
    """Bytes, but for `trained` and the last two.

    Attributes:
        weights: Of the base model.
        four_bit: Of the base model, were it quantised to nf4.
        merged: Of those weights that the adapter is on, in 16 bits; 0 where they are quantised.
        adapter: Of the adapter.
        trained: Weights of the adapter.
        token: Of one token in a cache of keys and values, in 16 bits.
        peaks: By the size of the micro-batch: activations and logits together, and logits alone,
            each at its own peak.
        warmup: Activations and logits of the warm-up.
        vocabulary: Entries.
        context: Tokens of a prompt and its completions that the model is made for.
    """

    weights: float
    four_bit: float
    merged: float
    adapter: float
    trained: int
    token: float
    peaks: dict[int, tuple[int, int]]
    warmup: int
    vocabulary: int
    context: int


def measure(asked: Asked) -> Sizes:
    """The sizes of a model.

    Raises:
        ModelError: It cannot be found.
        UnforeseenError: It cannot be run without its weights.
    """
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", __name__, json.dumps(asdict(asked))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        kind, _, message = said.partition(": ")
        if kind == f"{ModelError.__module__}.{ModelError.__name__}":
            raise ModelError(message)
        raise UnforeseenError(said)
    found = json.loads(done.stdout.splitlines()[-1])
    peaks = {int(rows): tuple(peak) for rows, peak in found.pop("peaks").items()}
    return Sizes(peaks=peaks, **found)


def weight_bytes(config: Any, kind: str, sees: bool) -> float:
    """What the weights of a model take; those of its layers are what is quantised.

    Args:
        config: The model's.
        kind: How its layers are stored: `nf4`, `mxfp4`, `fp8` or, in 16 bits, empty.
        sees: Whether the parts that look at pictures are loaded too.
    """
    layers = ends = 0
    for name, parameter in _shapes(config, sees).named_parameters():
        if ".layers." in name:
            layers += parameter.numel()
        else:
            ends += parameter.numel()
    return layers * _KINDS[kind] + ends * _PLAIN


def stored_kind(config: Any, four_bit: bool) -> str:
    """How the weights of a model's layers are stored on the GPU."""
    quantised = dict(getattr(config, "quantization_config", None) or {})
    method = str(quantised.get("quant_method", ""))
    if method == "mxfp4":
        return "mxfp4"
    if four_bit or quantised.get("load_in_4bit"):
        return "nf4"
    return "fp8" if "fp8" in method else ""


def token_bytes(text: Any) -> int:
    """What keys and values of one token take in 16 bits; sliding windows may make it less."""
    heads = text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    kept = getattr(text, "num_key_value_heads", None) or heads
    return int(2 * text.num_hidden_layers * kept * size * _PLAIN)


def _sizes(asked: Asked) -> Sizes:
    from taskgym.training.memory.micro_batch import peak_bytes
    from taskgym.training.readers import read_config
    from taskgym.training.transformers_loader import peft_config

    config = read_config(asked.model)
    text, kind = config.get_text_config(), stored_kind(config, asked.four_bit)
    lora = peft_config(asked.lora, text.num_hidden_layers)

    def peak(rows: int, prompt: int, completion: int) -> tuple[int, int]:
        return peak_bytes(text, lora, rows, prompt, completion, packed=bool(kind))

    rows, tokens = asked.warmup
    whole = peft_config(asked.lora, text.num_hidden_layers, asked.sees)
    trained, merged = _adapter_weights(_shapes(config, asked.sees), whole)
    return Sizes(
        weights=weight_bytes(config, kind, asked.sees),
        four_bit=weight_bytes(config, "nf4", asked.sees),
        merged=0.0 if kind else merged * _PLAIN,
        # peft trains in float32 beside 16 bits; TRL turns the adapter of a quantised model to bf16.
        adapter=trained * (2.0 if kind else 4.0),
        trained=trained,
        token=token_bytes(text),
        peaks={n: peak(n, asked.prompt, asked.completion) for n in asked.rows},
        warmup=peak(rows, 1, tokens - 1)[0] if rows else 0,
        vocabulary=text.vocab_size,
        context=text.max_position_embeddings,
    )


def _adapter_weights(model: Any, lora: Any) -> tuple[int, int]:
    """How many weights an adapter has, and how many those have that it is on."""
    import torch
    from peft import get_peft_model
    from peft.tuners.lora import LoraLayer

    with torch.device("meta"):
        adapted = get_peft_model(model, lora)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    layers = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
    return trained, sum(p.numel() for m in layers for p in m.get_base_layer().parameters())


def _shapes(config: Any, sees: bool) -> Any:
    """The model without its weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    with torch.device("meta"):
        return kind.from_config(config)


def main(argv: Sequence[str]) -> None:
    """Prints the sizes as one line of JSON."""
    asked = json.loads(argv[0])
    lora = asked.pop("lora")
    lora["targets"] = tuple(lora["targets"])
    print(json.dumps(asdict(_sizes(Asked(lora=LoraConfig(**lora), **asked)))))


if __name__ == "__main__":
    main(sys.argv[1:])
