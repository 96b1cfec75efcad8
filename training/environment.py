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
SERVER_GPU = "TASKGYM_SERVER_GPU"  # one that no learner computes on, for a server that we start


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
    if spare := gpus[size:]:
        os.environ.setdefault(SERVER_GPU, spare[rank % len(spare)])
    if "LOCAL_RANK" not in os.environ:  # alone, transformers would split batches over all GPUs
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0]


def server_gpu() -> str:
    """The GPU of a server that we start: a spare one, else this process's own; empty: none."""
    rank, gpus = int(os.environ.get("LOCAL_RANK", "0")), visible_gpus()
    return os.environ.get(SERVER_GPU) or (gpus[rank % len(gpus)] if gpus else "")


def _hush() -> None:
    """Of several processes the first one speaks; what fails is said by the one that it fails in."""
    os.environ["TQDM_DISABLE"] = "1"
    logging.getLogger("taskgym").setLevel(logging.ERROR)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # as long as the process
