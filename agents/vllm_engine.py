"""vLLM's engine in this process, on a GPU or a CPU: started, and told about adapters."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgym.agents.adapter import Adapter

# What holds for vLLM wherever it runs, here or as a server of ours.
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # On a CPU the learner computes beside it: vLLM's threads must not be bound to cores of their
    # own, nor spin while they wait.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_WAIT_POLICY": "PASSIVE",
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
}
_IN_PROCESS = {
    # The engine lives in this process: adapters reach it through memory, and no port is opened.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


def start_engine(
    model: str,
    *,
    dtype: str,
    max_lora_rank: int,
    max_loras: int = 1,
    max_model_len: int | None,
    gpu_memory_utilization: float,
    on_cpu: bool,
    four_bit: bool = False,
    standby: bool = False,
) -> Any:
    """An `LLMEngine` that answers with log-probabilities and takes adapters.

    Args:
        model: Hub id or folder.
        dtype: Of the weights, by vLLM's names: `bfloat16`, `float32`, ...; the learner's.
        max_lora_rank: The largest rank an adapter may have.
        max_loras: Adapters that running requests may have at a time; each has memory of its own.
        max_model_len: Tokens of a prompt and its completion at most; None: the model's own limit.
        gpu_memory_utilization: Share of the GPU's memory for weights and cache; of a CPU's so much
            must be free.
        on_cpu: Runs eagerly, since compiling for a CPU takes minutes and gains little.
        four_bit: Quantises the weights as bitsandbytes does for the learner.
        standby: Lets the engine sleep and give back its memory (`StandbyPolicy`).

    Raises:
        ImportError: vLLM is not installed, or not for this machine.
        ValueError: vLLM refuses the model or a limit.
    """
    for name, value in {**ENVIRONMENT, **_IN_PROCESS}.items():
        os.environ.setdefault(name, value)
    import torch.distributed as dist
    from vllm import EngineArgs, LLMEngine

    # Beside other learners the process group is theirs: each engine joins it and computes alone.
    together = dist.is_initialized() and dist.get_world_size() > 1
    arguments = EngineArgs(
        model=model,
        dtype=dtype,
        enable_lora=True,
        max_lora_rank=admitted_rank(max_lora_rank),
        max_loras=max_loras,
        max_model_len=max_model_len,
        gpu_memory_utilization=gpu_memory_utilization,
        logprobs_mode="processed_logprobs",  # of the distribution that tokens are drawn from
        enforce_eager=on_cpu,
        # A prompt in parts sets a seeded generator back, which those of a CPU cannot do.
        enable_chunked_prefill=False if on_cpu else None,
        quantization="bitsandbytes" if four_bit else None,
        enable_sleep_mode=standby,
        distributed_executor_backend="external_launcher" if together else None,
        disable_log_stats=True,
        seed=0,
    )
    return LLMEngine.from_engine_args(arguments)


def admitted_rank(rank: int) -> int:
    """The smallest LoRA rank that vLLM has room for and that is not below this one."""
    return next((r for r in (8, 16, 32, 64, 128, 256, 320, 512) if r >= rank), rank)


def own_stream(engine: Any) -> Any:
    """A CUDA stream for an engine of this process, which goes before those of others.

    Returns:
        None without CUDA, or for an engine in a process of its own.
    """
    import torch

    if not (torch.cuda.is_available() and hasattr(engine, "model_executor")):
        return None
    torch.cuda.synchronize()
    # The newer of vLLM's runners remembers the stream that it was started on.
    engine.collective_rpc(lambda worker: vars(worker.model_runner).pop("main_stream", None))
    return torch.cuda.Stream(priority=-1)


@contextmanager
def on_stream(stream: Any, *, after_this: bool = False) -> Iterator[None]:
    """Lets this thread compute on a stream; None: on the one it has.

    Args:
        stream: Of `own_stream`.
        after_this: Begins when what this thread's own stream has to do is done.
    """
    if stream is None:
        yield
        return
    import torch

    if after_this:
        stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield


def load_from_memory(engine: Any, adapter: Adapter, request: Any) -> None:
    """Gives an adapter's tensors to an engine of this process, without a file in between.

    vLLM's own loader runs, with all its checks, but for the one line that reads the tensors.

    Args:
        engine: An `LLMEngine` whose worker lives in this process.
        adapter: What to load.
        request: The `LoRARequest` it shall answer to; its path is not read again.
    """

    def load(worker: Any) -> None:
        manager = worker.model_runner.lora_manager
        usual = manager._lora_model_cls
        manager._lora_model_cls = _FromMemory(usual, adapter)
        try:
            manager.add_adapter(request)
        finally:
            manager._lora_model_cls = usual

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "adapter_config.json").write_text(json.dumps(adapter.config))
        request.lora_path = folder
        engine.collective_rpc(load)


@dataclass(frozen=True)
class _FromMemory:
    """Stands for the engine's class of adapters, reading from memory where it would read a file.

    No class of its own made for each adapter: one is part of a cycle, which would keep the
    learner's tensors on the card until the garbage collector comes by.
    """

    usual: type[Any]
    adapter: Adapter

    def from_local_checkpoint(
        self,
        lora_dir: str,
        expected_lora_modules: set[str],
        peft_helper: Any,
        *,
        model_vocab_size: int | None = None,  # Unsloth's loader asks for it by name
        **options: Any,
    ) -> Any:
        named = ("lora_model_id", "dtype", "weights_mapper", "skip_prefixes")
        kept = {name: options[name] for name in named if name in options}
        tensors, dtype = self.adapter.tensors, kept.get("dtype")
        return self.usual.from_lora_tensors(
            # Copies, since vLLM multiplies the B matrices by alpha / r in place.
            tensors={k: t.to(dtype=dtype, copy=True) for k, t in tensors.items()},
            peft_helper=peft_helper,
            device=str(next(iter(tensors.values())).device),
            model_vocab_size=model_vocab_size,
            **kept,
        )
