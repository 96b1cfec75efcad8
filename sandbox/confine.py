"""How a supervisor gives up its rights, layer by layer, before any program exists."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

from taskgym.sandbox import host, landlock, linux
from taskgym.sandbox.layers import Layer
from taskgym.sandbox.seccomp import Filter

NOBODY = 65534
HIGHEST = 4096  # above every descriptor that a supervisor has


def confine(wanted: frozenset[Layer]) -> list[Layer]:
    """Enters the wanted layers that this machine offers; returns those that are now active.

    Everything that needs a file must have been loaded before. Layers of the child (seccomp, most
    rlimits) are not entered here. May fork: with a pid namespace the caller returns as its pid 1.
    """
    active = []
    for layer, enter in _STEPS.items():
        if layer in wanted and _entered(enter):
            active.append(layer)
    if Layer.PID in active:
        _become_first_process()
    return active


def seccomp_works() -> bool:
    """Whether this kernel takes our filter; tried in a process that ends at once."""
    pid = os.fork()
    if pid == 0:
        try:
            linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
            Filter().install()
            os._exit(0)
        except OSError:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _entered(enter: Callable[[], None]) -> bool:
    try:
        enter()
    except OSError:
        return False
    return True


def _leave_root() -> None:
    """Root's children would not be bound by RLIMIT_NPROC, and root owns too much."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else our own /proc/self/uid_map is not ours


def _own_user_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _own_mounts() -> None:
    linux.unshare(linux.CLONE_NEWNS)
    linux.enter_empty_root()


def _no_new_privileges() -> None:
    linux.drop_capabilities()
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)


_STEPS: dict[Layer, Callable[[], None]] = {
    Layer.UID: _leave_root,
    Layer.USER: _own_user_namespace,
    Layer.NET: lambda: linux.unshare(linux.CLONE_NEWNET),
    Layer.IPC: lambda: linux.unshare(linux.CLONE_NEWIPC),
    Layer.UTS: lambda: linux.unshare(linux.CLONE_NEWUTS),
    Layer.PID: lambda: linux.unshare(linux.CLONE_NEWPID),
    Layer.MOUNT: _own_mounts,
    Layer.NO_NEW_PRIVS: _no_new_privileges,
    Layer.LANDLOCK: landlock.deny_all,
}


def _become_first_process() -> None:
    """Forks into the new pid namespace; this process stays behind as a mere stand-in.

    Killing either kills every process of the namespace; so does the parent when it goes, even if
    a driver has lost itself.
    """
    pid = os.fork()
    if pid == 0:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    os.closerange(1, HIGHEST)
    if (process := host.open_process(pid)) >= 0:
        poller = select.poll()
        poller.register(0, 0)  # the socket to the parent: only to hear that it is gone
        poller.register(process, select.POLLIN)
        poller.poll()
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os._exit(os.waitstatus_to_exitcode(status) != 0)
