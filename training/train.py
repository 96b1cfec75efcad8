"""A run from its config to its report: load, warm up, evaluate, learn, evaluate, save."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import yaml
from taskgym.agents.policy import Policy
from taskgym.envs import SingleTurnEnv, TaskgymError
from taskgym.training.asynchronous import check_asynchronous
from taskgym.training.config import TrainConfig
from taskgym.training.errors import INTERRUPTED, ConfigError, RunError, disk_is_full
from taskgym.training.folder import RunFolder, new_folder, resolved
from taskgym.training.memory.fit import settled
from taskgym.training.memory.plan import MOST_ROWS
from taskgym.training.models import Loaded, load_model
from taskgym.training.policies import check_policy, open_policy, shared_policy
from taskgym.training.preflight import check_machine
from taskgym.training.ranks import RankLostError, Ranks, joined, share_of, world_size
from taskgym.training.report import write_report
from taskgym.training.stages import Stages, resume_hint
from taskgym.training.tasks import TaskPlan, env_factory
from taskgym.training.watchdog import watched

logger = logging.getLogger(__name__)


def train(config: TrainConfig) -> RunFolder:
    """Runs a config to its end and returns its folder. Prints what a person wants to see.

    Raises:
        UserError: What was asked cannot be done; nothing was started.
    """
    check(config)
    plan = plan_tasks(config)
    config = settled(config, plan)
    with joined() as ranks:
        with watched("loading the model"):
            loaded = load_model(config, sees=plan.pictures > 0)
        folder = ranks.share(lambda: _open_folder(config))
        print(f"model: {loaded.name} ({loaded.why})\nrun folder: {folder.path}")
        plan.keep_short(loaded.renderer, config.prompt_quantile)
        with folder.locked() if ranks.first else nullcontext():
            if ranks.first:
                folder.write_config(config)
            with _policy(config, loaded, folder, ranks) as policy:
                finished = _play_out(Stages(config, plan, folder, loaded, policy, ranks))
                ranks.meet()  # one that fails as it leaves would cost the first its report
    if not finished:
        sys.exit(INTERRUPTED)
    return folder


@contextmanager
def _policy(
    config: TrainConfig, loaded: Loaded, folder: RunFolder, ranks: Ranks
) -> Iterator[Policy]:
    if config.policy == "transformers":
        from taskgym.agents.transformers_policy import TransformersPolicy

        rows = config.decode_rows or MOST_ROWS
        yield TransformersPolicy(loaded.model, loaded.tokenizer, loaded.renderer, rows)
        return
    base = loaded.base(config.lora.rank)
    if loaded.engine is not None:
        with shared_policy(loaded.engine, base) as policy:
            yield policy
        return
    with ExitStack() as stack:
        with watched("starting the sampler"):
            policy = stack.enter_context(open_policy(config, base, folder.path, ranks.rank))
        yield policy


def _play_out(run: Stages) -> bool:
    """All stages, and a report whatever ends them; whether they came to their end."""
    folder = run.folder
    try:
        run.prepare()
        finished = run.learn()
        if finished:
            run.finish()
        return finished
    except KeyboardInterrupt:
        print(resume_hint(folder))
        raise
    except TaskgymError as error:  # a server that is gone, a broken sync, failed machinery
        if isinstance(error, RankLostError) and not run.ranks.first:
            raise
        raise RunError(f"{error}. {resume_hint(folder)}") from error
    except Exception as error:
        if disk_is_full(error):
            raise RunError(f"no space left on the disk. {resume_hint(folder)}") from error
        raise
    finally:
        if run.ranks.first:
            with run.ranks.spared():
                _report(folder)


def check(config: TrainConfig) -> None:
    """Finds out before any work what could only fail later.

    Raises:
        ConfigError: A package that the config needs is missing, or the launch is not supported.
    """
    check_machine(config)
    needed: dict[str, str] = {tracker: tracker for tracker in config.trackers}
    if config.load_in_4bit or "8bit" in config.grpo.optim:
        needed["8-bit optimisers and 4-bit models"] = "bitsandbytes"
    for what, package in needed.items():
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"{what}: the package {package} is missing: pip install {package}")
    share_of(config, world_size())
    check_policy(config, config.sampling, config.model, learns=True)


def plan_tasks(config: TrainConfig) -> TaskPlan:
    """The env of a config and its tasks; errors in id, data or kwargs show here, before work."""
    make_env = env_factory(config.env, config.make_kwargs())
    plan = TaskPlan(make_env, config.seed, config.evaluation.tasks)
    if isinstance(plan.env, SingleTurnEnv):
        tasks = plan.env.tasks
        if all(map(plan.env.kept_for_evaluation, tasks)):
            raise ConfigError(
                f"{config.env} is for evaluation alone: evaluate_agent --env {config.env}"
            )
        if not plan.trains:
            raise ConfigError(
                f"evaluation.tasks={plan.held_out} holds out all of the env's {len(tasks)} tasks; "
                "leave some to train on"
            )
        print(f"tasks: {len(tasks)}, {plan.held_out} of them held out")
    if plan.env.evaluation_only:
        logger.warning(
            "%s holds tasks that others measure models on: a model that was trained on them "
            "cannot be compared by them any more",
            config.env,
        )
    if config.grpo.asynchronous:
        check_asynchronous(config, plan.pictures)
    return plan


def _report(folder: RunFolder) -> None:
    """Draws what there is; if that fails, however it does, the run's own end matters more."""
    try:
        print(f"report: {write_report(folder.path)}")
    except Exception as error:
        print(f"no report could be written: {error}", file=sys.stderr)


def describe(config: TrainConfig) -> str:
    """The resolved config as YAML, for `--dry-run`."""
    return str(yaml.safe_dump(resolved(config), sort_keys=False))


def _open_folder(config: TrainConfig) -> RunFolder:
    if not config.resume:
        folder = new_folder(config)
    else:
        folder = RunFolder(Path(config.resume))
        if folder.finished:
            raise RunError(f"{folder.path} is finished; there is nothing to resume")
    return folder
