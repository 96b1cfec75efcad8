"""An engine on standby sleeps when it may and is awake whenever something is asked of it."""

from types import SimpleNamespace
from typing import Any

import pytest
from taskgym.agents.policy import RestingPolicy
from taskgym.agents.vllm_standby import StandbyPolicy

torch = pytest.importorskip("torch")


class Engine:
    """As much of vLLM's engine as sleeping needs."""

    def __init__(self, sleeps: bool):
        self.model_config = SimpleNamespace(max_model_len=64, enable_sleep_mode=sleeps)
        self.asleep = False
        self.calls: list[str] = []

    def sleep(self, level: int) -> None:
        assert level == 1, "level 2 would drop the weights"
        self.asleep = True
        self.calls.append("sleep")

    def wake_up(self) -> None:
        self.asleep = False
        self.calls.append("wake")

    def is_sleeping(self) -> bool:
        return self.asleep


@pytest.fixture
def policy() -> Any:
    return StandbyPolicy(Engine(sleeps=True), tokenizer=None, stop_ids=[2])


def test_it_sleeps_until_it_is_asked(policy: Any) -> None:
    assert isinstance(policy, RestingPolicy)
    policy.rest()
    assert policy._engine.asleep
    policy.load_adapter(None, 1)
    policy.load_adapter(None, 2)
    assert policy._engine.calls == ["sleep", "wake"] and policy.version == 2


def test_what_the_learner_has_freed_is_there_before_it_wakes(
    policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: policy._engine.calls.append("empty"))
    policy.rest()
    policy.load_adapter(None, 1)
    assert policy._engine.calls == ["sleep", "empty", "wake"]


def test_an_engine_put_to_sleep_by_somebody_else_is_woken_too(policy: Any) -> None:
    policy._engine.sleep(1)
    policy.load_adapter(None, 1)
    assert not policy._engine.asleep


def test_an_engine_without_sleep_mode_is_left_alone() -> None:
    policy = StandbyPolicy(Engine(sleeps=False), tokenizer=None, stop_ids=[2])
    policy.rest()
    policy.load_adapter(None, 1)
    assert policy._engine.calls == []  # type: ignore[attr-defined]
