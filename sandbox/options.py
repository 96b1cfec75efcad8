"""Checks what a caller asks of a sandbox, before anything starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from taskgym.sandbox.job import SandboxUnavailable
from taskgym.sandbox.layers import ALL, REQUIRED, Layer

Layers = Literal["auto", "strict"] | tuple[str, ...]
Isolation = Literal["process", "batch"]


def check_platform(allow_weak_isolation: bool) -> None:
    """Raises `SandboxUnavailable` where programs cannot be isolated, unless that is accepted."""
    if not hasattr(os, "fork"):
        raise SandboxUnavailable(f"the sandbox needs fork(), which {sys.platform} does not have")
    if sys.platform != "linux" and not allow_weak_isolation:
        raise SandboxUnavailable(
            f"on {sys.platform} only the language policy and a deadline would stand between a "
            "program and your files; pass allow_weak_isolation=True if you trust the programs"
        )


def workers(asked: int | None) -> int:
    """How many supervisors: as many as asked for, or one for each core that we may use."""
    if asked is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if asked < 1:
        raise ValueError(f"workers must be at least 1, got {asked}")
    return asked


def driver(path: str | Path) -> str:
    """The full path of a driver."""
    found = Path(path).resolve()
    if not found.is_file():
        raise FileNotFoundError(f"no driver at {path}")
    return str(found)


def isolation(asked: str) -> str:
    """The isolation by name."""
    if asked not in ("process", "batch"):
        raise ValueError(f"isolation must be 'process' or 'batch', got {asked!r}")
    return asked


def layers(asked: Layers) -> tuple[frozenset[Layer], frozenset[Layer]]:
    """The layers to enter, and those that must then be active."""
    if asked == "auto":
        return ALL, frozenset({Layer.POLICY, Layer.PROCESS})
    if asked == "strict":
        return ALL, REQUIRED
    if isinstance(asked, str) or not set(asked) <= ALL:
        known = ", ".join(sorted(ALL))
        raise ValueError(f"layers must be 'auto', 'strict' or names of {known}; got {asked!r}")
    named = frozenset(map(Layer, asked))
    return named, named
