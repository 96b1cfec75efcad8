"""The parent's end of one supervisor: start it, hand it jobs, give up on it in time."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskgym.sandbox.frames import HEADER
from taskgym.sandbox.job import SandboxUnavailable

START_S = 60.0  # for an interpreter to start on a machine that is busy
GRACE_S = 5.0  # beyond a job's own wall limit, which the supervisor keeps: then it is lost
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
    """One running supervisor. Not thread-safe: the pool lends it to one caller at a time."""

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
        self._buffer = bytearray()
        self.layers = self._hello(drivers, layers)

    def _hello(self, drivers: Sequence[str], layers: Sequence[str]) -> tuple[str, ...]:
        setup = {"packages": _packages(), "drivers": list(drivers), "layers": list(layers)}
        try:
            self.socket.sendall(json.dumps(setup).encode() + b"\n")
            self._deadline = time.monotonic() + START_S
            while b"\n" not in self._buffer:
                self._receive()
            line, _, rest = bytes(self._buffer).partition(b"\n")
            self._buffer = bytearray(rest)
            answer = json.loads(line)
        except OSError as error:
            self.close()
            raise SandboxUnavailable(f"a supervisor did not start: {error}{self.stderr}") from error
        if "failed" in answer:
            self.close()
            raise SandboxUnavailable(f"a supervisor did not start:\n{answer['failed']}")
        return tuple(answer["layers"])

    @property
    def stderr(self) -> str:
        """What the dead supervisor said to its standard error."""
        assert self.process.stderr is not None
        text = "" if self.process.stderr.closed else self.process.stderr.read().decode()
        return f"\n{text[-2000:]}" if text else ""

    def ask(self, orders: Sequence[tuple[Any, ...]], wall_s: float) -> Iterator[Answer]:
        """Sends orders and yields their answers in order; `wall_s` is the limit of each.

        Raises:
            Lost: If an answer does not come; the link must be closed then.
        """
        data = marshal.dumps([tuple(order) for order in orders], 2)
        self._deadline = time.monotonic() + wall_s + GRACE_S
        try:
            self.socket.settimeout(wall_s + GRACE_S)
            self.socket.sendall(HEADER.pack(len(data)) + data)
        except OSError as error:
            raise Lost(f"the supervisor takes no jobs: {error}") from error
        for _ in orders:
            self._deadline = time.monotonic() + wall_s + GRACE_S
            yield self._answer()

    def _answer(self) -> Answer:
        frame = self._frame()
        try:
            (size,) = HEADER.unpack_from(frame)
            header = json.loads(frame[4 : 4 + size])
            value, report = header["sizes"]
        except (ValueError, KeyError, TypeError) as error:
            raise Lost(f"the supervisor speaks nonsense: {error}") from error
        start = 4 + size
        middle, end = start + value, start + value + report
        return Answer(header, frame[start:middle], frame[middle:end], frame[end:])

    def _frame(self) -> bytes:
        while len(self._buffer) < 4:
            self._receive()
        size = HEADER.unpack_from(self._buffer)[0] + 4
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

    def close(self) -> None:
        """Kills the supervisor and all below it, and waits for it."""
        self.socket.close()
        self.process.kill()
        self.process.wait()

    def forget(self) -> None:
        """In a forked child: drop our copy of the connection, leave the process to its owner."""
        self.socket.close()
        self.process.returncode = 0  # so that Popen neither waits nor warns


def _spawn(theirs: socket.socket) -> subprocess.Popen[bytes]:
    environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}
    if "LD_LIBRARY_PATH" in os.environ:  # some interpreters do not start without it
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.Popen(
        [sys.executable, "-s", "-S", "-P", "-B", str(_BOOTSTRAP)],
        stdin=theirs,
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
