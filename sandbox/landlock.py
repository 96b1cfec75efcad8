"""Landlock, the kernel's own access control: here it denies all files, TCP and outside signals.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import struct

from taskgym.sandbox.linux import syscall

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # the same on every architecture
_VERSION_FLAG = 1


def version() -> int:
    """The kernel's Landlock ABI; 0 where there is none."""
    try:
        return syscall(_CREATE_RULESET, 0, 0, _VERSION_FLAG)
    except OSError:
        return 0


def deny_all() -> None:
    """Denies this process and its children all that this kernel's Landlock knows of.

    Raises:
        OSError: If the kernel has no Landlock, or refuses.
    """
    abi = version()
    files = 0x1FFF | (abi >= 2) << 13 | (abi >= 3) << 14 | (abi >= 5) << 15
    tcp = 0b11 if abi >= 4 else 0  # bind, connect
    scopes = 0b11 if abi >= 6 else 0  # abstract Unix sockets and signals beyond the domain
    attributes = struct.pack("=QQQ", files, tcp, scopes)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = syscall(_CREATE_RULESET, ctypes.create_string_buffer(attributes, 24), size, 0)
    try:
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
