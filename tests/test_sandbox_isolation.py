"""Each layer does what it says, alone and where another is missing; none is silently inactive."""

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from taskgym.sandbox import Job, Limits, Result, Sandbox, Status
from taskgym.sandbox.landlock import version as landlock_version
from taskgym.sandbox.layers import ALL, Layer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these layers are Linux's")

NAMESPACES = {Layer.USER, Layer.NET, Layer.IPC, Layer.UTS, Layer.PID, Layer.MOUNT}
CANARY = "a secret of the trainer, built at run time: " + str(os.getpid())


def succeeds(script: str) -> bool:
    command = [sys.executable, "-c", script]
    return not subprocess.run(command, stderr=subprocess.DEVNULL).returncode


def offered() -> set[Layer]:
    """What this machine offers, found out without the sandbox's own code where that is possible."""
    layers = set(ALL)
    if not succeeds("import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x10000000))"):
        layers -= NAMESPACES
    if os.geteuid() == 0 and not succeeds("import os; os.setgroups([]); os.setuid(65534)"):
        layers.discard(Layer.UID)  # root of a user namespace that knows no other user
    if not landlock_version():
        layers.discard(Layer.LANDLOCK)
    return layers


@pytest.fixture(scope="module")
def all_but_policy() -> Iterator[Sandbox]:
    with Sandbox(workers=1, layers=tuple(offered() - {Layer.POLICY})) as box:
        yield box


@pytest.fixture
def only() -> Iterator[Callable[..., Sandbox]]:
    boxes = []

    def make(*layers: str) -> Sandbox:
        boxes.append(Sandbox(workers=1, layers=("process", *layers)))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()


def attempt(box: Sandbox, *lines: str, limits: Limits | None = None) -> Result:
    """Runs lines as the body of a function that returns `out`."""
    body = "\n    ".join(["def strategy(out):", *lines, "return out"])
    return box.run(body, args=[None], limits=limits)


def test_every_layer_that_the_machine_offers_is_active() -> None:
    with Sandbox(workers=1, layers="strict") as box:
        assert set(box.layers) >= offered()
        assert box.run("def strategy(): return 1").layers == box.layers


# --- the operating system's layers, with the policy off ------------------------------------------

CALLS = (
    "import ctypes, os; raw = ctypes.CDLL(None).syscall; raw.restype = ctypes.c_long; "
    "call = lambda *all: raw(*[ctypes.c_long(n) if type(n) is int else n for n in all])"
)
REACHES = {
    "read a file": ["open('/etc/passwd').read()"],
    "read its maps": ["open('/proc/self/maps').read()"],
    "read the parent's environment": ["open('/proc/1/environ').read()"],
    "list the root": ["import os", "os.listdir('/')"],
    "write a file": ["open('/tmp/x', 'w').write('x')"],
    "make a folder": ["import os", "os.mkdir('/tmp/x')"],
    "stat a file": ["import os", "os.stat('/etc/passwd')"],
    "make a TCP socket": [CALLS, "assert call(41, 2, 1, 0) >= 0"],
    "make a UDP socket": [CALLS, "assert call(41, 2, 2, 0) >= 0"],
    "make a netlink socket": [CALLS, "assert call(41, 16, 3, 0) >= 0"],
    "make a socket pair": [CALLS, "assert call(53, 1, 1, 0, ctypes.byref(ctypes.c_long())) == 0"],
    "fork": ["import os", "os.fork()"],
    "fork as libc does": ["import ctypes", "assert ctypes.CDLL(None).fork() >= 0"],
    "start a thread": ["import _thread", "_thread.start_new_thread(print, ())"],
    "exec": ["import os", "os.execv('/bin/sh', ['sh'])"],
    "kill the supervisor": ["import os", "os.kill(os.getppid(), 9)"],
    "kill all": ["import os", "os.kill(-1, 9)"],
    "raise a limit": ["import resource as r", "r.setrlimit(r.RLIMIT_AS, (-1, -1))"],
    "duplicate a descriptor": ["import os", "os.dup(4)"],
    "make a pipe": ["import os", "os.pipe()"],
    "sleep": ["import time", "time.sleep(0.01)"],
    "ask who it is": [CALLS, "assert call(102) >= 0"],
    "trace": [CALLS, "assert call(101, 0, 0, 0, 0) == 0"],
    "read another's memory": [CALLS, "assert call(310, os.getppid(), 0, 0, 0, 0, 0) == 0"],
    "make a file in memory": [CALLS, "assert call(319, b'x', 0) >= 0"],
    "set up io_uring": [CALLS, "assert call(425, 1, ctypes.create_string_buffer(120)) >= 0"],
    "load a BPF program": [CALLS, "assert call(321, 0, 0, 0) == 0"],
    "handle page faults": [CALLS, "assert call(323, 1) >= 0"],
    "mount": [CALLS, "assert call(165, b'x', b'/', b'tmpfs', 0, 0) == 0"],
    "make a namespace": [CALLS, "assert call(272, 0x10000000) == 0"],
    "use the keyring": [CALLS, "assert call(250, 0, -3, 0) >= 0"],
    "loosen the filter": [CALLS, "assert call(157, 22, 2, 0) == 0"],
    "use the second table of numbers": [CALLS, "assert call(0x40000000 + 39) > 0"],
    "map executable memory": [CALLS, "assert call(9, 0, 4096, 7, 34, -1, 0) > 0"],
    "make memory executable": [
        CALLS,
        "page = call(9, 0, 4096, 3, 34, -1, 0)",
        "assert call(10, page, 4096, 5) == 0",
    ],
}


# Those that do no harm where nothing stops them; they show that the others are not mere nonsense.
HARMLESS = (
    "read a file",
    "read its maps",
    "list the root",
    "stat a file",
    "make a TCP socket",
    "make a UDP socket",
    "make a netlink socket",
    "make a socket pair",
    "start a thread",
    "duplicate a descriptor",
    "make a pipe",
    "sleep",
    "ask who it is",
    "make a file in memory",
    "map executable memory",
    "make memory executable",
)


def test_without_any_layer_all_is_reached(only: Callable[..., Sandbox]) -> None:
    box = only()
    missed = [what for what in HARMLESS if attempt(box, *REACHES[what], "out = 7").value != 7]
    assert missed == [] or os.uname().machine != "x86_64"


@pytest.mark.parametrize("what", REACHES)
def test_without_the_policy_nothing_is_reached(all_but_policy: Sandbox, what: str) -> None:
    if "call(" in "".join(REACHES[what]) and os.uname().machine != "x86_64":
        pytest.skip("the numbers are x86_64's")
    result = attempt(all_but_policy, *REACHES[what], "out = 'reached'")
    assert result.value is None, result
    assert result.status in (Status.ERROR, Status.VIOLATION), result


def test_a_program_finds_no_secret_of_the_trainer(all_but_policy: Sandbox) -> None:
    os.environ["SANDBOX_CANARY"] = CANARY
    try:
        with Sandbox(workers=1, layers=tuple(offered() - {Layer.POLICY})) as box:
            lines = ["import gc, os, sys", "texts = [*os.environ, *os.environ.values(), *sys.argv]"]
            lines += ["texts += [o for o in gc.get_objects() if type(o) is str]"]
            lines += ["out = [t for t in texts if 'secret of the' in t], dict(os.environ)"]
            found, environment = attempt(box, *lines).value
    finally:
        del os.environ["SANDBOX_CANARY"]
    assert found == []
    assert environment.keys() - {"LD_LIBRARY_PATH"} == {"PYTHONHASHSEED", "LANG"}


def test_a_program_holds_no_descriptor_but_its_own(only: Callable[..., Sandbox]) -> None:
    box = only()
    lines = ["import os", "out = []", "for fd in range(200):"]
    lines += ["    try: out.append((fd, os.fstat(fd).st_mode // 4096))", "    except OSError: pass"]
    character, pipe = 2, 1
    wanted = [(0, character), (1, pipe), (2, character), (3, pipe), (4, pipe)]
    assert attempt(box, *lines).value == wanted


@pytest.mark.parametrize(
    "line",
    [
        "os.write(4, b'\\xff\\xff\\xff\\xff')",
        "os.write(4, b'\\0\\0\\0\\0')",
        "os.write(4, b'\\0\\0\\0\\1x')",
        "os.write(4, b'\\0\\0\\0\\1k')",
        "os.write(4, b'\\0\\0\\0\\2v{')",
        "os.write(4, b'\\0\\0\\0\\6e{\"a\":')",
        "os.write(4, b'\\0\\0'); os._exit(0)",
        "os._exit(0)",
        "os.close(4)",
        "import ctypes; ctypes.string_at(0)",
        "os.abort()",
    ],
)
def test_a_program_that_speaks_for_its_process_wins_nothing(
    all_but_policy: Sandbox, line: str
) -> None:
    result = attempt(all_but_policy, "import os", line)
    assert result.status in (Status.CRASHED, Status.ERROR) and result.value is None, result
    assert attempt(all_but_policy, "out = 5").value == 5


def test_a_program_that_reads_no_orders_is_stopped(tmp_path: Path) -> None:
    driver = tmp_path / "flood.py"
    driver.write_text("def play(task, call):\n    while True: call('x' * 5000)\n")
    source = "import os\ndef strategy(text):\n    while True: os.write(4, b'\\0\\0\\0\\2v0')\n"
    layers = tuple(offered() - {Layer.POLICY})
    with Sandbox(workers=1, layers=layers, drivers=[driver]) as box:
        result = box.run(source, driver=driver, limits=Limits(wall_s=0.5, cpu_s=0.3))
    assert result.status in (Status.TIMEOUT, Status.CRASHED), result


# --- one layer at a time -------------------------------------------------------------------------


def connect(port: int) -> list[str]:
    """Lines that connect to a local TCP port and give the error number."""
    address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), bytes([127, 0, 0, 1]))
    return [
        "import ctypes",
        "libc = ctypes.CDLL(None, use_errno=True)",
        f"failed = libc.connect(libc.socket(2, 1, 0), {address!r}, 16)",
        "out = ctypes.get_errno() if failed else 0",
    ]


def test_rlimits_alone(only: Callable[..., Sandbox]) -> None:
    box = only("rlimits")
    assert attempt(box, "out = len('x' * 10**9)").status is Status.MEMORY
    assert attempt(box, "open('/dev/null')").error_type == "OSError"


def test_seccomp_alone(only: Callable[..., Sandbox]) -> None:
    box = only("seccomp", "no_new_privs")
    assert attempt(box, "open('/dev/null')").error_type == "PermissionError"
    assert attempt(box, "import os", "os.fork()").status is Status.VIOLATION


@pytest.mark.skipif(
    os.geteuid() != 0 or Layer.UID not in offered(), reason="only root has something to give up"
)
def test_uid_alone(only: Callable[..., Sandbox]) -> None:
    ids = attempt(only("uid"), "import os", "out = os.getresuid(), os.getresgid(), os.getgroups()")
    assert ids.value == ((65534,) * 3, (65534,) * 3, [])


def test_no_new_privs_alone(only: Callable[..., Sandbox]) -> None:
    status = "[line for line in open('/proc/self/status') if line[:3] in ('NoN', 'Cap')]"
    lines = attempt(only("no_new_privs"), f"out = {status}").value
    values = dict(line.split() for line in lines)
    assert values["NoNewPrivs:"] == "1"
    assert {values[f"Cap{kind}:"] for kind in ("Inh", "Prm", "Eff")} == {"0" * 16}


@pytest.mark.skipif(Layer.LANDLOCK not in offered(), reason="this kernel has no Landlock")
def test_landlock_alone(only: Callable[..., Sandbox]) -> None:
    box = only("landlock", "no_new_privs")
    assert attempt(box, "open('/etc/passwd')").error_type == "PermissionError"
    assert attempt(box, *connect(9)).value == errno.EACCES


needs_namespaces = pytest.mark.skipif(
    not offered() >= NAMESPACES, reason="this machine allows no user namespaces"
)


@needs_namespaces
def test_the_network_is_out_of_reach_in_its_namespace(only: Callable[..., Sandbox]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert attempt(only(), *connect(port)).value == 0  # else the next line says nothing
        inside = attempt(only("uid", "user", "net"), *connect(port)).value
    assert inside in (errno.ENETUNREACH, errno.ECONNREFUSED)


@needs_namespaces
def test_no_other_process_is_seen_in_its_namespace(only: Callable[..., Sandbox]) -> None:
    box = only("uid", "user", "pid")
    pid, parent = attempt(box, "import os", "out = os.getpid(), os.getppid()").value
    assert parent == 1 and pid < 100


@needs_namespaces
def test_the_root_is_empty_in_its_namespace(only: Callable[..., Sandbox]) -> None:
    box = only("uid", "user", "mount")
    assert attempt(box, "import os", "out = os.listdir('/'), os.getcwd()").value == ([], "/")
    assert attempt(box, "open('/x', 'w')").error_type in ("OSError", "PermissionError")


@needs_namespaces
def test_ipc_and_uts_are_its_own(only: Callable[..., Sandbox]) -> None:
    links = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("ipc", "uts")]
    lines = ["import os", "out = [os.readlink(f'/proc/self/ns/{k}') for k in ('ipc', 'uts')]"]
    inside = attempt(only("uid", "user", "ipc", "uts"), *lines).value
    assert set(links).isdisjoint(inside)


def test_the_policy_alone_bars_the_way() -> None:
    with Sandbox(workers=1, layers=("policy", "process")) as box:
        assert box.layers == ("policy", "process")
        for what, lines in REACHES.items():
            result = attempt(box, *lines, "out = 'reached'")
            assert result.status in (Status.REJECTED, Status.ERROR), (what, result)


# --- deadlines that no program can dodge ---------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["import os, signal", "os.kill(os.getpid(), signal.SIGSTOP)"],
        ["import signal", "signal.pthread_sigmask(0, range(1, 65))", "while True: pass"],
        ["import signal", "[signal.signal(n, 1) for n in (1, 2, 14, 15, 24)]", "while True: pass"],
        ["import time", "time.sleep(60)"],
        ["import os", "if os.fork() == 0:", "    while True: pass", "while True: pass"],
    ],
)
def test_the_deadline_holds_with_no_other_layer(
    only: Callable[..., Sandbox], lines: list[str]
) -> None:
    if "fork" in str(lines) and Layer.UID not in offered():
        pytest.skip("root may always fork")
    limits = Limits(wall_s=0.3, cpu_s=0.2)
    box = only("rlimits", *({Layer.UID} & offered()))  # UID, lest a fork lives on
    result = attempt(box, *lines, limits=limits)
    assert result.status in (Status.TIMEOUT, Status.ERROR), result
    assert result.wall_s < 10


# --- fresh state ---------------------------------------------------------------------------------

MARKS = [
    "import math\nmath.sqrt = abs\n",
    "import random\nrandom.seed(1)\n",
    "import collections\ncollections.Counter.total = 5\n",
    "import decimal\ndecimal.getcontext().prec = 3\n",
    "class A(Exception): pass\nA.x = []\n",
    "import functools\n@functools.lru_cache\ndef f(x): return x\nf(1)\n",
]
LOOK = """
import math, random, collections, decimal
def strategy(out):
    shown = [math.sqrt(4), random.random(), hasattr(collections.Counter, "total")]
    return shown + [str(decimal.Decimal(1) / 3), str({"a", "b", "c"})]
"""


@pytest.mark.parametrize("isolation", ["process", "batch"])
def test_no_program_leaves_a_mark(isolation: str) -> None:
    mark = [Job(mark + "def strategy(out): return 1", args=(None,)) for mark in MARKS]
    look = Job(LOOK, args=(None,))
    with Sandbox(workers=1, isolation=isolation) as box:  # type: ignore[arg-type]
        (alone,) = box.map([look])
        results = box.map([job for each in mark for job in (each, look)])
    assert alone.ok
    assert [result.value for result in results[1::2]] == [alone.value] * len(MARKS)


def test_the_same_job_has_the_same_result_a_hundred_times() -> None:
    threads = threading.active_count()
    value = "random.random(), list({'a', 'b', 'c', n}), hash('x'), sum(range(n))"
    source = f"import random\ndef strategy(n): return {value}"
    with Sandbox(workers=2) as box:
        results = box.map([Job(source, args=(9,))] * 100)
        results += [box.run(source, args=[9])]
    assert len({repr((r.status, r.value, r.stdout)) for r in results}) == 1 and results[0].ok
    assert threading.active_count() == threads
