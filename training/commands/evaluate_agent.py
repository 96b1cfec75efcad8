"""`evaluate_agent`: scores a model, an adapter or a script on an environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from taskgym.agents.chat import Renderer
from taskgym.agents.policy import Policy
from taskgym.training.cli import add_working_directory, parse_evaluate_config, read_yaml
from taskgym.training.config import EvaluateConfig
from taskgym.training.environment import prepare_environment
from taskgym.training.errors import run_command
from taskgym.training.metrics import plain


def main() -> None:
    """Entry point of the command."""
    run_command(_main)


def _main() -> None:
    prepare_environment()
    config = parse_evaluate_config(sys.argv[1:])
    add_working_directory()
    summary = score(config)
    if config.output:
        Path(config.output).write_text(json.dumps(plain(summary), indent=1))


def score(config: EvaluateConfig) -> dict[str, Any]:
    """Scores and prints a table; returns what it holds."""
    from taskgym.training.evaluate import evaluate
    from taskgym.training.progress import episode_bar, evaluation_table
    from taskgym.training.tasks import TaskPlan, env_factory

    plan = TaskPlan(env_factory(config.env, config.make_kwargs()), config.seed, config.n)
    _warn_of_training_tasks(config)
    policy, renderer = _policy(config)
    with episode_bar("score", plan.held_out * (config.k + 1)) as tick:
        scored = evaluate(policy, plan, config.sampling, renderer, config.k, tick)
    summary = scored.summary()
    print(evaluation_table({config.script or config.adapter or config.model or "model": summary}))
    return summary


def _warn_of_training_tasks(config: EvaluateConfig) -> None:
    """The run folder an adapter lies in says how many tasks it kept from training."""
    trained = Path(config.adapter).parent / "config.yaml"
    if not config.adapter or not trained.is_file():
        return
    run = read_yaml(trained)
    held_out = run["evaluation"]["tasks"]
    if run["env"] == config.env and config.n > held_out:
        print(
            f"note: {config.adapter} was trained with {held_out} tasks held out; of the "
            f"{config.n} tasks scored here, those after the first {held_out} may be training tasks",
            file=sys.stderr,
        )


def _policy(config: EvaluateConfig) -> tuple[Policy, Renderer | None]:
    if config.script:
        from taskgym.agents.scripted import SCRIPTS, ScriptedPolicy

        return ScriptedPolicy(SCRIPTS[config.script]), None
    from taskgym.agents.transformers_policy import TransformersPolicy
    from taskgym.training.models import load_for_sampling

    model, tokenizer = load_for_sampling(config.model, config.adapter, config.load_in_4bit)
    return TransformersPolicy(model, tokenizer), Renderer(tokenizer)


if __name__ == "__main__":
    main()
