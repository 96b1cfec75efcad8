"""LoRA adapters on vLLM's servers: written to a folder once, loaded on each, and unloaded again."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from taskgym.agents.adapter import Adapter
from taskgym.agents.server_client import NotFoundError, ServerClient, ServerError

_LOADS = 5  # how often a server may have forgotten the adapter that one request needs


@dataclass(frozen=True)
class Served:
    """What servers know an adapter by. The base model has no folder."""

    name: str
    version: int
    folder: Path | None = None


class ServedAdapters:
    """Brings adapters to vLLM's servers under names that no other run uses.

    Args:
        model: The base model's name there.
        folder: Below it adapters are written; every server must see it under the same path.
    """

    def __init__(self, model: str, folder: Path):
        self._model = model
        self._folder = folder.resolve() / f"taskgym-{secrets.token_hex(4)}"
        self._numbers = count(1)
        self._loading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def written(self, adapter: Adapter | None, version: int) -> Served:
        """An adapter under a new name and in a folder of that name, on no server yet."""
        if adapter is None:
            return Served(self._model, version)
        name = f"{self._folder.name}-v{version}-{next(self._numbers)}"
        adapter.write(self._folder / name)
        return Served(name, version, self._folder / name)

    def load(self, client: ServerClient, served: Served) -> None:
        """Makes a server know an adapter, if it does not yet.

        Raises:
            ServerError: It cannot load adapters, or not this one, or serves another model.
        """
        with self._loading[client.url]:  # once for all threads that miss it
            try:
                if served.name not in _known(client):
                    self._load(client, served)
            except NotFoundError as error:
                raise ServerError(
                    f"{client.url} cannot load the adapter {served.folder}: start vLLM with "
                    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora, on a machine that sees "
                    f"this path ({error})"
                ) from error

    def _load(self, client: ServerClient, served: Served) -> None:
        if served.folder is None:
            raise ServerError(f"{client.url} does not serve {served.name} any more")
        body = {"lora_name": served.name, "lora_path": str(served.folder)}
        try:
            # 500 is how vLLM refuses an adapter, such as one of too large a rank.
            client.post("/v1/load_lora_adapter", body, final=(500,))
        except NotFoundError:
            raise
        except ServerError:
            if served.name not in _known(client):  # else only the reply of a first try was lost
                raise

    def answer(self, client: ServerClient, path: str, body: dict[str, Any], served: Served) -> Any:
        """A server's answer to a request, written by just this adapter.

        A server that was restarted has forgotten it: it is loaded again, the request sent again.
        """
        body = {"model": served.name, **body}
        for _ in range(_LOADS):
            try:
                answer = client.post(path, body)
            except NotFoundError:
                self.load(client, served)
                continue
            if answer["model"] != served.name:
                raise ServerError(f"asked {served.name} and {answer['model']} answered")
            return answer
        raise ServerError(f"{client.url} forgets {served.name} again and again")

    def tidy(self, client: ServerClient, kept: Collection[str]) -> None:
        """Unloads this run's adapters but these, as a server that was away may still hold some."""
        for name in _known(client):
            if name.startswith(self._folder.name) and name not in kept:
                self.unload(client, name)

    def unload(self, client: ServerClient, name: str) -> None:
        """Asks once, whatever comes of it: a restarted server has forgotten it already."""
        client.attempt("/v1/unload_lora_adapter", {"lora_name": name})

    def remove(self, served: Served) -> None:
        """Deletes the files of an adapter."""
        if served.folder is not None:
            shutil.rmtree(served.folder, ignore_errors=True)

    def remove_all(self) -> None:
        """Deletes the files of all adapters of this run."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _known(client: ServerClient) -> list[str]:
    return [model["id"] for model in client.get("/v1/models")["data"]]
