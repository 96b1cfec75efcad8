"""Game2048-Strategy-v0: write a function that plays 2048, and let it play."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from taskgym.envs.core import Info, SingleTurnEnv, Step
from taskgym.envs.game2048 import programs
from taskgym.envs.game2048.driver import STUCK
from taskgym.envs.game2048.seeds import draw_seed
from taskgym.envs.game2048.strategy_scores import BEST, COMPONENTS, REFERENCE, rules_of
from taskgym.envs.game2048.trial import Rules, try_completion
from taskgym.envs.rows import Row, Tasks
from taskgym.envs.rubric import Rubric, Task, weighted_sum
from taskgym.envs.spaces import Messages

_TOLD = ("score", "max_tile", "moves", "stop")  # of each game; its seed and program give the rest
TASKS = 1000  # they ask the same, as in the notebook; their games and gold programs differ

_PROMPT = """\
Write a strategy for the game 2048 as a Python function.

The board has {size} x {size} cells. A move slides all tiles up, left, down or right; two equal \
tiles that meet merge into their sum, which is added to the score. After every move that changes \
the board a new 2 (or, one time in ten, a 4) appears on an empty cell. The game is lost when no \
move changes the board, and won when a tile reaches {target}.

`strategy(board)` is called before every move. `board` is a list of {size} rows from top to \
bottom; each row is a list of {size} integers from left to right, 0 for an empty cell. Return one \
of "W" (up), "A" (left), "S" (down) or "D" (right). A move that does not change the board is \
ignored, and {stuck} of them in a row end the game; any other answer ends it too.

Helper functions and imports of modules such as math, random, itertools, functools and collections \
are fine; files, the network and other packages are not there. The function plays {games} games \
and has {seconds:g} seconds for all of them.

Put the whole program into one code block:

```python
def strategy(board):
    return "W"
```"""


class Game2048Strategy(SingleTurnEnv):
    """Write a Python function that plays 2048; it plays whole games in a sandbox.

    All members of a group play the same games. `info` says what became of the program: `verdict`,
    `reason` and `line` where there is one, and the outcome of every game with its seed. A task is
    solved when every game is won.

    Args:
        size: Rows and columns of the board.
        target: The tile that wins a game and ends it.
        games: How many games a program plays; their mean is what counts.
        seconds: CPU seconds that a program has for all its games.
        weights: Component -> weight, for those that shall differ from the rubric's.
    """

    source = "its own rules"
    needs = "Linux, for the sandbox"
    rubric = Rubric(COMPONENTS)

    def __init__(
        self,
        *,
        size: int = 4,
        target: int = 2048,
        games: int = 4,
        seconds: float = 5.0,
        weights: Mapping[str, float] | None = None,
    ):
        super().__init__(weights=weights)
        if size not in REFERENCE:
            raise ValueError(f"size is one of {', '.join(map(str, REFERENCE))}, got {size}")
        largest = 2 ** (size * size + 1)
        if target < 8 or target > largest or target & (target - 1):
            raise ValueError(f"target is a power of two from 8 to {largest:,}, got {target}")
        if not 1 <= games <= 64:
            raise ValueError(f"games is from 1 to 64, got {games}")
        if not 0.1 <= seconds <= 600:
            raise ValueError(f"seconds is from 0.1 to 600, got {seconds}")
        self.size, self.target, self.games, self.seconds = size, target, games, seconds

    @property
    def max_reward(self) -> float:
        """The reward of a program that wins all its games."""
        return weighted_sum(self.rubric.weights, BEST)

    def load(self) -> list[Row]:
        """One row per task: which of the built-in programs is its gold reply."""
        names = programs.PROGRAMS
        return [{"gold": names[i % len(names)]} for i in range(TASKS)]

    def load_tasks(self) -> Tasks:
        """The tasks; they all ask the same, which is not what `to_tasks` is for."""
        question = self.question()
        return Tasks(
            [
                Task(
                    question,
                    "",
                    f"{self.size}x{self.size}-{self.target}-{i}",
                    MappingProxyType(row),
                )
                for i, row in enumerate(self.load())
            ],
            {},
        )

    def question(self) -> str:
        """What the model is asked."""
        return _PROMPT.format(
            size=self.size,
            target=self.target,
            games=self.games,
            seconds=self.seconds,
            stuck=STUCK,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Messages, Info]:
        """Draws a task and the 128-bit seeds of its games."""
        observation, info = super().reset(seed=seed, options=options)
        seeds = tuple(draw_seed(self.np_random) for _ in range(self.games))
        rules = Rules(seeds, self.size, self.target, self.seconds)
        row = MappingProxyType({**self.task.row, "rules": rules})
        self._task = dataclasses.replace(self.task, row=row)
        return observation, info

    def step(self, action: str) -> Step:
        """Lets the program play, and says how every game went."""
        *outcome, info = super().step(action)
        trial = try_completion(action or "", rules_of(self.task))
        info |= {"verdict": str(trial.verdict), "reason": trial.reason, "line": trial.line}
        seeds = rules_of(self.task).seeds
        info["games"] = [
            {"seed": f"{seed:#x}", **{name: game[name] for name in _TOLD}}
            for seed, game in zip(seeds, trial.games, strict=False)
        ]
        return (*outcome, info)  # type: ignore[return-value]

    def solved(self, completion: str, task: Task, rewards: Mapping[str, float]) -> bool:
        """Whether every game was won."""
        return rewards["strategy_succeeds"] == BEST["strategy_succeeds"]

    def gold(self, task: Task) -> str:
        """One of the built-in programs; the weaker ones are sure to win for small targets only."""
        return f"```python\n{programs.source(task.row['gold'])}```"
