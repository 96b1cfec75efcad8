"""Settings that must stand in the process environment before the libraries beneath are imported."""

from __future__ import annotations

import logging
import os

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


def prepare_environment() -> None:
    """Switches telemetry off and sets thread behaviour; what the user has set stays."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if "LOCAL_RANK" not in os.environ:  # alone, transformers would split batches over all GPUs
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("taskgym").setLevel(logging.INFO)
