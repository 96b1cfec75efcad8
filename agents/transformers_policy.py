"""Completions from a transformers model, usually the learner's own; the default without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskgym.agents.chat import stop_ids
from taskgym.agents.generate import Sample, generate
from taskgym.agents.merged import merged_adapter
from taskgym.agents.policy import Completion, LockstepPolicy, Request


class TransformersPolicy(LockstepPolicy):
    """Generates in batches with the model it is given, its adapter merged meanwhile.

    The model may be training at the same time as long as `poll` and optimiser steps take turns:
    the adapter's latest weights are then the policy, and `load_adapter` only counts versions.
    """

    def __init__(self, model: Any, tokenizer: Any, max_rows: int = 256):
        super().__init__()
        self._model = model
        self._tokenizer = tokenizer
        self._max_rows = max_rows
        self._stop_ids = stop_ids(tokenizer, model.generation_config)

    def _answer(self, requests: list[Request]) -> list[Completion]:
        with merged_adapter(self._model):
            samples = generate(
                self._model,
                [request.prompt_ids for request in requests],
                seeds=[request.seed for request in requests],
                max_tokens=[request.sampling.max_tokens for request in requests],
                stop_ids=self._stop_ids,
                sampling=requests[0].sampling,
                max_rows=self._max_rows,
            )
        return [self._complete(r, s) for r, s in zip(requests, samples, strict=True)]

    def _complete(self, request: Request, sample: Sample) -> Completion:
        said = sample.ids[:-1] if sample.finish == "stop" else sample.ids
        text = self._tokenizer.decode(said, skip_special_tokens=True)
        return Completion(
            request.request_id, text, sample.ids, sample.logprobs, sample.finish, self._version
        )


def load_adapter_weights(model: Any, path: Path) -> None:
    """Puts a saved adapter's weights into a model that has an adapter of the same shape.

    Raises:
        ValueError: The saved adapter is of another shape, or of another model.
    """
    from peft import set_peft_model_state_dict
    from peft.utils import load_peft_weights

    loaded = set_peft_model_state_dict(model, load_peft_weights(str(path), device="cpu"))
    if loaded.unexpected_keys:
        raise ValueError(f"{path} holds weights this model has no place for: {loaded}")
