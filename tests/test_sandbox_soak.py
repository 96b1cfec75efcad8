"""Thousands of programs, some hostile, leave the trainer and its supervisors as they were."""

import os
import random
import resource
import sys
import time
from pathlib import Path

import pytest
from taskgym.sandbox import Job, Limits, Sandbox, Status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc"),
]
QUICK = Limits(cpu_s=0.2, wall_s=20)
PAGE = resource.getpagesize()
MIB = 1 << 20

GOOD = [
    "def strategy(n): return n",
    "import random\ndef strategy(n): return [random.random() for _ in range(20)]",
    "def strategy(n):\n    print('hello', n)\n    return {'n': (n, str(n))}",
    "class A:\n    def __init__(self, n): self.n = n\ndef strategy(n): return sorted([A(n).n, 0])",
    "import math, itertools\ndef strategy(n): return sum(itertools.accumulate(range(n % 50)))",
]
BAD = {
    "def strategy(n):\n    while True: pass": Status.TIMEOUT,
    "def strategy(n):\n    while True: print('x' * 100)": Status.OUTPUT,
    "def strategy(n): return 'x' * 10**10": Status.MEMORY,
    "def strategy(n): return strategy(n)": Status.ERROR,
    "def strategy(n): return [0] * 10**6": Status.ERROR,
    "import os": Status.REJECTED,
    "def strategy(n): return ().__class__": Status.REJECTED,
    "def strategy(n: return": Status.REJECTED,
    "def strategy(n):\n    x = iter(())\n    for _ in range(10**5): x = map(str, x)\n"
    "    return next(x, 0)": Status.CRASHED,
}


def family(pid: int) -> list[int]:
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(n for each in below for n in family(int(each)))]


def state(box: Sandbox) -> dict[str, float]:
    supervisors = [pid for each in box._idle for pid in family(each.process.pid)]
    pids = [os.getpid(), *supervisors]
    kinds = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids]
    memory = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / MIB for pid in pids]
    return {
        "processes": len(pids),
        "zombies": kinds.count("Z"),
        "descriptors": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
        "own memory": memory[0],
        "supervisors' memory": sum(memory[1:]),
    }


def settled(box: Sandbox) -> dict[str, float]:
    """The state once the next children are ready, which have fewer descriptors then."""
    while True:
        time.sleep(0.5)
        one = state(box)
        time.sleep(0.2)
        if state(box)["descriptors"] == one["descriptors"]:
            return one


@pytest.mark.parametrize("isolation", ["process", "batch"])
def test_nothing_grows_over_five_thousand_programs(isolation: str) -> None:
    dice = random.Random(0)
    with Sandbox(workers=2, isolation=isolation) as box:  # type: ignore[arg-type]
        wrong, before = [], {}
        for round_ in range(11):
            good = [Job(dice.choice(GOOD), args=(n,), limits=QUICK) for n in range(475)]
            bad = [Job(dice.choice(list(BAD)), args=(n,), limits=QUICK) for n in range(25)]
            jobs = dice.sample(good + bad, 500)
            results = box.map(jobs)
            for job, result in zip(jobs, results, strict=True):
                if result.status is not BAD.get(job.source, Status.OK):
                    wrong.append((job.source, result))
            if round_ == 0:  # what is made once was made in this round
                before = settled(box)
        after = settled(box)
    print(f"\n{isolation}: before {before}\n{isolation}: after  {after}")
    assert not wrong
    assert after["zombies"] == 0
    assert after["processes"] == before["processes"]
    assert after["descriptors"] == before["descriptors"]
    assert after["own memory"] < before["own memory"] + 16
    assert after["supervisors' memory"] < before["supervisors' memory"] + 8
