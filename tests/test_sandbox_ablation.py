"""On whole corpora: the kernel's layers hold without the policy, and the policy without them."""

import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from taskgym.sandbox import Job, Limits, Result, Sandbox, Status
from taskgym.sandbox.corpus import Corpus, load, own
from taskgym.sandbox.judge import CHECKS, about_time, complaints, processes, try_item
from taskgym.sandbox.layers import Layer
from taskgym.sandbox.traps import Traps, traps

pytestmark = pytest.mark.slow

SHARED = Path(__file__).resolve().parents[2] / "shared/sandbox/attacks.json"
# What a program may do without the policy: lie about its own result. All else is damage.
LIES = {"marker", "marker_value", "marker_or_clean", "value", "status_not"}
DAMAGE = CHECKS.keys() - LIES


@pytest.fixture(params=["our corpus", "the shared corpus"])
def corpus(request: pytest.FixtureRequest) -> Corpus:
    if request.param == "our corpus":
        return own()
    if not SHARED.exists():
        pytest.skip("needs ../shared/sandbox beside the repository")
    return load(SHARED)


@pytest.fixture
def bait() -> Iterator[Traps]:
    with traps() as bait:
        yield bait


def usual(box: Sandbox) -> int:
    """How many processes a pool has when its next child is ready."""
    box.run("def strategy(): return 1")
    time.sleep(0.5)
    return processes()


def test_without_the_policy_a_program_can_only_lie_about_itself(
    corpus: Corpus, bait: Traps
) -> None:
    wrong = {}
    with Sandbox(workers=1) as full:
        layers = tuple(set(full.layers) - {Layer.POLICY})
    with Sandbox(workers=1, layers=layers) as box:
        number = usual(box)
        for item in corpus.items:
            trial = try_item(item, corpus, box, bait, number)
            canaries = {canary.partition(":")[0] for canary in item.canaries} & DAMAGE
            failed = [c for c in canaries if not CHECKS[c](trial, "")]
            if trial.result.status is Status.INFRA or not trial.clean:
                failed.append(f"{trial.result}, {trial.probe}")
            if failed:
                wrong[item.id] = failed
    assert not {id_: each for id_, each in wrong.items() if each != ["deadline"]}
    assert len(wrong) < 3  # a machine that is busy


def test_the_policy_alone_lets_nothing_out(corpus: Corpus, bait: Traps) -> None:
    """All but the programs that only use up memory and time, which would use up the machine's."""
    wrong = {}
    with Sandbox(workers=1, layers=("policy", "process")) as box:
        number = usual(box)
        for item in corpus.items:
            if item.category == "resource":
                continue
            trial = try_item(item, corpus, box, bait, number)
            found = [each for each in complaints(trial) if not about_time(each)]
            if found := [each for each in found if not each.startswith("canary rss")]:
                wrong[item.id] = found
    assert not wrong


@pytest.mark.parametrize("isolation", ["process", "batch"])
def test_a_program_has_the_same_result_after_any_other(corpus: Corpus, isolation: str) -> None:
    limits = Limits(cpu_s=0.3, wall_s=20, memory_mb=128)
    jobs = [
        Job(source, args=(corpus.board,), limits=limits)
        for item in corpus.items
        if item.category != "resource" and "timeout" not in item.expect
        for source in item.programs
    ]
    with Sandbox(workers=1) as box:
        alone = {job.source: seen(result) for job, result in zip(jobs, box.map(jobs), strict=True)}
    dice = random.Random(1)
    pairs = [dice.sample(jobs, 2) for _ in range(150)]
    with Sandbox(workers=1, isolation=isolation) as box:  # type: ignore[arg-type]
        results = [(pair, box.map(pair)) for pair in pairs]
    different = [
        (first.source, second.source, result, alone[second.source])
        for (first, second), (_, result) in results
        if seen(result) != alone[second.source]
    ]
    assert not different


def seen(result: Result) -> str:
    """What a caller sees of a program, but for addresses, which differ in every process."""
    return re.sub("0x[0-9a-f]+", "0x", f"{result.status} {result.value!r} {result.stdout}")
