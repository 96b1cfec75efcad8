"""Says what a silent start is waiting for: loading, compiling and downloading can take minutes."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 60.0  # seconds until the first word, and from each to the next

# What is being waited for, by a part of the file that is being computed in: the innermost counts.
_DOING = {
    "huggingface_hub": "the model hub answers slowly or a download is under way",
    "safetensors": "weights are read from the disk",
    "transformers/core_model_loading": "weights are read and placed",
    "transformers/modeling_utils": "weights are read and placed",
    "bitsandbytes": "weights are quantised",
    "vllm/model_executor/model_loader": "vLLM reads the weights",
    "vllm/v1/worker/gpu_model_runner": "vLLM measures its memory and captures CUDA graphs",
    "vllm/compilation": "vLLM compiles the model, once for each shape (cached for the next start)",
    "sympy": "torch's compiler works out symbolic sizes, which can take minutes",
    "torch/_inductor": "torch compiles kernels",
    "torch/_dynamo": "torch traces the model to compile it",
    "triton": "Triton compiles kernels",
    "flashinfer": "FlashInfer builds its kernels with a compiler",
    "importlib": "packages are imported",
    "subprocess": "another program is waited for",
}


@contextmanager
def watched(phase: str, patience: float = PATIENCE) -> Iterator[None]:
    """Prints on stderr where this thread is, again and again while it is in the block.

    Args:
        phase: What the block does, such as `loading the model`.
        patience: Seconds until the first word, and from each to the next.
    """
    over = threading.Event()
    thread = threading.get_ident()
    watch = threading.Thread(
        target=_watch, args=(over, phase, patience, thread), name="watchdog", daemon=True
    )
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def describe(frame: FrameType | None) -> str:
    """What a thread that is at this frame waits for: in words if they are known, and the place."""
    doing, place = "", ""
    while frame is not None:
        file = frame.f_code.co_filename.replace("\\", "/")
        place = place or f"{'/'.join(file.split('/')[-3:])}:{frame.f_lineno}"
        doing = doing or next((text for part, text in _DOING.items() if part in file), "")
        frame = frame.f_back
    return f"{doing} (at {place})" if doing else f"at {place}"


def _watch(over: threading.Event, phase: str, patience: float, thread: int) -> None:
    began = time.monotonic()
    while not over.wait(patience):
        seconds = time.monotonic() - began
        where = describe(sys._current_frames().get(thread))
        print(f"still {phase} after {seconds:.0f} s: {where}", file=sys.stderr, flush=True)
