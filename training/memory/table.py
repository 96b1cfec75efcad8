"""Prints a plan: GiB by part, while the learner computes and while completions are written."""

from __future__ import annotations

from taskgym.training.memory.plan import GIB, VLLM_CACHE, Plan

_LEFT, _RIGHT = 30, 10


def as_table(plan: Plan) -> str:
    """Every part, and what was picked."""
    learning, writing = plan.while_learning, plan.while_writing
    peak, logits = plan.sizes.peaks[plan.micro_batch]
    of_warmup = "of the warm-up; " if plan.sizes.warmup > peak else ""
    notes = {
        "activations": f"{of_warmup}logits at most {logits / GIB:.2f} of them",
        VLLM_CACHE: f"{plan.cache / plan.sizes.token:,.0f} tokens",
        "cache and choice": f"{plan.decode_rows} completions at a time",
    }
    lines = [_line("GiB", "learning", "writing")]
    for part in dict.fromkeys([*learning, *writing]):
        figures = _gib(learning.get(part, 0.0)), _gib(writing.get(part, 0.0))
        lines.append(_line(part, *figures, notes.get(part, "")))
    sums = _gib(sum(learning.values())), _gib(sum(writing.values()))
    lines += [_line("together", *sums, f"of {plan.card / GIB:.2f}"), as_line(plan)]
    return "\n".join(lines)


def as_line(plan: Plan) -> str:
    """What was picked or stated."""
    most = max(sum(plan.while_learning.values()), sum(plan.while_writing.values()))
    line = f"memory: {most / GIB:.1f} of {plan.card / GIB:.1f} GiB foreseen; "
    line += f"grpo.micro_batch {plan.micro_batch}"
    if plan.demand.decodes:
        line += f", decode_rows {plan.decode_rows}"
    if plan.share:
        line += f", gpu_memory_utilization {plan.share:.3f}, standby {plan.standby}"
    return line


def _line(part: str, learning: str, writing: str, note: str = "") -> str:
    return f"{part:{_LEFT}}{learning:>{_RIGHT}}{writing:>{_RIGHT}}  {note}".rstrip()


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}" if size else "-"
