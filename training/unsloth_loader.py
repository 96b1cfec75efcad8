"""Models that Unsloth loads and patches, alone or on the weights of its own vLLM engine."""

from __future__ import annotations

import importlib
import os
from typing import Any

from taskgym.training.config import TrainConfig
from taskgym.training.readers import missing_model, read_config
from taskgym.training.sight import sight_targets
from taskgym.training.smollm2 import cache_folder

_MAX_LENGTH = 32_768  # tokens of a prompt and its completions that Unsloth makes room for at most


def import_unsloth(config: TrainConfig) -> None:
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


def load_unsloth(name: str, config: TrainConfig, sees: bool) -> tuple[Any, Any]:
    """A patched model with a fresh adapter, and its tokenizer, or its processor if it sees.

    Raises:
        ModelError: It cannot be found or loaded here.
    """
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
        raise missing_model(name, error) from error
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


def _shared_engine(config: TrainConfig) -> dict[str, Any]:
    """What makes Unsloth start vLLM first and build the learner on the engine's own weights."""
    from taskgym.agents.vllm_engine import admitted_rank

    return {
        "fast_inference": True,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "max_lora_rank": admitted_rank(config.lora.rank),
        "max_loras": config.adapters_at_a_time,
    }


def _context(name: str) -> int:
    """The model's own limit, so far as there is memory for it."""
    limit: int = read_config(name).get_text_config().max_position_embeddings
    return min(limit, _MAX_LENGTH)
