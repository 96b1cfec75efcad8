"""What fields of several configs share: names and values in one flag, and a least value."""

from __future__ import annotations

from typing import Annotated, Any

import tyro
import yaml

Kwargs = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="YAML",
        instance_from_str=lambda words: _mapping(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [yaml.safe_dump(value, default_flow_style=True).strip()],
    ),
]


def at_least(name: str, value: int, least: int) -> None:
    """Refuses a value below the least.

    Raises:
        ValueError: It is; the field and both values are named.
    """
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _mapping(text: str) -> dict[str, Any]:
    value = yaml.safe_load(text)
    if not isinstance(value, dict):
        raise ValueError(f"names and values are wanted, such as '{{numeric: true}}', got {text!r}")
    return value
