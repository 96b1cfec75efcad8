"""What the self-test lays out for attacks to find: a secret, a file, a folder and a listener."""

from __future__ import annotations

import os
import secrets
import select
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE, GLOBAL = "SANDBOX_CANARY", "HARNESS_SECRET"


@dataclass
class Traps:
    """Bait, and whether anyone took it.

    Attributes:
        token: Stands in the file, in the environment and in the main module; nowhere else.
        read: The file.
        folder: Anyone may write here; no program should.
    """

    token: str
    read: Path
    folder: Path
    tcp: socket.socket
    udp: socket.socket
    written: list[Path] = field(default_factory=list)

    def fill(self, code: str, name: str) -> str:
        """Puts the places of the bait into a program."""
        target = self.folder / name
        self.written.append(target)
        port = str(self.tcp.getsockname()[1])
        for mark, value in (("@READ@", self.read), ("@WRITE@", target), ("@PORT@", port)):
            code = code.replace(mark, str(value))
        return code

    def intact(self) -> bool:
        """Whether the file is as it was."""
        return self.read.is_file() and self.read.read_text() == self.token

    def visited(self) -> bool:
        """Whether anyone connected or sent a datagram since the last call."""
        ready, _, _ = select.select([self.tcp, self.udp], [], [], 0)
        if self.tcp in ready:
            self.tcp.accept()[0].close()
        if self.udp in ready:
            self.udp.recv(1 << 16)
        return bool(ready)


@contextmanager
def traps() -> Iterator[Traps]:
    """Lays the bait out before the sandbox starts, and clears it away."""
    token = secrets.token_hex(16)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox_selftest_")))
        read, writable = folder / "secret.txt", folder / "writable"
        read.write_text(token)
        writable.mkdir()
        folder.chmod(0o755)  # so that only the sandbox is in the way, not the owner of the files
        writable.chmod(0o777)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(tcp.getsockname())
        stack.enter_context(_secret_in_this_process(token))
        yield Traps(token, read, writable, tcp, udp)


@contextmanager
def _secret_in_this_process(token: str) -> Iterator[None]:
    os.environ[VARIABLE] = token
    setattr(sys.modules["__main__"], GLOBAL, token)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        delattr(sys.modules["__main__"], GLOBAL)
