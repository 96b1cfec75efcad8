"""The system call filter of a child: what Python needs is allowed, the rest fails or kills.

A call that harmless Python may try (opening a file for a codec, asking for the time zone) fails
with EPERM, which the program sees as an exception. A call that no harmless program makes (fork,
exec, kill, ptrace, ...) kills the child with SIGSYS: the status `violation`.
"""

from __future__ import annotations

import ctypes
import os
import struct

from taskgym.sandbox.linux import PR_SET_SECCOMP, prctl

# name: (x86_64, aarch64); the kernel's tables. The frequent ones first: the filter is a list.
ALLOW = {
    "read": (0, 63),
    "write": (1, 64),
    "brk": (12, 214),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "futex": (202, 98),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "sigaltstack": (131, 132),
    "sched_yield": (24, 124),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrusage": (98, 165),
    "getrandom": (318, 278),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "poll": (7, None),
}
REFUSE = {
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "creat": (85, None),
    "stat": (4, None),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents": (78, None),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "connect": (42, 203),
    "getsockname": (51, 204),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "setsockopt": (54, 208),
    "getsockopt": (55, 209),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "select": (23, None),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "getrlimit": (97, 163),
    "prlimit64": (302, 261),
    "sched_getaffinity": (204, 123),
    "sched_setaffinity": (203, 122),
    "prctl": (157, 167),
    "set_robust_list": (273, 99),
    "rt_sigtimedwait": (128, 137),
    "tgkill": (234, 131),  # abort() tries it, then traps: a crash, not a violation
}
_MAPPING = {"mmap": (9, 222), "mprotect": (10, 226)}  # allowed without PROT_EXEC
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _EPERM, _PASS = 0x80000000, 0x00050001, 0x7FFF0000
_NUMBER, _ARCH, _THIRD_ARGUMENT = 0, 4, 32  # offsets in struct seccomp_data
_PROT_EXEC = 4
_X32 = 0x40000000  # x86_64's second set of numbers


def program() -> bytes:
    """The filter as BPF for this machine.

    Raises:
        OSError: If the architecture has no table here.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURE:
        raise OSError(f"no table of system calls for {machine}")
    column = 0 if machine == "x86_64" else 1
    code = [_op(_LOAD, _ARCH), _op(_EQUAL, _ARCHITECTURE[machine], 1, 0), _op(_RETURN, _KILL)]
    code += [_op(_LOAD, _NUMBER)]
    code += [_op(_AT_LEAST, _X32, 0, 1), _op(_RETURN, _KILL)]
    code += _answers(ALLOW, column, _PASS) + _mappings(column) + _answers(REFUSE, column, _EPERM)
    return b"".join([*code, _op(_RETURN, _KILL)])


def _answers(table: dict[str, tuple[int, int | None]], column: int, answer: int) -> list[bytes]:
    numbers = [row[column] for row in table.values() if row[column] is not None]
    return [
        op for n in numbers if n is not None for op in (_op(_EQUAL, n, 0, 1), _op(_RETURN, answer))
    ]


def _mappings(column: int) -> list[bytes]:
    code = []
    for row in _MAPPING.values():
        code += [
            _op(_EQUAL, row[column], 0, 4),
            _op(_LOAD, _THIRD_ARGUMENT),
            _op(_ANY_BIT, _PROT_EXEC, 0, 1),
            _op(_RETURN, _EPERM),
            _op(_RETURN, _PASS),
        ]
    return code


def _op(code: int, k: int, when_true: int = 0, when_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, when_true, when_false, k)


class Filter:
    """A filter in memory, built once before forking and installed in every child."""

    def __init__(self) -> None:
        code = program()
        self._code = ctypes.create_string_buffer(code, len(code))
        address = ctypes.addressof(self._code)
        self._header = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, address))

    def install(self) -> None:
        """Puts this process under the filter for ever; needs no-new-privs."""
        prctl(PR_SET_SECCOMP, 2, ctypes.addressof(self._header))  # 2: SECCOMP_MODE_FILTER
