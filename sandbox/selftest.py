"""sandbox_selftest: attacks the sandbox on this machine, and says what it did not withstand."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from taskgym.sandbox.corpus import BadCorpus, Corpus, load, own
from taskgym.sandbox.job import SandboxUnavailable
from taskgym.sandbox.judge import about_time, complaints, processes, try_item
from taskgym.sandbox.layers import Layer
from taskgym.sandbox.pool import Sandbox
from taskgym.sandbox.traps import Traps, traps

SETTLED_S = 0.3  # by then the pool has its next child ready
LATER_S = 1.0  # a file must not appear so long afterwards either


def main(argv: list[str] | None = None) -> int:
    """Runs a corpus; the exit status is 0 only if every program was answered as expected."""
    parser = argparse.ArgumentParser(prog="sandbox_selftest", description=__doc__)
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="FILE.json",
        help="another corpus than the one that ships with the sandbox",
    )
    wanted = parser.parse_args(argv)
    try:
        corpus = load(wanted.corpus) if wanted.corpus else own()
        with traps() as bait, Sandbox(workers=1) as box:
            return _run(corpus, box, bait)
    except (BadCorpus, SandboxUnavailable) as error:
        print(f"sandbox_selftest: {error}", file=sys.stderr)
        return 2


def _run(corpus: Corpus, box: Sandbox, bait: Traps) -> int:
    began = time.monotonic()
    _print_layers(box)
    failed = run_corpus(corpus, box, bait)
    _print_totals(corpus, failed, time.monotonic() - began)
    return 1 if failed else 0


def run_corpus(corpus: Corpus, box: Sandbox, bait: Traps) -> dict[str, list[str]]:
    """Runs all items one after the other and prints those that failed.

    Returns:
        What was wrong, by the id of the item.
    """
    failed: dict[str, list[str]] = {}
    usual = _processes_of(box, corpus)
    for item in corpus.items:
        found = complaints(try_item(item, corpus, box, bait, usual))
        if found and all(map(about_time, found)):  # once may be the machine, twice is the sandbox
            found = complaints(try_item(item, corpus, box, bait, usual))
        if found:
            failed[item.id] = found
            _print_failure(item.id, item.title, found)
    time.sleep(LATER_S)
    for late in sorted({path.name for path in bait.written if path.exists()} - set(failed)):
        failed[late] = ["wrote a file"]
        _print_failure(late, "", failed[late])
    return failed


def _processes_of(box: Sandbox, corpus: Corpus) -> int:
    """How many processes the pool consists of once it has settled."""
    box.run(corpus.probe.programs[0], args=[corpus.fresh_board()])
    time.sleep(SETTLED_S)
    return processes()


def _print_layers(box: Sandbox) -> None:
    active = set(box.layers)
    print(f"layers active:  {', '.join(each for each in Layer if each in active)}")
    if missing := [each for each in Layer if each not in active]:
        print(f"layers missing: {', '.join(missing)} (this machine does not offer them)")


def _print_failure(name: str, title: str, found: list[str]) -> None:
    print(f"FAILED {name}: {title}")
    for each in found:
        print(f"       {each}")


def _print_totals(corpus: Corpus, failed: dict[str, list[str]], seconds: float) -> None:
    every = Counter(item.category for item in corpus.items)
    wrong = Counter(item.category for item in corpus.items if item.id in failed)
    print(f"\n{'category':20}{'programs':>10}{'as expected':>14}")
    for category, number in every.items():
        print(f"{category:20}{number:>10}{number - wrong[category]:>14}")
    print(f"{'all':20}{every.total():>10}{every.total() - len(failed):>14}   in {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
