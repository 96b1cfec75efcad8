"""Policies without a model: the gold answer, nothing, noise, or what was said before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from taskgym.agents.policy import Completion, LockstepPolicy, Request
from taskgym.envs import Action

Script = Callable[[Request], str]


class ScriptedPolicy(LockstepPolicy):
    """Answers each request with what a script says; with a tokenizer, in tokens too."""

    def __init__(self, script: Script, tokenizer: Any = None):
        super().__init__()
        self._script = script
        self._tokenizer = tokenizer

    def _answer(self, requests: list[Request]) -> list[Completion]:
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        text, ids = self._script(request), ()
        if self._tokenizer is not None:
            said = self._tokenizer.encode(text, add_special_tokens=False)
            ids = (*said, self._tokenizer.eos_token_id)
        return Completion(request.request_id, text, ids, (0.0,) * len(ids), "stop", self._version)


def gold(request: Request) -> str:
    """The env's own best action: it must reach `max_reward`."""
    return request.episode.chat_env.gold_action()


def empty(request: Request) -> str:
    """Nothing at all: it must not be paid."""
    return ""


def random(request: Request) -> str:
    """Random text from the action space, drawn from the request's own seed."""
    return Action(seed=np.random.default_rng(request.seed)).sample()


def replay(texts: Sequence[str]) -> Script:
    """Says the given texts turn by turn, for one episode at a time."""
    return lambda request: texts[len(request.episode.trajectory.versions)]


SCRIPTS: dict[str, Script] = {"gold": gold, "empty": empty, "random": random}
