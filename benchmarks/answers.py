"""Measure the answer verifier: speed, agreement with hand labels, and where it leaves math-verify.

    python benchmarks/answers.py [--rounds 5]

Sets that stand in ../shared beside the checkout are used where they are there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from math_verify import parse, verify
from taskgym.envs import answer_match, answer_pool, answer_reading, answers

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
OWN = ROOT / "tests" / "data"

SPEED = {
    "identical": [("42", "42"), ("\\frac{1}{2}", "\\frac{1}{2}"), ("x^2+1", "x^2+1")],
    "plain integer": [("42", "43"), ("-7", "7"), ("1000", "1000"), ("5", " 05 ")],
    "decimal, fraction": [
        ("0.5", "1/2"),
        ("\\frac{1}{2}", "0.25"),
        ("\\frac{3}{4}", "\\dfrac{6}{8}"),
    ],
    "mixed number": [("\\frac{7}{3}", "2 1/3"), ("3.5", "3 1/2")],
    "percent": [("50\\%", "1/2"), ("25", "25%"), ("0.3", "40\\%")],
    "unit, currency": [
        ("5", "5 cm"),
        ("18.90", "\\$18.90"),
        ("3", "3 apples"),
        ("7", "8\\text{ kg}"),
    ],
    "separators": [("10000", "10,000"), ("2500", "2,500.00"), ("1234567", "1{,}234{,}567")],
    "e-notation": [("6.02\\times 10^{23}", "6.02e23"), ("1200", "1.2\\times 10^3")],
    "boxed integer": [("42", "\\boxed{42}"), ("42", "so it is $\\boxed{43}$.")],
    "radical": [("2\\sqrt{3}", "\\sqrt{12}"), ("\\sqrt{5}", "√5")],
    "set, tuple, interval": [("\\{1,2\\}", "\\{2,1\\}"), ("(1,2)", "(1,3)"), ("(2,5)", "2<x<5")],
    "expression": [("x^2-1", "(x-1)(x+1)"), ("\\sin 2x", "2\\sin x\\cos x")],
    "beyond the rules": [("\\sum_{k=1}^{n} k", "\\frac{n(n+1)}{2}")],
}

Scorer = Callable[[str, str], bool]


def ours(gold: str, answer: str) -> bool:
    return answers.compare(gold, answer) is answers.Verdict.EQUAL


def ours_cold(gold: str, answer: str) -> bool:
    """Ours with empty caches: every pair pays for reading both its sides."""
    answers._decided.cache_clear()
    answer_reading._gold.cache_clear()
    answer_match.readings.cache_clear()
    return ours(gold, answer)


def boxed(text: str) -> str:
    return text if "\\boxed" in text else "\\boxed{" + text + "}"


def math_verify(gold: str, answer: str) -> bool:
    return bool(verify(parse(boxed(gold)), parse(boxed(answer))))


def exact(gold: str, answer: str) -> bool:
    return gold.strip() == answer.strip()


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def cpu(scorer: Scorer, pairs: Iterable[tuple[str, str]], repeat: int) -> float:
    """Median microseconds of CPU per answer, workers included, over the pairs of one kind."""
    pairs = list(pairs)
    times = []
    for gold, answer in pairs:
        before = time.process_time() + worker_seconds()
        for _ in range(repeat):
            scorer(gold, answer)
        times.append((time.process_time() + worker_seconds() - before) / repeat)
    return statistics.median(times) * 1e6


def worker_seconds() -> float:
    """CPU seconds of the living workers (Linux counts them in ticks of 10 ms)."""
    total = 0
    for worker in answer_pool.shared().workers:
        stat = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
        total += int(stat[11]) + int(stat[12])
    return total / 100


def speed(rounds: int) -> None:
    print("## CPU per answer, us: empty caches, workers counted, median of interleaved rounds\n")
    print("| kind | ours | math-verify (boxed) | ratio |\n| --- | ---: | ---: | ---: |")
    for kind, pairs in SPEED.items():
        slow = kind == "beyond the rules"
        mine, theirs = [], []
        for _ in range(rounds):
            mine.append(cpu(ours_cold, pairs, 20 if slow else 300))
            theirs.append(cpu(math_verify, pairs, 20 if slow else 5))
        a, b = statistics.median(mine), statistics.median(theirs)
        print(f"| {kind} | {a:.1f} | {b:.0f} | {a / b:.3f} |")


def mixed(rounds: int) -> None:
    path = SHARED / "verifier" / "math500_predictions.jsonl"
    if path.exists():
        name, pairs = "MATH-500 predictions", [(r["answer"], r["prediction"]) for r in lines(path)]
    else:
        rows = lines(OWN / "answer_pairs.jsonl")
        name, pairs = "own pairs", [(r["gold"], r["answer"]) for r in rows]
    mine: list[list[float]] = [[] for _ in pairs]
    theirs: list[list[float]] = [[] for _ in pairs]
    for i in range(rounds + 1):
        for k, (gold, answer) in enumerate(pairs):
            for scorer, times in ((ours_cold, mine[k]), (math_verify, theirs[k])):
                start = time.perf_counter()
                scorer(gold, answer)
                if i:  # the first round warms sympy and starts the workers
                    times.append(time.perf_counter() - start)
    a, b = ([statistics.median(times) * 1e6 for times in side] for side in (mine, theirs))
    print(f"\n## Mixed set: {len(pairs)} {name}, wall us, process hop included, pair by pair\n")
    print("| | ours | math-verify | ratio |\n| --- | ---: | ---: | ---: |")
    for label, of in (("mean", statistics.fmean), ("median", statistics.median)):
        print(f"| {label} | {of(a):.0f} | {of(b):.0f} | {of(a) / of(b):.3f} |")
    print(f"| slowest | {max(a):.0f} | {max(b):.0f} | {max(a) / max(b):.3f} |")


def agreement() -> None:
    print("\n## Agreement with hand labels\n")
    print("| set | scorer | agreement | false + | false - |\n| --- | --- | ---: | ---: | ---: |")
    sets = {"own pairs": lines(OWN / "answer_pairs.jsonl")}
    if (SHARED / "math_pairs.json").exists():
        sets["math_pairs.json"] = json.loads((SHARED / "math_pairs.json").read_text())["pairs"]
    for name, rows in sets.items():
        for label, scorer in (("ours", ours), ("math-verify", math_verify), ("exact", exact)):
            said = [(scorer(r["gold"], r["answer"]), bool(r["label"])) for r in rows]
            right = sum(a == b for a, b in said)
            plus, minus = sum(a and not b for a, b in said), sum(b and not a for a, b in said)
            print(f"| {name}, {len(rows)} | {label} | {right / len(rows):.3f} | {plus} | {minus} |")


def gsm8k() -> None:
    path = SHARED / "verifier" / "gsm8k_model_outputs.jsonl"
    if not path.exists():
        return
    rows = lines(path)
    start = time.process_time()
    right = sum(ours(r["answer"], r["response"]) == r["correct"] for r in rows)
    spent = time.process_time() - start
    print(
        f"\n## GSM8K outputs: {right} of {len(rows)} labels, {spent / len(rows) * 1e6:.1f} us each"
    )


def disagreements() -> None:
    path = SHARED / "verifier" / "math500_predictions.jsonl"
    if not path.exists():
        return
    judged = {row["id"]: row for row in lines(OWN / "math500_disagreements.jsonl")}
    print("\n## MATH-500 predictions where ours and math-verify differ\n")
    print("| id | gold | prediction | ours | math-verify | by hand |\n" + "| --- " * 6 + "|")
    right = count = 0
    for row in lines(path):
        verdict = answers.compare(row["answer"], row["prediction"])
        if (verdict is answers.Verdict.EQUAL) == row["label_math_verify"]:
            continue
        hand = judged[row["id"]]["hand"] if row["id"] in judged else "not judged"
        count += 1
        right += (verdict is answers.Verdict.EQUAL) == (hand == "equal")
        theirs = "equal" if row["label_math_verify"] else "different"
        texts = " | ".join(f"`{text}`" for text in (row["answer"], row["prediction"]))
        name = row["id"].removeprefix("math500-test/")
        print(f"| {name} | {texts} | {verdict} | {theirs} | {hand} |")
    print(f"\nOurs is right in {right} of {count}.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the answer verifier.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every timing")
    rounds = parser.parse_args().rounds
    agreement()
    gsm8k()
    speed(rounds)
    mixed(rounds)
    disagreements()


if __name__ == "__main__":
    main()
