"""How an env's generator draws the seed of a game: all that it draws."""

from __future__ import annotations

import numpy as np


def draw_seed(rng: np.random.Generator) -> int:
    """128 bits, the lower half first, straight from the bit generator, which is quickest."""
    low, high = rng.bit_generator.random_raw(2).tolist()
    return int(high << 64 | low)
