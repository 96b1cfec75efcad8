"""The parent's end of one supervisor: start it, hand it jobs, give up on it in time."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import socket
import struct
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgym.sandbox.frames import HEADER
from taskgym.sandbox.job import SandboxUnavailable

START_S = 60.0  # for an interpreter to start on a machine that is busy
GRACE_S = 30.0  # beyond a job's wall limit, for its driver: the supervisor itself keeps the limit
FRAME_CAP = 1 << 30  # bytes of one answer
_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")


class Lost(ConnectionError):
    """The supervisor died, hangs, or says what makes no sense."""


@dataclass(frozen=True)
class Answer:
    """What a supervisor says of one job: its own header, and bytes for the parent to decode."""

    header: dict[str, Any]
    value: bytes
    report: bytes
    stdout: bytes


class Link:
    """One running supervisor. Not thread-safe: the pool lends it to one caller at a time.

    Raises:
        SandboxUnavailable: If it does not start.
    """

    def __init__(self, drivers: Sequence[str], layers: Sequence[str]):
        ours, theirs = socket.socketpair()
        try:
            self.process = _spawn(theirs)
        except OSError as error:
            ours.close()
            raise SandboxUnavailable(f"cannot start a supervisor: {error}") from error
        finally:
            theirs.close()
        self.socket = ours
        self.close = weakref.finalize(self, _stop, ours, self.process, os.getpid())
        _links.add(self)
        self._buffer = bytearray()
        self._deadline = time.monotonic() + START_S
        self.layers = self._hello({"drivers": list(drivers), "layers": list(layers)})

    def _hello(self, setup: dict[str, Any]) -> tuple[str, ...]:
        try:
            self._send(json.dumps({"packages": _packages(), **setup}).encode() + b"\n")
            while b"\n" not in self._buffer:
                self._receive()
            answer = json.loads(self._buffer)
        except Lost as error:
            self.process.kill()
            answer = {"failed": f"{error}\n{self._stderr()}"}
        self._buffer.clear()
        if "failed" in answer:
            self.close()
            raise SandboxUnavailable(f"a supervisor did not start: {answer['failed']}")
        assert self.process.stderr is not None
        self.process.stderr.close()
        return tuple(answer["layers"])

    def _stderr(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode("utf-8", "replace")[-2000:]

    def ask(self, orders: Sequence[tuple[Any, ...]], wall_s: float) -> Iterator[Answer]:
        """Sends orders and yields their answers in order; `wall_s` is the limit of each.

        Raises:
            Lost: If an answer does not come; the link must be closed then.
        """
        data = marshal.dumps(list(orders), 2)
        patience = wall_s * min(2, len(orders)) + GRACE_S  # in a batch one may run a second time
        self._deadline = time.monotonic() + patience
        self._send(HEADER.pack(len(data)) + data)
        for _ in orders:
            yield self._answer()
            self._deadline = time.monotonic() + patience

    def _send(self, data: bytes) -> None:
        self.socket.settimeout(max(0.001, self._deadline - time.monotonic()))
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Lost(f"the supervisor takes no more: {error}") from error

    def _answer(self) -> Answer:
        frame = self._frame()
        try:
            (size,) = HEADER.unpack_from(frame)
            header = json.loads(frame[4 : 4 + size])
            value, report = header["sizes"]
            problem = header["message"] if header["status"] == "infra" else ""
        except (ValueError, KeyError, TypeError, struct.error) as error:
            raise Lost(f"the supervisor speaks nonsense: {error}") from error
        if problem:
            raise Lost(f"the supervisor is in trouble: {problem}")
        start = 4 + size
        middle, end = start + value, start + value + report
        return Answer(header, frame[start:middle], frame[middle:end], frame[end:])

    def _frame(self) -> bytes:
        while len(self._buffer) < 4:
            self._receive()
        size = HEADER.unpack_from(self._buffer)[0] + 4
        if size > FRAME_CAP:
            raise Lost("the supervisor promises too much")
        while len(self._buffer) < size:
            self._receive()
        frame = bytes(self._buffer[4:size])
        del self._buffer[:size]
        return frame

    def _receive(self) -> None:
        self.socket.settimeout(max(0.001, self._deadline - time.monotonic()))
        try:
            data = self.socket.recv(1 << 18)
        except TimeoutError:
            raise Lost("the supervisor does not answer") from None
        except OSError as error:
            raise Lost(f"the connection broke: {error}") from error
        if not data:
            raise Lost("the supervisor died")
        self._buffer += data

    def forget(self) -> None:
        """In a forked child: drops our copy of the connection; the process is the parent's."""
        self.close.detach()
        self.socket.close()
        self.process.returncode = 0  # so that Popen neither waits for it nor warns


def _stop(connection: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    """Kills a supervisor and all below it, and waits for it."""
    connection.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _forget_all() -> None:
    for link in list(_links):
        link.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _spawn(theirs: socket.socket) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise OSError("sys.executable does not say where the interpreter is")
    environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}
    if "LD_LIBRARY_PATH" in os.environ:  # some interpreters do not start without it
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.Popen(
        [sys.executable, "-s", "-S", "-P", "-B", str(_BOOTSTRAP)],
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,
    )


def _packages() -> dict[str, str]:
    spec = importlib.util.find_spec("RestrictedPython")
    if spec is None or spec.origin is None:
        raise SandboxUnavailable("RestrictedPython is not installed")
    restricted = os.path.dirname(spec.origin)
    return {"RestrictedPython": restricted, "taskgym.sandbox": str(_BOOTSTRAP.parent)}
