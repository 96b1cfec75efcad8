"""Completions from a vLLM engine in this process, each handed over the moment it is finished."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from taskgym.agents.adapter import Adapter
from taskgym.agents.policy import Completion, Finish, Request
from taskgym.agents.vision import Seen, check_same_prompt
from taskgym.agents.vllm_engine import load_from_memory, on_stream, own_stream

# Ids and names of adapters, never used twice in a process: vLLM keeps what it has computed by them.
_NUMBERS = count(1)


class VllmPolicy:
    """Generates with an `LLMEngine`; a request joins the running batch whenever it comes.

    Adapters are brought under versioned names, through memory where the engine's worker lives in
    this process and through files otherwise; the one before is unloaded.

    Args:
        engine: vLLM's engine (`vllm_engine.start_engine`), which nobody else drives.
        tokenizer: Turns what was sampled into text.
        stop_ids: Every token that ends a completion.
    """

    lockstep = False

    def __init__(self, engine: Any, tokenizer: Any, stop_ids: Collection[int]):
        self._engine = engine
        self._tokenizer = tokenizer
        self._stop_ids = sorted(stop_ids)
        self._max_len: int = engine.model_config.max_model_len
        self._in_memory = hasattr(engine, "model_executor")
        self._files = tempfile.TemporaryDirectory(prefix="taskgym-adapters-")
        self._lora: Any = None
        self._version = 0
        self._done: list[Completion] = []
        self._running: dict[str, tuple[Request, int, Any]] = {}  # with version and adapter
        self._retired: list[Any] = []  # adapters loaded still, because requests run on them
        self._stream: Any = None  # the engine's own, once it overlaps

    @property
    def version(self) -> int:
        """The version of the adapter that writes now."""
        return self._version

    def submit(self, request: Request) -> None:
        """Takes a request; one whose prompt fills the model's context is cut at once."""
        room = self._max_len - len(request.prompt_ids)
        if room < 1:
            self._done.append(Completion(request.request_id, "", (), (), "length", self._version))
            return
        self._running[str(request.request_id)] = request, self._version, self._lora
        parameters = self._parameters(request, room)
        self._add(str(request.request_id), request.prompt_ids, parameters, request.seen)

    def poll(self) -> list[Completion]:
        """One step of the engine: a token for each running request."""
        if self._engine.has_unfinished_requests():
            for output in self._step():
                if output.finished:
                    self._done.append(self._complete(output))
        if self._retired:
            self._unload_unused()
        done, self._done = self._done, []
        return done

    def cancel(self) -> None:
        """Drops every request that is not answered yet."""
        self._engine.abort_request(list(self._running))
        self._running.clear()
        self._done.clear()

    def load_adapter(self, adapter: Adapter | None, version: int) -> None:
        """Writes with this adapter from now on, under a new name.

        The one before is unloaded as soon as nothing runs on it.
        """
        before, self._lora = self._lora, self._brought(adapter, version) if adapter else None
        self._version = version
        if before is not None:
            self._retired.append(before)
        self._unload_unused()

    def score(self, ids: Sequence[int]) -> list[float]:
        """The log-probability of each token after the first, by the adapter that writes now."""
        from vllm import SamplingParams

        parameters = SamplingParams(
            temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False
        )
        self._add("score", ids, parameters)
        while True:
            for output in self._step():
                if output.request_id != "score":
                    self._done.append(self._complete(output))
                elif output.finished:
                    told = output.prompt_logprobs[1:]
                    return [at[i].logprob for at, i in zip(told, ids[1:], strict=True)]

    def overlap(self) -> None:
        """Computes on a CUDA stream of its own from now on, so that a learner can meanwhile.

        Its kernels go first: a token's are few and short, and everything waits for them.
        """
        self._stream = own_stream(self._engine)

    def close(self) -> None:
        """Drops the engine, which whoever started it ends, and the adapter files."""
        self._files.cleanup()
        self._engine = None

    def _step(self) -> Any:
        with on_stream(self._stream):
            return self._engine.step()

    def _add(
        self, name: str, ids: Sequence[int], parameters: Any, seen: Seen | None = None
    ) -> None:
        prompt: dict[str, Any] = {"prompt_token_ids": list(ids)}
        if seen is not None:  # vLLM widens the placeholders itself
            prompt = {
                "prompt_token_ids": seen.short(ids),
                "multi_modal_data": {"image": list(seen.images)},
            }
        self._engine.add_request(name, prompt, parameters, lora_request=self._lora)

    def _parameters(self, request: Request, room: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            max_tokens=min(sampling.max_tokens, room),
            seed=request.seed,
            stop_token_ids=self._stop_ids,
            logit_bias=_never(request.seen),
            logprobs=0,  # the sampled token's own
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _complete(self, output: Any) -> Completion:
        request, version, _ = self._running.pop(output.request_id)
        if request.seen is not None:
            check_same_prompt(request.prompt_ids, output.prompt_token_ids, "vLLM")
        (sample,) = output.outputs
        ids = tuple(sample.token_ids)
        logprobs = tuple(at[i].logprob for at, i in zip(sample.logprobs, ids, strict=True))
        finish: Finish = "stop" if sample.finish_reason == "stop" else "length"
        said = ids[:-1] if finish == "stop" else ids
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        return Completion(request.request_id, text, ids, logprobs, finish, version)

    def _unload_unused(self) -> None:
        running = {lora.lora_int_id for _, _, lora in self._running.values() if lora is not None}
        for lora in [lora for lora in self._retired if lora.lora_int_id not in running]:
            self._retired.remove(lora)
            self._engine.remove_lora(lora.lora_int_id)
            shutil.rmtree(lora.lora_path, ignore_errors=True)

    def _brought(self, adapter: Adapter, version: int) -> Any:
        from vllm.lora.request import LoRARequest

        number = next(_NUMBERS)
        folder = Path(self._files.name) / f"v{version}"
        lora = LoRARequest(f"taskgym-v{version}-{number}", number, str(folder))
        if self._in_memory:
            with on_stream(self._stream, after_this=True):
                load_from_memory(self._engine, adapter, lora)
        else:
            adapter.write(folder)
            self._engine.add_lora(lora)
        return lora


def _never(seen: Seen | None) -> dict[int, float] | None:
    """A bias against tokens that stand for pictures; -100 is as far as vLLM goes."""
    return dict.fromkeys(seen.unsayable, -100.0) if seen is not None else None
