"""Recipes: YAML files of settings for an env, by name or as an env's default on this machine.

A file holds the settings of a run and two sections of differences. `small`: by the memory of a GPU
(`--recipe qwen3-4b-dapo-16gb` takes `16gb`). `notebook`: what the Unsloth notebook sets that the
recipe comes from (`--notebook` lays it over).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from taskgym.training.devices import gpu_memory
from taskgym.training.errors import ConfigError

_FOLDER = Path(__file__).parent
_SMALL, _NOTEBOOK = "small", "notebook"
_NOMINAL = 0.9  # a card sold with 24 GB reports a little less

# Env -> recipe without CUDA, recipe with it.
DEFAULTS = {
    "Arithmetic-v0": ("smollm2-135m-arithmetic", "smollm2-135m-arithmetic"),
    "Game2048-Strategy-v0": ("smollm2-135m-2048", "gpt-oss-20b-2048"),
    "Game2048-v0": ("smollm2-135m-2048-play", "gpt-oss-20b-2048-play"),
    "GuessNumber-v0": ("smollm2-135m-guess-number", "smollm2-135m-guess-number"),
    "Math-DAPO-v0": ("smollm2-135m-dapo", "qwen3-4b-dapo"),
    "Math-GSM8K-v0": ("smollm2-135m-gsm8k", "llama3.1-8b-gsm8k"),
    "Math-GSM8K-Shaped-v0": ("smollm2-135m-gsm8k-shaped", "llama3.2-3b-gsm8k-shaped"),
    "Vision-MathVista-v0": ("gemma3-4b-mathvista", "gemma3-4b-mathvista"),
}

Settings = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What a recipe sets.

    Attributes:
        name: Its name, with the size of a small one.
        layers: Settings, each over the one before.
        notebook: What the notebook sets otherwise; None where there is no such notebook.
    """

    name: str
    layers: tuple[Settings, ...]
    notebook: Settings | None


def find_recipe(name: str, env: str, memory: float | None = None) -> Recipe | None:
    """A recipe by its name.

    Args:
        name: A shipped recipe's name or a path; empty for the env's default on this machine.
        env: The env id, with or without its module.
        memory: GiB of the GPU it is for, 0 for none; None for this machine's.

    Raises:
        ConfigError: No such recipe, or one that is no YAML.
    """
    if not name:
        defaults = DEFAULTS.get(env.split(":")[-1])
        memory = gpu_memory() if memory is None else memory
        return _that_fits(defaults[memory > 0], memory) if defaults else None
    if path := _file(name):
        return _read(path)
    base, _, size = name.rpartition("-")
    if (path := _file(base)) and size in _sizes(path):
        return _read(path, size)
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"no recipe {name!r}.{hint} There are: {', '.join(names())}")


def names() -> list[str]:
    """The names of the shipped recipes, small ones included."""
    found = []
    for path in sorted(_FOLDER.glob("*.yaml")):
        found += [path.stem, *(f"{path.stem}-{size}" for size in _sizes(path))]
    return found


def sisters(name: str, memory: float) -> list[str]:
    """The small forms of a recipe that are for GPUs of at most this memory, the largest first.

    Args:
        name: The recipe, or one of its small forms.
        memory: GiB.
    """
    path = _file(name) or _file(name.rpartition("-")[0])
    sizes = _sizes(path) if path else []
    fitting = [size for size in sizes if _gigabytes(size) * _NOMINAL <= memory]
    return [f"{path.stem}-{size}" for size in fitting] if path else []


def read_yaml(path: Path) -> Settings:
    """The mapping in a YAML file.

    Raises:
        ConfigError: No such file, no YAML, or no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold names and values, got {type(content).__name__}")
    return content


def _that_fits(name: str, memory: float) -> Recipe:
    """The recipe itself on a GPU larger than its small forms are for, else the largest of those."""
    path = _FOLDER / f"{name}.yaml"
    sizes = _sizes(path)
    if not sizes or not memory or memory > 1.25 * _gigabytes(sizes[0]):
        return _read(path)
    fitting = [size for size in sizes if _gigabytes(size) * _NOMINAL <= memory]
    return _read(path, (fitting or sizes[-1:])[0])


def _read(path: Path, size: str = "") -> Recipe:
    settings = read_yaml(path)
    small, notebook = settings.pop(_SMALL, {}), settings.pop(_NOTEBOOK, None)
    if not size:
        return Recipe(path.stem, (settings,), notebook)
    return Recipe(f"{path.stem}-{size}", (settings, small[size]), None)


def _sizes(path: Path) -> list[str]:
    """The sizes of its small forms, the largest first."""
    return sorted(read_yaml(path).get(_SMALL, {}), key=_gigabytes, reverse=True)


def _gigabytes(size: str) -> int:
    return int(size.removesuffix("gb"))


def _file(name: str) -> Path | None:
    paths = (_FOLDER / f"{name}.yaml", Path(name))
    return next((path for path in paths if path.is_file()), None)
