"""Does GRPO teach a model that sees? Three seeds of a small Gemma 3 on easy-VQA's pictures.

    python benchmarks/learning_vision.py [--seeds 0 1 2] [--output runs/learning_vision]

No pretrained vision-language model can be had without a hub, so each seed makes one: Gemma 3's
architecture with some two million random weights learns by supervised examples (all weights) from
the train split of Vision-EasyVQA-v0, briefly. Then `train_agent` goes on by GRPO, adapting language
layers alone, as it does with any other model. Both are scored on the package's test split.

Prints a table against the bars; exits with 1 if one is missed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import tyro
from taskgym.training.metrics import MetricsFile
from taskgym.training.statistics import paired_difference

GAIN, SECONDS = 0.08, 900.0  # mean@8 over the supervised checkpoint; a seed on a CPU
ENV = "Vision-EasyVQA-v0"
HELD_OUT = 400
SUPERVISED_STEPS, BATCH, RATE = 60, 32, 1e-3
GRPO = {
    "steps": 60,
    "save-every": 60,
    "sampling.max-tokens": 12,
    "lora.rank": 16,
    "lora.alpha": 32,
    "grpo.num-generations": 4,
    "grpo.groups-per-step": 32,
    "grpo.micro-batch": 128,
    "grpo.learning-rate": 1e-3,
    "grpo.adam-beta2": 0.95,
    "grpo.lr-scheduler-type": "linear",
    "grpo.loss-type": "dr_grpo",
    "grpo.scale-rewards": "none",
    "grpo.importance-sampling-level": "sequence",
    "evaluation.tasks": HELD_OUT,
    "evaluation.samples": 8,
}


@dataclass(frozen=True)
class Arguments:
    """Three seeds of a small model that sees."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of weights, examples and run."""
    output: Path = Path("runs/learning_vision")
    """Where models and run folders go."""
    supervise: str = ""
    """Only make the supervised checkpoint of the first seed here (each seed does it by itself)."""


def main() -> None:
    """Runs the seeds and prints the table."""
    arguments = tyro.cli(Arguments)
    if arguments.supervise:
        supervise(Path(arguments.supervise), arguments.seeds[0])
        return
    results = [run(seed, arguments.output) for seed in arguments.seeds]
    print(table(results))
    (arguments.output / "results.json").write_text(json.dumps(results, indent=1))
    sys.exit(not all(met(result) for result in results))


def run(seed: int, output: Path) -> dict[str, Any]:
    """One seed: both phases as processes of their own, and what they left."""
    output.mkdir(parents=True, exist_ok=True)
    model, known = output / f"supervised-{seed}", set(output.glob("*/config.yaml"))
    began, cpu = time.perf_counter(), cpu_seconds()
    _call(__file__, "--supervise", str(model), "--seeds", str(seed))
    supervised = time.perf_counter() - began
    flags = ["--env", ENV, "--model", str(model), "--seed", str(seed), "--output", str(output)]
    flags += [word for name, value in GRPO.items() for word in (f"--{name}", str(value))]
    _call("-m", "taskgym.training.commands.train_agent", *flags)
    wall, cpu = time.perf_counter() - began, cpu_seconds() - cpu
    (config,) = set(output.glob("*/config.yaml")) - known
    times = {"wall": wall, "cpu": cpu, "supervised": supervised}
    return {"seed": seed, **times, **read(config.parent)}


def read(folder: Path) -> dict[str, Any]:
    """The scores of a run folder."""
    scores = json.loads((folder / "evaluation.json").read_text())
    before, after = scores["before"], scores["after"]
    change = paired_difference(before["success_NK"], after["success_NK"])
    steps = MetricsFile(folder / "metrics.jsonl").read().steps
    return {
        "folder": str(folder),
        "sampled": [s["sampled"]["accuracy"]["mean"] for s in (before, after)],
        "greedy": [s["greedy"]["accuracy"]["mean"] for s in (before, after)],
        "change": [change.mean, change.low, change.high],
        "rewards": [step["reward"] for step in steps],
    }


def met(result: dict[str, Any]) -> bool:
    """Whether a seed meets every bar."""
    gain, low, _ = result["change"]
    return bool(gain >= GAIN and low > 0 and result["wall"] <= SECONDS)


def table(results: list[dict[str, Any]]) -> str:
    """The seeds side by side with the bars."""
    lines = [
        f"{HELD_OUT} held-out questions on pictures of the test split; mean@8 at temperature 1",
        "seed   mean@8 before -> after   change [paired 95 %]      greedy before -> after   "
        "SFT s   whole s   CPU s",
    ]
    for r in results:
        (s0, s1), (g0, g1), (gain, low, high) = r["sampled"], r["greedy"], r["change"]
        lines.append(
            f"{r['seed']:>4}   {s0:13.3f} -> {s1:.3f}   {gain:+.3f} [{low:+.3f}, {high:+.3f}]"
            f"   {g0:13.3f} -> {g1:.3f}   {r['supervised']:5.0f}   {r['wall']:7.0f}"
            f"   {r['cpu']:5.0f}   {'met' if met(r) else 'MISSED'}"
        )
    lines.append(f"bars: {GAIN:+.2f}, interval above 0, {SECONDS:.0f} s a seed at most")
    return "\n".join(lines)


def supervise(folder: Path, seed: int) -> None:
    """Makes the model, teaches it the format and something about pictures, and saves it."""
    import torch
    from taskgym.training.models import Loaded
    from taskgym.training.warmup import Collator, Example

    env = gym.make(ENV).unwrapped
    tasks = [task for task in env.tasks if not env.kept_for_evaluation(task)]
    processor = make_processor([task.question for task in tasks[:2000]])
    model = make_model(processor.tokenizer, seed)
    loaded = Loaded(model, processor.tokenizer, ENV, "made here", processor=processor)
    renderer, optimizer = loaded.renderer, torch.optim.AdamW(model.parameters(), lr=RATE)
    chosen = balanced(tasks, seed)
    began = time.process_time()
    for step in range(SUPERVISED_STEPS):
        rate = min(1.0, (step + 1) / 30) * (1 - step / SUPERVISED_STEPS)
        optimizer.param_groups[0]["lr"] = RATE * max(rate, 0.05)
        batch = list(itertools.islice(chosen, BATCH))
        prompts = [env.prompt(task) for task in batch]
        examples = [
            Example(renderer.opening(p), renderer.reply(env.gold(task)), renderer.seen(p))
            for p, task in zip(prompts, batch, strict=True)
        ]
        collate = Collator(loaded, [example.seen for example in examples])
        loss = model(**collate([e.row(i) for i, e in enumerate(examples)])).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 49:
            spent = time.process_time() - began
            print(f"supervised step {step + 1}: loss {loss.item():.3f}, {spent:.0f} CPU s")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def balanced(tasks: list[Any], seed: int) -> Iterator[Any]:
    """Training tasks without end, each of the 13 answers as often as the others."""
    rng = random.Random(seed)
    by_answer: dict[str, list[Any]] = {}
    for task in tasks:
        by_answer.setdefault(task.answer, []).append(task)
    while True:
        yield rng.choice(by_answer[rng.choice(sorted(by_answer))])


def make_processor(questions: list[str]) -> Any:
    """Gemma 3's processor for pictures of 64 x 64 pixels, around a small tokenizer made here.

    The sentences that every prompt and every gold reply share are one token each.
    """
    from taskgym.envs.vision_easyvqa import VisionEasyVqa
    from taskgym.envs.vision_scores import INSTRUCTION, TAGS
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Gemma3ImageProcessorPil, Gemma3Processor, PreTrainedTokenizerFast

    special = ["<pad>", "<eos>", "<bos>", "<image>", "</image>", "<patch>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    answers = ["yes", "no", "circle rectangle triangle", "user model"] * 50
    raw.train_from_iterator(
        [*questions, *answers],
        trainers.BpeTrainer(vocab_size=420, special_tokens=special, initial_alphabet=letters),
    )
    phrases = [*TAGS, INSTRUCTION, VisionEasyVqa.working]
    raw.add_tokens([AddedToken(phrase, special=False, normalized=False) for phrase in phrases])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        extra_special_tokens={
            "boi_token": "<image>",
            "eoi_token": "</image>",
            "image_token": "<patch>",
        },
    )
    template = (
        "{% for m in messages %}<bos>{{ m['role'] }}\n{% for p in m['content'] %}"
        "{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}"
        "{% endfor %}{% if add_generation_prompt %}<bos>model\n{% endif %}"
    )
    looks = Gemma3ImageProcessorPil(size={"height": 64, "width": 64})
    return Gemma3Processor(looks, tokenizer, chat_template=template, image_seq_length=16)


def make_model(tokenizer: Any, seed: int) -> Any:
    """Gemma 3 with random weights: 64 patches that are pooled to 16 tokens a picture."""
    import torch
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    ids = tokenizer.convert_tokens_to_ids
    config = Gemma3Config(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 48,
            "query_pre_attn_scalar": 48,
            "max_position_embeddings": 256,
            "sliding_window": 256,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.bos_token_id,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
        },
        mm_tokens_per_image=16,
        boi_token_index=ids("<image>"),
        eoi_token_index=ids("</image>"),
        image_token_index=ids("<patch>"),
    )
    torch.manual_seed(seed)
    model = Gemma3ForConditionalGeneration(config)
    # Behind the last norm a logit cannot outgrow its embedding, which an adapter does not change.
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(4)
    # Gemma 3 starts this at zero, for weights that will be loaded: nothing would be seen at first.
    projection = model.model.multi_modal_projector.mm_input_projection_weight
    torch.nn.init.normal_(projection, std=projection.shape[0] ** -0.5)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million weights")
    return model


def _call(*words: str) -> None:
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run([sys.executable, *words], check=True, env={**quiet, **os.environ})


def cpu_seconds() -> float:
    """CPU time of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
