"""Plays 2048 with a program in the sandbox: the file its trusted side loads, by its path.

Standard library only, with the engine from the file beside it. In mode "outside" (`play`) the game,
its generator and its score stay in the trusted process, and the program is sent one board a move.
In mode "inside" (`play_inside`, then `check`) the game runs beside the program, and the keys it
says it pressed are pressed again on the trusted side: a score is never taken from the program.

A task is `{"seeds": [...], "size": 4, "target": 2048, "until_won": bool}`; what comes back is one
mapping a game (`_Table.outcome`). A game ends when no move is left ("over"); when the target is
reached, if the task says so ("won"); after `STUCK` answers in a row that changed nothing ("stuck");
at an answer that is no move ("invalid_move"); when the program broke off ("failed"). After the last
two no further game is played.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

STUCK = 16  # answers in a row that change nothing
SHOWN = 60  # characters kept of an answer that is no move

Outcome = dict[str, Any]


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"game2048_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_engine = _load("engine")
_KEYS = frozenset(_engine.KEYS)


def play(task: Mapping[str, Any], call: Any) -> list[Outcome]:
    """Plays the games of a task, asking the program through `call(board)`.

    A program that ends (it raised, ran out of time, ...) ends the game with what it had reached.
    """
    outcomes: list[Outcome] = []
    for seed in task["seeds"]:
        table = _Table(task, seed)
        try:
            table.play(call)
        except call.Ended:
            outcomes.append(table.outcome("failed"))
            break
        outcomes.append(table.outcome())
        if table.stop == "invalid_move":
            break
    return outcomes


def play_inside(task: Mapping[str, Any], entry: Callable[[list[list[int]]], Any]) -> list[Outcome]:
    """Plays the games beside the program, and tells the keys pressed and the seconds it took."""
    outcomes: list[Outcome] = []
    for seed in task["seeds"]:
        table, began = _Table(task, seed), time.process_time()
        table.play(entry)
        seconds = time.process_time() - began
        outcomes.append({"keys": "".join(table.keys), "answer": table.answer, "seconds": seconds})
        if table.stop == "invalid_move":
            break
    return outcomes


def check(task: Mapping[str, Any], value: Any) -> list[Outcome]:
    """The outcomes of the games whose keys came back from `play_inside`, by pressing them again.

    Raises:
        ValueError: What came back is no list of whole games of this task.
    """
    if type(value) is not list or not 1 <= len(value) <= len(task["seeds"]):
        raise ValueError("the program's side returned no list of games")
    outcomes = [_replay(task, *each) for each in zip(task["seeds"], value, strict=False)]
    if len(value) < len(task["seeds"]) and outcomes[-1]["stop"] != "invalid_move":
        raise ValueError(f"{len(value)} of {len(task['seeds'])} games came back")
    return outcomes


class _Table:
    """One game and the answers given in it."""

    def __init__(self, task: Mapping[str, Any], seed: int):
        self.game = _engine.Game(seed, task["size"], task["target"])
        self.until_won: bool = task["until_won"]
        self.keys: list[str] = []  # every answer that was a key, whether it moved or not
        self.idle = 0  # answers in a row that changed nothing
        self.stop = self._ended()
        self.answer = ""  # the answer that was no move, as text

    def play(self, ask: Callable[[list[list[int]]], Any]) -> None:
        """Asks for moves until the game has ended."""
        while not self.stop:
            self.press(ask(self.game.board))

    def press(self, key: Any) -> None:
        """Plays one answer."""
        if type(key) is not str or key not in _KEYS:
            self.stop, self.answer = "invalid_move", repr(key)[:SHOWN]
            return
        self.keys.append(key)
        if self.game.move(key):
            self.idle = 0
            self.stop = self._ended()
        else:
            self.idle += 1
            self.stop = "stuck" if self.idle == STUCK else ""

    def outcome(self, stop: str = "") -> Outcome:
        """What is known of the game now."""
        game = self.game
        return {
            "score": game.score,
            "max_tile": game.max_tile,
            "moves": game.moves,
            "won": game.won,
            "stop": stop or self.stop,
            "answer": self.answer,
            "keys": "".join(self.keys),
        }

    def _ended(self) -> str:
        if self.until_won and self.game.won:
            return "won"
        return "over" if self.game.over else ""


def _replay(task: Mapping[str, Any], seed: int, told: Any) -> Outcome:
    """One game played again from its keys; it must end where they end, and nowhere before."""
    keys, answer, seconds = told["keys"], told["answer"], told["seconds"]
    if (type(keys), type(answer), type(seconds)) != (str, str, float):
        raise ValueError("a game came back without its keys")
    table = _Table(task, seed)
    for key in keys:
        if table.stop:
            raise ValueError(f"keys came back after the game had ended ({table.stop})")
        table.press(key)
    if not table.stop:
        table.stop, table.answer = "invalid_move", answer[:SHOWN]
    return {**table.outcome(), "seconds": seconds}
