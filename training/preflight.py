"""What a GPU run needs of this machine, asked before any work: CUDA, driver, versions."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version

from taskgym.training.config import TrainConfig
from taskgym.training.devices import driver_cuda, has_cuda, why_no_cuda
from taskgym.training.errors import ConfigError
from taskgym.training.recipes import DEFAULTS


def check_machine(config: TrainConfig) -> None:
    """Whether this machine can run the config at all.

    Raises:
        ConfigError: There is no CUDA where it is needed, the driver is older than torch, or vLLM is
            of another torch.
    """
    if (what := _needs_cuda(config)) and (reason := why_no_cuda()):
        raise ConfigError(f"{what} needs CUDA: {reason}; {_without_cuda(config)}")
    if has_cuda():
        check_driver(_torch_cuda(), driver_cuda())
    if config.policy == "vllm":
        check_vllm(version, requires)


def check_driver(built_for: str, driver: tuple[int, int]) -> None:
    """Whether the driver can run what torch was built for; minor versions are compatible.

    Args:
        built_for: CUDA's version in torch, such as `13.0`; empty for a CPU build.
        driver: The newest CUDA of the driver.

    Raises:
        ConfigError: It cannot.
    """
    if not built_for:
        raise ConfigError(
            f"there is a GPU, but torch {version('torch')} is a build for CPUs: install one for "
            f"CUDA {driver[0]}.{driver[1]} or older, or hide the GPU with CUDA_VISIBLE_DEVICES="
        )
    if int(built_for.split(".")[0]) > driver[0]:
        raise ConfigError(
            f"the NVIDIA driver is too old: it runs CUDA up to {driver[0]}.{driver[1]}, and torch "
            f"{version('torch')} is built for {built_for}; update the driver, or install a torch "
            f"built for CUDA {driver[0]}"
        )


def check_vllm(
    installed: Callable[[str], str], required: Callable[[str], list[str] | None]
) -> None:
    """Whether vLLM was built for this very torch: another loads and then crashes.

    Args:
        installed: A package's version.
        required: A package's requirements.

    Raises:
        ConfigError: It was not.
    """
    try:
        vllm, torch = installed("vllm"), installed("torch").split("+")[0]
    except PackageNotFoundError:
        return  # said elsewhere
    pins = (re.match(r"torch\s*==\s*([0-9.]+)", line) for line in required("vllm") or ())
    pin = next((match[1] for match in pins if match), torch)
    if pin != torch:
        raise ConfigError(
            f"vllm {vllm} is built for torch {pin}, and torch {torch} is installed: "
            f"pip install torch=={pin}, or take the whole set from constraints/gpu.txt"
        )


def _needs_cuda(config: TrainConfig) -> str:
    if config.load_in_4bit:
        return "load_in_4bit"
    if "8bit" in config.grpo.optim:
        return f"grpo.optim={config.grpo.optim}"
    return "standby" if config.standby else ""


def _without_cuda(config: TrainConfig) -> str:
    default = DEFAULTS.get(config.env.split(":")[-1])
    return f"here, --recipe {default[0]}" if default else "leave it out on this machine"


def _torch_cuda() -> str:
    import torch

    return str(torch.version.cuda or "")
