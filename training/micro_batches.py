"""Rows of a generation batch in the order and width that cost the learner least.

The loss does not see any of it: rows are summed in whatever order, and only tokens that no loss
mask selects are cut off. Axes: B rows, P prompt tokens padded on the left, T completion tokens
padded on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Batch = dict[str, Any]  # TRL's: tensors and lists with a first axis of B, and scalars

_PROMPT = ("prompt_ids", "prompt_mask")
_COMPLETION = (
    "completion_ids",
    "completion_mask",
    "tool_mask",
    "old_per_token_logps",
    "ref_per_token_logps",
    "sampling_per_token_logps",
    "importance_sampling_ratio",
)
_BOTH = ("token_type_ids", "mm_token_type_ids")


def loss_mask(batch: Batch) -> Tensor:
    """Which completion tokens the loss counts, (B, T)."""
    mask: Tensor = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def row_tokens(batch: Batch) -> Tensor:
    """Tokens of each row, whether a loss counts them or not; (B,)."""
    tokens: Tensor = batch["prompt_mask"].sum(1) + batch["completion_mask"].sum(1)
    return tokens


def row_lengths(batch: Batch) -> Tensor:
    """Tokens of each prompt, and of each completion up to its last one in the loss; (2, B)."""
    mask_BT = loss_mask(batch)
    upto_T = torch.arange(1, mask_BT.shape[1] + 1, device=mask_BT.device)
    return torch.stack([batch["prompt_mask"].sum(1), (mask_BT * upto_T).amax(1)])


def longest_first(batch: Batch) -> Batch:
    """The same rows, those with most tokens to compute first.

    An out-of-memory then shows in the first micro-batch of the first step, and neighbours are of
    like length, so that little is padded.
    """
    return chosen(batch, row_lengths(batch).sum(0).argsort(descending=True, stable=True))


def packed(lengths_2B: Tensor, rows: int, room: int) -> list[slice]:
    """Which rows are looked at together: as many as fit the memory of a micro-batch of the longest.

    Half as long rows fit twice as often, and a pass that is twice as full takes little longer: of a
    small one much is spent on starting kernels.

    Args:
        lengths_2B: Of `row_lengths`, for rows in the order of their length, the longest first.
        rows: Of a micro-batch that fits whatever its lengths.
        room: Tokens of the longest completion that there may be.
    """
    most = lengths_2B.amax(1)
    budget = rows * int(max(most.sum(), most[0] + room))
    parts, first, longest = [], 0, (0, 0)
    for place, (prompt, said) in enumerate(lengths_2B.T.tolist()):
        longest = max(longest[0], prompt), max(longest[1], said)
        if (place + 1 - first) * sum(longest) > budget:
            parts.append(slice(first, place))
            first, longest = place, (prompt, said)
    return [*parts, slice(first, lengths_2B.shape[1])]


def evened(batches: Sequence[Batch]) -> list[Batch]:
    """The same rows, dealt out so that all micro-batches have about as many tokens.

    For a trainer that packs rows without padding: its memory goes by the tokens that meet, and by
    chance some micro-batch gets a fifth more than the mean. The fullest comes first.
    """
    rows = {name: _joined([batch[name] for batch in batches]) for name in batches[0]}
    tokens_B = row_tokens(rows)
    most = len(tokens_B) // len(batches)
    dealt: list[list[int]] = [[] for _ in batches]
    filled = [0] * len(batches)
    for row in tokens_B.argsort(descending=True, stable=True).tolist():
        place = min((i for i, d in enumerate(dealt) if len(d) < most), key=filled.__getitem__)
        dealt[place].append(row)
        filled[place] += int(tokens_B[row])
    fullest = sorted(range(len(batches)), key=filled.__getitem__, reverse=True)
    return [chosen(rows, torch.tensor(dealt[i])) for i in fullest]


def chosen(batch: Batch, rows: Tensor) -> Batch:
    """Some rows of a batch, by their places in the order they shall have."""
    return {name: _permuted(value, rows) for name, value in batch.items()}


def taken(batch: Batch, part: slice) -> Batch:
    """Some neighbouring rows of a batch."""
    return {
        name: value
        if value is None or (isinstance(value, Tensor) and not value.ndim)
        else value[part]
        for name, value in batch.items()
    }


def narrowed(batch: Batch) -> Batch:
    """A micro-batch no wider than its own longest prompt and its own last token in a loss.

    What follows the last token in the loss cannot change it, since models read from left to right.
    """
    prompt, completion = row_lengths(batch).amax(1).tolist()
    first = batch["prompt_ids"].shape[1] - prompt
    last = max(1, completion)
    end = batch["prompt_ids"].shape[1] + last
    spans = dict.fromkeys(_PROMPT, slice(first, None))
    spans |= dict.fromkeys(_COMPLETION, slice(last)) | dict.fromkeys(_BOTH, slice(first, end))
    return {k: v[:, spans[k]] if k in spans and v is not None else v for k, v in batch.items()}


def _joined(values: Sequence[Any]) -> Any:
    """What neighbouring micro-batches have under one name."""
    if isinstance(values[0], Tensor) and values[0].ndim:
        return torch.cat([*values])
    return [row for rows in values for row in rows] if isinstance(values[0], list) else values[0]


def _permuted(value: Any, order_B: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[order_B] if value.ndim else value
    return [value[i] for i in order_B.tolist()] if value is not None else None
