"""`evaluate_agent`: scores a model, an adapter or a script on an environment."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taskgym.agents.chat import Renderer
from taskgym.agents.policy import Policy
from taskgym.training.cli import add_working_directory, parse_evaluate_config
from taskgym.training.config import EvaluateConfig
from taskgym.training.environment import prepare_environment
from taskgym.training.errors import run_command
from taskgym.training.metrics import plain
from taskgym.training.policies import check_policy, open_chat, open_policy
from taskgym.training.recipes import read_yaml


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
    check_policy(config, config.sampling, config.model, learns=False)
    with (
        _policy(config, plan.pictures > 0) as (policy, renderer),
        episode_bar("score", plan.held_out * (config.k + 1)) as tick,
    ):
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


@contextmanager
def _policy(config: EvaluateConfig, sees: bool) -> Iterator[tuple[Policy, Renderer | None]]:
    """The policy to score, and what renders prompts for it if it takes tokens."""
    if config.script:
        from taskgym.agents.scripted import SCRIPTS, ScriptedPolicy

        yield ScriptedPolicy(SCRIPTS[config.script]), None
    elif config.policy == "transformers":
        from taskgym.agents.transformers_policy import TransformersPolicy
        from taskgym.training.models import load_for_sampling, renderer_for

        model, reader = load_for_sampling(
            config.model, config.adapter, config.load_in_4bit, sees=sees
        )
        tokenizer, processor = (reader.tokenizer, reader) if sees else (reader, None)
        renderer = renderer_for(tokenizer, processor)
        yield TransformersPolicy(model, tokenizer, renderer), renderer
    elif config.server_url and not config.adapter:
        with open_chat(config, config.model) as policy:
            yield policy, None
    else:
        with _apart(config, sees) as opened:
            yield opened


@contextmanager
def _apart(config: EvaluateConfig, sees: bool) -> Iterator[tuple[Policy, Renderer]]:
    """A policy of vLLM, here or behind a server, with the adapter, in tokens."""
    from taskgym.training.models import read_adapter, sampling_base

    base = sampling_base(config.model, config.adapter, sees=sees)
    folder = Path(tempfile.mkdtemp(prefix="taskgym-"))
    with open_policy(config, base, folder) as policy:
        if config.adapter:
            policy.load_adapter(read_adapter(config.adapter), 0)
        yield policy, base.renderer
    shutil.rmtree(folder)  # after a failure it stays, for the server's log


if __name__ == "__main__":
    main()
