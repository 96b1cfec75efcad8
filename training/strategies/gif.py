"""A game as an animated GIF."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from taskgym.training.strategies.replay import Frame
from taskgym.training.strategies.tiles import BOARD, colour, ink

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

FRAMES = 120  # at most: a long game is shown in equal strides, its last moves one by one
_ENDING = 20
_MS, _HOLD_MS = 80, 2500  # of a frame, and of the last one
_WIDTH, _GAP, _HEAD = 264, 5, 30  # pixels
_PAPER, _INK = "#ffffff", "#1b2330"


def write_gif(frames: Sequence[Frame], size: int, title: str, path: Path) -> None:
    """Draws the game and writes the file; needs Pillow."""
    from PIL import Image

    shown = _shown(len(frames))
    images = [_draw(frames[i], size, f"{title} · move {i:,}") for i in shown]
    palette = images[-1].quantize(64)  # the last board has most of the colours
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [_MS] * (len(images) - 1) + [_HOLD_MS]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False
    )


def _shown(count: int) -> list[int]:
    """Which of the frames are shown: the first, the last few, and equal strides between."""
    if count <= FRAMES:
        return list(range(count))
    strides = FRAMES - _ENDING
    return [
        *(i * (count - _ENDING) // strides for i in range(strides)),
        *range(count - _ENDING, count),
    ]


def _draw(frame: Frame, size: int, title: str) -> Image:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (_WIDTH, _WIDTH + _HEAD), _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((8, _HEAD / 2), title, _INK, _font(12), anchor="lm")
    draw.text((_WIDTH - 8, _HEAD / 2), f"{frame.score:,}", _INK, _font(12), anchor="rm")
    draw.rounded_rectangle((0, _HEAD, _WIDTH - 1, _HEAD + _WIDTH - 1), _GAP, BOARD)
    cell = (_WIDTH - _GAP) / size
    for i, tile in enumerate(frame.tiles):
        x, y = _GAP + cell * (i % size), _HEAD + _GAP + cell * (i // size)
        draw.rounded_rectangle((x, y, x + cell - _GAP, y + cell - _GAP), _GAP, colour(tile))
        if tile:
            middle = (x + (cell - _GAP) / 2, y + (cell - _GAP) / 2)
            text = str(tile)
            fits = int(min(cell * 0.42, cell * 1.25 / len(text)))
            draw.text(middle, text, ink(tile), _font(fits), anchor="mm")
    return image


@cache
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
