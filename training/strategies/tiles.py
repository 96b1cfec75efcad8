"""The colours of 2048's tiles, the same in GIFs and on pages."""

from __future__ import annotations

EMPTY = "#d5dbe3"
BOARD = "#b4bec9"

# From 2 to 131072: cool and pale first, warm from 2048 on.
_COLOURS = (
    "#eef2f7", "#d9e6f3", "#b3d0ea", "#86b5de", "#5c9bd3", "#3a80c0", "#2f8f9d", "#2fa27a",
    "#62b04a", "#a3b52f", "#f2b632", "#f0912f", "#e56b3a", "#d6455b", "#b03a83", "#823fa3",
    "#4f3fa8",
)  # fmt: skip


def colour(tile: int) -> str:
    """The colour of a tile, or of an empty cell for 0."""
    if tile == 0:
        return EMPTY
    return _COLOURS[min(tile.bit_length() - 2, len(_COLOURS) - 1)]


def ink(tile: int) -> str:
    """The colour of the number on it: the one of two that contrasts more (WCAG's luminance)."""
    red, green, blue = (int(colour(tile)[i : i + 2], 16) / 255 for i in (1, 3, 5))
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return "#1b2330" if luminance > 0.215 else "#ffffff"
