"""What a GPU run lacks is one clear sentence before any work: driver, versions, access."""

import errno
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from taskgym.training import devices, preflight
from taskgym.training.config import TrainConfig
from taskgym.training.errors import ConfigError
from taskgym.training.preflight import check_driver, check_vllm

pytest.importorskip("transformers")


@pytest.mark.parametrize(
    ("reason", "setting"),
    [
        ("CUDA_VISIBLE_DEVICES hides every GPU", {"load_in_4bit": True}),
        ("there is no NVIDIA driver", {"standby": True, "policy": "vllm"}),
    ],
)
def test_what_needs_cuda_says_why_there_is_none(
    reason: str, setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "why_no_cuda", lambda: reason)
    with pytest.raises(ConfigError, match=f"needs CUDA: {reason}.*smollm2-135m-dapo"):
        preflight.check_machine(TrainConfig(env="Math-DAPO-v0", **setting))


def test_the_reason_is_found_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    if devices.has_cuda():
        assert devices.why_no_cuda() == "" and devices.gpu_memory() > 1
        return
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "NVIDIA driver" in devices.why_no_cuda()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "hides every GPU" in devices.why_no_cuda()
    assert devices.gpu_memory() == 0.0 and devices.driver_cuda() == (0, 0)


def test_a_driver_must_be_of_torch_s_major_version() -> None:
    check_driver("13.0", (13, 0))
    check_driver("12.8", (12, 4))  # minor versions are compatible
    check_driver("12.8", (13, 0))
    with pytest.raises(ConfigError, match=r"too old: it runs CUDA up to 12\.4.*built for 13\.0"):
        check_driver("13.0", (12, 4))
    with pytest.raises(ConfigError, match="is a build for CPUs: install one for CUDA 13"):
        check_driver("", (13, 0))


def test_vllm_must_be_built_for_the_torch_that_is_there() -> None:
    versions = {"vllm": "0.26.0", "torch": "2.11.0+cu130"}
    check_vllm(versions.__getitem__, lambda _: ["torch==2.11.0", "torchvision==0.26.0"])
    with pytest.raises(ConfigError, match=r"built for torch 2\.10\.0, and torch 2\.11\.0 is"):
        check_vllm(versions.__getitem__, lambda _: ["torch==2.10.0 ; sys_platform == 'linux'"])
    check_vllm(versions.__getitem__, lambda _: ["torchvision==0.1"])  # no pin, no claim

    def nowhere(name: str) -> str:
        raise PackageNotFoundError(name)

    check_vllm(nowhere, lambda _: None)


def test_gated_models_and_full_disks_say_what_to_do() -> None:
    from taskgym.training.readers import missing_model

    gated = missing_model(
        "meta-llama/X", OSError("You are trying to access a gated repo.\nMake sure")
    )
    assert "accept its licence at https://huggingface.co/meta-llama/X" in str(gated)
    full = missing_model("a/b", OSError(errno.ENOSPC, "No space left on device"))
    assert "no space left on the disk while a/b was fetched" in str(full)
