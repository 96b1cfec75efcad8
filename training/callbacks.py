"""What happens around TRL's steps: metrics to the run folder, whole checkpoints, a calm Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from taskgym.agents.transformers_policy import load_adapter_weights
from taskgym.training.folder import RunFolder
from taskgym.training.metrics import MetricsFile
from taskgym.training.ranks import Ranks
from transformers import TrainerCallback

# The reward, lengths, and the asynchronous trainer's own view of ages and times.
_SAID_TWICE = ("rewards/env_total/", "completions", "sample/", "perf/")


class Timed(Protocol):
    """What the learner waits for.

    Attributes:
        seconds: Wall time so far in which the learner had nothing to do.
    """

    seconds: float


class RunCallback(TrainerCallback):  # type: ignore[misc]  # transformers ships no types
    """Writes each step's metrics, marks checkpoints that are whole, stops after a Ctrl-C."""

    def __init__(
        self,
        folder: RunFolder,
        timed: Timed,
        checkpoint: Path | None,
        on_step: Callable[[dict[str, float]], None],
        ranks: Ranks,
    ):
        self._checkpoint = checkpoint
        self._folder = folder
        self._metrics = MetricsFile(folder.metrics)
        self._timed = timed
        self._on_step = on_step
        self._ranks = ranks
        self._began = 0.0
        self._sampled = 0.0
        self._learn = 0.0
        self._interrupted = False

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        """Loads the resumed adapter: beside TRL's "ref" adapter transformers skips "default"."""
        if self._checkpoint is not None:
            load_adapter_weights(model, self._checkpoint)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Starts the step's clock."""
        self._began = time.perf_counter()
        self._sampled = self._timed.seconds

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Learning is what the step took, its last kernel included, beyond its sampler."""
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()
        sampled = self._timed.seconds - self._sampled
        self._learn = time.perf_counter() - self._began - sampled
        if any(self._ranks.gather(self._interrupted)):
            control.should_save = True
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Appends the step's metrics."""
        if "reward" not in logs:  # the summary of the whole training, which has no step
            return
        metrics = {"step": state.global_step, **_renamed(logs), "seconds/learn": self._learn}
        if self._ranks.first:
            self._metrics.append(metrics)
        self._on_step(metrics)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The checkpoint is whole: it may be resumed from."""
        self._ranks.meet()  # each has written its own random state
        if self._ranks.first:
            name = f"checkpoint-{state.global_step}"
            self._folder.mark_complete(Path(args.output_dir) / name)

    @contextmanager
    def stop_on_interrupt(self) -> Iterator[None]:
        """The first Ctrl-C lets the step end and saves; the second stops at once."""
        usual = signal.getsignal(signal.SIGINT)

        def stop(number: int, frame: Any) -> None:
            self._interrupted = True
            signal.signal(signal.SIGINT, usual)  # before it is said what a second one does
            if self._ranks.first:
                print(
                    "\nending this step, then saving; Ctrl-C again stops at once", file=sys.stderr
                )

        signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, usual)


def _renamed(logs: dict[str, float]) -> dict[str, float]:
    """TRL's log, less what it says a second time, and with lengths as they were sampled.

    TRL counts the tokens that are in the loss, so an episode that is masked because it was
    truncated would have length 0.
    """
    kept = {k: v for k, v in logs.items() if not k.startswith(_SAID_TWICE)}
    for name in ("mean_length", "min_length", "max_length", "clipped_ratio"):
        kept[f"completions/{name}"] = kept.pop(f"episodes/{name}")
    return kept
