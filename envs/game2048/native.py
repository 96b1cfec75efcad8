"""Whether the compiled engine is there, and what to say where it is not."""

from __future__ import annotations

from types import ModuleType

compiled: ModuleType | None
try:
    from taskgym.envs.game2048 import _native as compiled
except ImportError:  # installed where there was no C compiler
    compiled = None


def choose(native: bool | None) -> ModuleType | None:
    """The compiled engine for True, nothing for False, and for None what there is.

    Raises:
        ModuleNotFoundError: It was asked for and has not been built.
    """
    if native and compiled is None:
        raise ModuleNotFoundError(
            "the compiled engine of 2048 was not built: install a C compiler (gcc or clang) and "
            "Python's headers, then install taskgym again from its source; or leave out native=True"
        )
    return compiled if native is not False else None
