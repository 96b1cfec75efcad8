"""Completions from a transformers model, usually the learner's own; the default without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taskgym.agents.chat import Renderer, stop_ids
from taskgym.agents.generate import Look, Sample, generate
from taskgym.agents.merged import merged_adapter
from taskgym.agents.policy import Completion, LockstepPolicy, Request
from taskgym.agents.vision import Seen, SightError, VisionRenderer


class TransformersPolicy(LockstepPolicy):
    """Generates in batches with the model it is given, its adapter merged meanwhile.

    The model may be training at the same time as long as `poll` and optimiser steps take turns:
    the adapter's latest weights are then the policy, and `load_adapter` only counts versions.
    """

    def __init__(
        self, model: Any, tokenizer: Any, renderer: Renderer | None = None, max_rows: int = 256
    ):
        """Nothing is computed yet.

        Args:
            model: With or without a peft adapter.
            tokenizer: Turns what was sampled into text.
            renderer: What rendered the requests; one for pictures also shows them to the model.
            max_rows: Rows that decode together.
        """
        super().__init__()
        self._model = model
        self._tokenizer = tokenizer
        self._renderer = renderer
        self._max_rows = max_rows
        self._stop_ids = stop_ids(tokenizer, model.generation_config)

    def _answer(self, requests: list[Request]) -> list[Completion]:
        blind = [request for request in requests if request.seen is None]
        sighted = [request for request in requests if request.seen is not None]
        with merged_adapter(self._model):
            done = self._generate(blind, None) + self._generate(sighted, self._look)
        by_id = {completion.request_id: completion for completion in done}
        return [by_id[request.request_id] for request in requests]

    def _generate(self, requests: list[Request], look: Look | None) -> list[Completion]:
        if not requests:
            return []
        samples = generate(
            self._model,
            [request.prompt_ids for request in requests],
            seen=[request.seen for request in requests if request.seen] if look else None,
            look=look,
            seeds=[request.seed for request in requests],
            max_tokens=[request.sampling.max_tokens for request in requests],
            stop_ids=self._stop_ids,
            sampling=requests[0].sampling,
            max_rows=self._max_rows,
        )
        return [self._complete(r, s) for r, s in zip(requests, samples, strict=True)]

    def _look(self, seen: Sequence[Seen], ids_PT: Any, mask_PT: Any) -> dict[str, Any]:
        if not isinstance(self._renderer, VisionRenderer):
            raise SightError("this policy was given pictures and no processor to show them with")
        made = self._renderer.model_inputs(seen, ids_PT, mask_PT)
        device, dtype = self._model.device, self._model.dtype
        return {
            name: value.to(device, dtype if value.is_floating_point() else None)
            for name, value in made.items()
        }

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
