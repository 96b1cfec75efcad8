"""The file a supervisor is started with: `python -s -S -P -B bootstrap.py`, the socket as stdin.

It runs without `site`, so it makes the two packages importable itself, and without running the
public face of `taskgym.sandbox`, which a supervisor has no use for. All is loaded before rights
are given up: the project may lie where nobody else can read.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from types import ModuleType
from typing import Any


def main() -> None:
    """Loads, confines itself, tells the parent what is active, and serves."""
    setup = _receive()
    try:
        _make_importable(setup)
        drivers = [_load(path, number) for number, path in enumerate(setup["drivers"])]
        from taskgym.sandbox.start import start
    except BaseException:
        _send({"failed": traceback.format_exc(limit=-3)})
        raise
    start(setup, drivers, _send)


def _receive() -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(0, 1 << 16)
        if not piece:
            sys.exit(1)
        data += piece
    return dict(json.loads(data))


def _send(message: dict[str, Any]) -> None:
    os.write(0, json.dumps(message).encode() + b"\n")


def _make_importable(setup: dict[str, Any]) -> None:
    for name, folder in setup["packages"].items():
        parent = name.rpartition(".")[0]
        if parent and parent not in sys.modules:
            sys.modules[parent] = ModuleType(parent)
            sys.modules[parent].__path__ = []
        if name == "taskgym.sandbox":
            package = sys.modules[name] = ModuleType(name)
            package.__path__ = [folder]
        else:
            _import_from(name, folder)


def _import_from(name: str, folder: str) -> None:
    """Imports one package from its folder; its site-packages stay unknown to this process."""
    path = os.path.join(folder, "__init__.py")
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[folder])
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _load(path: str, number: int) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"taskgym_driver_{number}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
