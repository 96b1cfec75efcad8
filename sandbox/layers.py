"""The layers of isolation by name, and which of them a sandbox must have."""

from __future__ import annotations

from enum import StrEnum


class Layer(StrEnum):
    """One independent barrier; `docs/sandbox.md` says what each stops."""

    POLICY = "policy"  # RestrictedPython with our extended policy, guards and import facades
    PROCESS = "process"  # one process a program, killed at its deadline
    RLIMITS = "rlimits"  # memory, CPU, no files, no new processes
    SECCOMP = "seccomp"  # a filter of system calls
    UID = "uid"  # not root
    USER = "user"  # the namespaces, see namespaces(7)
    NET = "net"
    IPC = "ipc"
    UTS = "uts"
    PID = "pid"
    MOUNT = "mount"  # an empty, read-only root
    NO_NEW_PRIVS = "no_new_privs"  # and no capabilities
    LANDLOCK = "landlock"  # the kernel's access control: nothing is allowed


REQUIRED = frozenset({Layer.POLICY, Layer.PROCESS, Layer.RLIMITS, Layer.SECCOMP})
ALL = frozenset(Layer)
