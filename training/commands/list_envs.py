"""`list_envs`: every registered chat env, what it asks, where it comes from, what it needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

import gymnasium as gym
from taskgym.envs import ChatEnv
from taskgym.training.cli import add_working_directory
from taskgym.training.errors import ConfigError, run_command

_USAGE = "usage: list_envs [MODULE ...]\n\nLists the chat envs of taskgym and of the modules named."


class Entry(NamedTuple):
    """One line of the list."""

    env_id: str
    what: str
    source: str
    needs: str


def main() -> None:
    """Entry point of the command."""
    run_command(_main)


def _main() -> None:
    modules = sys.argv[1:]
    if any(word in ("-h", "--help") for word in modules):
        print(_USAGE)
        return
    add_working_directory()
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError(f"cannot import {module}: {error}") from error
    for entry in entries():
        print(f"{entry.env_id}\n    {entry.what}\n    from {entry.source}; needs {entry.needs}")


def entries() -> Iterator[Entry]:
    """The registered envs that derive from `ChatEnv`, by id."""
    for env_id, spec in sorted(gym.registry.items()):
        cls = _class(spec.entry_point)
        if cls is not None:
            what = (cls.__doc__ or "no description").strip().splitlines()[0]
            yield Entry(env_id, what, cls.source, cls.needs)


def _class(entry_point: object) -> type[ChatEnv] | None:
    """The class behind an entry point, if it is one of ours; others are not imported."""
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        known = module.startswith("taskgym.") or module in sys.argv[1:]
        entry_point = getattr(importlib.import_module(module), name) if known else None
    ours = isinstance(entry_point, type) and issubclass(entry_point, ChatEnv)
    return entry_point if ours else None  # type: ignore[return-value]


if __name__ == "__main__":
    main()
