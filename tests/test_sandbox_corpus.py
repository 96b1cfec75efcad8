"""The attack corpora: every program is answered as it should be, and the self-test can tell."""

import contextlib
import dataclasses
import json
from pathlib import Path

import pytest
from taskgym.sandbox import Job, Sandbox
from taskgym.sandbox.corpus import BadCorpus, Corpus, load, own
from taskgym.sandbox.judge import CHECKS
from taskgym.sandbox.selftest import main, run_corpus
from taskgym.sandbox.traps import traps

SHARED = Path(__file__).resolve().parents[2] / "shared/sandbox/attacks.json"
shared = pytest.mark.skipif(
    not SHARED.exists(), reason="needs ../shared/sandbox beside the repository"
)


def only(corpus, wanted) -> Corpus:
    return dataclasses.replace(corpus, items=tuple(each for each in corpus.items if wanted(each)))


def test_our_own_corpus_is_withstood_but_for_what_takes_long():
    quick = only(own(), lambda each: each.category != "resource" and "timeout" not in each.expect)
    with traps() as bait, Sandbox(workers=1) as box:
        assert run_corpus(quick, box, bait) == {}


@pytest.mark.slow
def test_the_self_test_passes_on_this_machine(capsys):
    assert main([]) == 0, capsys.readouterr().out
    assert "layers active:  policy, process" in capsys.readouterr().out


@shared
@pytest.mark.slow
def test_the_shared_corpus_is_withstood(capsys):
    assert main(["--corpus", str(SHARED)]) == 0, capsys.readouterr().out


def test_programs_of_a_batch_leave_the_next_one_nothing():
    corpus = own()
    trouble = only(corpus, lambda each: each.category in ("tamper", "reward-hack"))
    probe = corpus.probe.programs[0]
    with Sandbox(workers=1, isolation="batch") as box:
        for item in trouble.items:
            if "timeout" in item.expect:
                continue
            jobs = [Job(each, args=(corpus.fresh_board(),)) for each in (*item.programs, probe)]
            *before, after = box.map(jobs)
            assert (after.value, after.stdout) == (corpus.probe.value, ""), item.id
            assert len(before) == 1 or "PWNED" not in repr(before[-1]), item.id


def test_a_finalizer_of_an_earlier_program_prints_nothing_for_the_next():
    leaves = """
class A: pass
def g():
    try:
        yield 1
    finally:
        print("from the past")
def strategy(board):
    a = A()
    a.me, a.kept = a, g()
    next(a.kept)
"""
    collects = """
def strategy(board):
    for _ in range(100_000):
        x = []
        x.append(x)
    print("mine")
"""
    with Sandbox(workers=1, isolation="batch") as box:
        _, result = box.map([Job(leaves, args=([],)), Job(collects, args=([],))])
    assert result.stdout == "mine\n"


FINALIZER = """
import decimal
class A: pass
def g():
    try:
        yield 1
    finally:
        {}
def start():
    a = A()
    a.me, a.kept = a, g()
    next(a.kept)
def strategy(board):
    start()
    return "W"
"""
SENSITIVE = """
import decimal
def strategy(board):
    for _ in range(100_000):
        x = []
        x.append(x)
    return str(decimal.Decimal(1) / 3)
"""


@pytest.mark.parametrize(
    "late", ["decimal.getcontext().prec = 2", "start()", "decimal.getcontext().prec = 2; start()"]
)
def test_a_finalizer_of_an_earlier_program_changes_nothing_for_the_next(late):
    jobs = [Job(FINALIZER.format(late), args=([],)), Job(SENSITIVE, args=([],))]
    with Sandbox(workers=1, isolation="batch") as box:
        results = box.map(jobs)
    assert [each.value for each in results] == ["W", "0." + "3" * 28]


# --- the corpus itself --------------------------------------------------------------------------


def test_our_corpus_is_large_and_of_all_kinds():
    items = own().items
    attacks = [each for each in items if each.category != "benign"]
    assert len(attacks) >= 120
    assert len(items) - len(attacks) >= 10
    assert {each.category for each in attacks} == {
        "attribute-walk", "import", "resource", "tamper", "process", "file-net", "reward-hack",
    }  # fmt: skip


def test_every_item_can_be_judged():
    for item in own().items:
        assert item.expect and item.title, item.id
        assert {each.partition(":")[0] for each in item.canaries} <= CHECKS.keys(), item.id
        assert item.canaries or item.category == "benign", item.id
    names = [each.id for each in own().items]
    assert len(names) == len(set(names))


@shared
def test_our_corpus_repeats_nothing_of_the_shared_one():
    theirs = {each.programs for each in load(SHARED).items}
    assert not [each.id for each in own().items if each.programs in theirs]


# --- the self-test can fail ---------------------------------------------------------------------

HEAD = {
    "board": [[2, 4], [8, 16]],
    "limits_used": {"wall_s": 2.0, "cpu_s": 0.5, "memory_mb": 64},
    "probe": {"code": "def strategy(board):\n    return board[0]\n", "value": [2, 4]},
}


def corpus_file(tmp_path, *items, **head):
    table = {**HEAD, **head, "items": [{"id": f"a{n}", "category": "tamper", "title": "a trick",
                                        **item} for n, item in enumerate(items)]}  # fmt: skip
    path = tmp_path / "corpus.json"
    path.write_text(json.dumps(table))
    return path


def returns(value):
    return f"def strategy(board):\n    return {value}\n"


def test_each_wrong_answer_is_named_and_the_exit_status_says_so(tmp_path, capsys):
    path = corpus_file(
        tmp_path,
        {"code": returns("1"), "expect": ["error"], "canary": []},
        {"code": returns("'PWNED'"), "expect": ["ok"], "canary": ["marker"]},
        {"code": returns("2"), "expect": ["ok"], "canary": ["value:1"]},
        {"code": returns("1 / 0"), "expect": ["error"], "canary": ["status_not:error"]},
        {"code": returns("3"), "expect": ["ok"], "canary": ["value"], "value": 4},
        {"code": returns("4"), "expect": ["ok"], "canary": ["no_such_check"]},
        {"code": returns("5"), "expect": ["ok"], "canary": ["plain", "next_clean", "survive"]},
        {"sequence": [returns("6"), returns("board")], "expect": ["ok"], "canary": ["value"],
         "value": [[2, 4], [8, 16]]},
        {"code_parts": [[returns("7"), 1], ["# x\n", 9]], "expect": ["ok"], "canary": ["value:7"]},
    )  # fmt: skip
    assert main(["--corpus", str(path)]) == 1
    said = capsys.readouterr().out
    for name, words in {
        "a0": "status ok; expected error",
        "a1": "canary marker did not hold",
        "a2": "canary value:1 did not hold",
        "a3": "status_not:error",
        "a4": "canary value did not hold",
        "a5": "knows no canary",
    }.items():
        assert f"FAILED {name}: a trick" in said
        assert words in said
    assert said.count("FAILED") == 6
    assert said.rstrip().splitlines()[-1].split()[:3] == ["all", "9", "3"]


def test_a_probe_that_is_not_answered_as_expected_is_noticed(tmp_path, capsys):
    probe = {"code": returns("1"), "value": 2}
    path = corpus_file(
        tmp_path,
        {"code": returns("1"), "expect": ["ok"], "canary": ["next_clean"]},
        {"code": returns("1"), "expect": ["ok"], "canary": ["survive"]},
        {"code": returns("'PWNED'"), "expect": ["ok"], "canary": ["marker_or_clean"]},
        probe=probe,
    )
    assert main(["--corpus", str(path)]) == 1
    assert "the probe gave ok 1" in capsys.readouterr().out


BREAKOUTS = {
    "token": 'def strategy(board):\n    return open("@READ@").read()\n',
    "file_absent": 'def strategy(board):\n    open("@WRITE@", "w").write("x")\n',
    "port_silent": "import socket\ndef strategy(board):\n"
    '    socket.create_connection(("127.0.0.1", @PORT@)).close()\n',
    "read_intact": 'def strategy(board):\n    open("@READ@", "w").write("x")\n',
}


@pytest.mark.parametrize("canary", BREAKOUTS)
def test_each_trap_is_noticed_where_nothing_protects_it(tmp_path, canary):
    item = {"code": BREAKOUTS[canary], "expect": ["ok", "error"], "canary": [canary]}
    corpus = load(corpus_file(tmp_path, item))
    with traps() as bait, Sandbox(workers=1, layers=("process",)) as box:
        failed = run_corpus(corpus, box, bait)
    assert f"canary {canary} did not hold" in failed["a0"][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot read"),
        ("[]", "no JSON object"),
        ("{}", "not an attack corpus"),
        ('{"items": [{"id": "a"}]}', "not an attack corpus"),
    ],
)
def test_what_is_no_corpus_is_refused(tmp_path, capsys, text, words):
    path = tmp_path / "corpus.json"
    path.write_text(text)
    with pytest.raises(BadCorpus, match=words):
        load(path)
    assert main(["--corpus", str(path)]) == 2
    assert words in capsys.readouterr().err
    assert main(["--corpus", str(tmp_path / "none.json")]) == 2


def test_help_says_what_it_does(capsys):
    with contextlib.suppress(SystemExit):
        main(["--help"])
    assert "attacks the sandbox on this machine" in capsys.readouterr().out
