"""How a supervisor gets ready: reserve descriptors, load what programs may import, confine, serve."""

from __future__ import annotations

import os
import sys
import unicodedata  # noqa: F401 (the compiler loads it for "\N{...}", when files are out of reach)
from collections.abc import Callable
from types import ModuleType
from typing import Any

from taskgym.sandbox.child import prepare_interpreter
from taskgym.sandbox.children import Nursery
from taskgym.sandbox.layers import Layer
from taskgym.sandbox.supervisor import serve

_CODECS = ("ascii", "latin-1", "utf-8", "utf-16", "utf-32", "cp1252", "unicode_escape")


def start(
    setup: dict[str, Any], drivers: list[ModuleType], tell: Callable[[dict[str, Any]], None]
) -> None:
    """Confines this process, tells the parent which layers are active, and serves for ever."""
    for codec in _CODECS:
        "".encode(codec)
    wanted = frozenset(map(Layer, setup["layers"]))
    _reserve_descriptors()
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment]
    active = {Layer.POLICY, Layer.PROCESS, Layer.RLIMITS, Layer.SECCOMP} & wanted
    try:
        nursery = Nursery(frozenset(active), drivers)
    except OSError:  # a machine without a table of system calls
        active.discard(Layer.SECCOMP)
        nursery = Nursery(frozenset(active), drivers)
    if sys.platform == "linux":
        from taskgym.sandbox.confine import confine

        active.update(confine(wanted))
    prepare_interpreter()
    try:
        nursery.refill()
    except OSError as error:
        tell({"failed": f"cannot fork: {error}"})
        raise
    tell({"layers": [layer for layer in Layer if layer in active]})
    serve(nursery)


def _reserve_descriptors() -> None:
    """1 to 4 lead nowhere, so that every pipe made later has a higher number (see `Nursery`)."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2, 3, 4):
        if fd != null:
            os.dup2(null, fd)
    if null > 4:
        os.close(null)
