"""vLLM as every contender of `grpo_gpu.py` starts and asks it: equal settings, enforced lengths."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import cycle
from typing import Any

from grpo_gpu_work import lengths

GIB = 2**30
SHARE = 0.05  # with a fixed cache vLLM only checks that so much is free


def settle_engine(engine: str, completions: int, cache_gib: float) -> None:
    """Makes every engine that this process starts alike, whoever starts it.

    Args:
        engine: `graphs`: CUDA graphs without compiling, which starts in seconds. `compiled`: as the
            contender itself asks. `eager`: neither.
        completions: Sequences that are in flight at most.
        cache_gib: Size of the cache. It is fixed, since processes that start side by side disturb
            each other's measurement of what `gpu_memory_utilization` leaves.
    """
    import torch
    from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode
    from vllm.engine.arg_utils import EngineArgs

    usual = EngineArgs.create_engine_config

    @wraps(usual)
    def create(self: Any, *arguments: Any, **named: Any) -> Any:
        self.max_num_seqs = completions
        if torch.cuda.is_available():
            self.kv_cache_memory_bytes = int(cache_gib * GIB)
            self.gpu_memory_utilization = SHARE
            self.enforce_eager = engine == "eager"
            if engine == "graphs":
                self.compilation_config = CompilationConfig(
                    mode=CompilationMode.NONE,
                    cudagraph_mode=CUDAGraphMode.FULL_DECODE_ONLY,
                    max_cudagraph_capture_size=completions,
                )
        return usual(self, *arguments, **named)

    EngineArgs.create_engine_config = create


def pool_bytes(engine: Any) -> int:
    """The weights that vLLM computes with and its cache: what is in the pool that it was given.

    Args:
        engine: None where it is another process's: nothing of it is in this one.
    """
    if engine is None:
        return 0

    def count(worker: Any) -> int:
        runner = worker.model_runner
        weights = {p.untyped_storage().data_ptr(): p for p in runner.model.parameters()}
        caches = {c.untyped_storage().data_ptr(): c for c in runner.kv_caches}
        return sum(t.untyped_storage().nbytes() for t in [*weights.values(), *caches.values()])

    (found,) = engine.collective_rpc(count)
    return int(found)


class Requests:
    """Enforces the length of every completion, and counts what was sampled.

    Attributes:
        sampled: Tokens of completions that ended so far.
    """

    def __init__(self) -> None:
        self.sampled = 0
        self._lengths: Iterator[int] | None = None

    def restart(self, completions: int) -> None:
        """From now on generations have this many completions."""
        self._lengths, self.sampled = cycle(lengths(completions)), 0

    def install(self) -> None:
        """Every engine of this process goes by it from now on."""
        from vllm import LLMEngine

        add, step = LLMEngine.add_request, LLMEngine.step

        @wraps(add)
        def add_request(
            engine: Any, name: str, prompt: Any, params: Any, *rest: Any, **named: Any
        ) -> Any:
            if self._lengths is not None and params.prompt_logprobs is None:  # no canary
                params = params.clone()
                params.max_tokens = next(self._lengths)
                params.ignore_eos, params.stop_token_ids = True, []
            return add(engine, name, prompt, params, *rest, **named)

        @wraps(step)
        def counted(engine: Any) -> Any:
            outputs = step(engine)
            done = [o for o in outputs if o.finished and o.prompt_logprobs is None]
            self.sampled += sum(len(o.outputs[0].token_ids) for o in done)
            return outputs

        LLMEngine.add_request, LLMEngine.step = add_request, counted


class Stopwatch:
    """Wall time by phase, of calls that do not contain one another."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def time(self, phase: str) -> Iterator[None]:
        """What happens within counts for a phase."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - began

    def watch(self, owner: Any, name: str, phase: str) -> None:
        """Every call of a method or function counts for a phase from now on."""
        usual = getattr(owner, name)

        @wraps(usual)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.time(phase):
                return usual(*arguments, **named)

        setattr(owner, name, timed)

    def lap(self) -> dict[str, float]:
        """The seconds since the last lap."""
        found = dict(self.seconds)
        self.seconds.clear()
        return found
