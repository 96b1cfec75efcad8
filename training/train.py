"""A run from its config to its report: load, warm up, evaluate, learn, evaluate, save."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from taskgym.agents.policy import Policy, RestingPolicy
from taskgym.agents.server_policy import ServerPolicy
from taskgym.envs import SingleTurnEnv, TaskgymError
from taskgym.training.asynchronous import check_asynchronous
from taskgym.training.config import TrainConfig
from taskgym.training.errors import INTERRUPTED, ConfigError, RunError, disk_is_full
from taskgym.training.evaluate import evaluate
from taskgym.training.folder import RunFolder, checkpoint_step, new_folder, resolved, write_whole
from taskgym.training.memory.fit import settled
from taskgym.training.memory.plan import MOST_ROWS
from taskgym.training.metrics import plain, truncate_after
from taskgym.training.models import Loaded, load_model
from taskgym.training.policies import check_policy, open_policy, shared_policy
from taskgym.training.preflight import check_machine
from taskgym.training.progress import episode_bar, evaluation_table, step_bar
from taskgym.training.ranks import RankLostError, Ranks, joined, share_of, world_size
from taskgym.training.report import write_report
from taskgym.training.sync import Sync
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
                _play_out(_Stages(config, plan, folder, loaded, policy, ranks))
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


def _play_out(run: _Stages) -> None:
    """All stages, and a report whatever ends them."""
    folder = run.folder
    try:
        run.prepare()
        if run.learn():
            run.finish()
        else:
            sys.exit(INTERRUPTED)
    except KeyboardInterrupt:
        print(_resume_hint(folder))
        raise
    except TaskgymError as error:  # a server that is gone, a broken sync, failed machinery
        if isinstance(error, RankLostError) and not run.ranks.first:
            raise
        raise RunError(f"{error}. {_resume_hint(folder)}") from error
    except Exception as error:
        if disk_is_full(error):
            raise RunError(f"no space left on the disk. {_resume_hint(folder)}") from error
        raise
    finally:
        if run.ranks.first:
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


class _Stages:
    """The stages of one run, each of which leaves its result in the folder and is not redone."""

    def __init__(
        self,
        config: TrainConfig,
        plan: TaskPlan,
        folder: RunFolder,
        loaded: Loaded,
        policy: Policy,
        ranks: Ranks,
    ):
        self.config, self.plan, self.folder, self.loaded = config, plan, folder, loaded
        self.policy = policy
        self.ranks = ranks
        self.sync = Sync(policy, loaded, ranks)

    def prepare(self) -> None:
        """The warm-up, if asked for, and then the score before GRPO."""
        from taskgym.agents.transformers_policy import load_adapter_weights

        if self.config.warmup.data:
            if not self.ranks.share(self.folder.warmup.exists):
                self._warm_up()
            load_adapter_weights(self.loaded.model, self.folder.warmup)
        self._evaluate("before", 0)

    def _warm_up(self) -> None:
        from taskgym.training.warmup import warm_up

        if isinstance(self.policy, RestingPolicy):
            self.policy.rest()
        warm_up(self.config, self.loaded, self.plan, self.folder.checkpoints / "warmup")
        self.ranks.share(self._save_warmup)

    def _save_warmup(self) -> None:
        part = self.folder.path / "warmup.tmp"  # renamed when whole, so that a kill leaves none
        shutil.rmtree(part, ignore_errors=True)
        save_adapter(self.loaded, part)
        part.rename(self.folder.warmup)

    def learn(self) -> bool:
        """GRPO; returns whether the last step was reached. The adapter is saved either way."""
        checkpoint = self.ranks.share(self._go_back)
        done = checkpoint_step(checkpoint) if checkpoint else 0
        with step_bar(done, self.config.steps) as show, ExitStack() as first:
            first.enter_context(watched("working on the first step"))

            def on_step(metrics: dict[str, float]) -> None:
                first.close()
                show(metrics)

            try:
                ended = self._grpo(checkpoint, on_step)
            except TaskgymError:  # a full memory, a server that is gone: what was learned is kept
                self._save()
                raise
        self._save()
        if not ended:
            print(f"stopped and saved. {_resume_hint(self.folder)}")
        return ended

    def _grpo(self, checkpoint: Path | None, on_step: Callable[[dict[str, float]], None]) -> bool:
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # known, and pinned by tests
        rest = (self.plan, self.folder, checkpoint, on_step)
        if isinstance(self.policy, ServerPolicy) and self.config.grpo.asynchronous:
            from taskgym.training.async_learner import learn_asynchronously

            return learn_asynchronously(self.config, self.loaded, self.policy, *rest)
        from taskgym.training.learner import learn

        return learn(self.config, self.loaded, self.policy, self.sync, *rest, self.ranks)

    def _save(self) -> None:
        if self.ranks.first:
            save_adapter(self.loaded, self.folder.adapter)

    def _go_back(self) -> Path | None:
        """The checkpoint to start from; what later steps left is dropped."""
        self.folder.drop_torn_checkpoints()
        checkpoint = self.folder.checkpoint()
        for path in (self.folder.metrics, self.folder.episodes):
            truncate_after(path, checkpoint_step(checkpoint) if checkpoint else 0)
        return checkpoint

    def finish(self) -> None:
        """The score after GRPO, beside the one before."""
        self._evaluate("after", self.config.steps)
        self.ranks.share(self._conclude)

    def _conclude(self) -> None:
        if self.folder.evaluation.exists():
            print(evaluation_table(json.loads(self.folder.evaluation.read_text())))
        print(f"adapter: {self.folder.adapter}")
        self.folder.mark_finished()

    def _evaluate(self, when: str, version: int) -> None:
        tasks, samples = self.config.evaluation.tasks, self.config.evaluation.samples
        known = self.ranks.share(self._known_scores)
        if tasks == 0 or when in known:
            return
        self.sync(version)
        renderer = self.loaded.renderer
        temperature = self.config.evaluation.temperature
        sampling = dataclasses.replace(self.config.sampling, temperature=temperature)
        mine = len(range(self.ranks.rank, tasks, self.ranks.size))
        with episode_bar(f"score {when}", mine * (samples + 1)) as tick:
            scored = evaluate(self.policy, self.plan, sampling, renderer, samples, tick, self.ranks)
        if self.ranks.first:
            known[when] = scored.summary()
            write_whole(self.folder.evaluation, json.dumps(plain(known), indent=1))

    def _known_scores(self) -> dict[str, Any]:
        path = self.folder.evaluation
        known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return known


def save_adapter(loaded: Loaded, path: Path) -> None:
    """Writes the adapter and its tokenizer where plain peft and vLLM can load them."""
    loaded.model.save_pretrained(str(path), selected_adapters=["default"])
    (loaded.processor or loaded.tokenizer).save_pretrained(str(path))


def _resume_hint(folder: RunFolder) -> str:
    return f"Go on with: train_agent --resume {folder.path}"


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
