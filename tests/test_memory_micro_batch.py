"""What fake tensors say of a micro-batch is what real ones take."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from taskgym.training import LoraConfig  # noqa: E402
from taskgym.training.memory import micro_batch  # noqa: E402
from taskgym.training.memory.micro_batch import learner_like, peak_bytes, step  # noqa: E402
from taskgym.training.memory.storages import Storages  # noqa: E402
from taskgym.training.transformers_loader import peft_config  # noqa: E402

SHAPE = {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 1000}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2}
ROWS, PROMPT, COMPLETION = 4, 16, 48


def a_model(kind: str = "llama", layers: int = 2, **more: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, num_hidden_layers=layers, **SHAPE, **more)


def adapter(layers: int = 2) -> Any:
    return peft_config(LoraConfig(rank=4, alpha=8), layers)


@pytest.fixture(autouse=True)
def a_small_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or TRL's tile of logits would be all there is of so small a model."""
    monkeypatch.setattr(micro_batch, "TILE", (64, 100))


@contextmanager
def allocations() -> Iterator[list[int]]:
    """The bytes that torch's allocator hands out and takes back, in the order of time."""
    from torch.profiler import ProfilerActivity, profile

    found: list[int] = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield found
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    found += [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


def highest(changes: list[int]) -> int:
    now = most = 0
    for change in changes:
        now += change
        most = max(most, now)
    return most


def test_real_tensors_take_what_fake_ones_say() -> None:
    from transformers import AutoModelForCausalLM

    foreseen, _ = peak_bytes(a_model(), adapter(), ROWS, PROMPT, COMPLETION, packed=False)
    model = AutoModelForCausalLM.from_config(a_model(), dtype=torch.bfloat16)
    model = learner_like(model, adapter(), packed=False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    ids_BT = torch.zeros(ROWS, PROMPT + COMPLETION, dtype=torch.long)
    with allocations() as changes:
        step(model, Storages(), ids_BT, PROMPT)
    assert foreseen == pytest.approx(highest(changes), rel=0.05)


def assert_shallow_tells_deep(config: Any) -> None:
    shape = (config, adapter(config.num_hidden_layers), ROWS, PROMPT, COMPLETION)
    assert peak_bytes(*shape, packed=False) == micro_batch._peak(*shape, False)


def test_two_shallow_models_tell_of_a_deep_one_to_the_byte() -> None:
    assert_shallow_tells_deep(a_model(layers=5))


@pytest.mark.slow
def test_so_they_do_where_layers_are_of_two_kinds() -> None:
    gemma = a_model("gemma3_text", 8, head_dim=16, sliding_window=8, layer_types=None)
    assert len(set(gemma.layer_types)) == 2  # five layers see little, the sixth all
    assert_shallow_tells_deep(gemma)


@pytest.mark.slow
def test_checkpoints_take_less_than_all_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (a_model(layers=5), adapter(5), ROWS, PROMPT, COMPLETION)
    checkpointed, _ = peak_bytes(*shape, packed=False)
    monkeypatch.setattr("transformers.PreTrainedModel.gradient_checkpointing_enable", lambda _: 0)
    assert peak_bytes(*shape, packed=False)[0] > 2 * checkpointed


def test_more_rows_and_tokens_take_more_in_proportion() -> None:
    few, logits = peak_bytes(a_model(), adapter(), 2, PROMPT, COMPLETION, packed=False)
    many, as_many = peak_bytes(a_model(), adapter(), 4, PROMPT, COMPLETION, packed=False)
    assert many == pytest.approx(2 * few, rel=0.02)
    assert logits < as_many < 2 * logits  # the tile of logits stays as large as it is


def test_packed_weights_are_whole_for_a_moment() -> None:
    plain, _ = peak_bytes(a_model(), adapter(), 1, 2, 2, packed=False)
    packed, _ = peak_bytes(a_model(), adapter(), 1, 2, 2, packed=True)
    largest = 64 * 256 * 2  # bytes of an MLP's matrix in bf16
    assert packed >= plain + largest / 2


def test_what_is_freed_no_longer_counts_and_a_view_never_does() -> None:
    known = torch.zeros(1000)
    storages = Storages([known])
    with storages:
        known.view(10, 100).add_(1)
        for _ in range(3):
            made = torch.empty(2048)  # 8 KiB, of which only one is there at a time
            made.t()
            del made
    assert storages.peak == 8192
