"""Where rows come from: a hub id, a `.jsonl`, `.json` or `.parquet` file, or a list of rows."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from taskgym.envs.errors import DataError
from taskgym.envs.rows import Row

SUFFIXES = (".jsonl", ".json", ".parquet")
PROBE_SECONDS = 3.0

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?::(?P<config>[\w.-]+))?")


def load_rows(data: Any, *, split: str = "train", config: str | None = None) -> list[Row]:
    """Reads rows.

    Files and lists have splits if their rows have a `split` column; else all their rows are
    `train`. What a file held is kept until its size or time of change differs.

    Args:
        data: A list of mappings, a path to a `.jsonl`, `.json` or `.parquet` file, or a hub id
            (`owner/name`, or `owner/name:config`).
        split: The split to take.
        config: The hub data set's configuration, unless the id names one.

    Raises:
        DataError: What was asked for is not there or cannot be read; the message says what to do.
    """
    if isinstance(data, (str, Path)):
        path = Path(data).expanduser()
        if _is_file(str(data), path):
            return _of_split(_file(path), split, str(data))
        return _hub(str(data), split, config)
    if isinstance(data, Sequence) and all(isinstance(row, Mapping) for row in data):
        return _of_split(data, split, "data")
    raise DataError(
        f"data is a hub id, a {', '.join(SUFFIXES)} path or a list of mappings, "
        f"got {type(data).__name__} {str(data)[:60]!r}"
    )


def version(data: Any) -> str:
    """A text that changes with the file that `data` names; empty for all other sources."""
    if isinstance(data, (str, Path)):
        path = Path(data).expanduser()
        if path.is_file():
            status = path.stat()
            return f"{status.st_mtime_ns}-{status.st_size}"
    return ""


def _is_file(text: str, path: Path) -> bool:
    looks = path.suffix.lower() in SUFFIXES or text.startswith(("/", ".", "~")) or path.exists()
    if not looks and not _HUB_ID.fullmatch(text):
        raise DataError(
            f"{text!r} is neither a file ({', '.join(SUFFIXES)}), nor a hub id (owner/name), "
            f'nor "sample".{_near_file(path)}'
        )
    return looks


def _of_split(rows: Sequence[Row], split: str, name: str) -> list[Row]:
    splits = {str(row["split"]) for row in rows if row.get("split")}
    if not splits:
        if split == "train":
            return list(rows)
        raise DataError(
            f"{name} has no split {split!r}: its rows have no `split` column, so all of them are "
            "'train'; leave split='train' or name the file of the split you want"
        )
    if split not in splits:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(sorted(splits))}")
    return [row for row in rows if str(row.get("split")) == split]


def _file(path: Path) -> Sequence[Row]:
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "not there"
        raise DataError(f"{str(path)!r} is {what}.{_near_file(path)}")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{str(path)!r}: a file of rows ends in {', '.join(SUFFIXES)}")
    rows = _read(path.resolve(), version(path))
    if not rows:
        raise DataError(f"{str(path)!r} has no rows")
    return rows


@lru_cache(maxsize=8)
def _read(path: Path, version: str) -> tuple[Row, ...]:
    if path.suffix.lower() == ".parquet":
        return tuple(_parquet(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read as UTF-8 text: {error}") from error
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        return tuple(_row(row, f"{path}: row {i}") for i, row in enumerate(_json(text, str(path))))
    return tuple(_lines(text, path))


def _lines(text: str, path: Path) -> Iterator[Row]:
    # Not splitlines(): JSON strings may hold U+2028 and its like, which are no ends of line here.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _row(_json(line, f"{path}:{number}"), f"{path}:{number}")


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: no JSON ({error}): {text.strip()[:60]!r}") from error


def _row(value: Any, place: str) -> Row:
    if isinstance(value, Mapping):
        return value
    raise DataError(f"{place}: a row is a JSON object, got {json.dumps(value)[:60]}")


def _parquet(path: Path) -> list[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(
            f"reading {path.name} takes pyarrow: pip install 'taskgym[train]'"
        ) from error
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except Exception as error:  # pyarrow's errors share no base that is not Exception
        raise DataError(f"{str(path)!r} is no readable parquet file: {error}") from error
    return rows


def _near_file(path: Path) -> str:
    folder = path.parent
    names = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {str(folder / near[0])!r}?" if near else ""


def _hub(name: str, split: str, config: str | None) -> list[Row]:
    repository, _, named = name.partition(":")
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"loading {name!r} from the hub takes datasets: pip install 'taskgym[train]', "
            f"or give data= a local file{_near_file(Path(name))}"
        ) from error
    if not _cached(repository, datasets) and (problem := _unreachable(repository)):
        raise DataError(
            f"the hub does not serve {repository!r} ({problem}), and it is not cached here; "
            f'give data= a local file or "sample"'
        )
    try:
        rows = datasets.load_dataset(repository, named or config, split=split)
        return list(_undecoded(rows, datasets))
    except Exception as error:  # what load_dataset raises is not documented
        raise DataError(f"{name!r}, split {split!r}: {_short(error)}") from error


def _undecoded(rows: Any, datasets: Any) -> Any:
    """Rows whose images are the bytes of their files: decoded, thousands would fill the memory."""
    plain = datasets.Image(decode=False)
    for name, feature in getattr(rows, "features", {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, plain)
        elif isinstance(getattr(feature, "feature", None), datasets.Image):
            rows = rows.cast_column(name, type(feature)(plain))
    return rows


def _cached(repository: str, datasets: Any) -> bool:
    return Path(datasets.config.HF_DATASETS_CACHE, repository.replace("/", "___")).is_dir()


def _unreachable(repository: str) -> str | None:
    """Why the hub does not serve a data set, found out in seconds; None if it does."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(repository, timeout=PROBE_SECONDS)
    except Exception as error:  # offline mode, no network, no such data set, no access
        return _short(error)
    return None


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
