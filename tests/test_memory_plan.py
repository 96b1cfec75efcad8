"""A plan takes no more than the card has, picks the fastest that fits, and refuses with advice."""

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from taskgym.agents.policy import Sampling
from taskgym.training import GrpoConfig, LoraConfig, TrainConfig, WarmupConfig, devices
from taskgym.training.cli import parse_train_config
from taskgym.training.commands import train_agent
from taskgym.training.errors import ConfigError, ModelError
from taskgym.training.memory import fit, sizes
from taskgym.training.memory.plan import ENOUGH_TOKENS, GIB, Demand, Plan, choose
from taskgym.training.memory.sizes import (
    Asked,
    Sizes,
    UnforeseenError,
    measure,
    stored_kind,
    weight_bytes,
)
from taskgym.training.train import plan_tasks

ROWS = (1, 2, 4, 8, 16, 32)
# A model of 4 billion weights, and completions of 1,024 tokens.
SIZES = Sizes(
    weights=7.5 * GIB,
    four_bit=2.6 * GIB,
    merged=6.8 * GIB,
    adapter=0.25 * GIB,
    trained=GIB // 16,
    token=147_456,
    peaks={n: (int(n * 0.7 * GIB), GIB // 3) for n in ROWS},
    warmup=0,
    vocabulary=151_936,
    context=40_960,
)
DEMAND = Demand(32, 256, 1024, 1280, engine="own")


def most(plan: Plan) -> float:
    return max(sum(plan.while_learning.values()), sum(plan.while_writing.values()))


@pytest.mark.parametrize("engine", ["none", "own", "shared"])
@pytest.mark.parametrize("gib", [16, 20, 24, 32, 40, 48, 80, 140])
def test_no_plan_takes_more_than_its_card(engine: Any, gib: int) -> None:
    demand = dataclasses.replace(DEMAND, engine=engine, decodes=engine == "none")
    plan = choose(SIZES, demand, gib * GIB)
    if plan is None:
        assert gib <= 20
        return
    assert most(plan) <= 0.95 * gib * GIB + 1
    if engine == "none":
        assert 1 <= plan.decode_rows <= 32
    else:
        assert plan.cache >= 1280 * SIZES.token  # or vLLM does not start


def test_a_large_card_keeps_vllm_awake_and_holds_every_completion() -> None:
    plan = choose(SIZES, DEMAND, 140 * GIB)
    assert plan is not None and not plan.standby
    assert plan.cache == 32 * 1280 * SIZES.token  # no more: nothing would use it
    assert plan.micro_batch == 8  # of 1,280 tokens each: 16 would be more than is worth it
    assert plan.micro_batch * 1280 <= ENOUGH_TOKENS < 16 * 1280


def test_a_small_model_gets_larger_passes_and_a_stated_micro_batch_stays() -> None:
    small = dataclasses.replace(SIZES, weights=GIB / 4)
    plan = choose(small, DEMAND, 140 * GIB)
    assert plan is not None and plan.micro_batch == 32
    stated = choose(SIZES, dataclasses.replace(DEMAND, micro_batch=32), 140 * GIB)
    assert stated is not None and stated.micro_batch == 32


def test_vllm_sleeps_where_that_makes_room_for_the_step() -> None:
    sleeping = choose(SIZES, DEMAND, 26 * GIB)
    assert sleeping is not None and sleeping.standby and sleeping.cache == 32 * 1280 * SIZES.token
    awake = choose(SIZES, dataclasses.replace(DEMAND, standby=False), 26 * GIB)
    assert awake is not None and not awake.standby
    assert awake.cache < sleeping.cache


def test_weights_that_are_shared_with_vllm_are_there_once() -> None:
    own = choose(SIZES, DEMAND, 140 * GIB)
    shared = choose(SIZES, dataclasses.replace(DEMAND, engine="shared"), 140 * GIB)
    assert own is not None and shared is not None
    assert most(own) - most(shared) == pytest.approx(SIZES.weights * 1.05)
    asleep = Plan(SIZES, dataclasses.replace(DEMAND, engine="shared"), 140 * GIB, 1, True)
    assert asleep.while_learning["vLLM's weights"] == SIZES.weights  # they do not sleep


def test_what_is_stated_stays() -> None:
    stated = dataclasses.replace(DEMAND, micro_batch=32, share=0.5, standby=True)
    plan = choose(SIZES, stated, 140 * GIB)
    assert plan is not None
    assert (plan.micro_batch, plan.share, plan.standby) == (32, 0.5, True)
    rows = dataclasses.replace(DEMAND, engine="none", decodes=True, decode_rows=7)
    plan = choose(SIZES, rows, 140 * GIB)
    assert plan is not None and plan.decode_rows == 7


def test_eight_bit_states_and_a_reference_adapter_count() -> None:
    def resting(**more: Any) -> dict[str, float]:
        return Plan(SIZES, dataclasses.replace(DEMAND, **more), 140 * GIB, 1, False).resting

    assert resting()["optimiser"] == 2 * SIZES.adapter
    assert resting(eight_bit=True)["optimiser"] == SIZES.adapter / 2
    assert resting(reference=True)["adapter"] == 2 * SIZES.adapter


@pytest.fixture
def config(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A real model, however small; its sizes are found in this process, to save the imports."""
    monkeypatch.setattr(fit, "measure", sizes_here)
    return TrainConfig(
        model=str(tiny_model),
        lora=LoraConfig(rank=4, alpha=8),
        max_model_len=256,
        sampling=Sampling(max_tokens=64),
        grpo=GrpoConfig(num_generations=4, groups_per_step=2),
    )


@cache
def sizes_here(asked: Asked) -> Sizes:
    return sizes._sizes(asked)


def test_sizes_are_those_of_the_tensors(tiny_model: Path) -> None:
    from peft import get_peft_model
    from taskgym.training.transformers_loader import peft_config
    from transformers import AutoModelForCausalLM

    lora = LoraConfig(rank=4, alpha=8)
    asked = Asked(str(tiny_model), lora, False, False, 8, 8, (1,))
    found = sizes_here(asked)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert found.weights == 2 * sum(p.numel() for p in model.parameters())
    ids = model.dummy_inputs["input_ids"]
    layers = model(input_ids=ids).past_key_values.layers
    assert found.token * ids.nelement() == 2 * sum(2 * layer.keys.nelement() for layer in layers)
    adapted = get_peft_model(model, peft_config(lora, 2))
    assert found.trained == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert found.adapter == 4 * found.trained


@pytest.mark.slow  # each process imports torch and transformers
def test_another_process_finds_the_same(tiny_model: Path) -> None:
    asked = Asked(str(tiny_model), LoraConfig(rank=4, alpha=8), False, False, 8, 8, (1,))
    assert measure(asked) == sizes_here(asked)


@pytest.mark.slow
def test_a_model_that_is_not_there_is_said_so() -> None:
    with pytest.raises(ModelError, match="cannot load 'no/such'"):
        measure(Asked("no/such", LoraConfig(), False, False, 8, 8, (1,)))


def a_model(**more: Any) -> Any:
    from transformers import AutoConfig

    whole = {"num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128_256}
    sizes = {"hidden_size": 4096, "intermediate_size": 14_336}
    return AutoConfig.for_model("llama", **sizes, **whole, **more)


def test_quantised_weights_are_those_of_the_layers() -> None:
    def gigabytes(kind: str) -> float:
        return weight_bytes(a_model(), kind, sees=False) / 1e9

    assert gigabytes("") == pytest.approx(16.06, rel=0.01)  # 8.03 billion weights
    assert gigabytes("nf4") == pytest.approx(5.70, rel=0.01)
    assert gigabytes("fp8") == pytest.approx(9.08, rel=0.01)
    assert stored_kind(a_model(quantization_config={"quant_method": "fp8"}), False) == "fp8"
    assert stored_kind(a_model(quantization_config={"quant_method": "mxfp4"}), True) == "mxfp4"
    assert stored_kind(a_model(), True) == "nf4" and stored_kind(a_model(), False) == ""


def test_without_a_gpu_a_config_stays_as_it_is(config: TrainConfig, no_gpu: None) -> None:
    assert fit.settled(config, plan_tasks(config)) is config
    assert config.grpo.rows == 8  # of a step of 8; 16 at most
    assert GrpoConfig(num_generations=6, groups_per_step=4).rows == 12


def test_on_a_gpu_a_config_is_settled(
    config: TrainConfig, a_gpu: None, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fit.settled(config, plan_tasks(config))
    assert (made.grpo.micro_batch, made.standby, made.decode_rows) == (8, False, 8)
    assert "memory: " in capsys.readouterr().out
    vllm = dataclasses.replace(config, policy="vllm")
    made = fit.settled(vllm, plan_tasks(vllm))
    assert 0.08 < made.gpu_memory_utilization < 0.12  # of 24 GiB: 2 for the engine itself
    stated = dataclasses.replace(vllm, gpu_memory_utilization=0.3, standby=True)
    made = fit.settled(stated, plan_tasks(stated))
    assert (made.gpu_memory_utilization, made.standby) == (0.3, True)


def test_a_model_of_which_nothing_is_known_trains_all_the_same(
    config: TrainConfig, a_gpu: None, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def unknown(asked: Asked) -> Sizes:
        raise UnforeseenError("it asks its own numbers which way to go")

    monkeypatch.setattr(fit, "measure", unknown)
    made = fit.settled(config, plan_tasks(config))
    assert made.grpo == config.grpo and made.gpu_memory_utilization == 0.4
    assert "cannot be foreseen: it asks" in caplog.text


def of_four_billion(asked: Asked) -> Sizes:
    part = (asked.prompt + asked.completion) / 1280
    peaks = {n: (int(n * part * 0.7 * GIB), GIB // 3) for n in asked.rows}
    weights = {"weights": SIZES.four_bit, "merged": 0.0} if asked.four_bit else {}
    rows, tokens = asked.warmup
    warmup = int(rows * tokens / 1280 * 0.7 * GIB)
    return dataclasses.replace(SIZES, peaks=peaks, warmup=warmup, **weights)


def advised(config: TrainConfig, flags: str) -> TrainConfig:
    words = iter(flags.split())
    for word in words:
        if word == "--grpo.micro-batch":
            grpo = dataclasses.replace(config.grpo, micro_batch=int(next(words)))
            config = dataclasses.replace(config, grpo=grpo)
        elif word == "--warmup.batch":
            warmup = dataclasses.replace(config.warmup, batch=int(next(words)))
            config = dataclasses.replace(config, warmup=warmup)
        elif word == "--sampling.max-tokens":
            config = dataclasses.replace(config, sampling=Sampling(max_tokens=int(next(words))))
        elif word == "--max-model-len":
            config = dataclasses.replace(config, max_model_len=int(next(words)))
        elif word == "--gpu-memory-utilization":
            config = dataclasses.replace(config, gpu_memory_utilization=float(next(words)))
        else:
            flag = word.removeprefix("--").replace("-", "_")
            config = dataclasses.replace(config, **{flag: True})
    return config


VLLM = {"policy": "vllm", "loader": "transformers"}
LONG = {"sampling": Sampling(max_tokens=30_000), "max_model_len": 32_768, "load_in_4bit": True}


@pytest.mark.parametrize(
    ("gib", "asked", "advice"),
    [
        (24, {"grpo": GrpoConfig(micro_batch=32)}, "--grpo.micro-batch"),
        (80, {**VLLM, "gpu_memory_utilization": 0.9}, "--gpu-memory-utilization"),
        (19.7, {**VLLM, "standby": False}, "--standby"),
        (19, {"warmup": WarmupConfig(data="gold", batch=16)}, "--warmup.batch 1"),
        (12, {}, "--load-in-4bit"),
        (12, LONG, "--max-model-len"),
        (24, {**VLLM, "max_model_len": 0}, "--max-model-len 2048"),
        (16, {**VLLM, "standby": False, "max_model_len": 0}, "--standby --load-in-4bit"),
        (2, {}, "a smaller --model"),
    ],
)
def test_what_a_refusal_advises_does_fit(
    gib: float, asked: Any, advice: str, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "measure", of_four_billion)
    usual = {"grpo": GrpoConfig(), "sampling": Sampling(max_tokens=1024), "max_model_len": 1280}
    config = dataclasses.replace(config, **(usual | asked))
    tasks = plan_tasks(config)
    with pytest.raises(ModelError, match=rf"has {gib:.1f}; what fits: {advice}") as refused:
        fit.plan_for(config, tasks, gib)
    if gib > 2:
        better = advised(config, str(refused.value).rpartition("what fits: ")[2])
        assert fit.plan_for(better, tasks, gib).fits()


def test_plan_prints_the_parts_and_what_it_assumed(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fit, "measure", of_four_billion)
    argv = ["train_agent", "--model", config.model, "--plan", "40", "--policy", "vllm"]
    argv += ["--grpo.micro-batch", "0"]
    monkeypatch.setattr("sys.argv", argv)
    train_agent.main()
    out = capsys.readouterr().out
    for part in ("weights", "adapter", "optimiser", "activations", "logits", "vLLM's cache"):
        assert part in out
    assert "of 40.00" in out and "grpo.micro_batch" in out and "standby" in out
    assert "assumed: 1,030 tokens" in out  # the recipe's 6 and a prompt of 1,024


def test_plan_without_a_gpu_asks_for_a_card(no_gpu: None) -> None:
    for said in (["--plan"], ["--plan", "--env", "Math-DAPO-v0"]):
        with pytest.raises(ConfigError, match=r"there is no GPU here; .* --plan 24"):
            parse_train_config(said)
    with pytest.raises(ConfigError, match="the GiB of a card are wanted, such as 24, got big"):
        parse_train_config(["--plan", "big"])


def test_a_card_that_is_named_gets_its_own_recipe(no_gpu: None) -> None:
    def recipe(*said: str) -> str:
        return parse_train_config(["--env", "Math-DAPO-v0", *said]).model

    assert recipe() == "" and recipe("--plan", "140") == "unsloth/Qwen3-4B-Base"
    assert recipe("--plan", "8") == "unsloth/Qwen3-1.7B-Base"


def test_standby_is_on_off_or_left_to_the_plan(tmp_path: Path) -> None:
    assert parse_train_config(["--policy", "vllm"]).standby is None
    assert parse_train_config(["--policy", "vllm", "--standby"]).standby is True
    assert parse_train_config(["--policy", "vllm", "--standby", "False"]).standby is False
    (tmp_path / "c.yaml").write_text("policy: vllm\nstandby: maybe\n")
    with pytest.raises(ConfigError, match="standby must be true or false, got 'maybe'"):
        parse_train_config(["--config", str(tmp_path / "c.yaml")])


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (devices, fit):
        monkeypatch.setattr(module, "has_cuda", lambda: False)


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "has_cuda", lambda: True)
    monkeypatch.setattr(fit, "gpu_memory", lambda: 24.0)
