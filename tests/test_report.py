"""The report and the plots: right numbers, any state of a run, nothing of a model's text obeyed."""

import json
import math
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from taskgym.agents.policy import Sampling
from taskgym.training.cli import parse_evaluate_config
from taskgym.training.config import TrainConfig
from taskgym.training.drawing import smooth
from taskgym.training.folder import RunFolder
from taskgym.training.metrics import MetricsFile
from taskgym.training.plots import LearningCurve, learning_curves, write_plots
from taskgym.training.report import evaluate_command, write_report
from taskgym.training.report_episodes import episodes_section
from taskgym.training.report_html import duration, number, percent, signed, text
from taskgym.training.report_tables import evaluation_section, fifths, xray_section
from taskgym.training.statistics import Interval

HOSTILE = (
    "</pre></script><script>alert('1')</script><img src=x onerror=y>&amp;\x00\x1b\ud800\u202e\r"
)
PNG = b"\x89PNG"


class Page(HTMLParser):
    """The tags and attributes a browser would see, and the text of each <pre>."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.pres, self.open = set(), set(), [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag == "pre":
            self.pres.append("")
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "pre" in self.open:
            self.pres[-1] += data


def episode(step, member=0, reward=0.0, content="42", error=None):
    return {
        "step": step,
        "group": 0,
        "member": member,
        "seed": 7,
        "env": "Arithmetic-v0",
        "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "6 x 7?"}]},
            {"role": "assistant", "content": content},
        ],
        "completion_ids": [1, 2],
        "rewards": {"value": reward},
        "reward": reward,
        "stop": "done",
        "success": reward > 0,
        "error": error,
    }


def score(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}


def side(mean, success_NK):
    mode = {"accuracy": score(mean), "reward": score(mean), "components": {"value": score(mean)}}
    return {
        "tasks": len(success_NK),
        "samples": len(success_NK[0]),
        "sampled": mode,
        "greedy": mode,
        "pass_at_k": {"1": mean, "2": mean + 0.1},
        "success_NK": success_NK,
        "seconds": 61.0,
    }


EVALUATION = {
    "before": side(0.25, [[0, 1], [0, 0]] * 20),
    "after": side(0.75, [[1, 1], [0, 1]] * 20),
}


def fill(folder, steps=6, wanted=6):
    config = f"env: Arithmetic-v0\nmodel: some/model\nsteps: {wanted}\nseed: 3\n"
    (folder / "config.yaml").write_text(f"{config}versions: {{trl: 1.15.0}}\n")
    for step in range(1, steps + 1):
        metrics = {"step": step, "reward": step / 10, "reward_std": 0.1, "seconds/wait": 2.0}
        metrics |= {"rewards/value/mean": step / 10, "rewards/value/std": 0.0, "kl": math.nan}
        metrics |= {"rewards/$odd_{/mean": 0.0, "rewards/$odd_{/std": 0.0, "groups/all_wrong": 0.5}
        metrics |= {"completions/mean_length": 9.0} if step > 1 else {}
        MetricsFile(folder / "metrics.jsonl").append(metrics)
    lines = [episode(step, member, member / 2, HOSTILE) for step in (1, 2) for member in (0, 1, 2)]
    (folder / "episodes.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = fill(tmp_path_factory.mktemp("run"))
    RunFolder(folder).mark_finished()
    write_report(folder)
    return folder


@pytest.fixture
def report(run):
    return (run / "report.html").read_text(encoding="utf-8")


def test_the_page_is_one_file_that_loads_and_runs_nothing(report):
    page = Page(report)
    assert not page.open
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "base", "form", "a"})
    assert page.attributes == {
        "alt", "charset", "class", "content", "http-equiv", "lang", "name", "src", "style"
    }  # fmt: skip
    assert all(source.startswith("data:image/png") for source in re.findall('src="([^"]*)', report))
    assert "http://" not in report and "https://" not in report


def test_what_a_model_wrote_is_shown_and_never_obeyed(report):
    assert "</pre></script><script>alert('1')</script><img src=x onerror=y>&amp;␀␛�[U+202E]␍" in (
        Page(report).pres
    )


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec=None)))
def test_any_text_becomes_inert_utf8(raw):
    escaped = text(raw)
    escaped.encode("utf-8")
    page = Page(f"<pre>{escaped}</pre>")
    assert page.tags == {"pre"} and not page.open
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", escaped)


def test_the_page_says_what_ran_and_what_came_of_it(report):
    for fact in ("Arithmetic-v0", "some/model", "6 of 6 steps, finished", "seed 3", "trl 1.15.0"):
        assert fact in report
    assert "25.0\u00a0% → 75.0\u00a0%" in report
    assert "train_agent --resume" not in report


def test_every_picture_is_inside_and_in_the_folder(run, report):
    names = ["accuracy.png", "components.png", "length.png", "reward.png"]
    assert sorted(path.name for path in run.glob("*.png")) == names
    assert all((run / name).read_bytes().startswith(PNG) for name in names)
    assert report.count("data:image/png") == 4


@pytest.mark.parametrize(
    "missing", [{"config.yaml", "episodes.jsonl"}, {"metrics.jsonl"}, {"evaluation.json"}]
)
def test_a_missing_file_leaves_out_its_part(tmp_path, missing):
    for path in fill(tmp_path, steps=1).iterdir():
        if path.name in missing:
            path.unlink()
    assert not Page(write_report(tmp_path).read_text(encoding="utf-8")).open


def test_an_empty_folder_has_a_report(tmp_path):
    assert not Page(write_report(tmp_path).read_text(encoding="utf-8")).open


def test_an_interrupted_run_with_torn_lines_says_how_to_go_on(tmp_path):
    fill(tmp_path, steps=1, wanted=50)
    for name in ("metrics.jsonl", "episodes.jsonl"):
        with (tmp_path / name).open("a") as file:
            file.write('{"step": 2, "rew')
    (tmp_path / "evaluation.json").write_text(json.dumps({"before": EVALUATION["before"]}))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "1 of 50 steps, not finished" in page
    assert f"train_agent --resume {tmp_path}" in page
    assert not (tmp_path / "length.png").exists()


def test_the_command_to_evaluate_is_one_that_evaluate_agent_understands(tmp_path):
    config = TrainConfig(
        env="Math-DAPO-v0",
        data="my rows.jsonl",
        columns={"question": "problem", "answer": "gold"},
        env_kwargs={"numeric": True, "note": "it's " + "long " * 40},
        model="some/model",
        load_in_4bit=True,
        sampling=Sampling(max_tokens=99, temperature=0.5),
    )
    folder = RunFolder(tmp_path)
    folder.write_config(config)
    words = evaluate_command(folder, yaml.safe_load(folder.config.read_text()))
    parsed = parse_evaluate_config(shlex.split(shlex.join(words))[1:])
    assert parsed.adapter == str(folder.adapter)
    for name in ("env", "data", "split", "columns", "env_kwargs", "model", "load_in_4bit"):
        assert getattr(parsed, name) == getattr(config, name), name
    assert parsed.sampling == config.sampling
    assert "evaluate_agent" not in write_report(tmp_path).read_text(encoding="utf-8")
    folder.adapter.mkdir()
    assert "evaluate_agent" in write_report(tmp_path).read_text(encoding="utf-8")


def test_a_broken_file_is_named_not_hidden(tmp_path):
    fill(tmp_path)
    (tmp_path / "config.yaml").write_text("just text")
    with pytest.raises(ValueError, match=r"config\.yaml must hold names and values, got str"):
        write_report(tmp_path)


def test_many_components_or_scales_are_drawn_apart(tmp_path):
    for step in (1, 2, 3):
        scores = {f"rewards/check_{n}/mean": step * 100**n for n in range(3)}
        MetricsFile(tmp_path / "metrics.jsonl").append({"step": step, **scores})
    assert [path.name for path in write_plots(tmp_path)] == ["components.png"]


def test_no_step_is_no_picture(tmp_path):
    assert write_plots(tmp_path) == []


def test_a_certain_change_is_marked_by_its_paired_interval():
    table = evaluation_section(EVALUATION)
    assert re.search(r'class="good">\+50\.0\u00a0%.*?\[50\.0, 50\.0\]', table)
    swapped = evaluation_section({"before": EVALUATION["after"], "after": EVALUATION["before"]})
    assert re.search(r'class="bad">−50\.0\u00a0%', swapped)
    without = {**EVALUATION["after"], "success_NK": None}
    assert 'class="good"' not in evaluation_section({**EVALUATION, "after": without})


def test_the_x_ray_compares_first_and_last_fifth_and_names_dead_components():
    steps = [{"step": n, "rewards/a/mean": n, "rewards/a/std": 1.0} for n in range(10)]
    steps = [{**step, "rewards/b/mean": 0.0, "rewards/b/std": 0.0} for step in steps]
    table = xray_section(steps)
    assert "<td>a</td><td>0.5</td><td>8.5</td><td>+8</td>" in table
    assert table.count("never earned") == 1
    assert fifths(np.array([1.0])) == (1.0, 1.0)
    assert fifths(np.array([math.nan, 2.0]))[1] == 2.0


def test_episodes_show_first_best_worst_and_last_once_each():
    steps = [episode(n, 0, reward, f"word{n}") for n, reward in enumerate((0, 2, 1, 5, 5, 3, 9, 4))]
    steps[1]["error"] = "sandbox died"  # its reward is no score
    page = episodes_section(steps)
    assert re.findall(r"<b>(.*?)</b>", page) == [
        "first, worst",
        "best, last",
        "first, worst",
        "best",
        "last",
    ]
    assert re.findall(r"word\d", page) == ["word0", "word2", "word5", "word6", "word7"]
    assert "[image]\n6 x 7?" in page


def test_an_overlong_message_is_cut_in_the_middle():
    page = episodes_section([episode(1, content=f"begin{'x' * 10**6}end")])
    assert "begin" in page and "end" in page and "characters left out" in page
    assert len(page) < 30_000


def test_smoothing_keeps_constants_means_and_gaps():
    assert smooth(np.full(50, 3.0)) == pytest.approx(3.0)
    assert smooth(np.array([])).size == 0
    ramp = np.arange(100.0)
    assert smooth(ramp)[10:-10] == pytest.approx(ramp[10:-10])
    ramp[40] = math.nan
    assert np.isfinite(smooth(ramp)).all()
    np.testing.assert_equal(smooth(np.array([math.nan, 1.0])), [math.nan, 1.0])


def test_learning_curves_draw_seeds_of_different_length(tmp_path):
    before, after = Interval(0.1, 0.0, 0.2), Interval(0.9, 0.8, 1.0)
    curves = [LearningCurve(n, [0.1] * (20 + n), before, after) for n in (1, 2)]
    learning_curves(curves, tmp_path / "curves.png", "Arithmetic-v0")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    for none in ([], [LearningCurve(1, [], before, after)]):
        with pytest.raises(ValueError, match="at least one"):
            learning_curves(none, tmp_path / "none.png", "none")


def test_numbers_read_as_a_person_writes_them():
    assert [number(n) for n in (None, math.nan, 0, -0.5, 12345.6)] == [
        "–",
        "–",
        "0",
        "−0.5",
        "12,346",
    ]
    assert [percent(n) for n in (None, 0.5, -0.00001)] == ["–", "50.0\u00a0%", "0.0\u00a0%"]
    assert [signed(n) for n in ("0.5", "0", "−0.5", "–")] == ["+0.5", "0", "−0.5", "–"]
    assert [duration(n) for n in (2.5, 125, 7300)] == ["2.5 s", "2 min 05 s", "2 h 01 min"]


def test_importing_the_report_leaves_matplotlib_alone():
    code = "import sys, taskgym.training.report; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
