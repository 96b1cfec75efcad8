"""Adapters on their way from learner to sampler; a second transformers model is the sampler."""

from pathlib import Path
from typing import Any

import pytest
from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import ApartPolicy, LockstepPolicy
from taskgym.agents.scripted import SCRIPTS, ScriptedPolicy
from taskgym.training.canary import Canary, SyncError
from taskgym.training.sync import Sync

torch = pytest.importorskip("torch")


class Apart(ScriptedPolicy):
    """A sampler with weights of its own, and ways for a sync to go wrong."""

    def __init__(self, folder: Path):
        from transformers import AutoModelForCausalLM

        super().__init__(SCRIPTS["empty"])
        self._folder = folder
        self._base = AutoModelForCausalLM
        self.broken = ""
        self.model: Any = self._plain()

    def _plain(self) -> Any:
        return self._base.from_pretrained(self._folder, dtype=torch.float32).eval()

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

        super().load_adapter(adapter, version)
        if adapter is None or self.broken == "not applied":
            self.model = self._plain()
        elif self.broken != "not replaced":
            keys = ("r", "lora_alpha", "target_modules", "task_type")
            config = LoraConfig(**{key: adapter.config[key] for key in keys})
            self.model = get_peft_model(self._plain(), config).eval()
            set_peft_model_state_dict(self.model, dict(adapter.tensors))
        if self.broken == "dropped":
            self.model.get_input_embeddings().weight.data.zero_()

    def score(self, ids: Any) -> list[float]:
        with torch.no_grad():
            logprobs = self.model(torch.tensor([list(ids)])).logits[0, :-1].log_softmax(-1)
        scored: list[float] = logprobs.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        return scored


@pytest.fixture
def sampler(tiny_model: Path) -> Apart:
    return Apart(tiny_model)


def test_only_a_policy_with_weights_of_its_own_is_synced(sampler: Apart) -> None:
    assert isinstance(sampler, ApartPolicy)
    assert not isinstance(ScriptedPolicy(SCRIPTS["empty"]), ApartPolicy)


def test_a_policy_that_shares_the_weights_is_told_the_version_alone(tiny_learner: Any) -> None:
    shared: LockstepPolicy = ScriptedPolicy(SCRIPTS["empty"])
    metrics = Sync(shared, tiny_learner.loaded)(7)
    assert shared.version == 7 and metrics.keys() == {"seconds/sync"}


def test_a_true_sync_is_measured_and_passes(sampler: Apart, tiny_learner: Any) -> None:
    sync = Sync(sampler, tiny_learner.loaded)
    for version in range(9):
        tiny_learner.learn(seed=version, scale=0.3)
        metrics = sync(version)
        assert sampler.version == version
        if version % 8 == 0:  # it costs as much as several tokens
            assert metrics["sampling/canary_gap"] < 1e-5
        else:
            assert metrics.keys() == {"seconds/sync"}


def test_calibration_leaves_learner_and_sampler_as_they_were(
    sampler: Apart, tiny_learner: Any
) -> None:
    tiny_learner.learn(seed=1)
    before = Adapter.of(tiny_learner.model).tensors
    Canary(tiny_learner.model, tiny_learner.tokenizer).calibrate(sampler)
    after = Adapter.of(tiny_learner.model).tensors
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not hasattr(sampler.model, "peft_config")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("not applied", "answers as the base model: the adapter is not applied"),
        ("not replaced", "answers as it did at the last check: the adapter was not replaced"),
        ("dropped", "its base weights are others"),
    ],
)
def test_a_broken_sync_stops_the_run_within_eight_steps_and_names_the_cause(
    fault: str, reason: str, sampler: Apart, tiny_learner: Any
) -> None:
    sync = Sync(sampler, tiny_learner.loaded)
    tiny_learner.learn(seed=1, scale=0.3)
    sync(1)
    sampler.broken = fault
    tiny_learner.learn(seed=2, scale=0.3)
    with pytest.raises(SyncError, match=f"have parted.*{reason}"):
        for version in range(2, 10):
            sync(version)


def test_servers_are_checked_at_every_sync(sampler: Apart, tiny_learner: Any) -> None:
    replicated: Any = sampler
    replicated.up = ["one"]
    replicated.scores = lambda ids: {"one": sampler.score(ids)}
    replicated.expect = lambda ids, logprobs, tolerance: None
    sync = Sync(replicated, tiny_learner.loaded)
    for version in (0, 1, 2):
        assert sync(version)["sampling/canary_gap"] < 1e-5


@pytest.mark.parametrize("fault", ["not applied", "dropped"])
def test_a_sync_that_never_worked_is_found_before_training(
    fault: str, sampler: Apart, tiny_learner: Any
) -> None:
    sampler.broken = fault
    with pytest.raises(SyncError, match="part before training"):
        Sync(sampler, tiny_learner.loaded)


def test_a_sampler_that_answers_no_numbers_is_found_before_training(
    sampler: Apart, tiny_learner: Any
) -> None:
    sampler.score = lambda ids: [float("nan")] * (len(ids) - 1)  # type: ignore[method-assign]
    with pytest.raises(SyncError, match="part before training: nan nats"):
        Sync(sampler, tiny_learner.loaded)


def test_not_a_number_is_never_within_tolerance(sampler: Apart, tiny_learner: Any) -> None:
    sync = Sync(sampler, tiny_learner.loaded)
    sampler.score = lambda ids: [float("nan")] * (len(ids) - 1)  # type: ignore[method-assign]
    with pytest.raises(SyncError, match="nan nats a token"):
        sync(1)


def test_an_adapter_is_a_copy_and_survives_a_file(tiny_learner: Any, tmp_path: Path) -> None:
    tiny_learner.learn(seed=1)
    adapter = Adapter.of(tiny_learner.model)
    adapter.write(tmp_path / "made" / "here")
    tiny_learner.learn(seed=2)
    read = Adapter.read(tmp_path / "made" / "here")
    assert read.config == adapter.config and read.rank == adapter.rank == 8
    assert all(torch.equal(read.tensors[name], adapter.tensors[name]) for name in read.tensors)
    now = Adapter.of(tiny_learner.model).tensors
    assert any(not torch.equal(now[name], adapter.tensors[name]) for name in now)


def test_peft_loads_a_written_adapter(tiny_learner: Any, tiny_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tiny_learner.learn(seed=1)
    Adapter.of(tiny_learner.model).write(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ours, ids = tiny_learner.logprobs([5], range(6, 40)), range(6, 40)
    tiny_learner.model = PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(tiny_learner.logprobs([5], ids), ours)
