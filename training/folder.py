"""The run folder: where each file of a run lies, how it is written, and which can be resumed."""

from __future__ import annotations

import dataclasses
import fcntl
import importlib.metadata
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from taskgym.training.config import TrainConfig
from taskgym.training.errors import RunError

_PACKAGES = ("taskgym", "torch", "transformers", "trl", "peft", "accelerate", "gymnasium", "numpy")
_COMPLETE = "complete"  # written last into a checkpoint, so that a torn one is never resumed
_FINISHED = "finished"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The paths of one run; `docs/run_folder.md` says what is in them."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config, with versions."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON line a step."""
        return self.path / "metrics.jsonl"

    @property
    def episodes(self) -> Path:
        """One JSON line an episode."""
        return self.path / "episodes.jsonl"

    @property
    def evaluation(self) -> Path:
        """Accuracy on held-out tasks, before and after."""
        return self.path / "evaluation.json"

    @property
    def adapter(self) -> Path:
        """The trained adapter, as peft saves it."""
        return self.path / "adapter"

    @property
    def warmup(self) -> Path:
        """The adapter after the supervised warm-up."""
        return self.path / "warmup"

    @property
    def checkpoints(self) -> Path:
        """What a resumed run starts from."""
        return self.path / "checkpoints"

    def checkpoint(self) -> Path | None:
        """The newest checkpoint that was written to its end."""
        whole = [path.parent for path in self.checkpoints.glob(f"checkpoint-*/{_COMPLETE}")]
        return max(whole, key=checkpoint_step, default=None)

    def mark_complete(self, checkpoint: Path) -> None:
        """Says that a checkpoint was written to its end."""
        (checkpoint / _COMPLETE).touch()

    @property
    def finished(self) -> bool:
        """Whether the run reached its last step."""
        return (self.path / _FINISHED).exists()

    def mark_finished(self) -> None:
        """Says that the run reached its last step."""
        (self.path / _FINISHED).touch()

    def write_config(self, config: TrainConfig) -> None:
        """Writes the resolved config and the versions it ran with."""
        write_whole(self.config, yaml.safe_dump(resolved(config), sort_keys=False))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from writing to the folder; the lock ends with the process.

        Raises:
            RunError: Another process is writing to it.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.path} is being written by another process") from None
            yield

    def drop_torn_checkpoints(self) -> None:
        """Removes checkpoints that a kill left half-written, before they count as kept ones."""
        for path in self.checkpoints.glob("checkpoint-*"):
            if not (path / _COMPLETE).exists():
                shutil.rmtree(path)


def new_folder(config: TrainConfig) -> RunFolder:
    """A fresh folder `<output>/<time>-<env>`, made now so that a bad place fails at once.

    Raises:
        RunError: It cannot be made.
    """
    env = re.sub(r"[^\w.-]+", "-", config.env)
    path = Path(config.output) / f"{time.strftime('%Y%m%d-%H%M%S')}-{env}"
    for n in range(2, 100):
        try:
            path.mkdir(parents=True)
            return RunFolder(path)
        except FileExistsError:
            path = path.with_name(f"{path.name.removesuffix(f'-{n - 1}')}-{n}")
        except OSError as error:
            raise RunError(f"cannot make the run folder {path}: {error.strerror}") from error
    raise RunError(f"cannot make a run folder in {config.output}: too many of this second")


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a kill leaves the old one or the new one, never a part."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def newest_unfinished(output: Path, env: str) -> RunFolder:
    """The newest run of an env (any, if empty) that can be resumed.

    Raises:
        RunError: There is none.
    """
    open_runs = [folder for folder in _runs(output, env) if not folder.finished]
    if not open_runs:
        what = f"of {env} " if env else ""
        raise RunError(f"no unfinished run {what}in {output}/ to resume; name one: --resume FOLDER")
    return max(open_runs, key=_age)


def newest_run(output: Path, env: str) -> RunFolder:
    """The newest run of an env (any, if empty), finished or not.

    Raises:
        RunError: There is none.
    """
    runs = _runs(output, env)
    if not runs:
        what = f"of {env} " if env else ""
        raise RunError(f"no run {what}in {output}/; name one: --verify FOLDER")
    return max(runs, key=_age)


def checkpoint_step(checkpoint: Path) -> int:
    """The step a checkpoint was written after."""
    return int(checkpoint.name.rpartition("-")[2])


def versions() -> dict[str, str]:
    """The versions that shape a run."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def resolved(config: TrainConfig) -> dict[str, Any]:
    """A config as YAML values, with the versions it ran with."""
    content = {**dataclasses.asdict(config), "versions": versions()}
    for name in ("resume", "verify", "dry_run", "config"):  # how it was asked for, not what it is
        del content[name]
    return {name: _plain(value) for name, value in content.items()}


def _runs(output: Path, env: str) -> list[RunFolder]:
    folders = [RunFolder(path.parent) for path in output.glob("*/config.yaml")]
    return [folder for folder in folders if _is_of(folder, env)]


def _age(folder: RunFolder) -> float:
    return folder.config.stat().st_mtime


def _is_of(folder: RunFolder, env: str) -> bool:
    try:
        content = yaml.safe_load(folder.config.read_text())
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and "env" in content and env in ("", content["env"])


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
