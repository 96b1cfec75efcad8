"""Seeds derived from where they are used, so that any step can be replayed or resumed alone."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from the run seed, a purpose and the position (step, group, member, turn).

    A hash and not a counter: neighbouring positions share no low bits, and no state has to be
    saved to know the seed of step 700.
    """
    text = "/".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
