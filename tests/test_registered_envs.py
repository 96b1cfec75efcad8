"""Every registered env keeps the contract: Gymnasium's checks, seeds, gold and hostile replies."""

import json
import random
import subprocess
import sys
import threading
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from taskgym.envs import MultiTurnEnv
from taskgym.envs.registration import ENVS

MATHS = ("Math-DAPO-v0", "Math-GSM8K-v0", "Math-GSM8K-Shaped-v0")
CODE = ("Code-HumanEval-v0", "Code-MBPP-v0")
GAMES = ("Game2048-v0", "Game2048-Strategy-v0")
FROM_DATA = MATHS + CODE
IDS = (*FROM_DATA, "Arithmetic-v0", "Countdown-v0", *GAMES, "GuessNumber-v0")
MAXIMA = dict(zip(IDS, (13.0, 4.0, 9.5, 1.0, 1.0, 1.5, 1.1, 2.0, 29.0, 1.0), strict=True))
# No gold program is sure to reach 2048; all are to reach 16 (none missed it in 20,000 games).
KWARGS = {"Game2048-Strategy-v0": {"target": 16, "games": 2}}


def kwargs(env_id):
    return {"data": "sample"} if env_id in FROM_DATA else KWARGS.get(env_id, {})


def make(env_id, **more):
    return gym.make(env_id, **kwargs(env_id), **more)


def episode(env, seed, act):
    """All observations and rewards of one episode."""
    observation, _ = env.reset(seed=seed)
    trace, over = [observation], False
    while not over:
        observation, reward, terminated, truncated, info = env.step(act(env.unwrapped))
        over = terminated or truncated
        trace += [observation, reward, info["rewards"], str(info["stop"])]
    return trace


def reward_of(env, seed, act):
    return sum(item for item in episode(env, seed, act) if isinstance(item, float))


def test_every_id_of_this_module_is_registered():
    assert set(IDS) <= set(ENVS) <= set(gym.registry)


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_check_env_passes_without_a_warning(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(env_id).unwrapped)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_envs_reset_and_step(env_id, mode):
    options = {"vectorization_mode": mode}
    if mode == "async":
        options["vector_kwargs"] = {"shared_memory": False}
    envs = gym.make_vec(env_id, num_envs=2, **options, **kwargs(env_id))
    try:
        observations, infos = envs.reset(seed=[5, 5])
        assert observations[0] == observations[1]
        _, rewards, *_, infos = envs.step(["", "prose"])
        assert rewards.shape == (2,)
        assert "rewards" in infos
    finally:
        envs.close()


@pytest.mark.parametrize("env_id", IDS)
def test_a_seed_is_an_episode(env_id):
    act = lambda env: env.gold_action()  # noqa: E731
    first, second = make(env_id), make(env_id)
    for seed in (0, 7):
        trace = episode(first, seed, act)
        episode(first, seed + 1, act)
        assert episode(first, seed, act) == trace == episode(second, seed, act)


CROSS_PROCESS = """
import json, sys, gymnasium as gym, taskgym.envs
out = {}
for env_id, kwargs in json.loads(sys.argv[1]).items():
    env = gym.make(env_id, **kwargs)
    seen = []
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        seen += [observation, env.unwrapped.gold_action(), env.step("50")[1]]
    out[env_id] = seen
print(json.dumps(out))
"""


def test_a_seed_is_the_same_episode_in_other_processes():
    wanted = json.dumps({env_id: kwargs(env_id) for env_id in IDS})
    outputs = {
        subprocess.run(
            [sys.executable, "-c", CROSS_PROCESS, wanted],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize("env_id", IDS)
def test_gold_reaches_the_declared_maximum(env_id):
    env = make(env_id)
    assert env.unwrapped.max_reward == pytest.approx(MAXIMA[env_id])
    for seed in range(10):
        assert reward_of(env, seed, lambda e: e.gold_action()) == pytest.approx(MAXIMA[env_id])


@pytest.mark.parametrize("env_id", FROM_DATA)
def test_gold_of_every_sample_row_reaches_the_maximum(env_id):
    env = make(env_id).unwrapped
    for index in range(len(env.tasks)):
        env.reset(options={"index": index})
        _, reward, *_, info = env.step(env.gold_action())
        assert reward == env.max_reward
        assert info["success"]
        assert info.get("verdict", "equal") == "equal"


NUMBERS = " ".join(map(str, range(2000)))
HOSTILE = {
    "empty": lambda env: "",
    "prose": lambda env: "I am not sure, but it should be quite simple.",
    "numbers": lambda env: NUMBERS,
    "stuffed": lambda env: "".join(
        f"<start_working_out>w<end_working_out><SOLUTION>{i}</SOLUTION>"
        f"<reasoning>\n{i}\n</reasoning>\n<answer>\n{i}\n</answer>\n"
        for i in range(500)
    ),
    "one block of all": lambda env: (
        f"<start_working_out>w<end_working_out><SOLUTION>{NUMBERS}</SOLUTION>"
        f"<reasoning>\nw\n</reasoning>\n<answer>\n{NUMBERS}\n</answer>\n"
    ),
    "garbage": lambda env: "\0\ud800<<<>>>\u202e" * 1000,
    "echo": lambda env: "Which number? " + env._messages("x")[-1]["content"] + str(env.spec),
}


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_replies_do_not_reach_the_maximum(env_id, name):
    env = make(env_id)
    for seed in range(3):
        assert reward_of(env, seed, HOSTILE[name]) < MAXIMA[env_id] - 0.4


@pytest.mark.parametrize("env_id", [i for i in IDS if i not in ("Game2048-v0", "GuessNumber-v0")])
def test_repeating_the_question_does_not_reach_the_maximum(env_id):
    env = make(env_id)
    for seed in range(20):
        assert reward_of(env, seed, lambda e: e.task.question) < MAXIMA[env_id] - 0.4


@pytest.mark.parametrize("env_id", IDS)
def test_global_generators_are_left_alone(env_id):
    before = random.getstate(), np.random.get_state()[1].tolist()
    episode(make(env_id), 3, lambda env: env.gold_action())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.parametrize("env_id", IDS)
def test_threads_score_as_one_does(env_id):
    act = lambda env: env.gold_action()  # noqa: E731
    expected = [episode(make(env_id), seed, act) for seed in range(8)]
    results = {}

    def work(seed):
        results[seed] = episode(make(env_id), seed, act)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[seed] for seed in range(8)] == expected


@pytest.mark.parametrize("env_id", IDS)
def test_unknown_kwargs_and_weights_are_refused_by_name(env_id):
    with pytest.raises(TypeError, match="colour"):
        make(env_id, colour="red")
    env = make(env_id).unwrapped
    known = env.weights if isinstance(env, MultiTurnEnv) else env.rubric.weights
    with pytest.raises(ValueError, match=next(iter(known))):
        make(env_id, weights={"no_such_component": 1.0})


@pytest.mark.parametrize("env_id", IDS)
def test_weights_scale_the_reward_and_its_maximum(env_id):
    env = make(env_id).unwrapped
    known = env.weights if isinstance(env, MultiTurnEnv) else env.rubric.weights
    doubled = make(env_id, weights={name: 2 * weight for name, weight in known.items()})
    assert doubled.unwrapped.max_reward == pytest.approx(2 * MAXIMA[env_id])
    assert reward_of(doubled, 0, lambda e: e.gold_action()) == pytest.approx(2 * MAXIMA[env_id])


@pytest.mark.parametrize("env_id", FROM_DATA)
def test_the_system_prompt_can_be_replaced_and_left_out(env_id):
    assert len(make(env_id).reset(seed=0)[0]) == 2
    assert make(env_id, system_prompt="Hi.").reset(seed=0)[0][0]["content"] == "Hi."
    assert [m["role"] for m in make(env_id, system_prompt="").reset(seed=0)[0]] == ["user"]


def test_a_row_is_picked_by_its_position():
    env = make("Math-GSM8K-v0")
    observation, info = env.reset(options={"index": 3})
    assert observation[-1]["content"] == env.unwrapped.tasks[3].question
    assert info["task_id"] == env.unwrapped.tasks[3].task_id
    with pytest.raises(IndexError, match="64 tasks"):
        env.reset(options={"index": 64})
    with pytest.raises(ValueError, match="'index'"):
        env.reset(options={"idx": 3})


def test_importing_the_envs_imports_nothing_heavy():
    code = (
        "import gymnasium, time, sys; t = time.process_time(); import taskgym.envs;"
        "t = time.process_time() - t;"
        "bad = {'torch', 'sympy', 'datasets', 'pyarrow', 'transformers', 'math_verify', 'PIL'};"
        "assert not bad & set(sys.modules), bad & set(sys.modules); assert t < 0.5, t"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
