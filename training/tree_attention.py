"""Attention over samples that are packed as a tree, for machines without FlashAttention 3.

TRL 1.16's asynchronous trainer folds the samples of a row into a prefix tree: a token that several
samples share is computed once. It attends with a FlashAttention 3 kernel from a hub, which wants a
Hopper GPU; this is the same in plain torch, segment by segment.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "taskgym_tree"


def register() -> None:
    """Lets models be told to attend by `NAME`."""
    AttentionInterface.register(NAME, tree_attention)


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    tree_kv_index: torch.Tensor | None = None,
    tree_cu_seqlens_q: torch.Tensor | None = None,
    tree_cu_seqlens_k: torch.Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Each segment of the tree attends to the path from the root to its own end.

    Args:
        module: The attention layer.
        query: Shape (1, heads, N, D), the N tokens of the row.
        key: Shape (1, key heads, N, D).
        value: As `key`.
        attention_mask: None: a row has no padding.
        tree_kv_index: Shape (K,): the paths of all segments, laid end to end. Without it the row
            is one text.
        tree_cu_seqlens_q: Shape (S + 1,): where segments begin in the row.
        tree_cu_seqlens_k: Shape (S + 1,): where their paths begin in `tree_kv_index`.
        scaling: Of the products of query and key.
        sliding_window: How many tokens back a token sees; None: all.
        kwargs: What the models hand to other kinds of attention.

    Returns:
        Shape (1, N, heads, D), and no weights.

    Raises:
        NotImplementedError: The model caps its attention scores, which torch's kernel cannot.
    """
    if kwargs.get("softcap") is not None:
        raise NotImplementedError(f"{type(module).__name__} caps attention scores (softcap)")
    if tree_kv_index is None:
        return _attend(query, key, value, scaling, sliding_window).transpose(1, 2), None
    assert tree_cu_seqlens_q is not None and tree_cu_seqlens_k is not None
    ends_q, ends_k = tree_cu_seqlens_q.tolist(), tree_cu_seqlens_k.tolist()
    segments = []
    for s in range(len(ends_q) - 1):
        path = tree_kv_index[ends_k[s] : ends_k[s + 1]]
        part = query[:, :, ends_q[s] : ends_q[s + 1]]
        segments.append(_attend(part, key[:, :, path], value[:, :, path], scaling, sliding_window))
    return torch.cat(segments, dim=2).transpose(1, 2), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Causal attention of the last tokens of a text, which `query` holds, to all of it."""
    asking, asked = query.shape[2], key.shape[2]
    mask = None
    if asking != asked or window is not None:
        at = torch.arange(asked - asking, asked, device=query.device)[:, None]
        seen = torch.arange(asked, device=query.device)[None]
        mask = (seen <= at) & (seen > at - (window or asked))
    return scaled_dot_product_attention(
        query, key, value, mask, is_causal=mask is None, scale=scaling, enable_gqa=True
    )
