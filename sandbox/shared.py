"""The one pool of a process that all its environments share."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from taskgym.sandbox.pool import Sandbox

_pools: dict[tuple[str, ...], Sandbox] = {}
_lock = threading.Lock()


def shared_sandbox(drivers: Iterable[str | Path] = ()) -> Sandbox:
    """The process-wide pool for this set of drivers, made at first use and closed at exit."""
    paths = tuple(sorted({str(Path(path).resolve()) for path in drivers}))
    with _lock:
        if paths not in _pools:
            _pools[paths] = Sandbox(drivers=paths)
        return _pools[paths]


@atexit.register
def _close() -> None:
    for pool in _pools.values():
        pool.close()


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
