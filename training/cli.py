"""From a command line to a config: recipe, then --config, then flags, each over the one before."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro
from taskgym.training.config import EvaluateConfig, TrainConfig
from taskgym.training.config_flags import PolicyFlags
from taskgym.training.devices import HERE, card_of
from taskgym.training.errors import ConfigError, RunError
from taskgym.training.folder import RunFolder, newest_run, newest_unfinished
from taskgym.training.recipes import Recipe, find_recipe, read_yaml

C = TypeVar("C")
_NEWEST = "newest"  # the value of --resume and --verify that stand alone
# What a resumed run may change: how long, where to, and where its completions are computed.
_MAY_CHANGE = {"steps", "save_every", "trackers", "output", "verify", "dry_run", "plan"} | {
    field.name for field in dataclasses.fields(PolicyFlags)
}


def parse_train_config(argv: Sequence[str]) -> TrainConfig:
    """The config of `train_agent`.

    Raises:
        ConfigError: A YAML file, recipe or run folder that does not fit.
    """
    argv = _with_value(list(argv), "--resume", _NEWEST)
    argv = _with_value(argv, "--verify", _NEWEST)
    argv = _with_value(_with_value(argv, "--plan", HERE), "--standby", "True")
    early = _early(argv)
    helping = any(word in ("-h", "--help") for word in argv)
    base = TrainConfig() if helping else _base(early)
    try:
        config = tyro.cli(TrainConfig, args=argv, default=base, prog="train_agent")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if early.resume:
        config = dataclasses.replace(config, resume=base.resume)  # "newest" by its name
        _check_resumable(base, config)
    if config.verify == _NEWEST:
        run = newest_run(Path(config.output), early.env)
        config = dataclasses.replace(config, verify=str(run.path))
    return config


def parse_evaluate_config(argv: Sequence[str]) -> EvaluateConfig:
    """The config of `evaluate_agent`.

    Raises:
        ConfigError: A value that does not fit.
    """
    try:
        return tyro.cli(EvaluateConfig, args=argv, prog="evaluate_agent")
    except ValueError as error:
        raise ConfigError(str(error)) from error


def recipe_config(name: str) -> TrainConfig:
    """What a recipe by itself sets.

    Raises:
        ConfigError: No such recipe.
    """
    recipe, config = find_recipe(name, ""), TrainConfig()
    for source, layer in _of_recipe(recipe) if recipe else []:
        config = overlay(config, layer, source)
    return config


def overlay(base: C, layer: Mapping[str, Any], source: str) -> C:
    """A frozen dataclass with the values of a nested mapping put over it.

    Raises:
        ConfigError: An unknown name, with the nearest known one, or a value that does not fit.
    """
    assert dataclasses.is_dataclass(base) and not isinstance(base, type)
    known = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    hints = get_type_hints(type(base))
    values: dict[str, Any] = {}
    for name, value in layer.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{source}: unknown name {name!r}.{hint} Known: {', '.join(known)}")
        values[name] = _fit(known[name], value, f"{source}: {name}")
        _check_choice(hints[name], values[name], f"{source}: {name}")
    try:
        return dataclasses.replace(base, **values)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


def _base(early: argparse.Namespace) -> TrainConfig:
    """What the flags are put over."""
    if early.resume:
        return overlay(TrainConfig(), _resumed(early), early.resume)
    base = TrainConfig()
    for source, layer in _layers(early):
        base = overlay(base, layer, source)
    return base


def _layers(early: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    config = read_yaml(Path(early.config)) if early.config else {}
    config.pop("versions", None)  # a run folder's config.yaml has them
    env = early.env or config.get("env") or TrainConfig().env
    memory = card_of(early.plan) if early.plan else None
    asked = early.recipe or config.get("recipe", "")
    recipe = find_recipe(asked, env, memory)
    layers = _of_recipe(recipe) if recipe else []
    if recipe and not asked:  # so that the run's folder says which
        config = {**config, "recipe": recipe.name}
    if early.notebook or config.get("notebook"):
        if recipe is None or recipe.notebook is None:
            name = recipe.name if recipe else f"no recipe of {env}"
            raise ConfigError(f"notebook: {name} has no settings of a notebook's")
        layers.append((f"notebook of {recipe.name}", recipe.notebook))
    return [*layers, (early.config, config)]


def _of_recipe(recipe: Recipe) -> list[tuple[str, dict[str, Any]]]:
    return [(f"recipe {recipe.name}", layer) for layer in recipe.layers]


def _resumed(early: argparse.Namespace) -> dict[str, Any]:
    if early.resume != _NEWEST:
        folder = RunFolder(Path(early.resume))
    else:
        folder = newest_unfinished(Path(early.output or TrainConfig().output), early.env)
    content = read_yaml(folder.config)
    content.pop("versions", None)
    if folder.finished:
        raise RunError(f"{folder.path} is finished; there is nothing to resume")
    return {**content, "resume": str(folder.path)}


def _check_resumable(before: TrainConfig, now: TrainConfig) -> None:
    """A resumed run is the same experiment: only how long and where may change."""
    for name in (field.name for field in dataclasses.fields(before)):
        same = getattr(before, name) == getattr(now, name)
        if not same and name not in _MAY_CHANGE:
            raise ConfigError(
                f"{name} cannot change in a resumed run: it was {getattr(before, name)!r}, "
                f"got {getattr(now, name)!r}; start a new run for that"
            )


def _early(argv: Sequence[str]) -> argparse.Namespace:
    """The few flags that decide which defaults the rest has."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--env", "--config", "--recipe", "--resume", "--output", "--plan"):
        parser.add_argument(flag, default="")
    parser.add_argument("--notebook", action="store_true")
    return parser.parse_known_args([*argv])[0]


def _with_value(argv: list[str], flag: str, value: str) -> list[str]:
    """Gives a flag that stands alone its value, which neither argparse nor tyro can both allow."""
    for i, word in enumerate(argv):
        if word == flag and (i + 1 == len(argv) or argv[i + 1].startswith("-")):
            return [*argv[: i + 1], value, *argv[i + 1 :]]
    return argv


def _fit(default: Any, value: Any, where: str) -> Any:
    """A YAML value as the field's type: nested groups, tuples, numbers written as text."""
    if dataclasses.is_dataclass(default):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must hold names and values, got {value!r}")
        return overlay(default, value, where)
    if isinstance(default, tuple):
        return tuple(value) if isinstance(value, list) else (value,)
    if isinstance(default, float) and isinstance(value, int | str):
        return _number(value, where)  # YAML reads 1e-5 as text
    if default is not None and type(value) is not type(default):
        wanted = type(default).__name__
        raise ConfigError(f"{where} must be {wanted}, got {value!r}")
    return value


def _check_choice(hint: Any, value: Any, where: str) -> None:
    """Literal fields are choices; tuples of them hold choices."""
    if get_origin(hint) is tuple:
        for item in value:
            _check_choice(get_args(hint)[0], item, where)
    elif get_origin(hint) is Literal and value not in get_args(hint):
        raise ConfigError(f"{where} must be one of {', '.join(get_args(hint))}, got {value!r}")
    elif hint == bool | None and not isinstance(value, bool | None):
        raise ConfigError(f"{where} must be true or false, got {value!r}")
    elif hint == float | None and not isinstance(value, float | int | None):
        raise ConfigError(f"{where} must be a number, got {value!r}")


def _number(value: int | str, where: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"{where} must be a number, got {value!r}") from None


def add_working_directory() -> None:
    """Makes `--env my_file:My-Env-v0` find `my_file.py` where the command was typed."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
