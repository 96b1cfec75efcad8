"""Adapters of models that are sharded over processes: what is synced is the whole."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

MODEL = """
import os
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from taskgym.agents.adapter import Adapter
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
base = LlamaForCausalLM(LlamaConfig(vocab_size=128, **sizes))
lora = LoraConfig(r=3, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
model = get_peft_model(base, lora)
for name, weight in model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(weight)
whole = Adapter.of(model).tensors
"""
CHECK = """
gathered = Adapter.of(model).tensors
assert gathered.keys() == whole.keys()
for name in whole:
    assert type(gathered[name]) is torch.Tensor and torch.equal(gathered[name], whole[name]), name
assert not all(
    p.to_local().shape == p.shape if hasattr(p, "to_local") else p.shape.numel()
    for n, p in model.named_parameters() if "lora_A" in n
), "nothing was sharded"
print(f"the whole on rank {dist.get_rank()}\\n", end="", flush=True)
dist.barrier()
os._exit(0)  # threads of gloo now and then abort an interpreter that ends by itself
"""
FSDP2 = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
for layer in base.model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
"""
ZERO3 = """
import deepspeed

deepspeed.init_distributed("gloo")
zero = {"stage": 3, "stage3_param_persistence_threshold": 0}
optimizer = {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}}
settings = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": zero, "optimizer": optimizer}
trained = [p for p in model.parameters() if p.requires_grad]
deepspeed.initialize(model=model, model_parameters=trained, config=settings)
"""


def two_processes(code: str, folder: Path) -> str:
    (folder / "sharded.py").write_text(code)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(folder / "sharded.py")], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_fsdp2_s_shards_are_gathered_on_every_rank(tmp_path: Path) -> None:
    said = two_processes(MODEL + FSDP2 + CHECK, tmp_path)
    assert "rank 0" in said and "rank 1" in said


def test_zero3_s_partitions_are_gathered_on_every_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    said = two_processes(MODEL + ZERO3 + CHECK, tmp_path)
    assert "rank 0" in said and "rank 1" in said
