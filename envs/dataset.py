"""Envs whose tasks come from a data set: the hub, a file, a list of rows, or our own sample."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from taskgym.envs.core import SingleTurnEnv
from taskgym.envs.errors import DataError
from taskgym.envs.rows import Row, Tasks, to_tasks
from taskgym.envs.sources import load_rows, version

logger = logging.getLogger(__name__)

SAMPLES = Path(__file__).parent / "samples"

Data = str | Path | Sequence[Mapping[str, Any]]


class DatasetEnv(SingleTurnEnv):
    """One question per row of a data set.

    Args:
        data: A hub id (`owner/name` or `owner/name:config`), a `.jsonl`, `.json` or `.parquet`
            file, a list of rows, or `"sample"`: the rows of our own writing that every such env
            ships. None takes `hub_id` and, with a warning, the sample when no hub answers.
        split: The split to take; files and lists have splits if their rows have a `split` column.
        columns: Canonical key -> the column that carries it, such as `{"question": "task.text"}`.
        numeric: Drops rows whose answer is no plain number.
        weights: Component -> weight, for those that shall differ from the rubric's.
        system_prompt: Replaces the env's own; an empty text leaves the system message out.
    """

    needs = "datasets, for rows from the hub"
    hub_id: ClassVar[str]
    hub_config: ClassVar[str | None] = None
    sample: ClassVar[str]

    def __init__(
        self,
        *,
        data: Data | None = None,
        split: str = "train",
        columns: Mapping[str, str] | None = None,
        numeric: bool = False,
        weights: Mapping[str, float] | None = None,
        system_prompt: str | None = None,
    ):
        super().__init__(weights=weights)
        self.data, self.split = data, split
        self.columns, self.numeric = columns, numeric
        if system_prompt is not None:
            self.system_prompt = system_prompt or None

    def load(self) -> Sequence[Row]:
        """The rows of `data`, or of the hub, or of the sample."""
        if self.data is None:
            return self._hub_or_sample()
        if isinstance(self.data, str) and self.data == "sample":
            return self._sample()
        config = self.hub_config if self.data == self.hub_id else None
        return load_rows(self.data, split=self.split, config=config)

    def load_tasks(self) -> Tasks:
        """The rows as tasks, with the columns named and the filter asked for."""
        return to_tasks(self.load(), str(self), columns=self.columns, numeric=self.numeric)

    def data_version(self) -> str:
        """Changes when the file behind `data` does."""
        return version(self.data)

    def _hub_or_sample(self) -> Sequence[Row]:
        try:
            return load_rows(self.hub_id, split=self.split, config=self.hub_config)
        except DataError as error:
            # A log record, not a Python warning: seen on stderr without any set-up, and no failure
            # for programs that turn warnings into errors.
            logger.warning(
                "USING ONLY THE SMALL BUILT-IN SAMPLE of %s instead of %s: %s",
                type(self).__name__,
                self.hub_id,
                error,
            )
            return self._sample()

    def _sample(self) -> Sequence[Row]:
        return load_rows(SAMPLES / self.sample, split=self.split)
