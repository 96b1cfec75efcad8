"""A first step that is too large for the memory begins again with half the rows, and says so."""

import dataclasses
import weakref
from pathlib import Path
from typing import Any

import pytest

trl = pytest.importorskip("trl")
torch = pytest.importorskip("torch")

from taskgym.training import WarmupConfig  # noqa: E402
from taskgym.training.errors import RunError  # noqa: E402
from taskgym.training.halving import MemoryFullError  # noqa: E402
from taskgym.training.metrics import MetricsFile  # noqa: E402
from taskgym.training.models import load_model  # noqa: E402
from taskgym.training.train import train as run  # noqa: E402
from test_grpo_trainer import MICRO, assert_same_step, ragged, train  # noqa: E402
from test_training import config, tokens  # noqa: E402, F401


def full() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nGPU 0 has ...")


class Card:
    """Memory for so many tokens: a forward pass with more runs out of it."""

    def __init__(self, tokens: int, from_call: int = 0):
        self.tokens, self.from_call, self.seen = tokens, from_call, []

    def __call__(self, shape: tuple[int, int]) -> None:
        self.seen.append(shape[0] * shape[1])
        if self.seen[-1] > self.tokens and len(self.seen) > self.from_call:
            raise full()


def ours() -> Any:
    from taskgym.training.grpo_trainer import trainer_class

    return trainer_class()


def theirs() -> Any:
    """Micro-batches as TRL makes them, and so as Unsloth does: the stand-in for its trainer."""
    return trl.GRPOTrainer


HALF = MICRO * (4 + 12) // 2  # tokens: the longest prompt and max_completion_length
LOSSES = ["dapo", "grpo", "dr_grpo", "sapo", "luspo"]
CASES = [("dapo", ours, 2), ("grpo", theirs, 0), *((loss, ours, 0) for loss in LOSSES)]


@pytest.mark.parametrize(
    ("loss", "kind", "from_call"),
    [*CASES[:2], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[2:])],
)
def test_the_step_with_half_the_rows_is_the_whole_step(
    loss: str, kind: Any, from_call: int, tiny_model: Path, tmp_path: Path
) -> None:
    options = {"loss_type": loss, "beta": 0.04}
    whole, log = train(kind(), tiny_model, tmp_path, ragged(), **options)
    card = Card(HALF, from_call)  # full in the first micro-batch, or in the third
    halved, our_log = train(kind(), tiny_model, tmp_path, ragged(), look=card, **options)
    assert_same_step(whole, halved)
    for name in ("reward", "reward_std", "num_tokens", "completions/mean_length", "step"):
        assert our_log[name] == log[name], name
    first = next(i for i, seen in enumerate(card.seen) if seen > HALF and i >= from_call)
    assert first + 1 < len(card.seen) and max(card.seen[first + 1 :]) <= HALF


class Rows(dict[str, Any]):
    """Counts how often they are asked for."""

    asked = 0

    def items(self) -> Any:
        self.asked += 1
        return super().items()


def test_the_second_trainer_has_the_completions_and_the_memory_of_the_first(
    tiny_model: Path, tmp_path: Path
) -> None:
    made = []

    class Counted(ours()):
        def __init__(self, *args: Any, **options: Any):
            assert [old() for old in made] == [None] * len(made)
            super().__init__(*args, **options)
            assert all(p.grad is None for p in self.model.parameters())
            made.append(weakref.ref(self))

    rows = Rows(ragged())
    train(Counted, tiny_model, tmp_path, rows, look=Card(HALF, 2))
    assert len(made) == 2 and rows.asked == 1


def test_a_memory_too_small_for_half_the_rows_as_well_stops_the_run(
    tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        MemoryFullError, match=r"step 1: .*2\.00 GiB\) with 1 completions in a pass"
    ):
        train(ours(), tiny_model, tmp_path, ragged(), look=Card(0))


def test_a_step_does_not_begin_again_once_weights_may_have_moved(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*args: Any, **options: Any) -> None:
        raise full()

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    with pytest.raises(MemoryFullError, match=r"step 1: .*with 2 completions .*a resumed run"):
        train(ours(), tiny_model, tmp_path, ragged())


def test_a_memory_that_sampling_fills_is_no_matter_of_micro_batches(
    tiny_model: Path, tmp_path: Path
) -> None:
    class Unwritten(Rows):
        def items(self) -> Any:
            raise full()

    with pytest.raises(MemoryFullError, match=r"while completions were written; .*decode_rows"):
        train(ours(), tiny_model, tmp_path, Unwritten())


def test_one_of_several_processes_does_not_begin_again_alone(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator

    def look(shape: tuple[int, int]) -> None:
        monkeypatch.setattr(Accelerator, "num_processes", 2)
        raise full()

    with pytest.raises(MemoryFullError, match=r"one of several processes, .*grpo\.micro_batch"):
        train(ours(), tiny_model, tmp_path, ragged(), look=look)


def test_a_memory_that_a_warm_up_fills_names_what_needs_less(
    config: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loss(*args: Any, **options: Any) -> None:
        raise full()

    monkeypatch.setattr(trl.SFTTrainer, "compute_loss", loss)
    warm = dataclasses.replace(config, warmup=WarmupConfig(data="gold", steps=1, batch=4))
    with pytest.raises(RunError, match=r"warm-up of 4 rows a step; a smaller warmup\.batch"):
        run(warm)


class FullNowAndThen:
    """Loads a model that runs out of memory as training begins, and once more after two steps."""

    def __init__(self, output: str):
        self.output = Path(output)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.resumed, self.passes = self.output.exists(), 0
        loaded = load_model(*args, **options)
        self.causal = loaded.model.get_base_model()
        self.causal.base_model.register_forward_pre_hook(self.look)
        return loaded

    def look(self, *_: Any) -> None:
        if not self.causal.training:
            return
        self.passes += 1
        lines = sum(len(p.read_text().splitlines()) for p in self.output.glob("*/metrics.jsonl"))
        if self.passes == 1 or (lines == 2 and not self.resumed):
            raise full()


@pytest.fixture
def stopped(
    config: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Trains until the memory is full in a later step; returns the run's config, to be resumed."""

    def stopped(**options: Any) -> Any:
        full = dataclasses.replace(config, output=config.output + "-full", **options)
        monkeypatch.setattr("taskgym.training.train.load_model", FullNowAndThen(full.output))
        with pytest.raises(RunError, match=r"step 3: .*Go on with: train_agent --resume"):
            run(full)
        (folder,) = Path(full.output).iterdir()
        return dataclasses.replace(full, resume=str(folder))

    return stopped


def test_a_run_goes_on_with_half_the_rows_and_keeps_what_it_learned_when_it_cannot(
    stopped: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(stopped().resume)
    assert "begins again with micro-batches of 2 completions" in caplog.text
    assert (folder / "adapter" / "adapter_model.safetensors").exists()
    assert len(MetricsFile(folder / "metrics.jsonl").read().steps) == 2


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 0.1])  # above 0 TRL keeps a second adapter, the reference
def test_a_run_whose_first_step_began_again_ends_as_one_with_memory_enough(
    beta: float,
    config: Any,  # noqa: F811
    stopped: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    grpo = dataclasses.replace(config.grpo, beta=beta)
    whole = run(dataclasses.replace(config, grpo=grpo))
    resumed = run(stopped(grpo=grpo))
    assert caplog.text.count("begins again") == 2  # in step 1, and as it was resumed in step 3
    assert tokens(resumed) == tokens(whole)
    steps = (MetricsFile(f.metrics).read().steps for f in (whole, resumed))
    for wanted, found in zip(*steps, strict=True):
        for name in ("step", "reward", "grad_norm", "num_tokens", *["kl"] * (beta > 0)):
            assert found[name] == pytest.approx(wanted[name], rel=1e-2, abs=1e-6), name
