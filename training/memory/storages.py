"""Counts the bytes of the tensors that are alive while something runs on fake or real tensors."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

_BLOCK = 512  # bytes: the CUDA allocator hands out no less, and nothing in between


class Storages(TorchDispatchMode):  # type: ignore[misc]  # torch ships no types we look at
    """Every storage that an operation makes is counted once, until it is freed.

    `torch.distributed._tools.MemTracker` does the same by module, but admits no frozen parameters.

    Attributes:
        kind: What the storages that are made now count as.
        peak: Bytes of all kinds together when they were the most.
        most: Bytes of each kind when it was the most.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()):
        """Counts nothing yet.

        Args:
            known: Tensors that were there before and are not counted, such as the weights.
        """
        super().__init__()
        self.kind = ""
        self.peak = 0
        self.most: Counter[str] = Counter()
        self._now: Counter[str] = Counter()
        self._seen = WeakIdKeyDictionary()
        for tensor in known:
            self._seen[tensor.untyped_storage()] = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs an operation and counts what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen[storage] = True
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK
        self._now[self.kind] += size
        weakref.finalize(storage, self._free, self.kind, size).atexit = False
        self.peak = max(self.peak, self._now.total())
        self.most |= self._now

    def _free(self, kind: str, size: int) -> None:
        self._now[kind] -= size
