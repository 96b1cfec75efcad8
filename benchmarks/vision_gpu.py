"""Gemma 3's 4B shape on a GPU: the recipe gemma3-4b-mathvista end to end, with speed and memory.

    python benchmarks/vision_gpu.py [--loaders transformers unsloth] [--steps 3] [--max-tokens 256]

Speed and memory do not depend on the weights, so they are random, and the tokenizer is a small one
made here: no hub is asked. What a run learns means nothing. Each loader runs in a process of its
own; the training sets are easy-VQA, where its package is installed, and drawings.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

os.environ.setdefault("UNSLOTH_COMPILE_DISABLE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

_PATIENCE = 30.0  # seconds from one word of what it is at to the next


@dataclass(frozen=True)
class Arguments:
    """The 4B shape of Gemma 3 with random weights."""

    loaders: tuple[str, ...] = ("transformers", "unsloth")
    """transformers, unsloth."""
    policy: str = "transformers"
    """Or vllm."""
    steps: int = 3
    """Optimiser steps; the first is left out of the mean."""
    max_tokens: int = 256
    """Of a completion; random weights use all of them."""
    model: Path = Path("runs/gemma3-4b-random")
    """Where the model is made, 8.6 GB, unless it is there."""
    limit: float = 900.0
    """Seconds for one loader."""
    small: bool = False
    """A model of a few weights instead, to try this script on any machine."""
    child: str = ""
    """Run this loader in this process (used by the script itself)."""


def main() -> None:
    """Makes the model, runs the recipe with each loader and prints the table."""
    arguments = tyro.cli(Arguments)
    if arguments.child:
        print("RESULT " + json.dumps(run(arguments, arguments.child)))
        return
    if not (arguments.model / "config.json").exists():
        began = time.perf_counter()
        make_model(arguments.model, small=arguments.small)
        print(f"model made and saved in {time.perf_counter() - began:.0f} s")
    print(table([_child(arguments, loader) for loader in arguments.loaders]))


def _child(arguments: Arguments, loader: str) -> dict[str, Any]:
    """One loader in a process of its own; what it said last, if it fails."""
    words = ["--child", loader, "--policy", arguments.policy, "--model", str(arguments.model)]
    words += ["--steps", str(arguments.steps), "--max-tokens", str(arguments.max_tokens)]
    began = time.perf_counter()
    log = Path("runs/vision_gpu") / f"{loader}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as said:
        try:
            command = [sys.executable, __file__, *words]
            subprocess.run(command, stdout=said, stderr=said, timeout=arguments.limit)
        except subprocess.TimeoutExpired:
            said.write(f"\nnot done after {arguments.limit:.0f} s\n".encode())
    text = log.read_text(errors="replace")
    for line in reversed(text.splitlines()):
        if line.startswith("RESULT "):
            return {**json.loads(line[7:]), "whole": time.perf_counter() - began}
    print(text[-6000:])
    return {"loader": loader, "failed": text.strip().splitlines()[-1:]}


def run(arguments: Arguments, loader: str) -> dict[str, Any]:
    """The recipe, shortened, and what it took."""
    from taskgym.training.environment import prepare_environment

    prepare_environment()
    if loader == "unsloth":
        import unsloth  # noqa: F401  (patches TRL, so it comes first)
    import torch
    from taskgym.training.cli import overlay
    from taskgym.training.config import TrainConfig
    from taskgym.training.metrics import MetricsFile
    from taskgym.training.recipes import find_recipe
    from taskgym.training.train import train
    from taskgym.training.watchdog import watched

    recipe = find_recipe("gemma3-4b-mathvista", "")
    assert recipe is not None
    config = TrainConfig()
    for layer in recipe.layers:
        config = overlay(config, layer, recipe.name)
    eight_bit = importlib.util.find_spec("bitsandbytes") is not None
    easyvqa = 500 if importlib.util.find_spec("easy_vqa") else 0
    env_kwargs = {"data": "sample", "geometry3k": False, "easyvqa": easyvqa, "shapes": 500}
    config = dataclasses.replace(
        config,
        model=str(arguments.model),
        loader=loader,
        policy=arguments.policy,
        max_model_len=2048 if arguments.policy == "vllm" else 0,
        env_kwargs=env_kwargs,
        steps=arguments.steps,
        output="runs/vision_gpu",
        load_in_4bit=False,
        # Random weights never end a reply: left out of the loss, nothing would be computed.
        grpo=dataclasses.replace(
            config.grpo,
            mask_truncated_completions=False,
            max_fresh_groups=0,
            optim=config.grpo.optim if eight_bit else "adamw_torch",
        ),
        sampling=dataclasses.replace(config.sampling, max_tokens=arguments.max_tokens),
        evaluation=dataclasses.replace(config.evaluation, tasks=0),
    )
    began = time.perf_counter()
    with watched("running", _PATIENCE):
        folder = train(config)
    spent = time.perf_counter() - began
    steps = MetricsFile(folder.metrics).read().steps
    later = steps[1:] or steps
    mean = {name: sum(s[name] for s in later) / len(later) for name in NAMES}
    memory = torch.cuda.max_memory_reserved() / 2**30 if torch.cuda.is_available() else 0.0
    prompt = json.loads(folder.episodes.open().readline())
    return {
        "loader": loader,
        "policy": arguments.policy,
        "completions": config.grpo.num_generations * config.grpo.groups_per_step,
        "prompt": len(prompt["prompt_ids"]),
        "seconds": spent,
        "memory": memory,
        **mean,
    }


NAMES = ("step_time", "seconds/generate", "seconds/score", "seconds/learn", "tokens_per_second")


def table(results: list[dict[str, Any]]) -> str:
    """The loaders side by side."""
    lines = [
        "loader        policy        completions   prompt tokens   s/step   generate   learn   "
        "tokens/s   GiB reserved   run s   whole s"
    ]
    for r in results:
        if "failed" in r:
            lines.append(f"{r['loader']:<12}  FAILED: {r['failed']}")
            continue
        step = r["seconds/generate"] + r["seconds/score"] + r["seconds/learn"]
        lines.append(
            f"{r['loader']:<12}  {r['policy']:<12}  {r['completions']:11}   {r['prompt']:13}"
            f"   {step:6.1f}   {r['seconds/generate']:8.1f}   {r['seconds/learn']:5.1f}"
            f"   {r['tokens_per_second']:8.0f}   {r['memory']:12.1f}   {r['seconds']:5.0f}"
            f"   {r['whole']:7.0f}"
        )
    return "\n".join(lines)


def make_model(folder: Path, *, small: bool) -> None:
    """Gemma 3 (4B) as it is configured, random weights, and a processor around a small tokenizer.

    The embedding keeps the real vocabulary of 262,208 tokens: it is a fifth of the model.
    """
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    processor = make_processor(224 if small else 896, 16 if small else 256)
    words = processor.tokenizer
    ids = {name: words.convert_tokens_to_ids(name) for name in SPECIAL}
    text = {
        "vocab_size": 262_208,
        "hidden_size": 2560,
        "intermediate_size": 10_240,
        "num_hidden_layers": 34,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 1024,
        "max_position_embeddings": 131_072,
        "rope_parameters": None,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 896,
        "patch_size": 14,
    }
    if small:
        text |= {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 64, "head_dim": 32}
        text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        vision |= {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
        vision |= {"num_hidden_layers": 2, "image_size": 224, "patch_size": 14}
    text = {name: value for name, value in text.items() if value is not None}
    config = Gemma3Config(
        text_config={
            **text,
            "pad_token_id": ids["<pad>"],
            "eos_token_id": ids["<eos>"],
            "bos_token_id": ids["<bos>"],
        },
        vision_config=vision,
        mm_tokens_per_image=16 if small else 256,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
    )
    torch.manual_seed(0)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if place == "cuda" else torch.float32)
    with torch.device(place):
        model = Gemma3ForConditionalGeneration(config)
    torch.set_default_dtype(default)
    projection = model.model.multi_modal_projector.mm_input_projection_weight
    torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
    model.generation_config.eos_token_id = ids["<eos>"]
    print(f"{sum(p.numel() for p in model.parameters()) / 1e9:.2f} billion weights")
    # Under the names of the published files, which vLLM knows.
    weights = model.state_dict()
    renamed = {
        k.replace("vision_tower.", "vision_tower.vision_model."): weights[k] for k in weights
    }
    model.save_pretrained(folder, state_dict=renamed)
    processor.save_pretrained(folder)


SPECIAL = ["<pad>", "<eos>", "<bos>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]


def make_processor(side: int, tokens: int) -> Any:
    """Gemma 3's processor around a tokenizer of bytes."""
    import transformers
    from taskgym.envs.vision_scores import INSTRUCTION
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        [INSTRUCTION] * 4,
        trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=letters),
    )
    # Gemma's own tokenizer has lines' ends as tokens, and vLLM looks them up.
    raw.add_tokens([AddedToken("\n" * n, special=False, normalized=False) for n in (1, 2, 3, 4)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )
    template = (
        "{% for m in messages %}<bos>{{ m['role'] }}\n{% for p in m['content'] %}"
        "{% if p['type'] == 'image' %}<start_of_image>{% else %}{{ p['text'] }}{% endif %}"
        "{% endfor %}{% endfor %}{% if add_generation_prompt %}<bos>model\n{% endif %}"
    )
    looks = transformers.Gemma3ImageProcessor(size={"height": side, "width": side})
    return transformers.Gemma3Processor(
        looks, tokenizer, chat_template=template, image_seq_length=tokens
    )


if __name__ == "__main__":
    main()
