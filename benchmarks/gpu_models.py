"""Models of the recipes' true architectures with random weights, made on the GPU in seconds.

Speed, memory, weight sharing and log-probabilities do not depend on what the weights are, so a path
can be tried for every recipe without a download. The tokenizer is SmolLM2's, whatever the
vocabulary: a random model says nothing anyway.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WHOLE = ".whole"  # marks a folder that is finished
_BLOCK = 128  # rows and columns that share one scale in an FP8 checkpoint
_ROPE_3_1 = {
    "rope_type": "llama3",
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_QWEN3 = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
_QWEN3 |= {"vocab_size": 151936, "rope_theta": 1e6, "max_position_embeddings": 40960}
_QWEN3 |= {"num_hidden_layers": 36}
_LLAMA3 = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "rope_theta": 5e5}
_LLAMA3 |= {"max_position_embeddings": 131072, "rms_norm_eps": 1e-5}

_TINY = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "head_dim": 128}
_TINY |= {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 49152}

# name -> (transformers' model type, what its config.json on the hub says)
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3-4b": (
        "qwen3",
        _QWEN3 | {"hidden_size": 2560, "intermediate_size": 9728, "tie_word_embeddings": True},
    ),
    "qwen3-8b": (
        "qwen3",
        _QWEN3 | {"hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False},
    ),
    "llama3.1-8b": (
        "llama",
        _LLAMA3
        | {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
        | {"num_attention_heads": 32, "rope_scaling": _ROPE_3_1 | {"factor": 8.0}},
    ),
    "llama3.2-3b": (
        "llama",
        _LLAMA3
        | {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28}
        | {"num_attention_heads": 24, "rope_scaling": _ROPE_3_1 | {"factor": 32.0}}
        | {"tie_word_embeddings": True},
    ),
    "tiny": ("qwen3", _QWEN3 | _TINY),  # to try the paths themselves
    "gpt-oss-20b": (
        "gpt_oss",
        {"num_hidden_layers": 24, "num_local_experts": 32, "num_experts_per_tok": 4},
    ),
}


def make_model(name: str, layers: int, folder: Path) -> Path:
    """Saves a random bf16 model and its tokenizer, once for all processes that ask for it.

    Args:
        name: One of `SHAPES`.
        layers: Of these many layers; 0 for all of them.
        folder: Where to; one that is whole already is taken as it is.
    """
    with _alone(folder):
        return folder if (folder / _WHOLE).exists() else _make(name, layers, folder)


def _make(name: str, layers: int, folder: Path) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, shape = SHAPES[name]
    shape = shape | ({"num_hidden_layers": layers} if layers else {})
    config = AutoConfig.for_model(kind, **shape, bos_token_id=1, eos_token_id=2, pad_token_id=2)
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    tokenizer().save_pretrained(folder)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    (folder / _WHOLE).touch()
    return folder


def make_fp8(plain: Path, folder: Path) -> Path:
    """Quantises a saved model to block-scaled FP8, and rounds the saved one to the same values.

    The form is that of `Qwen3-8B-FP8`: e4m3 with one scale for each block of 128 x 128 weights.
    Afterwards both folders hold one model, so that what is learned on one can be read on the other.
    """
    with _alone(folder):
        return folder if (folder / _WHOLE).exists() else _quantise(plain, folder)


def _quantise(plain: Path, folder: Path) -> Path:
    import torch
    from safetensors.torch import load_file, save_file

    tensors: dict[str, Any] = {}
    for file in sorted(plain.glob("*.safetensors")):
        tensors |= load_file(file, device="cuda" if torch.cuda.is_available() else "cpu")
    fp8, rounded = {}, {}
    for name, tensor in tensors.items():
        rounded[name] = tensor
        if name.startswith("model.layers.") and name.endswith("_proj.weight"):
            fp8[name], scale = _quantised(tensor.float())
            fp8[name.replace(".weight", ".weight_scale_inv")] = scale
            rounded[name] = _restored(fp8[name], scale).to(torch.bfloat16)
        else:
            fp8[name] = tensor
    for path in [*plain.glob("*.safetensors"), *plain.glob("*.index.json")]:
        path.unlink()
    save_file(rounded, plain / "model.safetensors", metadata={"format": "pt"})
    tokenizer().save_pretrained(folder)
    save_file(fp8, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((plain / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [_BLOCK, _BLOCK],
    }
    generation = "generation_config.json"
    (folder / generation).write_text((plain / generation).read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / _WHOLE).touch()
    return folder


def tokenizer() -> Any:
    """SmolLM2's, from the converted model where it is, else from the GGUF it comes from, once."""
    from taskgym.training import smollm2
    from transformers import AutoTokenizer

    converted = smollm2._cached(None)
    if converted.exists():
        return AutoTokenizer.from_pretrained(converted)
    own = smollm2.cache_folder() / "tokenizer"
    with _alone(own):
        if not (own / _WHOLE).exists():
            smollm2._load_tokenizer(next(_gguf_files())).save_pretrained(own)
            (own / _WHOLE).touch()
    return AutoTokenizer.from_pretrained(own)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time makes a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _gguf_files() -> Iterator[Path]:
    """Where a bundle without a registry puts the file: beside the folder of packages."""
    for entry in sys.path:
        yield from sorted((Path(entry).parent / "gguf").glob("*.gguf"))
    raise FileNotFoundError("no SmolLM2 tokenizer: python -m taskgym.training.smollm2")


def _quantised(weight_OI: Any) -> tuple[Any, Any]:
    import torch

    largest = torch.finfo(torch.float8_e4m3fn).max
    blocks = _blocks(weight_OI)
    scale = blocks.abs().amax(dim=(1, 3), keepdim=True).clamp(min=1e-12) / largest
    quantised = (blocks / scale).reshape(weight_OI.shape).to(torch.float8_e4m3fn)
    return quantised, scale[:, 0, :, 0].contiguous().float()


def _restored(quantised_OI: Any, scale: Any) -> Any:
    blocks = _blocks(quantised_OI.float()) * scale[:, None, :, None]
    return blocks.reshape(quantised_OI.shape)


def _blocks(weight_OI: Any) -> Any:
    """Views (out, in) as (blocks, 128, blocks, 128); the shapes here are all multiples of 128."""
    return weight_OI.unflatten(1, (-1, _BLOCK)).unflatten(0, (-1, _BLOCK))
