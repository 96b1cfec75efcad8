"""Pictures in prompts: what is seen beside the tokens, the same for sampler and learner."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from taskgym.agents.chat import Renderer
from taskgym.agents.fitting import fit
from taskgym.envs import Messages, TaskgymError
from taskgym.envs.images import data_url, image_hash

_KEPT = 256  # prompts whose ids are remembered


class SightError(TaskgymError, RuntimeError):
    """Tokens and pictures of a prompt do not belong together: placeholders are missing or moved."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The pictures of an opening prompt and the text they stand in.

    Attributes:
        text: The rendered prompt, with one placeholder for each picture.
        short_ids: Its tokens, likewise; samplers such as vLLM widen the placeholders themselves.
        opening: How many tokens the prompt has once placeholders are as wide as the model wants.
        images: `PIL.Image`s of mode RGB, fitted to the model's processor.
        unsayable: Tokens that stand for pictures: one that is sampled would have none.
        digest: Of text and pixels; equal prompts are equal by it.
    """

    text: str = field(compare=False)
    short_ids: tuple[int, ...] = field(compare=False)
    opening: int = field(compare=False)
    images: tuple[Any, ...] = field(compare=False, repr=False)
    unsayable: tuple[int, ...] = field(compare=False)
    digest: str

    def short(self, prompt_ids: Sequence[int]) -> list[int]:
        """A prompt that begins with this opening, its placeholders not widened."""
        return [*self.short_ids, *prompt_ids[self.opening :]]


class VisionRenderer(Renderer):
    """Renders observations with pictures, by the processor of a vision-language model.

    Pictures are fitted to the processor first (`agents.fitting`), and what comes out is what every
    policy and the learner are given. They may stand in the first observation only.
    """

    def __init__(self, processor: Any):
        super().__init__(processor.tokenizer)
        self.processor = processor
        self.template = getattr(processor, "chat_template", None) or self.template
        self._unsayable = _picture_ids(processor)
        self._openings: OrderedDict[str, tuple[tuple[int, ...], Seen]] = OrderedDict()

    def opening(self, messages: Messages) -> tuple[int, ...]:
        """The ids of an episode's first prompt, every placeholder as wide as the model wants it."""
        pictures = _pictures(messages)
        return self._open(messages, pictures)[0] if pictures else super().opening(messages)

    def seen(self, messages: Messages) -> Seen | None:
        """The pictures of an episode's first prompt, None if there are none."""
        pictures = _pictures(messages)
        return self._open(messages, pictures)[1] if pictures else None

    def continuation(self, messages: Messages, said: tuple[int, ...]) -> tuple[int, ...]:
        """As for text; pictures after the first observation are refused."""
        if _pictures(messages):
            raise SightError("pictures may stand in the first observation only, not in later ones")
        return super().continuation(messages, said)

    def inputs(self, seen: Sequence[Seen]) -> dict[str, Any]:
        """What the processor makes of prompts: ids, mask, pixels and more, padded on the left."""
        return dict(
            self.processor(
                text=[prompt.text for prompt in seen],
                images=[list(prompt.images) for prompt in seen],
                padding=True,
                padding_side="left",
                add_special_tokens=False,
                return_tensors="pt",
            )
        )

    def model_inputs(self, seen: Sequence[Seen], ids_PT: Any, mask_PT: Any) -> dict[str, Any]:
        """What a model needs beside ids and mask to see the pictures.

        Args:
            seen: The pictures of each row.
            ids_PT: Rows that begin with those prompts, padded on the left, and may go on.
            mask_PT: 1 where there is a token.

        Returns:
            Pixels as they come; values for each token (such as `token_type_ids`) laid where the
            prompt stands in the row, 0 elsewhere.

        Raises:
            SightError: A row does not begin with the tokens that belong to its pictures.
        """
        made = self.inputs(seen)
        own_ids, own_mask = made.pop("input_ids"), made.pop("attention_mask")
        places = [
            _place(i, own_ids[i], own_mask[i], ids_PT[i], mask_PT[i]) for i in range(len(seen))
        ]
        return {
            name: _laid(value, own_ids, places, ids_PT) if _each_token(value, own_ids) else value
            for name, value in made.items()
        }

    def _open(self, messages: Messages, pictures: Sequence[Any]) -> tuple[tuple[int, ...], Seen]:
        text = self._render(messages)
        images = tuple(fit(picture, self.processor.image_processor) for picture in pictures)
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
        for image in images:
            digest.update(image_hash(image).encode())
        key = digest.hexdigest()
        if key not in self._openings:
            short = Seen(text, self._encode(text), 0, images, self._unsayable, key)
            ids = self._widened(short)
            self._openings[key] = ids, replace(short, opening=len(ids))
            while len(self._openings) > _KEPT:
                self._openings.pop(next(iter(self._openings)), None)  # threads share this
        return self._openings.get(key) or self._open(messages, pictures)

    def _widened(self, prompt: Seen) -> tuple[int, ...]:
        try:
            made = self.inputs([prompt])
        except ValueError as error:  # transformers counts placeholders and pictures
            raise SightError(
                f"{len(prompt.images)} pictures do not fit the prompt {prompt.text[:200]!r}: "
                f"{error}. Does the text name the model's own image token, or the chat template "
                "leave pictures out?"
            ) from error
        return tuple(made["input_ids"][0].tolist())

    def _render(self, messages: Messages, cue: bool = True) -> str:
        listed = [{**message, "content": _parts(message)} for message in messages]
        bare = [
            {
                **m,
                "content": [p if p["type"] == "text" else {"type": "image"} for p in m["content"]],
            }
            for m in listed
        ]
        return super()._render(bare, cue)


def check_same_prompt(wanted: Sequence[int], read: Sequence[int], who: str) -> None:
    """Makes sure that a sampler read the tokens that the learner will see.

    Raises:
        SightError: It widened the placeholders of pictures otherwise, or rendered another prompt.
    """
    if list(wanted) == list(read):
        return
    pairs = zip(wanted, read, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(read)))
    raise SightError(
        f"{who} read {len(read)} tokens where the learner has {len(wanted)}; they part at token "
        f"{first}. Do both have the same processor files and chat template?"
    )


def with_urls(messages: Messages, images: Sequence[Any] | None = None) -> Messages:
    """Messages as OpenAI-compatible servers take them, each picture in a base64 data URL.

    Args:
        messages: A conversation.
        images: Shown in the place of its pictures, such as those fitted to the model.
    """
    shown = iter(images if images is not None else _pictures(messages))
    return [{**message, "content": _with_urls(message["content"], shown)} for message in messages]


def _with_urls(content: Any, shown: Iterator[Any]) -> Any:
    if isinstance(content, str):
        return content
    return [
        part
        if part["type"] == "text"
        else {"type": "image_url", "image_url": {"url": data_url(next(shown))}}
        for part in content
    ]


def _pictures(messages: Messages) -> list[Any]:
    return [p["image"] for m in messages for p in _parts(m) if p["type"] == "image"]


def _picture_ids(processor: Any) -> tuple[int, ...]:
    """The tokens that a processor puts where a picture or a film is."""
    names = ("image_token_ids", "video_token_ids", "image_token_id", "video_token_id")
    found = [getattr(processor, name, None) for name in names]
    found.append(getattr(processor.tokenizer, "image_token_id", None))
    ids = [i for value in found for i in (value if isinstance(value, list) else [value])]
    return tuple(sorted({i for i in ids if isinstance(i, int)}))


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return content if isinstance(content, list) else [{"type": "text", "text": content}]


def _each_token(value: Any, own_ids: Any) -> bool:
    return bool(getattr(value, "shape", None) == own_ids.shape)


def _place(number: int, own_ids_T: Any, own_mask_T: Any, ids_T: Any, mask_T: Any) -> slice:
    """Where in a row its prompt stands, found to be the tokens its pictures go with."""
    length, first = int(own_mask_T.sum()), int(mask_T.argmax())
    place = slice(first, first + length)
    if ids_T[place].tolist() != own_ids_T[len(own_ids_T) - length :].tolist():
        raise SightError(
            f"row {number}: the tokens sampled from are not those its pictures belong to "
            f"({length} tokens expected from position {first})"
        )
    return place


def _laid(value_PT: Any, own_ids: Any, places: Sequence[slice], ids_PT: Any) -> Any:
    laid = ids_PT.new_zeros(ids_PT.shape)
    for row, place in enumerate(places):
        laid[row, place] = value_PT[row, own_ids.shape[1] - (place.stop - place.start) :]
    return laid
