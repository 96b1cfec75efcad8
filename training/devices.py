"""What this machine can compute on, asked of the driver so that no command waits for torch."""

from __future__ import annotations

import ctypes
import os
from functools import cache


@cache
def has_cuda() -> bool:
    """Whether the CUDA driver is there and sees a device it may use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    started = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return started and count.value > 0
