"""What the maths envs share: tagged replies, a verdict in `info`, gold replies with a working."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from taskgym.envs.answers import Verdict
from taskgym.envs.core import Step
from taskgym.envs.dataset import DatasetEnv
from taskgym.envs.math_scores import judge
from taskgym.envs.rubric import Task, weighted_sum
from taskgym.envs.tags import Tags, read

WORKING = "I work through the given facts one at a time."


class MathEnv(DatasetEnv):
    """A question whose answer a verifier compares by value, asked for between tags.

    `info["verdict"]` says how the answer compared (`equal`, `different`, `unparsed`, `timeout`;
    `unparsed` too when no answer block could be read) and `info["success"]` whether it is equal.
    """

    tags: ClassVar[Tags]
    layout: ClassVar[str]  # how a gold reply is laid out, with {working} and {answer}
    best: ClassVar[Mapping[str, float]]  # the scores of a gold reply

    @property
    def max_reward(self) -> float:
        """The reward of a gold reply under the weights in force."""
        return weighted_sum(self.rubric.weights, self.best)

    def gold(self, task: Task, working: str = WORKING) -> str:
        """A reply that earns `max_reward`, with a working of one's own between its tags."""
        return self.layout.format(working=working, answer=task.answer)

    def verdict(self, completion: str, task: Task) -> Verdict:
        """How the answer block compares with the gold answer."""
        answer = read(completion, self.tags).answer
        return Verdict.UNPARSED if answer is None else judge(answer.strip(), task.answer)

    def solved(self, completion: str, task: Task, rewards: Mapping[str, float]) -> bool:
        """Whether the answer stands in its block and is equal in value."""
        return self.verdict(completion, task) is Verdict.EQUAL

    def step(self, action: str) -> Step:
        """Scores the reply and says how its answer compared."""
        *outcome, info = super().step(action)
        equal = info["success"]  # compared just now
        info["verdict"] = str(Verdict.EQUAL if equal else self.verdict(action or "", self.task))
        return (*outcome, info)  # type: ignore[return-value]


class SolutionTagsEnv(MathEnv):
    """A maths env with working-out and SOLUTION tags, whose `check_answer` knows near misses.

    Args:
        near_miss: Whether `check_answer` pays for values within 10 and 20 percent.
        dataset: The keyword arguments of `DatasetEnv`.
    """

    layout = "<start_working_out>{working}<end_working_out>\n<SOLUTION>{answer}</SOLUTION>"

    def __init__(self, *, near_miss: bool = True, **dataset: Any):
        if not near_miss:
            usual: Callable[..., float] = self.rubric.components["check_answer"]
            strict = partial(usual, near_miss=False)
            self.rubric = self.rubric.with_component("check_answer", strict)
        super().__init__(**dataset)
