"""Which layers of a vision-language model an adapter changes."""

from __future__ import annotations

from taskgym.training.config_lora import LoraConfig

# Parts of vision-language models that look at pictures; the others read and write text.
_LOOKS = (
    "vision_tower",
    "vision_model",
    "visual",
    "multi_modal_projector",
    "connector",
    "modality_projection",
)
_LOOKING_LAYERS = ("qkv", "proj", "out_proj", "fc1", "fc2", "linear_fc1", "linear_fc2")


def sight_targets(lora: LoraConfig, layers: int) -> str:
    """The adapted layers of a vision-language model, as the regular expression that peft matches.

    Both its parts have layers of the same names; only where they hang tells them apart.
    """
    looks = rf"(?:.*\.)?(?:{'|'.join(_LOOKS)})\..*"
    numbers = "|".join(map(str, range(lora.first_layer, layers)))
    reads = rf"(?!{looks}).*\.layers\.(?:{numbers})\..*\.(?:{'|'.join(lora.targets)})"
    more = "|".join((*lora.targets, *_LOOKING_LAYERS))
    sees = rf"{looks}(?<=\.)(?:{more})"
    return "|".join(
        f"(?:{part})" for part, asked in ((reads, lora.language), (sees, lora.vision)) if asked
    )
