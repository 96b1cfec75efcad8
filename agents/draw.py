"""Draws a token from a model's logits by one uniform number, so that equal noise is equal text."""

from typing import TYPE_CHECKING

from taskgym.agents.policy import Sampling

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 256  # Entries of the vocabulary that are summed before one is chosen: about its root.


def choose(
    logits_BV: "Tensor", noise_B: "Tensor", sampling: Sampling, never: list[int]
) -> tuple["Tensor", "Tensor"]:
    """Choose one token a row, none of `never`: ids and their log-probabilities, both (B,).

    Args:
        logits_BV: Of the next token.
        noise_B: Uniform numbers in [0, 1).
        sampling: Temperature, and what is left out.
        never: Tokens that no row may choose.
    """
    scaled_BV = logits_BV.float()
    if sampling.temperature not in (0, 1):
        scaled_BV = scaled_BV / sampling.temperature
    probs_BV = scaled_BV.softmax(-1)
    allowed_BV = probs_BV
    if never:
        allowed_BV = probs_BV.clone()
        allowed_BV[:, never] = 0
    if sampling.temperature == 0:
        ids_B = allowed_BV.argmax(-1)
    else:
        ids_B = draw(truncate(allowed_BV, sampling), noise_B)
    return ids_B, probs_BV.gather(1, ids_B[:, None])[:, 0].log()


def draw(weights_BV: "Tensor", noise_B: "Tensor") -> "Tensor":
    """Invert the cumulative distribution at one uniform number in [0, 1) a row: tokens, (B,).

    Two levels, first the block of the vocabulary and then the token in it, because a cumulative
    sum over a whole vocabulary is slow on a CPU.
    """
    import torch

    missing = -weights_BV.shape[1] % _BLOCK
    blocks_BNM = torch.nn.functional.pad(weights_BV, (0, missing)).unflatten(1, (-1, _BLOCK))
    sums_BN = blocks_BNM.sum(-1, dtype=torch.float64)
    level_B1 = (1 - noise_B[:, None]) * sums_BN.sum(1, keepdim=True)
    block_B1, level_B1 = _first_to_reach(level_B1, sums_BN)
    rows_B = torch.arange(len(weights_BV), device=weights_BV.device)
    token_B1, _ = _first_to_reach(level_B1, blocks_BNM[rows_B, block_B1[:, 0]].double())
    return (block_B1 * _BLOCK + token_B1)[:, 0]


def _first_to_reach(level_B1: "Tensor", weights_BN: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Return where the running sum first reaches a level above 0, and what is left to reach there.

    That entry has a weight above 0, so neither rounding nor a number at the edge of its range can
    pick a token that truncation removed.
    """
    import torch

    upto_BN = weights_BN.cumsum(-1)
    level_B1 = torch.minimum(level_B1, upto_BN[:, -1:])
    place_B1 = torch.searchsorted(upto_BN, level_B1)
    before_B1 = torch.where(place_B1 > 0, upto_BN.gather(1, (place_B1 - 1).clamp(min=0)), 0)
    return place_B1, level_B1 - before_B1


def truncate(probs_BV: "Tensor", sampling: Sampling) -> "Tensor":
    """Set the probability of tokens that the sampling settings exclude to 0, (B, V)."""
    import torch

    if sampling.min_p > 0:
        floor_B = sampling.min_p * probs_BV.amax(-1, keepdim=True)
        probs_BV = probs_BV.masked_fill(probs_BV < floor_B, 0)
    if sampling.top_k == 0 and sampling.top_p == 1:
        return probs_BV
    ranked_BV, order_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
    if sampling.top_k > 0:
        ranked_BV[:, sampling.top_k :] = 0
    if sampling.top_p < 1:
        upto_BV = ranked_BV.cumsum(-1)
        ranked_BV = ranked_BV.masked_fill(
            upto_BV - ranked_BV >= sampling.top_p * upto_BV[:, -1:], 0
        )
    return torch.zeros_like(probs_BV).scatter(-1, order_BV, ranked_BV)
