"""The filter answers every system call as its tables say, on both architectures, run as BPF."""

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from taskgym.sandbox import seccomp

KILL, EPERM, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4


@pytest.fixture(params=AUDIT)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=request.param))
    yield request.param


def answer(code: bytes, number: int, audit: int, *args: int) -> int:
    """Interprets classic BPF over `struct seccomp_data`."""
    data = struct.pack("=iIQ6Q", number, audit, 0, *args, *[0] * (6 - len(args)))
    accumulator = at = 0
    while True:
        op, when_true, when_false, k = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if op == 0x06:  # return
            return k
        if op == 0x20:  # load a word
            (accumulator,) = struct.unpack_from("=I", data, k)
        else:
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: accumulator & k}[op]
            at += when_true if holds else when_false


def numbers(table: dict[str, tuple[int, int | None]], machine: str) -> dict[str, int]:
    column = list(AUDIT).index(machine)
    return {name: n for name, row in table.items() if (n := row[column]) is not None}


def test_every_call_is_answered_as_its_table_says(machine: str) -> None:
    code, audit = seccomp.program(), AUDIT[machine]
    wanted = dict.fromkeys(range(600), KILL)
    for table, verdict in ((seccomp.ALLOW, ALLOW), (seccomp.REFUSE, EPERM)):
        wanted |= dict.fromkeys(numbers(table, machine).values(), verdict)
    mapping = numbers(seccomp._MAPPING, machine)
    wanted |= dict.fromkeys(mapping.values(), ALLOW)
    assert {n: answer(code, n, audit, 0, 0, PROT_READ | PROT_WRITE) for n in wanted} == wanted
    for number in mapping.values():
        assert answer(code, number, audit, 0, 4096, PROT_READ | PROT_EXEC) == EPERM


def test_other_architectures_and_the_second_table_of_numbers_are_killed(machine: str) -> None:
    code, other = seccomp.program(), AUDIT["aarch64" if machine == "x86_64" else "x86_64"]
    for audit in (other, 0x40000003, 0):  # 0x40000003: 32-bit x86
        assert {answer(code, n, audit) for n in range(600)} == {KILL}
    assert {answer(code, 0x40000000 + n, AUDIT[machine]) for n in range(600)} == {KILL}
    assert answer(code, -1, AUDIT[machine]) == KILL


def test_no_call_stands_in_two_tables(machine: str) -> None:
    tables = (seccomp.ALLOW, seccomp.REFUSE, seccomp._MAPPING)
    found = [n for table in tables for n in numbers(table, machine).values()]
    assert len(found) == len(set(found))


def test_what_leads_out_is_in_no_table() -> None:
    out = "clone clone3 fork vfork execve execveat kill tkill ptrace process_vm_readv bpf mount"
    out += " unshare setns pidfd_open pidfd_getfd io_uring_setup userfaultfd memfd_create keyctl"
    out += " setuid setresuid chroot pivot_root init_module kexec_load seccomp perf_event_open"
    assert not set(out.split()) & {*seccomp.ALLOW, *seccomp.REFUSE, *seccomp._MAPPING}


def test_the_numbers_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("needs the kernel's headers")
    lines = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text())
    kernel = {name: int(number) for name, number in lines}
    kernel.setdefault("newfstatat", kernel.get("fstatat", -1))  # its name on 64-bit machines
    for table in (seccomp.ALLOW, seccomp.REFUSE, seccomp._MAPPING):
        for name, number in numbers(table, machine).items():
            assert kernel[name] == number, name


def test_a_machine_without_a_table_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program()
