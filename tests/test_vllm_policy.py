"""VLLM's engine in this process: what it samples, which adapter writes, and how a sync shows."""

import dataclasses
import gc
import itertools
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from asking import PROMPT, VLLM, answers, asked
from taskgym.agents.adapter import Adapter
from taskgym.agents.chat import Renderer, stop_ids
from taskgym.agents.episode import Start, Trajectory
from taskgym.agents.policy import Completion, Request, Sampling
from taskgym.agents.rollout import Rollout
from taskgym.envs import MultiTurnEnv, Reply
from taskgym.training.canary import Canary, SyncError

pytest.importorskip("vllm")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.vllm

TEMPERED = Sampling(max_tokens=24, temperature=0.7)


@pytest.fixture(scope="module")
def engine(small_model: Path) -> Any:
    from taskgym.agents.vllm_engine import start_engine

    return start_engine(str(small_model), max_loras=2, **VLLM)


@pytest.fixture
def policy(engine: Any, learner: Any) -> Iterator[Any]:
    from taskgym.agents.vllm_policy import VllmPolicy

    ends = stop_ids(learner.tokenizer, learner.model.generation_config)
    opened = VllmPolicy(engine, learner.tokenizer, ends)
    yield opened
    opened.load_adapter(None, 0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_the_learner_s(policy: Any, learner: Any, temperature: float) -> None:
    learner.learn(seed=1)
    policy.load_adapter(Adapter.of(learner.model), 1)
    (said,) = answers(policy, asked(0, Sampling(max_tokens=24, temperature=temperature)))
    assert len(said.ids) == len(said.logprobs) and said.adapter_version == 1
    ours = learner.logprobs(PROMPT, said.ids, temperature)
    torch.testing.assert_close(torch.tensor(said.logprobs), ours, atol=1e-4, rtol=1e-4)


def test_truncated_sampling_reports_the_distribution_it_drew_from(policy: Any) -> None:
    (sure,) = answers(policy, asked(0, Sampling(max_tokens=8, top_k=1)))
    assert sure.logprobs == (0.0,) * 8


def test_a_completion_depends_on_its_seed_and_not_on_its_neighbours(policy: Any) -> None:
    (alone,) = answers(policy, asked(0, TEMPERED, seed=2**62 + 1))
    crowd = answers(policy, *(asked(n, TEMPERED, seed=2**62 + n) for n in range(6)))
    assert crowd[1].ids == alone.ids
    assert len({completion.ids for completion in crowd}) == 6


def test_a_stop_token_ends_a_completion_and_is_kept_as_a_token(engine: Any, learner: Any) -> None:
    from taskgym.agents.vllm_policy import VllmPolicy

    (free,) = answers(VllmPolicy(engine, learner.tokenizer, {2}), asked(0, TEMPERED))
    cut = free.ids[5]
    (said,) = answers(VllmPolicy(engine, learner.tokenizer, {cut}), asked(0, TEMPERED))
    end = free.ids.index(cut)
    assert said.finish == "stop" and said.ids == free.ids[: end + 1]
    assert said.text == learner.tokenizer.decode(free.ids[:end], skip_special_tokens=True)


def test_a_finished_completion_does_not_wait_for_the_others(policy: Any) -> None:
    policy.submit(asked(1, Sampling(max_tokens=64)))
    policy.submit(asked(2, Sampling(max_tokens=4)))
    polls = 0
    while not (first := policy.poll()):
        polls += 1
    assert [completion.request_id for completion in first] == [2] and polls < 8
    policy.submit(asked(3, Sampling(max_tokens=4)))  # joins the running batch
    order = [c.request_id for _ in range(80) for c in policy.poll()]
    assert order == [3, 1]


def test_a_prompt_that_fills_the_context_is_cut_and_not_an_error(policy: Any) -> None:
    full, nearly = asked(0, TEMPERED, prompt=range(300)), asked(1, TEMPERED, prompt=range(250))
    said = answers(policy, full, nearly)
    assert (said[0].finish, said[0].ids) == ("length", ())
    assert (said[1].finish, len(said[1].ids)) == ("length", 6)


def test_cancelled_requests_are_never_answered(policy: Any) -> None:
    policy.submit(asked(1, Sampling(max_tokens=64)))
    policy.poll()
    policy.cancel()
    (said,) = answers(policy, asked(2, Sampling(max_tokens=4)))
    assert said.request_id == 2


def test_memory_and_files_bring_the_same_adapter_and_the_one_before_goes(
    policy: Any, learner: Any, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    learner.learn(seed=2)
    learner.model.save_pretrained(tmp_path, selected_adapters=["default"])
    base = AutoModelForCausalLM.from_pretrained(learner.loaded.name, dtype=torch.float32)
    learner.model = PeftModel.from_pretrained(base, tmp_path)
    golden = learner.logprobs(PROMPT[:1], PROMPT[1:])
    assert (golden - plain(learner)).abs().mean() > 0.1, "the adapter changes nothing"
    for in_memory, adapter in itertools.product(
        (True, False), (Adapter.of(learner.model), Adapter.read(tmp_path))
    ):
        policy._in_memory = in_memory
        policy.load_adapter(adapter, policy.version + 1)
        scored = torch.tensor(policy.score(PROMPT))
        torch.testing.assert_close(scored, golden, atol=1e-4, rtol=1e-4)
        assert len(policy._engine.list_loras()) == 1


def test_of_an_adapter_that_was_brought_the_learner_s_copy_is_gone_at_once(
    policy: Any, learner: Any
) -> None:
    """On a GPU it is a quarter of a GiB for a 4B model, of each step until the collector comes."""
    learner.learn(seed=3)
    adapter = Adapter.of(learner.model)
    copies = [weakref.ref(tensor) for tensor in adapter.tensors.values()]
    policy._in_memory = True
    gc.disable()
    try:
        policy.load_adapter(adapter, policy.version + 1)
        del adapter
        assert copies and not any(copy() is not None for copy in copies)
    finally:
        gc.enable()


def plain(learner: Any) -> Any:
    with learner.model.disable_adapter():
        return learner.logprobs(PROMPT[:1], PROMPT[1:])


@pytest.mark.parametrize(("allowed", "refused"), [(0, 4), (1, 0)])
def test_an_adapter_that_comes_midway_makes_what_runs_stale(
    allowed: int, refused: int, policy: Any, learner: Any
) -> None:
    learner.learn(seed=1)
    policy.load_adapter(Adapter.of(learner.model), 1)
    env = lambda: gym.make("Arithmetic-v0")  # noqa: E731
    sampling, renderer = Sampling(max_tokens=24), Renderer(learner.tokenizer)
    rollout = Rollout(policy, env, sampling, renderer, max_staleness=allowed)
    rollout.start([Start(i, None, i, 0, i) for i in range(4)])
    playing = iter(rollout.finished())
    usual, polls = policy.poll, itertools.count()

    def poll() -> list[Completion]:
        if next(polls) == 8 and policy.version == 1:  # all four run, none is done
            learner.learn(seed=2)
            policy.load_adapter(Adapter.of(learner.model), 2)
        found: list[Completion] = usual()
        return found

    policy.poll = poll
    done = list(playing)
    rollout.close()
    assert rollout.stale == refused and len(done) == 4
    assert {v for t in done for v in t.versions} == {1 if allowed else 2}
    assert len(policy._engine.list_loras()) == 1, "the old one is unloaded when nothing runs on it"


def test_the_base_model_writes_where_there_is_no_adapter(policy: Any, learner: Any) -> None:
    learner.learn(seed=3)
    policy.load_adapter(Adapter.of(learner.model), 1)
    policy.load_adapter(None, 2)
    scored = torch.tensor(policy.score(PROMPT))
    torch.testing.assert_close(scored, plain(learner), atol=1e-4, rtol=1e-4)


# --- the canary ---------------------------------------------------------------------------------


@pytest.fixture
def canary(policy: Any, learner: Any) -> Canary:
    found = Canary(learner.model, learner.tokenizer)
    found.calibrate(policy)
    return found


def sync(policy: Any, learner: Any, version: int) -> None:
    policy.load_adapter(Adapter.of(learner.model), version)


def test_a_true_sync_passes_and_calibration_leaves_no_trace(
    canary: Canary, policy: Any, learner: Any
) -> None:
    assert all(not w.any() for n, w in learner.model.named_parameters() if "lora_B" in n)
    for version in (1, 2, 3):
        learner.learn(seed=version)
        sync(policy, learner, version)
        assert canary.check(policy) < canary.tolerance < 0.05


def test_an_adapter_that_is_not_applied_is_caught(
    canary: Canary, policy: Any, learner: Any
) -> None:
    learner.learn(seed=1)
    sync(policy, learner, 1)
    lora, policy._lora = policy._lora, None
    with pytest.raises(SyncError, match="answers as the base model: the adapter is not applied"):
        canary.check(policy)
    policy._lora = lora
    canary.check(policy)


def test_a_name_of_the_version_before_is_caught(canary: Canary, policy: Any, learner: Any) -> None:
    learner.learn(seed=1)
    sync(policy, learner, 1)
    canary.check(policy)
    learner.learn(seed=2)
    with pytest.raises(SyncError, match="at the last check: the adapter was not replaced"):
        canary.check(policy)


def test_base_weights_dropped_by_a_sleep_are_caught(
    canary: Canary, policy: Any, learner: Any
) -> None:
    learner.learn(seed=1)
    sync(policy, learner, 1)

    def drop(worker: Any) -> Any:
        """What sleep level 2 leaves behind after waking up: memory, but not the weights."""
        weight = worker.model_runner.model.model.norm.weight
        kept = weight.detach().clone()
        weight.data.zero_()
        return kept

    (kept,) = policy._engine.collective_rpc(drop)
    try:
        with pytest.raises(SyncError, match="its base weights are others"):
            canary.check(policy)
    finally:
        policy._engine.collective_rpc(
            lambda worker: worker.model_runner.model.model.norm.weight.data.copy_(kept)
        )
    canary.check(policy)


def test_an_adapter_of_another_scale_is_caught_before_training(policy: Any, learner: Any) -> None:
    usual = policy.load_adapter

    def louder(adapter: Adapter | None, version: int) -> None:
        config = {**adapter.config, "lora_alpha": 64} if adapter else {}
        usual(dataclasses.replace(adapter, config=config) if adapter else None, version)

    policy.load_adapter = louder
    with pytest.raises(SyncError, match="part before training"):
        Canary(learner.model, learner.tokenizer).calibrate(policy)
    policy.load_adapter = usual


# --- rollouts -----------------------------------------------------------------------------------


def play(policy: Any, learner: Any, env_id: str, episodes: int, sampling: Sampling) -> Any:
    rollout = Rollout(policy, lambda: gym.make(env_id), sampling, Renderer(learner.tokenizer))
    rollout.start([Start(i, None, i, 0, i) for i in range(episodes)])
    done: list[Trajectory] = sorted(rollout.finished(), key=lambda t: t.start.member)
    rollout.close()
    return done


def test_each_turn_starts_with_exactly_the_tokens_that_were_sampled(
    policy: Any, learner: Any
) -> None:
    seen: dict[int, list[Request]] = {}
    submit = policy.submit

    def noted(request: Request) -> None:
        seen.setdefault(request.episode.trajectory.start.member, []).append(request)
        submit(request)

    policy.submit = noted
    policy._stop_ids = list(range(0, 49152, 7))  # a random model ends its turns now and then
    played = play(policy, learner, "GuessNumber-v0", 4, Sampling(max_tokens=64))
    assert max(len(t.versions) for t in played) > 1
    for trajectory in played:
        whole = (*trajectory.prompt_ids, *trajectory.completion_ids)
        for request in seen[trajectory.start.member]:
            assert whole[: len(request.prompt_ids)] == request.prompt_ids
        assert len(trajectory.mask) == len(trajectory.logprobs) == len(trajectory.completion_ids)
        told = [p for p, ours in zip(trajectory.logprobs, trajectory.mask, strict=True) if not ours]
        assert not any(told)


class Chatter(MultiTurnEnv):
    """Asks about another number in every episode, and goes on asking."""

    weights: Mapping[str, float] = {"said": 1.0}
    max_turns = 5
    max_reward = 5.0

    def begin(self) -> str:
        return f"Tell me about the number {int(self.np_random.integers(10_000))}."

    def respond(self, action: str) -> Reply:
        return Reply(f"You said {len(action)} letters. And then?", {"said": 1.0})

    def gold_action(self) -> str:
        return "It is a number."


gym.register("Test-Chatter-v0", Chatter)


def test_greedy_texts_are_the_same_in_lockstep_and_continuous(policy: Any, learner: Any) -> None:
    submit, step = policy.submit, policy.poll

    def dealt(request: Request) -> None:
        """Every turn is dealt a length of its own, since a random model never ends one."""
        sampling = dataclasses.replace(request.sampling, max_tokens=1 + request.seed % 23)
        submit(dataclasses.replace(request, sampling=sampling))

    def poll() -> list[Completion]:
        done = step()
        while policy.lockstep and policy._running:
            done += step()
        return [dataclasses.replace(completion, finish="stop") for completion in done]

    policy.submit, policy.poll = dealt, poll
    greedy = Sampling(temperature=0.0)
    free = play(policy, learner, "Test-Chatter-v0", 6, greedy)
    policy.lockstep = True
    stepped = play(policy, learner, "Test-Chatter-v0", 6, greedy)
    assert [t.messages for t in free] == [t.messages for t in stepped]
    assert all(len(t.versions) == 5 for t in free)
    assert len({len(t.completion_ids) for t in free}) > 1


# --- an engine of its own: it ends the one above ------------------------------------------------


def test_room_for_one_adapter_is_enough_where_nothing_runs_as_another_comes(
    small_model: Path, learner: Any
) -> None:
    from taskgym.agents.vllm_engine import start_engine
    from taskgym.agents.vllm_policy import VllmPolicy

    engine = start_engine(str(small_model), **VLLM)
    ends = stop_ids(learner.tokenizer, learner.model.generation_config)
    policy = VllmPolicy(engine, learner.tokenizer, ends)
    for version in (1, 2, 3):
        learner.learn(seed=version)
        policy.load_adapter(Adapter.of(learner.model), version)
        scored = torch.tensor(policy.score(PROMPT))
        wanted = learner.logprobs(PROMPT[:1], PROMPT[1:])
        torch.testing.assert_close(scored, wanted, atol=1e-4, rtol=1e-4)
        assert len(engine.list_loras()) == 1
