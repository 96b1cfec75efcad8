"""What this machine can compute on, asked of the driver so that no command waits for torch."""

from __future__ import annotations

import ctypes
import os
from functools import cache

from taskgym.training.errors import ConfigError

HERE = "here"  # the card that `--plan` without a number means


@cache
def has_cuda() -> bool:
    """Whether the CUDA driver is there and sees a device it may use."""
    if _hidden():
        return False
    count = ctypes.c_int(0)
    driver = _driver()
    return bool(driver and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0)


@cache
def gpu_memory() -> float:
    """GiB of the first device; 0 without one."""
    driver, device, total = _driver(), ctypes.c_int(0), ctypes.c_size_t(0)
    if driver and has_cuda():
        driver.cuDeviceGet(ctypes.byref(device), 0)
        driver.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    return total.value / 2**30


def card_of(plan: str) -> float:
    """GiB of the card that `--plan` names: this machine's, or one of so many.

    Raises:
        ConfigError: There is none here, or it is no number.
    """
    if plan == HERE and not has_cuda():
        raise ConfigError("plan: there is no GPU here; say the GiB of a card, such as --plan 24")
    try:
        return gpu_memory() if plan == HERE else float(plan)
    except ValueError:
        raise ConfigError(f"plan: the GiB of a card are wanted, such as 24, got {plan}") from None


@cache
def driver_cuda() -> tuple[int, int]:
    """The newest CUDA that the driver can run, such as (13, 0); (0, 0) without a driver."""
    driver, version = _driver(), ctypes.c_int(0)
    if driver:
        driver.cuDriverGetVersion(ctypes.byref(version))
    return version.value // 1000, version.value % 1000 // 10


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that `CUDA_VISIBLE_DEVICES` takes."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [] if _hidden() else listed.split(",")
    return [str(number) for number in range(_count_gpus())]


def why_no_cuda() -> str:
    """What keeps a CUDA device from being used here; empty where one can be."""
    if has_cuda():
        return ""
    if _hidden():
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    if _driver() is None:
        return "there is no NVIDIA driver (libcuda.so.1), or it does not start"
    return "the NVIDIA driver sees no GPU; does nvidia-smi?"


def _count_gpus() -> int:
    """Asked of NVML: the driver itself would no longer heed what is hidden from it afterwards."""
    count = ctypes.c_uint(0)
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    if nvml.nvmlInit_v2() == 0:
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        nvml.nvmlShutdown()
    return count.value


def _hidden() -> bool:
    return os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")


@cache
def _driver() -> ctypes.CDLL | None:
    """The driver, started."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return driver if driver.cuInit(0) == 0 else None
