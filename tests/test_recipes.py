"""The recipes: names, small forms, the notebooks' own settings, chat templates."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from taskgym.training import recipes
from taskgym.training.cli import parse_train_config
from taskgym.training.config import TrainConfig
from taskgym.training.errors import ConfigError
from taskgym.training.recipes import DEFAULTS, find_recipe, names, sisters

NOTEBOOKS = (
    "qwen3-4b-dapo",
    "llama3.1-8b-gsm8k",
    "llama3.2-3b-gsm8k-shaped",
    "qwen3-8b-fp8-dapo",
    "gpt-oss-20b-2048",
    "gpt-oss-20b-2048-play",
)
ROOT = Path(__file__).resolve().parents[1]


def config(*argv: str) -> TrainConfig:
    return parse_train_config(argv)


@pytest.mark.parametrize("name", names())
def test_a_recipe_alone_names_its_env_and_gives_its_prompts_room(name: str) -> None:
    made = config("--recipe", name)
    assert made.env in DEFAULTS
    assert not made.max_model_len or made.max_model_len >= made.sampling.max_tokens + 200
    assert made.grpo.num_generations >= 2


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_recipe_compares_more_than_its_notebook_and_holds_tasks_out(name: str) -> None:
    ours, theirs = config("--recipe", name), config("--recipe", name, "--notebook")
    assert theirs.notebook and not ours.notebook
    assert theirs.grpo.groups_per_step == 1 < ours.grpo.groups_per_step
    assert theirs.evaluation.tasks == 0 < ours.evaluation.tasks
    assert ours.grpo.mask_truncated_completions and not theirs.grpo.mask_truncated_completions
    assert (ours.model, ours.lora, ours.steps) == (theirs.model, theirs.lora, theirs.steps)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_recipe_has_forms_for_small_gpus(name: str) -> None:
    assert sisters(name, 1000) == [f"{name}-{size}" for size in ("24gb", "16gb", "8gb")]
    assert sisters(name, 15.6) == [f"{name}-16gb", f"{name}-8gb"]
    small = config("--recipe", f"{name}-8gb")
    assert "1.7B" in small.model or "1B" in small.model


@pytest.mark.parametrize("name", [name for name in names() if "2048" in name])
def test_the_games_are_made_as_the_recipe_says(name: str) -> None:
    from taskgym.training.tasks import env_factory

    notebook = ("--notebook",) if name in NOTEBOOKS else ()
    for made in (config("--recipe", name), config("--recipe", name, *notebook)):
        env = env_factory(made.env, made.make_kwargs())()
        observation, _ = env.reset(seed=0)
        assert observation[-1]["role"] == "user"


def test_the_notebook_s_schedule_is_kept() -> None:
    made = config("--recipe", "llama3.1-8b-gsm8k", "--notebook")
    grpo = made.grpo
    assert (grpo.num_generations, grpo.max_grad_norm, grpo.adam_beta2) == (6, 0.1, 0.99)
    assert (grpo.learning_rate, grpo.lr_scheduler_type, grpo.optim) == (
        5e-6,
        "cosine",
        "paged_adamw_8bit",
    )
    assert (made.steps, made.sampling.max_tokens, made.load_in_4bit) == (250, 768, True)


def test_notebook_can_stand_in_a_yaml_file_and_flags_win_over_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"recipe": "qwen3-4b-dapo", "notebook": True}))
    made = config("--config", str(file), "--grpo.num-generations", "16")
    assert made.notebook and made.grpo.groups_per_step == 1 and made.grpo.num_generations == 16


def test_without_a_notebook_there_are_no_settings_of_one() -> None:
    for name in ("smollm2-135m-dapo", "qwen3-4b-dapo-16gb"):
        with pytest.raises(ConfigError, match=f"{name} has no settings of a notebook"):
            config("--recipe", name, "--notebook")


@pytest.mark.parametrize(
    ("memory", "chosen"),
    [
        (139.8, "qwen3-4b-dapo"),
        (47.5, "qwen3-4b-dapo"),
        (23.6, "qwen3-4b-dapo-24gb"),
        (14.7, "qwen3-4b-dapo-16gb"),
        (11.8, "qwen3-4b-dapo-8gb"),
        (5.8, "qwen3-4b-dapo-8gb"),
    ],
)
def test_an_env_s_default_is_the_form_that_fits_the_gpu(
    memory: float, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "gpu_memory", lambda: memory)
    found = find_recipe("", "Math-DAPO-v0")
    assert found is not None and found.name == chosen


def test_the_working_out_template_writes_what_the_notebook_s_does(tokenizer: Any) -> None:
    from taskgym.agents.chat import Renderer
    from taskgym.training.readers import chat_template

    made = TrainConfig(chat_template="working-out")
    tokenizer.chat_template, before = chat_template(made, None), tokenizer.chat_template
    try:
        renderer = Renderer(tokenizer)
        eos = tokenizer.eos_token
        messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
        assert tokenizer.decode(renderer.opening(messages)) == f"S{eos}Q<start_working_out>"
        assert renderer.cue() == "<start_working_out>"
        said = (*tokenizer.encode("A", add_special_tokens=False), tokenizer.eos_token_id)
        after = tokenizer.decode(renderer.continuation(messages[1:], said))
        assert after == "Q<start_working_out>"
    finally:
        tokenizer.chat_template = before


def test_template_variables_reach_the_template(tokenizer: Any) -> None:
    from taskgym.training.readers import chat_template

    template = "{% if effort is not defined %}{% set effort = 'high' %}{% endif %}{{ effort }}"
    made = TrainConfig(chat_template_kwargs={"effort": "low"})
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}],
        chat_template=chat_template(made, template),
        tokenize=False,
    )
    assert text == "low"
    with pytest.raises(ConfigError, match="has no chat template"):
        chat_template(made, None)
    with pytest.raises(ConfigError, match="cannot read"):
        chat_template(TrainConfig(chat_template="no.jinja"), None)


def test_the_gpu_constraints_pin_what_was_run_together() -> None:
    path = ROOT / "constraints" / "gpu.txt"
    if not path.exists():
        pytest.skip("reads the checkout, and this is not one")
    pins = path.read_text().splitlines()
    for pin in ("vllm==0.26.0", "trl==1.15.0", "unsloth==2026.10.7", "torch==2.11.0"):
        assert pin in pins
