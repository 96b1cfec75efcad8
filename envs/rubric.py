"""A rubric: the named, weighted components whose sum is the reward."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from types import MappingProxyType
from typing import Any

from taskgym.envs.errors import RewardError


@dataclass(frozen=True, slots=True)
class Task:
    """One problem.

    Attributes:
        question: What is asked.
        answer: The gold answer as text; empty where a task has none.
        task_id: Hash of the content: equal rows have equal ids on every machine.
        row: The whole row it came from, read-only, for components that need more columns.
    """

    question: str
    answer: str
    task_id: str
    row: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)


Component = Callable[[str, Task], float]


class Rubric:
    """Components and their weights: `Rubric({"correct": (correct, 1.0), "tagged": (tagged, 0.1)})`.

    A component is a pure function `f(completion, task) -> float`. A weight of 0 keeps a component
    as a metric that is logged but not paid.
    """

    def __init__(self, components: Mapping[str, tuple[Component, float]]):
        if not components:
            raise ValueError("a rubric needs at least one component, got none")
        self.components = {name: function for name, (function, _) in components.items()}
        self.weights = {name: float(weight) for name, (_, weight) in components.items()}

    def score(self, completion: str, task: Task) -> dict[str, float]:
        """Every component of one completion, unweighted.

        Raises:
            RewardError: A component returned NaN, infinity or no number.
        """
        return {
            name: finite(name, component(completion, task))
            for name, component in self.components.items()
        }

    def total(self, rewards: Mapping[str, float]) -> float:
        """The reward: the sum of weight x component."""
        return weighted_sum(self.weights, rewards)

    def reweighted(self, weights: Mapping[str, float]) -> Rubric:
        """The same components with some weights replaced by name.

        Raises:
            ValueError: A name this rubric does not have; the message lists the known ones.
        """
        check_names(weights, self.weights, "reward component")
        merged = {**self.weights, **weights}
        return Rubric({name: (self.components[name], merged[name]) for name in self.components})

    def with_component(self, name: str, component: Component) -> Rubric:
        """The same rubric with one function exchanged; its name and weight stay."""
        functions = {**self.components, name: component}
        return Rubric({known: (functions[known], self.weights[known]) for known in self.weights})

    def zeros(self) -> dict[str, float]:
        """Every component at 0, as reported before anything was scored."""
        return dict.fromkeys(self.components, 0.0)

    @property
    def maximum(self) -> float:
        """The largest reward if every component lies in [0, 1]; other envs say theirs."""
        return sum(weight for weight in self.weights.values() if weight > 0)


def weighted_sum(weights: Mapping[str, float], rewards: Mapping[str, float]) -> float:
    """The sum of weight x component over the rewards given."""
    return float(sum(weights[name] * value for name, value in rewards.items()))


def check_names(given: Mapping[str, Any], known: Mapping[str, Any], what: str) -> None:
    """Refuses names that are not known, naming the nearest right one."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"no {what} {name!r}; there are {', '.join(known)}.{hint}")


def finite(name: str, value: Any) -> float:
    """A component's value, if it is a finite number; it names itself if not."""
    if isinstance(value, (float, Real)) and math.isfinite(value):
        return float(value)
    raise RewardError(f"reward component {name!r} returned {value!r}; it must be a finite number")
