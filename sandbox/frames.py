"""Length-prefixed messages over file descriptors: four bytes of length, then that many bytes."""

from __future__ import annotations

import os
import struct

HEADER = struct.Struct("!I")


class Closed(EOFError):
    """The other side is gone."""


def pack(*parts: bytes) -> bytes:
    """One frame of the parts joined."""
    return HEADER.pack(sum(map(len, parts))) + b"".join(parts)


def write_frame(fd: int, *parts: bytes) -> None:
    """Writes one whole frame; blocks until the other side took it."""
    data = pack(*parts)
    sent = os.write(fd, data)
    while sent < len(data):
        sent += os.write(fd, data[sent : sent + (1 << 20)])


def read_frame(fd: int) -> bytes:
    """Reads one frame from a trusted writer, blocking.

    Raises:
        Closed: If the writer closed its end.
    """
    data = os.read(fd, 1 << 16)
    if len(data) >= 4:
        (size,) = HEADER.unpack_from(data)
        if len(data) == size + 4:
            return data[4:]
    return _read_rest(fd, data)


def _read_rest(fd: int, data: bytes) -> bytes:
    pieces = bytearray(data)
    while len(pieces) < 4 or len(pieces) < HEADER.unpack_from(pieces)[0] + 4:
        more = os.read(fd, 1 << 20) if data else b""
        if not more:
            raise Closed("the other side closed the connection")
        pieces += more
    return bytes(pieces[4:])
