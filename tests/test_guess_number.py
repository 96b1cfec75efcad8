"""GuessNumber-v0: hints are true, halving wins in time, luck pays no more than patience."""

import gymnasium as gym
import pytest
from taskgym.envs import Stop


def make(**kwargs):
    return gym.make("GuessNumber-v0", **kwargs).unwrapped


@pytest.mark.parametrize("high", [2, 3, 7, 8, 100, 1000])
def test_halving_always_wins_within_the_guesses_allowed(high):
    env = make(high=high)
    for seed in range(min(4 * high, 200)):
        env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            _, reward, over, truncated, info = env.step(env.gold_action())
            assert not truncated
            total += reward
        assert total == env.max_reward == 1.0
        assert info["success"]
        assert info["stop"] is Stop.DONE


def test_hints_are_true():
    env = make(high=10)
    env.reset(seed=3)
    secret = env._secret
    for guess in (1, 10):
        if guess != secret:
            (message,), *_ = env.step(str(guess))
            assert message["content"] == ("higher" if guess < secret else "lower")


def test_every_secret_is_drawn():
    env = make(high=3)
    drawn = set()
    for seed in range(50):
        env.reset(seed=seed)
        drawn.add(env._secret)
    assert drawn == {1, 2, 3}


@pytest.mark.parametrize(
    "action",
    ["", "fifty", "50 60", "-1", "0", "101", "5.0", "٥", "1" * 4_000_000, "\0", "\ud800", None],
)  # fmt: skip
def test_what_is_no_guess_costs_a_turn_and_a_little(action):
    env = make()
    env.reset(seed=1)
    (message,), reward, over, truncated, info = env.step(action)
    assert (reward, over, truncated) == (-0.1, False, False)
    assert info["rewards"] == {"won": 0.0, "invalid": 1.0}
    assert "from 1 to 100" in message["content"]


def test_listing_all_numbers_wins_nothing():
    env = make()
    env.reset(seed=1)
    *_, info = env.step(" ".join(map(str, range(1, 101))))
    assert not info["success"]


def test_too_many_guesses_truncate():
    env = make(high=100)
    env.reset(seed=1)
    wrong = "1" if env._secret != 1 else "2"
    for turn in range(7):
        observation, _, over, truncated, info = env.step(wrong)
        assert truncated == (turn == 6)
        assert not over
    assert observation == []
    assert info["stop"] is Stop.TURN_LIMIT


def test_a_first_guess_pays_no_more_than_the_last():
    env = make()
    env.reset(seed=1)
    assert env.step(str(env._secret))[1] == 1.0


def test_bad_kwargs_are_refused():
    with pytest.raises(ValueError, match="got 1"):
        make(high=1)
    with pytest.raises(ValueError, match="7 guesses"):
        make(high=100, max_turns=6)
    with pytest.raises(ValueError, match="won, invalid"):
        make(weights={"win": 1.0})
