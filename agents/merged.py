"""Fold a LoRA adapter into the weights while sampling, and put the very same weights back after.

peft's own ``merge_adapter`` and ``unmerge_adapter`` add and subtract in place, so every round trip
leaves rounding behind in the base model: a resumed run would no longer equal an unbroken one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def merged_adapter(model: Any) -> Iterator[bool]:
    """Run the model with its active LoRA adapter folded into its dense weights.

    Inside, the base layers hold new tensors, which costs one copy of the adapted weights; the
    adapter itself and what requires a gradient stay as they are. Afterwards the base layers hold
    their original tensors again, bit for bit and at the same address, also after an exception.

    A model whose adapted weights cannot be added to (quantised, sharded) runs unmerged: slower,
    with the same results up to rounding. So does one without an adapter.

    Yields:
        Whether the adapter is merged.
    """
    layers = _adapted_layers(model)
    if not all(_is_dense(layer) for layer in layers):
        yield False
        return
    originals = [
        (parameter, parameter.data)
        for layer in layers
        for parameter in layer.get_base_layer().parameters(recurse=False)
    ]
    try:
        for layer in layers:
            layer.merge(safe_merge=True)  # "Safe" sums into a copy and refuses NaN.
        yield bool(layers)
    finally:
        for parameter, data in originals:
            parameter.data = data
        for layer in layers:
            layer.merged_adapters.clear()


def _adapted_layers(model: Any) -> list[Any]:
    """List the LoRA layers that are in effect and not merged for good by somebody else."""
    from peft.tuners.lora import LoraLayer

    layers = (module for module in model.modules() if isinstance(module, LoraLayer))
    return [layer for layer in layers if not (layer.merged or layer.disable_adapters)]


def _is_dense(layer: Any) -> bool:
    """Say whether the layer's weight is a plain floating-point tensor."""
    import torch

    weight = getattr(layer.get_base_layer(), "weight", None)
    dense = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return weight is not None and type(weight.data) is torch.Tensor and weight.dtype in dense
