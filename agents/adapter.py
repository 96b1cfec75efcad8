"""A LoRA adapter as data: what travels from the learner to a sampler, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
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
        """The adapter "default" of a peft model as it is now.

        Where the model is sharded (FSDP2, DeepSpeed's ZeRO-3) the shards are gathered: all ranks
        must call this, and each gets the whole.
        """
        from peft import get_peft_model_state_dict

        config = model.peft_config["default"].to_dict()
        with _partitions_gathered(model):
            tensors = get_peft_model_state_dict(model, adapter_name="default")
            copied = {name: _whole(tensor) for name, tensor in tensors.items()}
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


def _partitions_gathered(model: Any) -> AbstractContextManager[Any]:
    """ZeRO-3 leaves empty tensors where the weights were, except inside its own context."""
    weights = [w for w in model.parameters() if w.requires_grad and hasattr(w, "ds_id")]
    if not weights:
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(weights)
    return gathered


def _whole(tensor: Any) -> Any:
    """A copy; of FSDP2's sharded tensors with all their shards."""
    from torch.distributed.tensor import DTensor

    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().clone()


def _jsonable(value: Any) -> Any:
    """The config as JSON values; sets are sorted, so that equal adapters are equal files."""
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, set):
        return sorted(value)
    return value
