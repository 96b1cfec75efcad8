"""Episodes, groups and the loop between env and policy, played by scripts."""

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import pytest
from taskgym.agents.chat import Renderer
from taskgym.agents.episode import Start, Trajectory, _hash
from taskgym.agents.groups import DifferentStartsError, Group, Signal, collect_groups, fresh_share
from taskgym.agents.policy import Completion, Request, Sampling
from taskgym.agents.rollout import Rollout
from taskgym.agents.scripted import SCRIPTS, ScriptedPolicy, replay
from taskgym.agents.seeds import derive_seed
from taskgym.agents.traces import read_episodes, replay_episode, to_record, write_episodes
from taskgym.envs import (
    MachineryError,
    MultiTurnEnv,
    Reply,
    RewardError,
    Rubric,
    SingleTurnEnv,
    Stop,
    Task,
)


def first_word(completion: str, task: Task) -> float:
    return float(completion.split()[:1] == [task.answer])


class Echo(SingleTurnEnv):
    rubric = Rubric({"first_word": (first_word, 1.0)})

    def load(self) -> list[dict[str, str]]:
        return [{"question": f"Say {word}.", "answer": word} for word in ("yes", "no", "maybe")]


class Countdown(MultiTurnEnv):
    """Wants the numbers from 3 to 1, one a turn."""

    weights = {"right": 1.0}  # noqa: RUF012
    max_reward = 3.0

    def begin(self) -> str:
        self.left = 3
        return "Count down from 3."

    def respond(self, action: str) -> Reply:
        right = action == self.gold_action()
        self.left -= right
        return Reply(f"Go on: {self.left}", {"right": float(right)}, self.left == 0, self.left == 0)

    def gold_action(self) -> str:
        return str(self.left)


class Unseeded(Echo):
    def prompt(self, task: Task) -> list[dict[str, Any]]:
        return [{"role": "user", "content": str(time.perf_counter_ns())}]


class Breaking(Echo):
    def step(self, action: str) -> Any:
        if action == "yes":
            raise MachineryError("the verifier died twice")
        return super().step(action)


class Buggy(Echo):
    def step(self, action: str) -> Any:
        raise ZeroDivisionError("a bug of the env")


for _cls in (Echo, Countdown, Unseeded, Breaking, Buggy):
    gym.register(f"Test-{_cls.__name__}-v0", _cls)


def play(
    name: str,
    script: Callable[[Request], str],
    starts: list[Start],
    tokenizer: Any = None,
    sampling: Sampling | None = None,
) -> list[Trajectory]:
    rollout = Rollout(
        ScriptedPolicy(script, tokenizer),
        lambda: gym.make(f"Test-{name}-v0"),
        sampling or Sampling(),
        Renderer(tokenizer) if tokenizer else None,
    )
    rollout.start(starts)
    done = list(rollout.finished())
    rollout.close()
    return sorted(done, key=lambda t: (t.start.group, t.start.member))


def starts(count: int, index: int | None = None) -> list[Start]:
    return [Start(7, index, member, 0, member) for member in range(count)]


def test_a_gold_episode_earns_the_maximum() -> None:
    (t,) = play("Countdown", SCRIPTS["gold"], starts(1))
    assert (t.reward, t.success, t.stop, t.truncated) == (3.0, True, Stop.DONE, False)
    assert t.rewards == {"right": 3.0}


def test_the_env_s_turn_limit_truncates() -> None:
    (t,) = play("Countdown", SCRIPTS["empty"], starts(1))
    assert (t.stop, t.truncated, t.success, len(t.versions)) == (Stop.TURN_LIMIT, True, False, 10)


def test_an_index_picks_the_task() -> None:
    for index, word in enumerate(("yes", "no", "maybe")):
        (t,) = play("Echo", SCRIPTS["gold"], starts(1, index))
        assert t.messages[0]["content"] == f"Say {word}."


class Cut(ScriptedPolicy):
    """Runs into the token limit every time."""

    def _complete(self, request: Request) -> Completion:
        done = super()._complete(request)
        return Completion(done.request_id, done.text, done.ids, done.logprobs, "length", 0)


def test_a_cut_completion_is_truncated_and_never_a_success() -> None:
    rollout = Rollout(Cut(SCRIPTS["gold"]), lambda: gym.make("Test-Echo-v0"), Sampling())
    rollout.start(starts(1))
    (t,) = rollout.finished()
    assert (t.stop, t.truncated, t.success, t.reward) == (Stop.LENGTH, True, False, 1.0)


def test_failed_machinery_is_an_error_and_no_score() -> None:
    (t,) = play("Breaking", lambda request: "yes", starts(1))
    assert t.stop is Stop.ERROR and t.error == "MachineryError: the verifier died twice"


def test_a_bug_of_an_env_is_raised_and_not_scored() -> None:
    with pytest.raises(ZeroDivisionError, match="a bug of the env"):
        play("Buggy", SCRIPTS["gold"], starts(1))


def test_each_turn_starts_with_exactly_the_tokens_before_it(tokenizer: Any) -> None:
    seen: list[Request] = []

    def script(request: Request) -> str:
        seen.append(request)
        return request.episode.chat_env.gold_action()

    (t,) = play("Countdown", script, starts(1), tokenizer)
    assert len(seen) == 3
    for before, after in itertools.pairwise(seen):
        said = tokenizer.encode(script_text(seen.index(before)), add_special_tokens=False)
        grown = (*before.prompt_ids, *said, tokenizer.eos_token_id)
        assert after.prompt_ids[: len(grown)] == grown
    whole = (*t.prompt_ids, *t.completion_ids)
    assert tokenizer.decode(whole) == tokenizer.apply_chat_template(t.messages, tokenize=False)[:-1]


def script_text(turn: int) -> str:
    return str(3 - turn)


def test_the_mask_marks_just_what_the_policy_said(tokenizer: Any) -> None:
    (t,) = play("Countdown", SCRIPTS["gold"], starts(1), tokenizer)
    assert len(t.mask) == len(t.completion_ids) == len(t.logprobs)
    said = [i for i, ours in zip(t.completion_ids, t.mask, strict=True) if ours]
    assert tokenizer.decode(said) == "3<|im_end|>2<|im_end|>1<|im_end|>"


def test_plain_template_serves_tokenizers_without_one(tokenizer: Any) -> None:
    import copy

    bare = copy.copy(tokenizer)
    bare.chat_template = None
    (t,) = play("Countdown", SCRIPTS["gold"], starts(1), bare)
    text = bare.decode((*t.prompt_ids, *t.completion_ids))
    assert text == "Count down from 3.\n3<|im_end|>Go on: 2\n2<|im_end|>Go on: 1\n1<|im_end|>"


def rewards_of(group: Group) -> list[float]:
    return [t.reward for t in group.trajectories]


def collect(name: str, script: Callable[[Request], str], size: int, fresh: int) -> list[Group]:
    rollout = Rollout(
        ScriptedPolicy(script), lambda: gym.make(f"Test-{name}-v0"), Sampling(max_tokens=4)
    )
    draw = lambda position, attempt: (derive_seed(position, attempt), attempt % 3)  # noqa: E731
    share = partial(fresh_share, fresh, 2, 0)
    groups = list(collect_groups(rollout, draw, range(2), size=size, max_fresh=share))
    rollout.close()
    return groups


def test_members_of_a_group_start_alike_and_are_sampled_apart() -> None:
    for group in collect("Echo", SCRIPTS["random"], 4, 0):
        assert len({t.start_hash for t in group.trajectories}) == 1
        assert len({t.start.sample_seed for t in group.trajectories}) == 4
        assert [t.start.member for t in group.trajectories] == [0, 1, 2, 3]


def test_an_env_that_ignores_its_seed_is_refused() -> None:
    with pytest.raises(DifferentStartsError, match=r"self\.np_random"):
        collect("Unseeded", SCRIPTS["empty"], 4, 0)


def test_groups_without_signal_are_replaced_up_to_the_cap() -> None:
    groups = collect("Echo", SCRIPTS["gold"], 2, 3)
    assert [g.signal for g in groups] == [Signal.ALL_RIGHT] * 5
    last = {g.trajectories[0].start.group: g for g in groups}
    assert set(last) == {0, 1}


@pytest.mark.parametrize(("total", "positions"), [(0, 4), (3, 4), (4, 4), (9, 4), (1, 1), (5, 6)])
def test_replacements_are_shared_out_whole_and_evenly_over_the_steps(
    total: int, positions: int
) -> None:
    steps = [
        [fresh_share(total, positions, step, position) for position in range(positions)]
        for step in range(positions)
    ]
    assert all(sum(step) == total and max(step) - min(step) <= 1 for step in steps)
    assert {sum(column) for column in zip(*steps, strict=True)} == {total}


def test_groups_with_signal_are_kept() -> None:
    def mixed(request: Request) -> str:
        member = request.episode.trajectory.start.member
        return request.episode.chat_env.gold_action() if member else "?"

    groups = collect("Echo", mixed, 2, 3)
    assert len(groups) == 2 and all(g.signal is Signal.SOME for g in groups)


def trajectory(reward: float, **fields: Any) -> Trajectory:
    return Trajectory(Start(0, None, 0), reward=reward, **fields)


@pytest.mark.parametrize(
    ("members", "signal"),
    [
        ([trajectory(0.0), trajectory(1.0)], Signal.SOME),
        ([trajectory(1.0, success=True)] * 2, Signal.ALL_RIGHT),
        ([trajectory(0.0)] * 2, Signal.ALL_WRONG),
        ([trajectory(0.0), trajectory(1e-12)], Signal.ALL_WRONG),
        ([trajectory(0.0, truncated=True), trajectory(1.0, truncated=True)], Signal.ALL_TRUNCATED),
        ([trajectory(0.0, info={"verdict": "unparsed"})] * 2, Signal.ALL_UNPARSED),
        ([trajectory(0.0, error="x")] * 2, Signal.ALL_FAILED),
        ([trajectory(0.0, error="x"), trajectory(1.0, success=True)], Signal.ALL_RIGHT),
    ],
)
def test_the_cause_of_no_signal_is_named(members: list[Trajectory], signal: Signal) -> None:
    assert Group(members).signal is signal


def test_episodes_are_written_read_and_stepped_again_to_the_same_end(tmp_path: Any) -> None:
    def half_right(request: Request) -> str:
        turn = len(request.episode.trajectory.versions)
        return request.episode.chat_env.gold_action() if turn % 2 else "what?"

    (t,) = play("Countdown", half_right, starts(1))
    write_episodes(tmp_path / "e.jsonl", [to_record(t, "Test-Countdown-v0", 3)])
    (record,) = read_episodes(tmp_path / "e.jsonl")
    again = replay_episode(record)
    assert (again.messages, again.rewards, again.reward, again.stop) == (
        record["messages"],
        record["rewards"],
        record["reward"],
        record["stop"],
    )
    assert again.start_hash == record["start_hash"]


def test_what_an_env_says_in_info_does_not_replace_the_trace_s_own_fields() -> None:
    (t,) = play("Echo", SCRIPTS["gold"], starts(1))
    t.info |= {"step": 9, "reward": 9.0, "verdict": "equal"}
    record = to_record(t, "Test-Echo-v0", 3)
    assert (record["step"], record["reward"], record["verdict"]) == (3, 1.0, "equal")


def test_a_component_that_is_no_number_names_itself_in_multi_turn_envs_too() -> None:
    class Nan(Countdown):
        def respond(self, action: str) -> Reply:
            return Reply("?", {"right": float("nan")})

    gym.register("Test-Nan-v0", Nan)
    with pytest.raises(RewardError, match="'right' returned nan"):
        play("Nan", SCRIPTS["gold"], starts(1))


def test_failed_machinery_at_reset_is_an_error_too() -> None:
    class Unready(Echo):
        def reset(self, **kwargs: Any) -> Any:
            raise MachineryError("no sandbox")

    gym.register("Test-Unready-v0", Unready)
    (t,) = play("Unready", SCRIPTS["gold"], starts(1))
    assert t.error == "MachineryError: no sandbox"


def test_observations_with_equal_images_hash_equal() -> None:
    from PIL import Image

    def seen(colour: int) -> list[dict[str, Any]]:
        part = {"type": "image", "image": Image.new("L", (2, 2), colour)}
        return [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]

    assert _hash(seen(1)) == _hash(seen(1)) != _hash(seen(2))


def test_lone_surrogates_survive_the_trace(tmp_path: Any) -> None:
    (t,) = play("Echo", replay(["\ud800 \0 é"]), starts(1))
    write_episodes(tmp_path / "e.jsonl", [to_record(t, "Test-Echo-v0", 1)])
    (record,) = read_episodes(tmp_path / "e.jsonl")
    assert record["messages"][-1]["content"] == "\ud800 \0 é"


class Slow(Echo):
    running = 0
    most = 0
    lock = threading.Lock()

    def step(self, action: str) -> Any:
        with Slow.lock:
            Slow.running += 1
            Slow.most = max(Slow.most, Slow.running)
        time.sleep(0.05)
        with Slow.lock:
            Slow.running -= 1
        return super().step(action)


gym.register("Test-Slow-v0", Slow)


def test_env_steps_run_side_by_side() -> None:
    play("Slow", SCRIPTS["gold"], starts(6))
    assert Slow.most > 1


class Streaming(ScriptedPolicy):
    """Answers one request a poll, the newest first, as an engine might."""

    lockstep = False

    def poll(self) -> list[Completion]:
        return [self._complete(self._requests.pop())] if self._requests else []


def test_a_policy_that_answers_out_of_order_gives_the_same_trajectories() -> None:
    outcomes = []
    for policy in (ScriptedPolicy(SCRIPTS["random"]), Streaming(SCRIPTS["random"])):
        rollout = Rollout(policy, lambda: gym.make("Test-Countdown-v0"), Sampling())
        rollout.start(starts(5))
        done = sorted(rollout.finished(), key=lambda t: t.start.member)
        outcomes.append([(t.messages, t.reward) for t in done])
        rollout.close()
    assert outcomes[0] == outcomes[1]


class Dawdling(Echo):
    """Its reset takes a moment, that of task 0 until the policy was asked for the others."""

    asked = threading.Event()

    def reset(self, **options: Any) -> Any:
        Dawdling.asked.wait(None if options["options"]["index"] == 0 else 0.02)
        return super().reset(**options)


class Noting(Streaming):
    """Notes how many requests there were whenever it was asked."""

    def __init__(self) -> None:
        super().__init__(SCRIPTS["empty"])
        self.asked: list[int] = []

    def poll(self) -> list[Completion]:
        self.asked.append(len(self._requests))
        Dawdling.asked.set()
        return super().poll()


@pytest.mark.parametrize(("tasks", "first"), [([1, 2, 1, 2], 4), ([0, 1, 2, 1], 3)])
def test_episodes_that_begin_together_are_asked_for_together(
    tasks: list[int], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskgym.agents.rollout._GATHERING", 1.0)
    Dawdling.asked.clear()
    policy = Noting()
    rollout = Rollout(policy, Dawdling, Sampling())
    rollout.start([Start(0, index, 0, 0, index) for index in tasks])
    assert len(list(rollout.finished())) == 4 and policy.asked[0] == first
    rollout.close()


class Late(Streaming):
    """Answers at first what an older adapter wrote."""

    behind = 1

    def _complete(self, request: Request) -> Completion:
        done = super()._complete(request)
        late, self.behind = self.behind, 0
        return dataclasses.replace(done, adapter_version=self.version - late)


@pytest.mark.parametrize(("allowed", "refused"), [(0, 1), (1, 0)])
def test_what_too_old_an_adapter_wrote_is_refused_counted_and_asked_again(
    allowed: int, refused: int
) -> None:
    policy = Late(SCRIPTS["gold"])
    policy.load_adapter(None, 5)
    rollout = Rollout(
        policy, lambda: gym.make("Test-Countdown-v0"), Sampling(), max_staleness=allowed
    )
    rollout.start(starts(3))
    done = list(rollout.finished())
    rollout.close()
    assert rollout.stale == refused
    assert all(t.reward == 3.0 and len(t.versions) == 3 for t in done)
    assert min(v for t in done for v in t.versions) == 5 - allowed


def test_a_closed_rollout_leaves_nothing_asked_of_the_policy() -> None:
    policy = Streaming(SCRIPTS["gold"])
    rollout = Rollout(policy, lambda: gym.make("Test-Countdown-v0"), Sampling())
    rollout.start(starts(3))
    for _ in rollout.finished():
        break
    rollout.close()
    assert policy.poll() == []


def test_seeds_differ_by_every_part_and_are_the_same_everywhere() -> None:
    seeds = {derive_seed(a, b, c) for a in range(10) for b in range(10) for c in ("x", "y")}
    assert len(seeds) == 200 and all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, 23) != derive_seed(12, 3) != derive_seed("1", 23)
    assert derive_seed(0, "train", 1) == 6131756510872657636


def test_lockstep_waits_for_slow_envs_however_long_so_that_batches_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import taskgym.agents.rollout as module

    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    asked: list[list[int]] = []

    class Batches(ScriptedPolicy):
        def _answer(self, requests: list[Request]) -> list[Completion]:
            asked.append([request.episode.trajectory.start.member for request in requests])
            return super()._answer(requests)

    class Uneven(Echo):
        def reset(self, **options: Any) -> Any:
            time.sleep(0.05 if next(numbers) % 2 == 0 else 0)
            return super().reset(**options)

    numbers = itertools.count()
    rollout = Rollout(Batches(SCRIPTS["gold"]), Uneven, Sampling())  # type: ignore[arg-type]
    rollout.start(starts(4))
    assert len(list(rollout.finished())) == 4
    rollout.close()
    assert asked == [[0, 1, 2, 3]]
