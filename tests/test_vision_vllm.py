"""vLLM is shown the pixels and tokens that the learner sees, with and without an adapter."""

import gymnasium as gym
import pytest

pytest.importorskip("vllm")
torch = pytest.importorskip("torch")
pytest.importorskip(
    "torchvision",
    reason="vLLM's models that see import torchvision, which CPU installs have not",
    exc_type=ImportError,
)
pytestmark = pytest.mark.vllm

from taskgym.agents import Rollout, Sampling, Start  # noqa: E402
from taskgym.agents.adapter import Adapter  # noqa: E402
from taskgym.training import LoraConfig, TrainConfig  # noqa: E402
from taskgym.training.models import load_model  # noqa: E402
from vision_models import gemma3  # noqa: E402

ENV, CUDA = "Vision-Shapes-v0", torch.cuda.is_available()
NEAR = 0.1 if CUDA else 0.01  # nats a token; vLLM leaves out the tokens that are never sampled


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    env = gym.make(ENV, size=12).unwrapped
    texts = [env.prompt(task)[0]["content"][1]["text"] for task in env.tasks]
    folder = gemma3(tmp_path_factory.mktemp("gemma3"), texts, head_dim=64)
    return load_model(TrainConfig(model=str(folder), lora=LoraConfig(rank=8, alpha=16)), sees=True)


@pytest.fixture(scope="module")
def policy(learner):
    from taskgym.agents.vllm_engine import start_engine
    from taskgym.agents.vllm_policy import VllmPolicy

    base = learner.base(8)
    engine = start_engine(
        base.name,
        dtype=base.dtype,
        max_lora_rank=8,
        max_model_len=512,
        gpu_memory_utilization=0.1,
        on_cpu=not CUDA,
    )
    return VllmPolicy(engine, base.tokenizer, base.stop_ids)


def played(policy, learner):
    rollout = Rollout(
        policy, lambda: gym.make(ENV, size=12), Sampling(max_tokens=6), learner.renderer
    )
    rollout.start([Start(5, i, 10 * i + m, i, m) for i in range(4) for m in range(2)])
    return list(rollout.finished())


def gap(learner, trajectory):
    """Nats a token between sampler and learner, on average."""
    device = learner.model.device
    ids = torch.tensor([[*trajectory.prompt_ids, *trajectory.completion_ids]], device=device)
    mask = torch.ones_like(ids)
    extra = learner.renderer.model_inputs([trajectory.seen], ids, mask)
    extra = {
        k: v.to(device, learner.model.dtype if v.is_floating_point() else None)
        for k, v in extra.items()
    }
    with torch.no_grad():
        out = learner.model.eval()(input_ids=ids, attention_mask=mask, **extra).logits
    said = out[0, len(trajectory.prompt_ids) - 1 : -1].float().log_softmax(-1).cpu()
    learned = said.gather(1, torch.tensor(trajectory.completion_ids)[:, None])[:, 0]
    return (learned - torch.tensor(trajectory.logprobs)).abs().mean().item()


def test_what_vllm_samples_about_pictures_is_as_likely_to_the_learner(policy, learner):
    assert max(gap(learner, trajectory) for trajectory in played(policy, learner)) < NEAR


def test_an_adapter_reaches_the_language_layers_of_a_model_that_sees(policy, learner):
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in learner.model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=noise) * 0.3)
    before = max(gap(learner, trajectory) for trajectory in played(policy, learner))
    policy.load_adapter(Adapter.of(learner.model), 1)
    after = max(gap(learner, trajectory) for trajectory in played(policy, learner))
    policy.load_adapter(None, 2)
    assert after < NEAR < before / 3
