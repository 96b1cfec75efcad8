"""What several test files need: a tiny model with a real tokenizer, and the shared real data."""

import signal
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

# A script that starts the suite with `&` makes it deaf to Ctrl-C, and so all that it starts, which
# some tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
    return random_model(smollm2, tmp_path_factory.mktemp("tiny"), heads=4, head_dim=8)


@pytest.fixture(scope="session")
def small_model(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with attention heads of a size that vLLM's kernels know."""
    return random_model(smollm2, tmp_path_factory.mktemp("small"), heads=2, head_dim=64)


def random_model(smollm2: Path, folder: Path, heads: int, head_dim: int) -> Path:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(smollm2)
    config.hidden_size = heads * head_dim
    config.intermediate_size = 2 * config.hidden_size
    config.num_hidden_layers = 2
    config.num_attention_heads = config.num_key_value_heads = heads
    config.head_dim = head_dim
    config.layer_types = None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(smollm2).save_pretrained(folder)
    return folder


class Learner:
    """A learner apart from its sampler: a model with an adapter that can be given new weights."""

    def __init__(self, folder: Path):
        from taskgym.training import LoraConfig, TrainConfig
        from taskgym.training.models import load_model

        self.loaded = load_model(TrainConfig(model=str(folder), lora=LoraConfig(rank=8, alpha=16)))
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer

    def learn(self, seed: int, scale: float = 0.1) -> None:
        """Changes the adapter so that the model says something else, as an optimiser would."""
        import torch

        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if "lora_B" in name:
                    weight.copy_(torch.randn(weight.shape, generator=noise) * scale)

    def logprobs(self, prompt: Any, completion: Any, temperature: float = 1.0) -> Any:
        """Of each token of the completion."""
        import torch

        ids = torch.tensor([[*prompt, *completion]])
        with torch.no_grad():
            logits = self.model.eval()(ids).logits[0, len(prompt) - 1 : -1] / temperature
        places = torch.tensor(list(completion))[:, None]
        return logits.log_softmax(-1).gather(1, places)[:, 0]


@pytest.fixture
def learner(small_model: Path) -> Learner:
    return Learner(small_model)


@pytest.fixture
def tiny_learner(tiny_model: Path) -> Learner:
    return Learner(tiny_model)
