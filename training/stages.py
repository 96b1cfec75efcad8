"""The stages of a run: warm-up, the score before, GRPO, the score after."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from taskgym.agents.policy import Policy, RestingPolicy
from taskgym.agents.server_policy import ServerPolicy
from taskgym.envs import TaskgymError
from taskgym.training.config import TrainConfig
from taskgym.training.evaluate import evaluate
from taskgym.training.folder import RunFolder, checkpoint_step, write_whole
from taskgym.training.metrics import plain, truncate_after
from taskgym.training.models import Loaded
from taskgym.training.progress import episode_bar, evaluation_table, step_bar
from taskgym.training.ranks import Ranks
from taskgym.training.sync import Sync
from taskgym.training.tasks import TaskPlan
from taskgym.training.watchdog import watched


class Stages:
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
            print(f"stopped and saved. {resume_hint(self.folder)}")
        return ended

    def _grpo(self, checkpoint: Path | None, on_step: Callable[[dict[str, float]], None]) -> bool:
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


def resume_hint(folder: RunFolder) -> str:
    """How to go on with a run that has ended early."""
    return f"Go on with: train_agent --resume {folder.path}"
