"""Reproducible batched generation with a transformers model that may be training at the same time.

Each distinct prompt is read once and its cache copied to its members; a row that has finished
leaves the batch; each row draws its noise from its own seed::

    samples = generate(
        model, prompts, seeds=range(len(prompts)), max_tokens=[8] * len(prompts), stop_ids={2}
    )
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from taskgym.agents.draw import choose
from taskgym.agents.policy import Sampling

if TYPE_CHECKING:
    from taskgym.agents.vision import Seen
    from torch import Tensor

Ids = tuple[int, ...]
# From the pictures of prompts, their ids and mask to what a model needs beside those two.
Look = Callable[[Sequence["Seen"], "Tensor", "Tensor"], dict[str, Any]]


@dataclass(frozen=True)
class Sample:
    """One completion as tokens."""

    ids: Ids
    """The completion without its prompt; a stop token that ended it is the last entry."""
    logprobs: tuple[float, ...]
    """Log-probability of each token under the model's softmax at the sampling temperature, before
    any truncation by top-p, top-k or min-p: the policy whose ratio GRPO forms. A greedy sample
    reports temperature 1."""
    finish: Literal["stop", "length"]
    """Whether the completion ended by a stop token or ran into its limit."""


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    seen: Sequence["Seen"] | None = None,
    look: "Look | None" = None,
    seeds: Sequence[int],
    max_tokens: Sequence[int],
    stop_ids: Collection[int],
    sampling: Sampling | None = None,
    max_rows: int = 64,
) -> list[Sample]:
    """Complete each prompt; equal prompts are read once.

    The same call gives the same tokens, whatever ran before. A row's noise depends on its seed
    alone, so in other company it changes only where float rounding tips a choice.

    Args:
        model: A transformers causal language model, with or without a peft adapter.
        prompts: Token ids, one list a row; repeat a prompt to sample it several times.
        seen: The pictures of each row's prompt, for a vision-language model; None for text.
        look: Makes of pictures, ids and mask what the model needs beside those two.
        seeds: One seed a row.
        max_tokens: The limit of each row, at least 1.
        stop_ids: Tokens that end a completion.
        sampling: By default temperature 1 without truncation.
        max_rows: Rows that decode together; bounds the memory of cache and logits.

    Returns:
        One sample a row, in order.
    """
    rows = _rows(prompts, seen, seeds, max_tokens)
    rows.sort(key=lambda row: (len(row.prompt), row.key, row.index))
    with _ready(model):
        for start in range(0, len(rows), max_rows):
            chunk = rows[start : start + max_rows]
            _decode(model, chunk, look, frozenset(stop_ids), sampling or Sampling())
    return [row.sample() for row in sorted(rows, key=lambda row: row.index)]


@dataclass
class _Row:
    index: int
    prompt: Ids
    seen: "Seen | None"
    seed: int
    max_tokens: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def key(self) -> tuple[Ids, str]:
        """Equal for equal prompts: tokens and, if there are any, pictures."""
        return self.prompt, self.seen.digest if self.seen else ""

    @property
    def done(self) -> bool:
        return self.stopped or len(self.ids) == self.max_tokens

    def append(self, token: int, logprob: float, stop_ids: frozenset[int]) -> None:
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.stopped = token in stop_ids

    def sample(self) -> Sample:
        finish: Literal["stop", "length"] = "stop" if self.stopped else "length"
        return Sample(tuple(self.ids), tuple(self.logprobs), finish)


def _rows(
    prompts: Sequence[Sequence[int]],
    seen: Sequence["Seen"] | None,
    seeds: Sequence[int],
    max_tokens: Sequence[int],
) -> list[_Row]:
    shown = seen if seen is not None else [None] * len(prompts)
    if not len(prompts) == len(seeds) == len(max_tokens):
        raise ValueError(
            "one seed and one limit per prompt, got "
            f"{len(prompts)} prompts, {len(seeds)} seeds, {len(max_tokens)} limits"
        )
    if any(not prompt for prompt in prompts):
        raise ValueError("a prompt must hold at least one token")
    if any(limit < 1 for limit in max_tokens):
        raise ValueError(f"max_tokens must be at least 1, got {min(max_tokens)}")
    given = zip(prompts, shown, seeds, max_tokens, strict=True)
    return [_Row(i, tuple(p), s, seed, limit) for i, (p, s, seed, limit) in enumerate(given)]


@contextmanager
def _ready(model: Any) -> Iterator[None]:
    """Switch dropout and gradients off, and leave the model as it was found.

    Not inference mode: buffers that a model computes lazily would stay barred from training.
    """
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _decode(
    model: Any,
    rows: list[_Row],
    look: "Look | None",
    stop_ids: frozenset[int],
    sampling: Sampling,
) -> None:
    """Fill in the rows' tokens, one forward pass per token, until all are done."""
    import torch

    never = list(rows[0].seen.unsayable) if rows[0].seen else []
    noise_BT = _noise(rows, sampling)
    logits_BV, cache, mask_BT, ahead_B1 = _prefill(model, rows, look)
    device = logits_BV.device
    step = 0
    while True:
        ids_B, logprobs_B = choose(logits_BV, noise_BT[:, step].to(device), sampling, never)
        step += 1
        for row, token, logprob in zip(rows, ids_B.tolist(), logprobs_B.tolist(), strict=True):
            row.append(token, logprob, stop_ids)
        keep = [i for i, row in enumerate(rows) if not row.done]
        if not keep:
            return
        if len(keep) < len(rows):
            rows = [rows[i] for i in keep]
            cache.batch_select_indices(torch.tensor(keep, device=device))
            ids_B, noise_BT, mask_BT = ids_B[keep], noise_BT[keep], mask_BT[keep]
            ahead_B1 = ahead_B1[keep]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)
        out = model(
            input_ids=ids_B[:, None],
            attention_mask=mask_BT,
            position_ids=mask_BT.sum(1, keepdim=True) - 1 + ahead_B1,
            past_key_values=cache,
            use_cache=True,
        )
        logits_BV = out.logits[:, -1]


def _noise(rows: list[_Row], sampling: Sampling) -> "Tensor":
    """Draw all of a row's uniform numbers at once from its seed: (B, T), on the CPU."""
    import torch

    longest = max(row.max_tokens for row in rows)
    noise_BT = torch.zeros(len(rows), longest, dtype=torch.float64)
    if sampling.temperature > 0:
        for noise_T, row in zip(noise_BT, rows, strict=True):
            noise_T.uniform_(generator=torch.Generator().manual_seed(row.seed))
    return noise_BT


def _prefill(
    model: Any, rows: list[_Row], look: "Look | None"
) -> tuple["Tensor", Any, "Tensor", "Tensor"]:
    """Read each distinct prompt once.

    Returns:
        The rows' next-token logits, cache, attention mask, and how far each row's positions are
        ahead of its count of tokens: models that number the patches of a picture in two dimensions
        need fewer positions for it than tokens.
    """
    import torch

    firsts: dict[tuple[Ids, str], _Row] = {}
    for row in rows:
        firsts.setdefault(row.key, row)
    prompts = [row.prompt for row in firsts.values()]
    longest = max(map(len, prompts))
    pads = [longest - len(prompt) for prompt in prompts]
    ids = [[0] * pad + list(prompt) for pad, prompt in zip(pads, prompts, strict=True)]
    mask = [[0] * pad + [1] * (longest - pad) for pad in pads]
    ids_PT = torch.tensor(ids, device=model.device)
    mask_PT = torch.tensor(mask, device=model.device)
    shown = [row.seen for row in firsts.values() if row.seen is not None]
    extra = look(shown, ids_PT, mask_PT) if shown and look else {}
    two_dimensional = next((m for m in model.modules() if hasattr(m, "get_rope_index")), None)
    if not shown or two_dimensional is None:  # the others number a prompt's tokens themselves
        extra["position_ids"] = (mask_PT.cumsum(1) - 1).clamp(min=0)
    out = model(
        input_ids=ids_PT,
        attention_mask=mask_PT,
        use_cache=True,
        logits_to_keep=1,  # All positions' logits would be the largest tensor of the whole run.
        **extra,
    )
    ahead_P1 = mask_PT.new_zeros(len(prompts), 1)
    if shown and two_dimensional is not None:
        ahead_P1 = two_dimensional.rope_deltas.view(-1, 1).to(ahead_P1)
    place = {key: i for i, key in enumerate(firsts)}
    members_B = torch.tensor([place[row.key] for row in rows], device=model.device)
    out.past_key_values.batch_select_indices(members_B)
    logits_BV = out.logits[members_B, -1]
    return logits_BV, out.past_key_values, mask_PT[members_B], ahead_P1[members_B]
