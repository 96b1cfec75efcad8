"""Recipes: YAML files of settings for an env, by name or as an env's default on this machine."""

from __future__ import annotations

import difflib
from pathlib import Path

from taskgym.training.devices import has_cuda
from taskgym.training.errors import ConfigError

_FOLDER = Path(__file__).parent

# Env -> recipe without CUDA, recipe with it.
DEFAULTS = {
    "Arithmetic-v0": ("smollm2-135m-arithmetic", "smollm2-135m-arithmetic"),
    "Game2048-Strategy-v0": ("smollm2-135m-game2048-strategy", "smollm2-135m-game2048-strategy"),
    "GuessNumber-v0": ("smollm2-135m-guess-number", "smollm2-135m-guess-number"),
    "Math-DAPO-v0": ("smollm2-135m-dapo", "qwen3-4b-dapo"),
    "Math-GSM8K-v0": ("smollm2-135m-gsm8k", "llama3.1-8b-gsm8k"),
    "Math-GSM8K-Shaped-v0": ("smollm2-135m-gsm8k", "llama3.2-3b-gsm8k-shaped"),
}


def find_recipe(name: str, env: str) -> Path | None:
    """The YAML file of a recipe.

    Args:
        name: A shipped recipe's name or a path; empty for the env's default on this machine.
        env: The env id, with or without its module.

    Raises:
        ConfigError: No such recipe.
    """
    if not name:
        defaults = DEFAULTS.get(env.split(":")[-1])
        return _FOLDER / f"{defaults[has_cuda()]}.yaml" if defaults else None
    for path in (_FOLDER / f"{name}.yaml", Path(name)):
        if path.is_file():
            return path
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"no recipe {name!r}.{hint} There are: {', '.join(names())}")


def names() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))
