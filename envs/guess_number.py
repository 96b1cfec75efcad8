"""GuessNumber-v0: find a secret number from the hints higher and lower."""

from __future__ import annotations

import re
from collections.abc import Mapping

from taskgym.envs.core import MultiTurnEnv, Reply

_WHOLE = re.compile(r"[0-9]{1,9}")


class GuessNumber(MultiTurnEnv):
    """Find a secret number in a few guesses from the hints higher and lower.

    Halving the range always gets there within the guesses allowed. A win pays 1 however many
    guesses it took: a lucky first guess earns no more than a patient search. A reply that is no
    number of the range costs 0.1 and a turn.

    Args:
        high: The secret is a whole number from 1 to this.
        max_turns: Guesses allowed; by default just enough for halving.
        weights: Component -> weight, for those that shall differ from the env's own.
    """

    source = "made from its kwargs"
    weights: Mapping[str, float] = {"won": 1.0, "invalid": -0.1}

    def __init__(
        self,
        *,
        high: int = 100,
        max_turns: int | None = None,
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__(weights=weights)
        if not 2 <= high < 10**9:
            raise ValueError(f"high is from 2 to 999,999,999, got {high}")
        needed = high.bit_length()  # guesses that halving takes at worst
        if max_turns is not None and max_turns < needed:
            raise ValueError(f"1 to {high} takes {needed} guesses at worst, got {max_turns=}")
        self.high = high
        self.max_turns = needed if max_turns is None else max_turns

    @property
    def max_reward(self) -> float:
        """A win without an invalid reply."""
        return self.weights["won"]

    def begin(self) -> str:
        """Draws the secret."""
        self._secret = int(self.np_random.integers(1, self.high + 1))
        self._range = (1, self.high)
        return (
            f"I think of a whole number from 1 to {self.high}. You have {self.max_turns} guesses; "
            "after each I say higher or lower. Reply with one number only."
        )

    def respond(self, action: str) -> Reply:
        """Answers one guess."""
        guess = _guess(action)
        if guess is None or not 1 <= guess <= self.high:
            return Reply(
                f"Reply with one whole number from 1 to {self.high} only.", {"invalid": 1.0}
            )
        if guess == self._secret:
            return Reply("", {"won": 1.0}, done=True, success=True)
        low, high = self._range
        if guess < self._secret:
            self._range = (max(low, guess + 1), high)
            return Reply("higher", {})
        self._range = (low, min(high, guess - 1))
        return Reply("lower", {})

    def gold_action(self) -> str:
        """The middle of what is left."""
        low, high = self._range
        return str((low + high) // 2)


def _guess(action: str) -> int | None:
    found = _WHOLE.fullmatch(action.strip())
    return int(found[0]) if found else None
