"""Stands where TRL keeps a processor, so that the learner sees just the pixels the sampler saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from taskgym.agents.episode import Trajectory
from taskgym.agents.vision import SightError, VisionRenderer
from transformers import BatchFeature, ProcessorMixin


class ShownProcessor(ProcessorMixin):  # type: ignore[misc]  # transformers ships no types
    """The processor that TRL asks for the pictures of a step.

    TRL takes pictures from its data set and renders prompts itself, before the sampler has drawn
    which tasks a step has (groups without signal are replaced). So its prompts are positions in
    the step, and this answers with the pictures and the text that the trajectories there were
    sampled from, after comparing their tokens.
    """

    def __init__(self, renderer: Any, pictures: int):
        """Nothing is loaded: `ProcessorMixin`'s own constructor would be.

        Args:
            renderer: The `VisionRenderer` of the trajectories' prompts.
            pictures: How many pictures each prompt shows.
        """
        assert isinstance(renderer, VisionRenderer)
        self._renderer = renderer
        self._pictures = pictures
        self._positions: list[int] = []
        self._rows: list[Trajectory] = []
        self.tokenizer = renderer.processor.tokenizer
        self.image_processor = renderer.processor.image_processor
        self.chat_template = renderer.template

    def show(self, positions: Sequence[int], rows: Sequence[Trajectory]) -> None:
        """What TRL will ask about next: a trajectory for each of its prompts, in their order.

        Raises:
            SightError: A prompt shows another number of pictures than the others.
        """
        for row in rows:
            shown = len(row.seen.images) if row.seen else 0
            if shown != self._pictures:
                raise SightError(
                    f"every first observation must show as many pictures: {self._pictures} in the "
                    f"env's first task, {shown} with seed {row.start.seed}, index "
                    f"{row.start.index} ({row.error or 'no error'})"
                )
        self._positions, self._rows = list(positions), list(rows)

    def apply_chat_template(self, conversation: Any, **options: Any) -> str:
        """The position in the step that a prompt of TRL's is."""
        return position_in(conversation)

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> BatchFeature:
        """What the model needs to see what the sampler saw, for all rows of the step.

        Raises:
            SightError: TRL asks about other rows, or tokens and pictures do not agree.
        """
        if [int(position) for position in text] != self._positions:
            raise SightError("TRL asks for pictures of other rows than were just sampled")
        seen = [row.seen for row in self._rows if row.seen is not None]
        ids_BT, mask_BT = _padded([row.prompt_ids for row in self._rows])
        return BatchFeature(self._renderer.model_inputs(seen, ids_BT, mask_BT))

    def save_pretrained(self, save_directory: Any, **options: Any) -> Any:
        """Saves the model's own processor, in checkpoints too."""
        return self._renderer.processor.save_pretrained(save_directory, **options)


def position_in(conversation: Any) -> str:
    """The text of a message, which for us is a position in the step."""
    content = conversation[-1]["content"]
    if isinstance(content, str):
        return content
    return str(next(part["text"] for part in content if part["type"] == "text"))


def _padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts padded on the left, as TRL pads them, and their mask."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids), torch.tensor(mask)
