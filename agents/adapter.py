"""A LoRA adapter as data: what travels from the learner to a sampler, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CONFIG, _TENSORS = "adapter_config.json", "adapter_model.safetensors"  # peft's and vLLM's names


@dataclass(frozen=True)
class Adapter:
    """The tensors of one LoRA adapter and how they apply, in the form that peft saves.

    Attributes:
        config: What `adapter_config.json` holds: rank, alpha, targets.
        tensors: peft's names -> tensors, copied: the learner may go on changing its own.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Any]

    @classmethod
    def of(cls, model: Any) -> Adapter:
        """The adapter "default" of a peft model as it is now."""
        from peft import get_peft_model_state_dict

        config = model.peft_config["default"].to_dict()
        tensors = get_peft_model_state_dict(model, adapter_name="default")
        copied = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return cls(_jsonable(config), copied)

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """A saved adapter.

        Raises:
            FileNotFoundError: The folder holds none.
        """
        from safetensors.torch import load_file

        config = json.loads((folder / _CONFIG).read_text())
        return cls(config, load_file(folder / _TENSORS))

    def write(self, folder: Path) -> None:
        """Saves it so that peft and vLLM can load it; the folder is made if need be."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        (folder / _CONFIG).write_text(json.dumps(self.config, indent=2, sort_keys=True))
        whole = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        save_file(whole, folder / _TENSORS, metadata={"format": "pt"})

    @property
    def rank(self) -> int:
        """r, the largest of all layers: a sampler must make room for it."""
        ranks: list[int] = [self.config["r"], *self.config.get("rank_pattern", {}).values()]
        return max(ranks)


def _jsonable(value: Any) -> Any:
    """The config as JSON values; sets are sorted, so that equal adapters are equal files."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, set):
        return sorted(value)
    return value
