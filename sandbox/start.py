"""How a supervisor gets ready: load what programs may need, reserve descriptors, confine, serve."""

from __future__ import annotations

import gc
import os
import signal
import sys
import unicodedata  # noqa: F401 (the compiler loads it for "\\N{...}", when files are out of reach)
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

from taskgym.sandbox import host
from taskgym.sandbox.confine import confine, seccomp_works
from taskgym.sandbox.layers import Layer
from taskgym.sandbox.nursery import RESERVED, Nursery
from taskgym.sandbox.supervisor import serve

_CODECS = ("ascii", "latin-1", "utf-8", "utf-16", "utf-32", "cp1252", "unicode_escape", "punycode")
_OWN_MEMORY = 1 << 30  # bytes for drivers: hostile values must not make one take all there is


def start(
    setup: dict[str, Any], drivers: list[ModuleType], tell: Callable[[dict[str, Any]], None]
) -> None:
    """Confines this process, tells the parent which layers are active, and serves for ever."""
    wanted = frozenset(map(Layer, setup["layers"]))
    _forget_the_parent()
    for codec in _CODECS:
        "".encode(codec)
    inner = wanted & {Layer.POLICY, Layer.PROCESS, Layer.RLIMITS}
    if host.LINUX and Layer.SECCOMP in wanted and seccomp_works():
        inner |= {Layer.SECCOMP}
    nursery = Nursery(inner, drivers)
    active = inner | set(confine(wanted) if host.LINUX else ())
    _share_memory()
    host.bound_memory(nursery.base_memory + _OWN_MEMORY)
    nursery.refill()
    tell({"layers": [layer for layer in Layer if layer in active]})
    serve(nursery)


def _forget_the_parent() -> None:
    """What is inherited across exec, other than the environment."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(1, RESERVED):
        if fd != null:
            os.dup2(null, fd, inheritable=False)
    if null >= RESERVED:
        os.close(null)
    sys.stdin = sys.stdout = sys.stderr = None  # type: ignore[assignment,unused-ignore]
    sys.unraisablehook = lambda _: None  # a finalizer of a program raised: nobody is told
    with suppress(OSError):
        host.offer_for_sacrifice()


def _share_memory() -> None:
    """What lives now is never collected, so that its pages stay shared with all children."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
