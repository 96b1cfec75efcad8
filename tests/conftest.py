"""What several test files need: a tiny model with a real tokenizer, and the shared real data."""

from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The embedded real model; converting it takes half a minute, so only installation does it."""
    pytest.importorskip("torch")
    from taskgym.training.smollm2 import _cached

    folder = _cached(None)
    if not folder.exists():
        pytest.skip("the embedded model is not converted: python -m taskgym.training.smollm2")
    return folder


@pytest.fixture(scope="session")
def tokenizer(smollm2: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smollm2)


@pytest.fixture(scope="session")
def tiny_model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer model of SmolLM2's architecture, with its tokenizer, as a folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(smollm2)
    config.hidden_size, config.intermediate_size = 32, 64
    config.num_hidden_layers = 2
    config.num_attention_heads = config.num_key_value_heads = 4
    config.head_dim = 8
    config.layer_types = None
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(smollm2).save_pretrained(folder)
    return folder
