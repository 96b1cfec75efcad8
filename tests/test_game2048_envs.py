"""Game2048-v0 and Game2048-Numeric-v0: what is paid, what ends a game, and equal vector games."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.envs import Stop
from taskgym.envs.game2048 import native, oracle
from taskgym.envs.game2048.chat_env import _move
from taskgym.envs.game2048.engine import Game
from taskgym.envs.game2048.numeric_env import Game2048Numeric
from taskgym.envs.game2048.text import draw

CHAT, NUMERIC = "Game2048-v0", "Game2048-Numeric-v0"


def chat(**kwargs):
    return gym.make(CHAT, **kwargs).unwrapped


def numeric(**kwargs):
    return gym.make(NUMERIC, **kwargs).unwrapped


# --- Game2048-v0 --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "kwargs", [{}, {"target": 4}, {"target": 8}, {"target": 128}, {"size": 3}, {"size": 6}]
)
def test_the_best_moves_reach_the_target_in_time(kwargs, seed):
    env = chat(**kwargs)
    env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        _, reward, over, truncated, info = env.step(env.gold_action())
        assert not truncated
        total += reward
    assert total == pytest.approx(env.max_reward)
    assert info["success"] and info["stop"] is Stop.DONE and info["max_tile"] == env.target


def test_the_best_moves_are_found_again_after_another_move():
    env = chat()
    env.reset(seed=4)
    for _ in range(3):
        env.gold_action()
        env.step(env._game.legal()[-1])
        env.step("what?")
    over = False
    while not over:
        *_, over, truncated, info = env.step(env.gold_action())
        over = over or truncated
    assert info["success"]


@pytest.mark.parametrize(
    ("reply", "key"),
    [
        ("W", "W"),
        ("a", "A"),
        ("I move down.\n\n**S**", "S"),
        ("right\n", "D"),
        (" `UP`. ", "W"),
        ("", None),
        ("W A", None),
        ("WASD", None),
        ("W\nor A?", None),
        ("left or right", None),
        ("wasp", None),
        ("ı", None),
        ("W" * 5000, None),
        ("*" * 100_000 + "x", None),
    ],
)
def test_a_move_is_alone_on_the_last_line(reply, key):
    assert _move(reply) == key


def test_progress_pays_each_doubling_and_adds_up_to_one():
    env = chat(target=16, max_turns=100)
    env.reset(seed=1)
    paid, over = [], False
    while not over:
        before = env._largest
        *_, over, _, info = env.step(env.gold_action())
        doublings = (env._largest // before).bit_length() - 1
        assert info["rewards"]["progress"] == pytest.approx(doublings / 3)
        paid.append(info["rewards"]["progress"])
    assert sum(paid) == pytest.approx(1)
    assert info["rewards"]["won"] == 1


def test_a_reply_that_moves_nothing_is_counted_by_its_kind():
    env = chat()
    env.reset(seed=2)
    while len(env._game.legal()) == 4:
        env.step(env._game.legal()[0])
    board = env._game.board
    (illegal,) = set("WASD") - set(env._game.legal()) if len(env._game.legal()) == 3 else ("W",)
    (message,), reward, *_, info = env.step(illegal)
    assert info["rewards"] == {"won": 0, "progress": 0, "invalid": 0, "unchanged": 1}
    assert reward == pytest.approx(-0.1)
    assert message["content"] == f"{illegal} moves nothing.\n\n{draw(board)}"
    (message,), reward, *_, info = env.step("I do not know")
    assert info["rewards"] == {"won": 0, "progress": 0, "invalid": 1, "unchanged": 0}
    assert reward == pytest.approx(-0.1)
    assert message["content"].startswith("Write W, A, S or D")
    assert env._game.board == board


def test_sixteen_replies_in_a_row_that_move_nothing_end_the_game():
    env = chat()
    env.reset(seed=2)
    for turn in range(15):
        assert env.step("?")[4]["stop"] is Stop.RUNNING, turn
    env.step(env.gold_action())
    for _ in range(15):
        assert env.step("?")[4]["stop"] is Stop.RUNNING
    _, _, terminated, truncated, info = env.step("?")
    assert terminated and not truncated and info["stop"] is Stop.STUCK and not info["success"]


def test_an_invalid_reply_ends_the_game_if_it_is_asked_to():
    env = chat(invalid="end")
    env.reset(seed=2)
    env.step(env.gold_action())
    _, reward, terminated, _, info = env.step("?")
    assert terminated and info["stop"] is Stop.INVALID_MOVE and reward == pytest.approx(-0.1)


def test_the_turn_limit_truncates_and_is_told():
    env = chat(max_turns=3)
    (message,), _ = env.reset(seed=2)
    assert "within 3 moves" in message["content"]
    for stop in (Stop.RUNNING, Stop.RUNNING, Stop.TURN_LIMIT):
        _, _, terminated, truncated, info = env.step(env.gold_action())
        assert info["stop"] is stop and not terminated
    assert truncated


def test_a_lost_game_is_done_without_success():
    env = chat(size=2, target=32, max_turns=1000)
    env.reset(seed=0)
    over = False
    while not over:
        *_, over, truncated, info = env.step(env._game.legal()[0])
    assert not truncated and info["stop"] is Stop.DONE and not info["success"]


def test_legal_moves_are_shown_on_request():
    (shown,), _ = chat(show_legal=True).reset(seed=2)
    (hidden,), _ = chat().reset(seed=2)
    assert shown["content"].splitlines()[-1].startswith("Legal: ")
    assert "Legal" not in hidden["content"]


def test_the_generator_of_the_env_draws_the_seed_of_the_game_and_nothing_else():
    env = chat()
    env.reset(seed=8)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(8)))
    low, high = (int(raw) for raw in rng.bit_generator.random_raw(2))
    game = Game(high << 64 | low)
    assert env._game.board == game.board
    env.step("W"), env.step("A")
    assert env.np_random.bytes(8) == rng.bytes(8)


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"size": 1}, "size is from 2"),
        ({"target": 100}, "power of two"),
        ({"size": 2, "target": 64}, "at most 32"),
        ({"invalid": "ignore"}, "'penalty' or 'end'"),
        ({"max_turns": 0}, "at least 1"),
    ],
)
def test_bad_kwargs_are_named(kwargs, error):
    with pytest.raises(ValueError, match=error):
        chat(**kwargs)


def test_boards_are_drawn_in_columns():
    assert draw([[2, 0], [128, 16]]) == "  2   .\n128  16"


def test_the_oracle_finds_nothing_on_a_finished_board():
    game = Game(1, 2)
    game._cells = bytes([1, 2, 2, 1])
    assert game.legal() == "" and oracle.plan(game, 64, 10) == ""


# --- Game2048-Numeric-v0 ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 4, 5])
@pytest.mark.filterwarnings("error")
def test_gymnasium_check_env_passes_without_a_warning(size):
    check_env(numeric(size=size))
    check_env(gym.make(NUMERIC, size=size, render_mode="ansi").unwrapped)


def test_rewards_add_up_to_the_score():
    env = numeric()
    observation, info = env.reset(seed=1)
    assert observation.dtype == np.uint8 and (observation > 0).sum() == 2
    env.action_space.seed(1)
    total, over = 0.0, False
    while not over:
        action = env.action_space.sample(info["action_mask"])
        observation, reward, over, truncated, info = env.step(action)
        assert observation in env.observation_space and not truncated
        total += reward
    assert total == info["score"] > 0
    assert info["max_tile"] == 1 << observation.max()
    assert not info["action_mask"].any()


def test_sixteen_moves_in_a_row_that_change_nothing_truncate():
    env = numeric()
    _, info = env.reset(seed=3)
    while info["action_mask"].all():
        *_, info = env.step(int(np.argmax(info["action_mask"])))
    illegal = int(np.argmin(info["action_mask"]))
    ends = [env.step(illegal)[1:4] for _ in range(16)]
    assert ends[:15] == [(0.0, False, False)] * 15 and ends[15] == (0.0, False, True)


def test_render_draws_the_board():
    env = gym.make(NUMERIC, render_mode="ansi")
    env.reset(seed=1)
    assert env.render() == draw(env.unwrapped.game.board)
    with pytest.raises(ValueError, match="ansi"):
        Game2048Numeric(render_mode="human")


@pytest.mark.parametrize("bad", [-1, 4])
def test_actions_outside_the_space_are_named(bad):
    env = numeric()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"got {bad}"):
        env.step(bad)
    envs = gym.make_vec(NUMERIC, num_envs=3)
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=f"got {bad} for game 1"):
        envs.step(np.array([0, bad, 0]))
    with pytest.raises(ValueError, match="wanted 3 actions"):
        envs.step(np.array([0, 1]))


NATIVE = [False, pytest.param(True, marks=pytest.mark.skipif(native.compiled is None, reason="-"))]


def assert_equal(ours, theirs):
    """Nested infos, arrays and tuples that are equal in value, type and shape."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_equal(ours[key], theirs[key])
    elif isinstance(theirs, tuple):
        for one, other in zip(ours, theirs, strict=True):
            assert_equal(one, other)
    elif theirs.dtype == object:
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            assert one is None or (one == other).all()
    else:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert (ours == theirs).all()


def pair(mode, n, size, compiled):
    """Our vector env and Gymnasium's over single envs."""
    ours = gym.make_vec(
        NUMERIC, num_envs=n, size=size, autoreset_mode=mode.value, native=compiled
    ).unwrapped
    assert type(ours).__name__ == "Game2048NumericVector"
    make = lambda: gym.make(NUMERIC, size=size, disable_env_checker=True)  # noqa: E731
    return ours, SyncVectorEnv([make] * n, autoreset_mode=mode)


@pytest.mark.parametrize("compiled", NATIVE)
@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("size", [2, 4])
def test_the_vector_env_is_step_by_step_the_synchronous_one(mode, size, compiled):
    ours, theirs = pair(mode, 5, size, compiled)
    rng = np.random.default_rng(7)
    assert_equal(ours.reset(seed=3), theirs.reset(seed=3))
    ended = 0
    for step in range(400 if size == 4 else 120):
        actions = rng.integers(0, 4, 5) if step % 100 < 75 else np.full(5, 1)  # 16 in a row: stuck
        left, right = ours.step(actions), theirs.step(actions)
        assert_equal(left, right)
        done = left[2] | left[3]
        ended += done.sum()
        if mode is AutoresetMode.DISABLED and done.any():
            with pytest.raises(gym.error.ResetNeeded, match="reset_mask"):
                ours.step(actions)
            assert_equal(*(e.reset(options={"reset_mask": done.copy()}) for e in (ours, theirs)))
    assert ended > 5
    assert_equal(ours.reset(seed=[5, None, 5, None, 1]), theirs.reset(seed=[5, None, 5, None, 1]))
    assert_equal(ours.reset(), theirs.reset())


@pytest.mark.parametrize("compiled", NATIVE)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), actions=st.lists(st.integers(0, 3), max_size=300))
def test_the_same_seed_is_the_same_episodes(compiled, seed, actions):
    ours, theirs = pair(AutoresetMode.NEXT_STEP, 1, 3, compiled)
    assert_equal(ours.reset(seed=seed), theirs.reset(seed=seed))
    for action in actions:
        assert_equal(ours.step(np.array([action])), theirs.step(np.array([action])))


def test_what_was_returned_does_not_change_later():
    envs = gym.make_vec(NUMERIC, num_envs=4)
    observations, infos = envs.reset(seed=1)
    kept = observations.copy(), {key: value.copy() for key, value in infos.items()}
    for action in range(4):
        envs.step(np.full(4, action))
    assert_equal((observations, infos), kept)


def test_gymnasium_vector_wrappers_work():
    envs = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(NUMERIC, num_envs=8))
    envs.reset(seed=0)
    envs.action_space.seed(0)
    while True:
        _, _, terminated, _, infos = envs.step(envs.action_space.sample())
        if terminated.any():
            break
    game = int(np.argmax(terminated))
    assert infos["episode"]["r"][game] == infos["score"][game]


def test_bad_resets_are_named():
    envs = gym.make_vec(NUMERIC, num_envs=2)
    with pytest.raises(gym.error.ResetNeeded):
        envs.step(np.array([0, 0]))
    with pytest.raises(gym.error.ResetNeeded, match="first reset"):
        envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match="wanted 2 seeds"):
        envs.reset(seed=[1])
    with pytest.raises(ValueError, match="reset_mask, got"):
        envs.reset(options={"mask": 1})
    with pytest.raises(TypeError, match="booleans"):
        envs.reset(options={"reset_mask": [True, False]})
