"""The adapter that is trained: the flags `--lora.*`."""

from __future__ import annotations

from dataclasses import dataclass

from taskgym.training.config_fields import at_least


@dataclass(frozen=True)
class LoraConfig:
    """The adapter."""

    rank: int = 16
    """r, the inner dimension."""
    alpha: int = 32
    """Scale: the update counts alpha / rank."""
    targets: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of the adapted linear layers."""
    first_layer: int = 0
    """Adapt this layer and those above it; learning gets cheaper the higher it is."""
    language: bool = True
    """Of a vision-language model: adapt the layers that read and write text."""
    vision: bool = False
    """Of a vision-language model: adapt the layers that look at pictures, and the projector."""
    seed: int = 3407
    """Of the adapter's initial weights."""

    def __post_init__(self) -> None:
        at_least("lora.rank", self.rank, 1)
        at_least("lora.alpha", self.alpha, 1)
        at_least("lora.first_layer", self.first_layer, 0)
        if not self.language and not self.vision:
            raise ValueError("lora adapts nothing: lora.language and lora.vision are both off")
