"""Batched generation and the merged adapter agree with the plain, slow way of doing the same."""

from collections.abc import Iterator
from typing import Any

import pytest
from taskgym.agents.draw import draw, truncate
from taskgym.agents.generate import generate
from taskgym.agents.merged import merged_adapter
from taskgym.agents.policy import Sampling

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

VOCABULARY = 300  # Not a multiple of the block in which the cumulative sum is taken.
PROMPTS = [[5, 6, 7, 8], [9, 10], [5, 6, 7, 8], [11, 12, 13, 14, 15, 16, 17], [9, 10]]
NEVER: frozenset[int] = frozenset()
GREEDY = Sampling(temperature=0)


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": 0.3,  # Far enough from uniform that no two tokens tie.
    }
    return transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, f"{kind}Config")(**sizes)
    ).eval()


@pytest.fixture(params=["Llama", "Qwen3"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param)


@pytest.fixture
def adapted() -> Iterator[Any]:
    config = peft.LoraConfig(
        r=4, target_modules=["q_proj", "down_proj"], lora_dropout=0.5, init_lora_weights=False
    )
    torch.manual_seed(1)
    yield peft.get_peft_model(tiny("Llama"), config)


def run(model: Any, sampling: Sampling | None = None, **changes: Any) -> Any:
    arguments = {
        "seeds": range(len(PROMPTS)),
        "max_tokens": [6] * len(PROMPTS),
        "stop_ids": NEVER,
        "sampling": sampling,
    }
    return generate(model, changes.pop("prompts", PROMPTS), **(arguments | changes))


def plain_logits(model: Any, prompt: list[int], completion: Any) -> Any:
    ids = torch.tensor([prompt + list(completion)])
    with torch.no_grad():
        return model(input_ids=ids).logits[0, len(prompt) - 1 : -1]


def test_greedy_equals_generating_one_prompt_at_a_time(model: Any) -> None:
    for prompt, sample in zip(PROMPTS, run(model, GREEDY), strict=True):
        ids = torch.tensor([prompt])
        expected = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False
        )
        assert list(sample.ids) == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logprobs_equal_a_plain_forward_pass(model: Any, temperature: float) -> None:
    samples = run(model, Sampling(temperature=temperature, top_p=0.9))
    for prompt, sample in zip(PROMPTS, samples, strict=True):
        logits = plain_logits(model, prompt, sample.ids) / (temperature or 1.0)
        expected = logits.log_softmax(-1).gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-4, rtol=0)


def test_same_call_gives_same_tokens_and_another_seed_gives_others(model: Any) -> None:
    first = run(model)
    torch.rand(3)  # The global generator plays no part.
    assert run(model) == first
    assert all(a.ids != b.ids for a, b in zip(run(model, seeds=range(9, 14)), first, strict=True))


def test_a_rows_tokens_do_not_depend_on_its_neighbours_or_on_chunks(model: Any) -> None:
    together = [sample.ids for sample in run(model)]
    assert [sample.ids for sample in run(model, max_rows=2)] == together
    alone = run(model, prompts=PROMPTS[2:3], seeds=[2], max_tokens=[6])
    assert alone[0].ids == together[2]


def test_members_of_one_prompt_with_one_seed_are_equal(model: Any) -> None:
    first, second = run(model, prompts=[[5, 6]] * 2, seeds=[3, 3], max_tokens=[6, 6])
    assert first.ids == second.ids


def test_rows_leave_the_batch_when_they_stop_or_reach_their_limit(model: Any) -> None:
    free = run(model)
    stop = free[0].ids[2]
    limits = [6, 1, 6, 4, 6]
    for whole, sample, limit in zip(
        free, run(model, stop_ids={stop}, max_tokens=limits), limits, strict=True
    ):
        cut = whole.ids.index(stop) + 1 if stop in whole.ids else 99
        assert sample.ids == whole.ids[: min(cut, limit)]
        assert sample.finish == ("stop" if cut <= limit else "length")


def test_each_prompt_is_read_once(model: Any) -> None:
    shapes = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    run(model)
    assert shapes == [(3, 7)] + [(5, 1)] * 5


def test_sampling_follows_the_models_distribution(model: Any) -> None:
    draws = 4000
    samples = run(
        model, prompts=[[5, 6]] * draws, seeds=range(draws), max_tokens=[1] * draws, max_rows=draws
    )
    counts = torch.bincount(torch.tensor([s.ids[0] for s in samples]), minlength=VOCABULARY)
    probs = plain_logits(model, [5, 6], [0])[0].softmax(-1)
    assert (counts / draws - probs).abs().max() < 4 * (0.25 / draws) ** 0.5


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(), [0, 1, 2, 3]),
        (Sampling(top_k=2), [1, 3]),
        (Sampling(top_p=0.5), [1, 3]),
        (Sampling(top_p=0.4), [1]),
        (Sampling(top_p=1e-9), [1]),
        (Sampling(min_p=0.6), [1, 3]),
        (Sampling(min_p=0.9), [1]),
        (Sampling(top_k=3, top_p=0.7), [1, 3]),
        (Sampling(top_k=50), [0, 1, 2, 3]),
    ],
)
def test_truncation_keeps_the_likely_tokens_and_their_ratio(
    sampling: Sampling, kept: list[int]
) -> None:
    probs = torch.tensor([[0.1, 0.4, 0.2, 0.3]])
    result = truncate(probs.clone(), sampling)
    assert result.nonzero()[:, 1].tolist() == kept
    torch.testing.assert_close(result[:, kept], probs[:, kept])


@pytest.mark.parametrize("noise", [0.0, 0.5, 1 - 2**-53])
@pytest.mark.parametrize("allowed", [0, 255, 256, 699])
def test_a_draw_at_the_edge_never_picks_an_excluded_token(noise: float, allowed: int) -> None:
    weights = torch.zeros(1, 700)
    weights[0, allowed] = 0.3
    assert draw(weights, torch.tensor([noise], dtype=torch.float64)).item() == allowed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [1]}, "5 prompts, 1 seeds"),
        ({"prompts": [[1], [], [1], [1], [1]]}, "at least one token"),
        ({"max_tokens": [1, 1, 0, 1, 1]}, "at least 1, got 0"),
    ],
)
def test_impossible_requests_are_refused(model: Any, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(model, **changes)


def test_no_prompts_give_no_samples(model: Any) -> None:
    assert run(model, prompts=[], seeds=[], max_tokens=[]) == []


def test_an_adapter_can_be_trained_after_generating_and_keeps_its_mode(adapted: Any) -> None:
    adapted.train()
    assert run(adapted) == run(adapted)  # Dropout is off.
    assert adapted.training
    adapted(input_ids=torch.tensor([[1, 2]])).logits.sum().backward()
    assert all(p.grad is not None for p in adapted.parameters() if p.requires_grad)


def test_merging_changes_no_logit_and_leaves_every_weight_bitwise_as_it_was(adapted: Any) -> None:
    ids = torch.tensor([PROMPTS[0]])
    before = {name: (p.data_ptr(), p.clone()) for name, p in adapted.named_parameters()}
    trainable = {name for name, p in adapted.named_parameters() if p.requires_grad}
    unmerged = adapted.eval()(input_ids=ids).logits
    with torch.no_grad(), merged_adapter(adapted) as merged:
        assert merged
        torch.testing.assert_close(adapted(input_ids=ids).logits, unmerged, atol=1e-4, rtol=0)
    for name, parameter in adapted.named_parameters():
        address, weight = before[name]
        assert parameter.data_ptr() == address and torch.equal(parameter, weight), name
    assert {name for name, p in adapted.named_parameters() if p.requires_grad} == trainable
    assert torch.equal(adapted(input_ids=ids).logits, unmerged)


def test_weights_come_back_after_an_error_inside(adapted: Any) -> None:
    before = {name: p.clone() for name, p in adapted.named_parameters()}
    with pytest.raises(RuntimeError, match="inside"), merged_adapter(adapted):
        raise RuntimeError("inside")
    assert all(torch.equal(p, before[name]) for name, p in adapted.named_parameters())


def test_a_quantised_weight_is_left_unmerged(adapted: Any) -> None:
    layer = adapted.base_model.model.model.layers[0].self_attn.q_proj
    layer.base_layer.weight = torch.nn.Parameter(
        torch.zeros(32, 32, dtype=torch.uint8), requires_grad=False
    )
    with merged_adapter(adapted) as merged:
        assert not merged
        assert not layer.merged


def test_a_model_without_an_adapter_passes_through(model: Any) -> None:
    with merged_adapter(model) as merged:
        assert not merged
