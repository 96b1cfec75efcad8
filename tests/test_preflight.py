"""What a GPU run lacks is one clear sentence before any work: driver, versions, memory, access."""

import errno
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from taskgym.training import devices, preflight
from taskgym.training.config import TrainConfig
from taskgym.training.errors import ConfigError, ModelError
from taskgym.training.preflight import check_driver, check_size, check_vllm

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


def model_config(**more: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model("llama", hidden_size=4096, intermediate_size=14336, **more)


def test_a_model_s_weights_are_counted_without_making_them() -> None:
    whole = {"num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256}
    plain = preflight.weight_bytes(model_config(**whole), four_bit=False)
    assert plain == pytest.approx(16.06e9, rel=0.01)  # 8.03 billion weights
    four = preflight.weight_bytes(model_config(**whole), four_bit=True)
    assert four == pytest.approx(6.0e9, rel=0.05)
    fp8 = model_config(**whole, quantization_config={"quant_method": "fp8"})
    assert preflight.weight_bytes(fp8, four_bit=False) == pytest.approx(9.08e9, rel=0.01)


def test_a_model_too_large_for_the_gpu_names_a_recipe_that_fits() -> None:
    model = model_config(num_hidden_layers=32, num_key_value_heads=8, vocab_size=128256)
    config = TrainConfig(recipe="llama3.1-8b-gsm8k", policy="vllm")
    check_size(config, "unsloth", model, 23.6, "big")
    with pytest.raises(ModelError, match=r"29\.9 GiB, in a copy for.*--recipe .*-24gb or"):
        check_size(config, "transformers", model, 23.6, "big")
    with pytest.raises(ModelError, match=r"there are 7\.6; --recipe .*-8gb or --load-in-4bit"):
        check_size(config, "unsloth", model, 7.6, "big")


def test_gated_models_and_full_disks_say_what_to_do() -> None:
    from taskgym.training.readers import missing_model

    gated = missing_model(
        "meta-llama/X", OSError("You are trying to access a gated repo.\nMake sure")
    )
    assert "accept its licence at https://huggingface.co/meta-llama/X" in str(gated)
    full = missing_model("a/b", OSError(errno.ENOSPC, "No space left on device"))
    assert "no space left on the disk while a/b was fetched" in str(full)
