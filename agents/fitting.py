"""Fits a picture to what a model's image processor does to it, so that nothing is distorted.

Processors with one input size squeeze every picture into it, those with tiles or patches round its
sides up; a picture padded to the right shape beforehand comes through with its aspect ratio.
"""

from __future__ import annotations

import math
from typing import Any

from taskgym.envs.images import padded, scaled


def fit(image: Any, processor: Any) -> Any:
    """The picture scaled and padded with white for an image processor of transformers.

    Args:
        image: A `PIL.Image` of mode RGB.
        processor: The image processor; its class is not looked at, only its settings.
    """
    (width, height), canvas = _layout(image.width, image.height, processor)
    if (width, height) != image.size:
        image = scaled(image, width, height)
    return padded(image, *canvas)


Size = tuple[int, int]


def _layout(width: int, height: int, processor: Any) -> tuple[Size, Size]:
    """The size of the picture and of its canvas, each as width and height."""
    size = processor.size
    if _of(processor, "merge_size"):
        factor = processor.patch_size * processor.merge_size
        return _patched(width, height, factor, size["shortest_edge"], size["longest_edge"])
    tile = (_of(processor, "max_image_size") or {}).get("longest_edge")
    if tile and _of(processor, "do_image_splitting"):
        return _tiled(width, height, size["longest_edge"], tile)
    if tile:
        return _boxed(width, height, tile, tile)
    if pinpoints := _of(processor, "image_grid_pinpoints"):
        side = max(max(point) for point in pinpoints)
        return _boxed(width, height, side, side)
    cropped = _of(processor, "do_center_crop") and _of(processor, "crop_size")
    box = cropped or size
    if box.get("height"):
        return _boxed(width, height, box["width"], box["height"])
    return (width, height), (width, height)  # scaled by one side only: nothing to mend


def _patched(width: int, height: int, factor: int, least: int, most: int) -> tuple[Size, Size]:
    """Qwen-VL: sides are multiples of a factor, pixels in all between two bounds."""
    scale = min(1.0, math.sqrt(most / (width * height)))
    scale = max(scale, min(math.sqrt(least / (width * height)), math.sqrt(most) / max(1, width)))
    while True:
        inner = _times(width, scale), _times(height, scale)
        canvas = math.ceil(inner[0] / factor) * factor, math.ceil(inner[1] / factor) * factor
        if canvas[0] * canvas[1] <= most or min(inner) <= 1:
            return inner, canvas
        scale *= 0.98


def _tiled(width: int, height: int, longest: int, tile: int) -> tuple[Size, Size]:
    """Idefics3, SmolVLM: the longer side becomes `longest`, both are rounded up to whole tiles."""
    scale = longest / max(width, height)
    inner = (width, height) if scale >= 1 else (_times(width, scale), _times(height, scale))
    longer, shorter = max(inner), min(inner)
    tiles = math.ceil(round(shorter * longest / longer, 6) / tile)
    side = max(shorter, round(tiles * tile * longer / longest))
    return inner, (longer, side) if width >= height else (side, longer)


def _boxed(width: int, height: int, box_width: int, box_height: int) -> tuple[Size, Size]:
    """One input size: the picture is no larger, and its canvas has the same shape."""
    scale = min(1.0, box_width / width, box_height / height)
    inner = _times(width, scale), _times(height, scale)
    unit = max(inner[0] / box_width, inner[1] / box_height)
    canvas = round(unit * box_width), round(unit * box_height)
    return inner, (max(canvas[0], inner[0]), max(canvas[1], inner[1]))


def _times(side: int, scale: float) -> int:
    return max(1, round(side * scale))


def _of(processor: Any, name: str) -> Any:
    value: Any = getattr(processor, name, None)
    return value.to_dict() if hasattr(value, "to_dict") else value
