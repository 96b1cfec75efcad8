"""What one micro-batch of the learner takes, found by running it on tensors without memory.

The true model of transformers with peft's true adapter runs forward and backward under torch's
`FakeTensorMode`: every operation happens but for its arithmetic, so that what is kept for the
backward pass, what gradient checkpointing computes again and what autocast copies is counted, not
guessed. It takes seconds and no GPU.
"""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

import torch
from taskgym.training.memory.storages import Storages
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

# TRL's loss multiplies this many tokens by this much of the vocabulary at a time
# (`trl.kernels.chunked_logprob.TOKEN_CHUNK_SIZE`, `trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE`).
TILE = (4096, 32768)

ACTIVATIONS, LOGITS = "activations", "logits"


def peak_bytes(
    config: Any, adapter: Any, rows: int, prompt: int, completion: int, *, packed: bool
) -> tuple[int, int]:
    """What a bf16 model on CUDA takes at most besides weights, gradients and optimiser.

    Each layer adds the same: what checkpointing keeps of it. So two shallow models tell what a deep
    one takes, to the byte (a test compares).

    Args:
        config: The text model's config.
        adapter: peft's config.
        rows: Completions of the micro-batch.
        prompt: Tokens of a prompt.
        completion: Tokens of a completion.
        packed: Whether the base weights are quantised, and unpacked layer by layer.

    Returns:
        Bytes of activations and logits together, and of logits alone; each at its own peak.
    """
    depth, whole = _enough_layers(config), config.num_hidden_layers
    if whole <= depth + 1:
        return _peak(config, adapter, rows, prompt, completion, packed)
    shallow, deeper = (
        _peak(_of_layers(config, n), adapter, rows, prompt, completion, packed)
        for n in (depth, depth + 1)
    )
    peak, logits = (a + (whole - depth) * (b - a) for a, b in zip(shallow, deeper, strict=True))
    return peak, logits


def _peak(
    config: Any, adapter: Any, rows: int, prompt: int, completion: int, packed: bool
) -> tuple[int, int]:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model = learner_like(model, adapter, packed)
    with FakeTensorMode(allow_non_fake_inputs=True):  # those of the meta device
        _without_memory(model)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)  # of the micro-batches before
        known = [*model.parameters(), *model.buffers()]
        known += [p.grad for p in known if p.grad is not None]
        storages = Storages(known)
        with storages:
            step(model, storages, torch.zeros(rows, prompt + completion, dtype=torch.long), prompt)
    return storages.peak, storages.most[LOGITS]


def learner_like(model: Any, adapter: Any, packed: bool) -> Any:
    """A model as the learner has it: adapter, checkpoints, gradients into the first layer."""
    from peft import get_peft_model

    if packed:
        for module in model.base_model.modules():
            if isinstance(module, nn.Linear):
                module.forward = MethodType(_unpacked_linear, module)
    model = get_peft_model(model, adapter)
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    return model.train()


def step(model: Any, storages: Storages, ids_BT: torch.Tensor, prompt: int) -> None:
    """Forward and backward as TRL does them: the head on the completions' tokens alone."""
    causal = model.get_base_model()
    storages.kind = ACTIVATIONS
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mask_BT = torch.ones_like(ids_BT)
        mask_BT[0, 0] = 0  # one prompt is shorter, so that attention needs its mask
        out = causal.base_model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        hidden_NH = out.last_hidden_state[:, prompt - 1 : -1].flatten(0, 1).clone()
        del out
        logprobs_N = _TiledHead.apply(hidden_NH, causal.get_output_embeddings().weight, storages)
        del hidden_NH
    logprobs_N.sum().backward()


class _TiledHead(torch.autograd.Function):  # type: ignore[misc]  # as in storages.py
    """The memory of TRL's `ChunkedLogProbFunction`, whose kernels know no fake tensors."""

    @staticmethod
    def forward(ctx: Any, hidden_NH: Any, weight_VH: Any, storages: Storages) -> Any:
        """A tile of logits while it lasts."""
        ctx.save_for_backward(hidden_NH, weight_VH)
        ctx.storages, storages.kind = storages, LOGITS
        _tile(hidden_NH)
        storages.kind = ACTIVATIONS
        return hidden_NH.new_zeros(len(hidden_NH), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, grad_N: Any) -> tuple[Any, None, None]:
        """The gradient is summed in float32 beside a tile, then rounded."""
        hidden_NH, _ = ctx.saved_tensors
        ctx.storages.kind = LOGITS
        grad_NH = torch.zeros_like(hidden_NH, dtype=torch.float32)
        _tile(hidden_NH)
        ctx.storages.kind = ACTIVATIONS
        return grad_NH.to(hidden_NH.dtype), None, None


def _tile(hidden_NH: torch.Tensor) -> None:
    tokens, vocabulary = TILE
    hidden_NH.new_empty(min(len(hidden_NH), tokens), vocabulary)


class _Unpacked(torch.autograd.Function):  # type: ignore[misc]  # as in storages.py
    """The memory of a product with 4-bit or 8-bit weights: they are unpacked each time."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any) -> Any:
        """The packed weights are kept, not the whole ones."""
        ctx.save_for_backward(weight)
        return x.to(weight.dtype) @ torch.empty_like(weight).t()

    @staticmethod
    def backward(ctx: Any, grad: Any) -> tuple[Any, None]:
        """Unpacks them once more."""
        (weight,) = ctx.saved_tensors
        return grad @ torch.empty_like(weight).to(grad.dtype), None


def _unpacked_linear(self: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = _Unpacked.apply(x, self.weight)
    return out if self.bias is None else out + self.bias


def _without_memory(model: Any) -> None:
    """Gives parameters from the meta device a place on a CPU that is not there either."""
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model.to_empty(device="cpu")
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)


def _enough_layers(config: Any) -> int:
    """So many that every kind of layer is among them."""
    kinds = list(getattr(config, "layer_types", None) or [""])
    return max(2, *(kinds.index(kind) + 1 for kind in set(kinds)))


def _of_layers(config: Any, layers: int) -> Any:
    shallow = copy.deepcopy(config)
    shallow.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        shallow.layer_types = config.layer_types[:layers]
    return shallow
