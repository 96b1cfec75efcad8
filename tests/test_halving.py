"""A learner whose memory is full in its first step takes smaller parts, and says so; once."""

from pathlib import Path
from typing import Any

import pytest

trl = pytest.importorskip("trl")
torch = pytest.importorskip("torch")

from taskgym.training.errors import RunError  # noqa: E402
from taskgym.training.halving import MemoryFullError, halving  # noqa: E402
from taskgym.training.metrics import MetricsFile  # noqa: E402
from taskgym.training.models import load_model  # noqa: E402
from taskgym.training.train import train as run  # noqa: E402
from test_grpo_trainer import MICRO, assert_same_step, ragged, train  # noqa: E402
from test_training import config  # noqa: E402, F401


def slow(case: Any) -> Any:
    return pytest.param(*case, marks=pytest.mark.slow)


class Card:
    """Memory for so many tokens: a model's forward pass with more runs out of it."""

    def __init__(self, tokens: int, from_call: int = 0):
        self.tokens, self.from_call, self.seen = tokens, from_call, []

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        tokens = kwargs["input_ids"].numel()
        self.seen.append(tokens)
        if tokens > self.tokens and len(self.seen) > self.from_call:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def with_card(card: Card, kind: Any) -> Any:
    """A trainer's class whose model lives on that card."""

    class OnCard(kind):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, **options)
            backbone = self.model.get_base_model().base_model
            backbone.register_forward_pre_hook(card, with_kwargs=True)

    return OnCard


def ours() -> Any:
    from taskgym.training.grpo_trainer import trainer_class

    return halving(trainer_class())


HALF = MICRO * (4 + 12) // 2  # tokens: the longest prompt and max_completion_length
CASES = [("dapo", 2), ("dapo", 0), ("grpo", 0), ("dr_grpo", 2)]


@pytest.mark.parametrize(("loss", "from_call"), [CASES[0], *map(slow, CASES[1:])])
def test_the_step_in_parts_is_the_whole_step(
    loss: str, from_call: int, tiny_model: Path, tmp_path: Path
) -> None:
    whole, _ = train(ours(), tiny_model, tmp_path, ragged(), loss_type=loss)
    # half of what a micro-batch may have; full in the first one, or in the third
    card = Card(HALF, from_call)
    parted, _ = train(with_card(card, ours()), tiny_model, tmp_path, ragged(), loss_type=loss)
    assert_same_step(whole, parted)
    *before, _ = card.seen[: from_call + 1]
    assert before == [22, 22][:from_call] and max(card.seen[from_call + 1 :]) <= HALF


def test_a_memory_too_small_for_the_parts_as_well_stops_the_run(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        MemoryFullError, match=r"step 1: .*2\.00 GiB.* with 1 completions in a pass"
    ):
        train(with_card(Card(0), ours()), tiny_model, tmp_path, ragged())


def test_later_than_in_the_first_step_it_stops_the_run(tiny_model: Path, tmp_path: Path) -> None:
    later = with_card(Card(HALF), ours())
    later._first_step = -1
    with pytest.raises(MemoryFullError, match=r"step 1: .*a resumed run takes them in parts"):
        train(later, tiny_model, tmp_path, ragged())


def test_a_memory_that_sampling_fills_is_no_matter_of_micro_batches(
    tiny_model: Path, tmp_path: Path
) -> None:
    class Writes(ours()):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(MemoryFullError, match=r"while completions were written; .*decode_rows"):
        train(Writes, tiny_model, tmp_path, ragged())


def test_a_run_goes_on_in_parts_and_keeps_what_it_learned_when_it_cannot(
    config: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = []

    def on_card(*args: Any, **options: Any) -> Any:
        loaded = load_model(*args, **options)
        causal = loaded.model.get_base_model()

        def full_at_first_and_after_two_steps(module: Any, *inputs: Any) -> None:
            if causal.training:
                calls.append(1)
                done = sum(len(p.read_text().splitlines()) for p in metrics())
                if len(calls) == 1 or done == 2:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        causal.base_model.register_forward_pre_hook(full_at_first_and_after_two_steps)
        return loaded

    def metrics() -> Any:
        return Path(config.output).glob("*/metrics.jsonl")

    monkeypatch.setattr("taskgym.training.train.load_model", on_card)
    with pytest.raises(RunError, match=r"step 3: .*Go on with: train_agent --resume"):
        run(config)
    assert "micro-batches of 4 completions are taken in 2 parts" in caplog.text
    (folder,) = Path(config.output).iterdir()
    assert (folder / "adapter" / "adapter_model.safetensors").exists()
    assert len(MetricsFile(folder / "metrics.jsonl").read().steps) == 2
