"""The numbers of a run folder: JSON-lines files, one object a line, safe against a kill."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]


class History(NamedTuple):
    """What a metrics file holds.

    Attributes:
        steps: One mapping per step, oldest first.
        dropped: Lines left out: 1 when a killed process tore the last one, otherwise 0.
    """

    steps: list[Json]
    dropped: int


class MetricsFile:
    """`metrics.jsonl`: what was measured at each step.

    Args:
        path: The file; made by the first `append`.
    """

    def __init__(self, path: Path):
        self.path = path

    def append(self, metrics: Mapping[str, Any]) -> None:
        """Writes one step in a single write: a kill leaves at most one torn line, the last."""
        _mend_tail(self.path)
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps(plain(metrics)).encode() + b"\n")

    def read(self) -> History:
        """All steps; none where there is no file.

        Raises:
            ValueError: A line other than the last is broken; the message names file and line.
        """
        objects = [found for _, found in _lines(self.path)]
        steps = [found for found in objects if found is not None]
        return History(steps, len(objects) - len(steps))


def read_objects(path: Path) -> Iterator[Json]:
    """Streams the objects of any JSON-lines file of the run folder, less a torn last line.

    Raises:
        ValueError: As `MetricsFile.read`.
    """
    return (found for _, found in _lines(path) if found is not None)


def truncate_after(path: Path, step: int) -> int:
    """Drops the lines of later steps, and a torn last line, so that a resumed run says them once.

    The file is streamed and replaced whole: a kill leaves either the old or the new one.

    Args:
        path: `metrics.jsonl` or `episodes.jsonl`; each line has a `step`. It may be missing.
        step: The last step to keep: the step of the checkpoint.

    Returns:
        How many lines were dropped.

    Raises:
        ValueError: A line other than the last is broken or has no step; the file stays as it was.
    """
    if not path.exists():
        return 0
    dropped, temporary = 0, path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        for number, (line, found) in enumerate(_lines(path), start=1):
            if found is None or _step(found, path, number) > step:
                dropped += 1
            else:
                file.write(line.rstrip(b"\n") + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return dropped


def read_evaluation(run_dir: Path) -> Json:
    """The held-out evaluation of a run (`evaluation.json`); empty when there is none."""
    path = run_dir / "evaluation.json"
    found: Json = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def plain(value: Any) -> Any:
    """The value as strict JSON knows it: NaN and infinities are null, numpy scalars numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def column(steps: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """One metric over the steps, shape (S,): NaN where a step does not have it."""
    values = [step.get(name) for step in steps]
    return np.array([math.nan if value is None else float(value) for value in values], np.float64)


def components(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The reward components that any step names (`rewards/<component>/mean`), in first order."""
    names = dict.fromkeys(key for step in steps for key in step)
    return [
        name.removeprefix("rewards/").removesuffix("/mean")
        for name in names
        if name.startswith("rewards/") and name.endswith("/mean")
    ]


def _lines(path: Path) -> Iterator[tuple[bytes, Json | None]]:
    """Every line with its object; None for a last line that is torn."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield line, _parse(line)
            except ValueError as error:
                if file.read(1):  # more follows: no kill did this
                    raise ValueError(f"{path}:{number}: not a JSON object: {error}") from error
                yield line, None


def _parse(line: bytes) -> Json:
    found = json.loads(line.decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"it is a {type(found).__name__}")
    return found


def _step(found: Json, path: Path, number: int) -> int:
    step = found.get("step")
    if not isinstance(step, int):
        raise ValueError(f"{path}:{number}: no whole number 'step' in this line, got {step!r}")
    return step


def _mend_tail(path: Path) -> None:
    """Ends the file at a line's end, so that the next line is not glued to a torn one."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        tail = file.read().rpartition(b"\n")[2]
        try:
            _parse(tail)
        except ValueError:
            file.truncate(file.tell() - len(tail))
        else:  # whole, only its end is missing
            file.write(b"\n")
