"""Settings that must stand in the process environment before the libraries beneath are imported."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from taskgym.training.devices import visible_gpus

_QUIET = {
    # Nothing is uploaded or counted unless a person asks for it.
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # Spinning OpenMP threads starve each other on a shared machine: 33 tokens/s became 6.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Env steps run in threads; the tokenizers' own pool would warn about that.
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
}
SERVER_GPU = "TASKGYM_SERVER_GPU"  # where a server that we start computes; what the user set stays


def prepare_environment() -> None:
    """Switches telemetry off and sets thread behaviour; what the user has set stays."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    _choose_gpus(visible_gpus())
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("taskgym").setLevel(logging.INFO)
    if int(os.environ.get("RANK", "0")) > 0:
        _hush()


def _choose_gpus(gpus: Sequence[str]) -> None:
    if not gpus:
        return
    rank, size = (
        int(os.environ.get(n, d)) for n, d in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    os.environ.setdefault(SERVER_GPU, server_gpu(gpus, rank, size))
    if "LOCAL_RANK" not in os.environ:  # alone, transformers would split batches over all GPUs
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0]


def server_gpu(gpus: Sequence[str], rank: int, size: int) -> str:
    """The GPU for a server: one that no learner of this machine computes on, if there is one.

    Args:
        gpus: Those of this machine that may be used; learners take the first ones.
        rank: Which learner of this machine asks.
        size: How many learners it runs.
    """
    spare = gpus[size:]
    return spare[rank % len(spare)] if spare else gpus[rank % len(gpus)]


def _hush() -> None:
    """Of several processes the first one speaks; what fails is said by the one that it fails in."""
    os.environ["TQDM_DISABLE"] = "1"
    logging.getLogger("taskgym").setLevel(logging.ERROR)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # as long as the process
