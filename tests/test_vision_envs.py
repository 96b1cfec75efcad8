"""The vision envs: scores with the notebook's faults mended, separation, pictures, the contract."""

import importlib.util
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from PIL import Image
from taskgym.envs import DataError, Task
from taskgym.envs.images import image_hash
from taskgym.envs.shapes import COLOURS, SCENES, paint, scene
from taskgym.envs.vision_scores import (
    INSTRUCTION,
    LETTERS,
    correctness_reward_func,
    formatting_reward_func,
)
from taskgym.training.tasks import TaskPlan

DRAWN = ("Vision-Shapes-v0", "Vision-MathVista-v0", "Vision-MathVision-v0", "Vision-Geometry3K-v0")
KWARGS = {
    "Vision-Shapes-v0": {"size": 30},
    "Vision-MathVista-v0": {"data": "sample", "geometry3k": False, "easyvqa": 0, "shapes": 10},
    "Vision-MathVision-v0": {"data": "sample"},
    "Vision-Geometry3K-v0": {"data": "sample"},
}
SHARED = Path(__file__).resolve().parents[2] / "shared"
needs_easyvqa = pytest.mark.skipif(
    importlib.util.find_spec("easy_vqa") is None, reason="the package easy-vqa is not installed"
)


def make(env_id, **more):
    return gym.make(env_id, **{**KWARGS.get(env_id, {}), **more}).unwrapped


def shared(name):
    path = SHARED / "data" / "vision" / name
    if not path.exists():
        pytest.skip(f"no shared data: {path.name}")
    return path


def task(answer, **row):
    return Task("?", answer, "id", {"choices": (), "precision": None, "unit": "", **row})


def reply(solution, working="Because."):
    return f"<REASONING>{working}</REASONING><SOLUTION>{solution}</SOLUTION>"


def score(completion, answer="30", **row):
    asked = task(answer, **row)
    return formatting_reward_func(completion, asked), correctness_reward_func(completion, asked)


def picture(colour="red", size=(8, 6)):
    return Image.new("RGB", size, colour)


def rows(*asked):
    return [{"question": q, "answer": a, "image": image} for q, a, image in asked]


# Each fault of the notebook's rewards, and what it earned there.
@pytest.mark.parametrize("said", [" 30 ", "30\r", "\t30", "30.0", "30.", "$30", "30 cm", "+30"])
def test_how_a_number_is_written_does_not_matter(said):
    assert score(reply(said)) == (2.0, 2.0)


@pytest.mark.parametrize("said", ["3\n0", "1\n2\n3", "300", "-30", "30 or 40", "3 0"])
def test_another_number_earns_nothing(said):
    gold = "123" if said == "1\n2\n3" else "30"
    assert score(reply(said), gold) == (2.0, 0.0)


def test_a_copy_of_the_instruction_earns_nothing_and_costs_nothing():
    assert score(INSTRUCTION) == (0.0, 0.0)
    assert score(INSTRUCTION * 3) == (0.0, 0.0)
    assert score(INSTRUCTION + "\n" + reply("30")) == (2.0, 2.0)
    copied = INSTRUCTION[INSTRUCTION.index("<REASONING>") :]
    assert score(copied) == (0.0, 0.0)
    assert score("<REASONING> and </REASONING><SOLUTION> and </SOLUTION>") == (0.0, 0.0)


def test_empty_pairs_earn_nothing_even_against_an_empty_answer():
    for blank in ("", " ", "\n", "..."):
        assert score(reply(blank, blank)) == (0.0, 0.0)
        assert score(reply(blank, blank), "") == (0.0, 0.0)


def test_order_nesting_and_stray_text_matter_to_the_format():
    assert score("<SOLUTION>30</SOLUTION><REASONING>x</REASONING>") == (0.0, 2.0)
    assert score("<REASONING>x<SOLUTION>30</SOLUTION></REASONING>") == (0.0, 2.0)
    assert score("Well: " + reply("30")) == (1.0, 2.0)
    assert score(reply("30") + " I hope.") == (1.0, 2.0)
    assert score(reply("30") + "<eos>") == (2.0, 2.0)
    assert score("<SOLUTION>30</SOLUTION>") == (1.0, 2.0)
    assert score("<REASONING>30</REASONING>") == (1.0, 0.0)
    assert score("30") == (0.0, 0.0)


def test_a_solution_stated_twice_is_right_and_two_solutions_are_not():
    again = reply("30") + "<SOLUTION> 30.0 </SOLUTION>"
    assert score(again) == (1.0, 2.0)
    assert score(reply("30") + "<SOLUTION>31</SOLUTION>")[1] == 0.0
    assert score(reply("30") + "<SOLUTION></SOLUTION>")[1] == 0.0
    assert score("".join(f"<SOLUTION>{n}</SOLUTION>" for n in range(40)))[1] == 0.0


def test_a_long_reply_of_repeated_tags_costs_milliseconds():
    assert score("<SOLUTION>" * 400_000) == (0.0, 0.0)
    assert score("<REASONING></SOLUTION>" * 200_000) == (0.0, 0.0)


@pytest.mark.parametrize("said", ["B", "b", "(B)", "B.", "B) 12", "(B) 12", "12", " 12.0 "])
def test_a_choice_is_named_by_letter_or_by_value(said):
    assert score(reply(said), "B", choices=("30", "12", "7"))[1] == 2.0


@pytest.mark.parametrize("said", ["A", "30", "B or C", "(B) 7", "D", "both", "BC"])
def test_another_choice_or_two_of_them_are_wrong(said):
    assert score(reply(said), "B", choices=("30", "12", "7"))[1] == 0.0


def test_choices_that_are_numbers_or_begin_as_letters_do_are_told_apart():
    assert score(reply("a cube"), "B", choices=("a sphere", "a cube"))[1] == 2.0
    assert score(reply("A"), "B", choices=("a sphere", "a cube"))[1] == 0.0
    assert score(reply("no"), "B", choices=("Yes", "No"))[1] == 2.0
    assert score(reply("2"), "A", choices=("2", "1"))[1] == 2.0


def test_precision_is_honoured():
    for said in ("1.2", "1.23", "1.15", "1.20 m"):
        assert score(reply(said), "1.2", precision=1)[1] == 2.0
    for said in ("1.26", "1.3", "1", "-1.2", "12"):
        assert score(reply(said), "1.2", precision=1)[1] == 0.0
    assert score(reply("1.23"), "1.2")[1] == 0.0


def test_units_are_honoured():
    for said in ("5", "5 years", "60 months"):
        assert score(reply(said), "5", unit="years")[1] == 2.0
    for said in ("5 days", "6 years"):
        assert score(reply(said), "5", unit="years")[1] == 0.0


@pytest.mark.parametrize("env_id", DRAWN)
def test_gold_earns_everything_and_nothing_earns_nothing(env_id):
    env = make(env_id)
    assert env.max_reward == 4.0
    for index in range(min(len(env.tasks), 12)):
        for said, wanted in ((None, 4.0), ("", 0.0), (INSTRUCTION, 0.0)):
            env.reset(seed=0, options={"index": index})
            _, reward, *_, info = env.step(env.gold_action() if said is None else said)
            assert reward == wanted == sum(info["rewards"].values())


@pytest.mark.parametrize("name", ["mathvision.jsonl", "geometry3k.jsonl", "easyvqa.jsonl"])
def test_gold_answers_of_real_rows_earn_everything(name):
    ids = {"mathvision": "MathVision", "geometry3k": "Geometry3K", "easyvqa": "EasyVQA"}
    env = make(f"Vision-{ids[name.split('.')[0]]}-v0", data=str(shared(name)))
    written = [json.loads(line) for line in shared(name).read_text().splitlines()]
    assert len(env.tasks) + sum(env.tasks.dropped.values()) == len(written)
    for index, task in enumerate(env.tasks[:60]):
        _, info = env.reset(seed=0, options={"index": index})
        assert env.step(env.gold_action())[1] == 4.0
        assert info["image_hash"] == task.row["image_hash"]
        if task.row["choices"]:  # the text of the right choice is as good as its letter
            stated = task.row["choices"][LETTERS.index(task.answer)]
            if task.row["choices"].count(stated) == 1:
                assert correctness_reward_func(reply(stated), task) == 2.0


def test_mathvista_rows_keep_choices_precision_and_units():
    picture_ = picture()
    written = [json.loads(x) for x in shared("mathvista_testmini_text.jsonl").open()]
    data = [{**row, "image": picture_} for row in written]
    env = make("Vision-MathVista-v0", data=data, geometry3k=False, easyvqa=0)
    kept = [task for task in env.tasks if env.kept_for_evaluation(task)]
    by_question = {task.question: task for task in kept}
    for row in written:
        task = by_question.get(row["question"].strip())
        if task is None:  # the same question about what is one picture here
            continue
        gold = row["answer"]
        assert correctness_reward_func(reply(gold), task) == 2.0, row
        assert bool(task.row["choices"]) == (row["question_type"] == "multi_choice")
        assert task.row["precision"] == row["precision"]
    free = make("Vision-MathVista-v0", data=data, kinds="free_form", geometry3k=False, easyvqa=0)
    assert all(not t.row["choices"] for t in free.tasks if free.kept_for_evaluation(t))


def test_the_prompt_shows_the_picture_then_asks():
    data = [{**rows(("How far?", "1.5", picture()))[0], "precision": 1, "unit": "km"}]
    message, *more = make("Vision-Geometry3K-v0", data=data).reset(seed=0)[0]
    shown, asked = message["content"]
    assert not more and message["role"] == "user"
    assert shown["image"].mode == "RGB" and shown["image"].size == (8, 6)
    assert asked["text"].splitlines() == [
        "How far?",
        "Answer with a number of 1 decimal place.",
        "The unit is km.",
        INSTRUCTION,
    ]


def test_placeholders_of_a_data_set_are_taken_out_of_its_questions():
    data = rows(("<image1>\nFind x. <image>", "3", picture()))
    assert make("Vision-Geometry3K-v0", data=data).tasks[0].question == "Find x."


def test_the_same_question_about_two_pictures_is_two_tasks():
    data = rows(
        ("Which?", "red", picture()),
        ("Which?", "blue", picture("blue")),
        ("Which?", "red", picture()),
    )
    env = make("Vision-Geometry3K-v0", data=data)
    assert [task.answer for task in env.tasks] == ["red", "blue"]
    assert len({task.task_id for task in env.tasks}) == 2
    assert env.tasks.dropped == {"duplicate": 1}


def test_a_broken_picture_is_an_error_at_load_time_that_names_the_row(tmp_path):
    file = tmp_path / "rows.jsonl"
    picture().save(tmp_path / "fine.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "fine.png").read_bytes()[:40])
    for name, what in (("broken.png", "row 1"), ("missing.png", "row 1")):
        lines = rows(("a?", "1", "fine.png"), ("b?", "2", name))
        file.write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(DataError, match=what):
            make("Vision-Geometry3K-v0", data=str(file)).tasks  # noqa: B018


def test_columns_are_found_by_the_names_of_the_public_sets_or_by_a_map():
    mine = [{"ask": "a?", "gold": "1", "pic": picture()}]
    columns = {"question": "ask", "answer": "gold", "image": "pic"}
    assert make("Vision-Geometry3K-v0", data=mine, columns=columns).tasks[0].answer == "1"
    theirs = [{"problem": "<image>a?", "answer": "1", "images": [picture()]}]
    assert make("Vision-Geometry3K-v0", data=theirs).tasks[0].question == "a?"
    with pytest.raises(DataError, match=r"row 0 has no column .*question"):
        make("Vision-Geometry3K-v0", data=mine).tasks  # noqa: B018


def test_an_answer_that_is_no_choice_is_an_error():
    data = [{**rows(("a?", "Z", picture()))[0], "choices": ["x", "y"]}]
    with pytest.raises(DataError, match="none of the choices"):
        make("Vision-Geometry3K-v0", data=data).tasks  # noqa: B018


def plan(env_id, held_out=4, **more):
    return TaskPlan(lambda: gym.make(env_id, **{**KWARGS.get(env_id, {}), **more}), 0, held_out)


def test_mathvista_trains_on_other_sets_and_evaluates_on_testmini():
    made = plan("Vision-MathVista-v0")
    tasks = made.env.tasks
    held = {start.index for start in made.evaluation_starts(1)}
    assert made.trains and held and held.isdisjoint(made.training_order())
    assert all(made.env.kept_for_evaluation(tasks[i]) for i in held)
    assert not any(made.env.kept_for_evaluation(tasks[i]) for i in made.training_order())
    assert all(tasks[i].row["trains"] for i in made.training_order())


def test_training_rows_that_testmini_shares_are_left_out():
    seen = rows(("How many dogs are on the left?", "2", picture("blue")), ("y?", "1", picture()))
    training = rows(
        ("another question", "5", picture("blue")),  # the same picture
        ("How many  DOGS are on the left?", "7", picture("green")),  # the same question
        ("y?", "2", picture("black")),  # asked about several pictures: it says nothing
        ("y?", "3", picture("white")),
    )
    env = make("Vision-MathVista-v0", data=seen, geometry3k=training, easyvqa=0, shapes=0)
    kept = [task.answer for task in env.tasks if not env.kept_for_evaluation(task)]
    assert kept == ["2", "3"]
    assert env.tasks.dropped == {"shared with testmini": 2}


def test_training_on_testmini_takes_a_flag_keeps_a_fixed_part_and_warns(caplog):
    data = rows(*((f"{i}?", str(i), picture()) for i in range(64)))
    with caplog.at_level(logging.WARNING):
        made = plan("Vision-MathVista-v0", 100, data=data, train_on_testmini=True)
    assert "TRAINS ON MathVista's testmini" in caplog.text
    held = {made.env.tasks[s.index].task_id for s in made.evaluation_starts(1)}
    again = plan("Vision-MathVista-v0", 100, data=data[::-1], train_on_testmini=True)
    assert held == {again.env.tasks[s.index].task_id for s in again.evaluation_starts(1)}
    assert 5 < len(held) < 30 and len(held) + len(made.training_order()) == 64


def test_mathvista_without_its_training_sets_says_so():
    with pytest.raises(DataError, match="nothing to train on"):
        make("Vision-MathVista-v0", shapes=0).tasks  # noqa: B018


def test_mathvision_is_for_evaluation_alone():
    made = plan("Vision-MathVision-v0")
    assert not made.trains and len(made.evaluation_starts(1)) == 4


@needs_easyvqa
@pytest.mark.slow
def test_easyvqa_keeps_its_own_test_split_for_evaluation():
    env = make("Vision-EasyVQA-v0")
    train = {t.row["image_hash"] for t in env.tasks if not env.kept_for_evaluation(t)}
    test = {t.row["image_hash"] for t in env.tasks if env.kept_for_evaluation(t)}
    assert (len(train), len(test)) == (4000, 1000) and train.isdisjoint(test)
    _, info = env.reset(seed=3)
    assert env.step(env.gold_action())[1] == 4.0 and info["image_hash"] in train | test


@pytest.mark.parametrize("kind", SCENES)
def test_a_seed_is_a_drawing_and_difficulty_makes_it_harder(kind):
    for difficulty in (1, 3, 5):
        once, again = scene(kind, difficulty, 7), scene(kind, difficulty, 7)
        assert once == again
        assert image_hash(paint(once.marks)) == image_hash(paint(again.marks))
        assert not once.choices or once.answer in once.choices
    answers = [{scene(kind, d, s).answer for s in range(80)} for d in (1, 5)]
    marks = [np.mean([len(scene(kind, d, s).marks) for s in range(40)]) for d in (1, 5)]
    assert len(answers[1]) > len(answers[0]) or marks[1] > marks[0]


def test_what_is_counted_is_what_is_drawn():
    for seed in range(20):
        drawn = scene("count", 4, seed)
        colour, shape = drawn.question.removeprefix("How many ").split()[:2]
        wanted = (shape.removesuffix("s"), COLOURS[colour])
        assert int(drawn.answer) == sum((m[0], m[-1]) == wanted for m in drawn.marks)


@pytest.mark.parametrize("env_id", DRAWN)
def test_gymnasium_check_env_passes_without_a_warning(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(env_id))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_vector_envs_show_pictures(mode):
    more = {"vector_kwargs": {"shared_memory": False}} if mode == "async" else {}
    envs = gym.make_vec("Vision-Shapes-v0", 2, vectorization_mode=mode, size=10, **more)
    try:
        observations, infos = envs.reset(seed=[5, 5])
        hashes = [image_hash(o[0]["content"][0]["image"]) for o in observations]
        assert hashes[0] == hashes[1] == infos["image_hash"][0]
        assert envs.step(["", "prose"])[1].tolist() == [0.0, 0.0]
    finally:
        envs.close()


def test_messages_with_pictures_go_through_json():
    env = make("Vision-Shapes-v0")
    observation, _ = env.reset(seed=1)
    text = json.dumps(env.observation_space.to_jsonable([observation]))
    (back,) = env.observation_space.from_jsonable(json.loads(text))
    assert back == observation


def test_unknown_options_are_refused():
    for wrong in ({"scenes": ("cube",)}, {"difficulty": 6}, {"size": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make("Vision-Shapes-v0", **wrong)
    for wrong in ({"kinds": "both"}, {"max_pixels": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make("Vision-Geometry3K-v0", **wrong)


CROSS_PROCESS = """
import gymnasium as gym, taskgym.envs
env = gym.make("Vision-Shapes-v0", size=20, difficulty=3)
print([env.reset(seed=seed)[1]["image_hash"] for seed in range(6)])
"""


def test_a_seed_shows_the_same_pixels_in_other_processes():
    shown = [
        subprocess.run(
            [sys.executable, "-c", CROSS_PROCESS],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert shown[0] == shown[1] != b""


@pytest.mark.parametrize("column", ["image", "images"])
def test_pictures_of_the_hub_are_kept_as_files_and_shown_as_pixels(column, monkeypatch):
    datasets = pytest.importorskip("datasets")
    from taskgym.envs import sources

    one = datasets.Image()
    kinds = {"image": one, "images": datasets.List(one)}
    value = picture("blue") if column == "image" else [picture("blue")]
    features = {name: datasets.Value("string") for name in ("problem", "answer")}
    made = datasets.Dataset.from_list(
        [{"problem": "<image>Which?", "answer": "3", column: value}],
        features=datasets.Features({**features, column: kinds[column]}),
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    monkeypatch.setattr(sources, "_unreachable", lambda _: None)
    env = make("Vision-Geometry3K-v0", data="hiyouga/geometry3k")
    held = env.tasks[0].row["image"]
    held = held[0] if isinstance(held, list) else held
    assert isinstance(held["bytes"], bytes)
    shown = env.reset(seed=0)[0][0]["content"][0]["image"]
    assert image_hash(shown) == image_hash(picture("blue"))
