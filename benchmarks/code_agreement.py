"""Compare the sandbox's verdicts with a plain run of the asserts, on changed reference solutions.

    python benchmarks/code_agreement.py [--humaneval FILE] [--mbpp FILE]

Each reference is changed in one place (an operator, a constant, a returned value), run plainly in a
Python process of its own, and scored by the env. Prints each program on which the two disagree.
The changed references are run without a sandbox: use data sets that you trust.
"""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from code_references import make_envs
from taskgym.envs import MachineryError, Task
from taskgym.envs.code_env import run_tests
from taskgym.envs.code_rows import problem_of

PAIRS = (
    (ast.Add, ast.Sub),
    (ast.Mult, ast.Add),
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.And, ast.Or),
)
OTHER = {a: b for pair in PAIRS for a, b in (pair[::-1], pair)}
PLAIN = """
import json, sys, resource, signal
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
signal.alarm(6)
source, setup, tests, check, entry = json.load(sys.stdin)
space = {}
exec(source, space)
exec(setup, space)
for test in tests:
    exec(test, space)
if check:
    exec(check, space)
    space["check"](space[entry])
"""


def changes(tree: ast.AST) -> Iterator[Callable[[], None]]:
    """Every single change that can be made to a program."""
    for node in ast.walk(tree):
        if type(operator := getattr(node, "op", None)) in OTHER:
            yield partial(setattr, node, "op", OTHER[type(operator)]())
        if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
            yield partial(node.ops.__setitem__, 0, OTHER[type(node.ops[0])]())
        if isinstance(node, ast.Constant) and type(node.value) is int:
            yield partial(setattr, node, "value", node.value + random.choice([1, -1, 2]))
        if isinstance(node, ast.Return) and node.value:
            for text in ("None", "0", "1 / 0", f"[{ast.unparse(node.value)}]"):
                yield partial(setattr, node, "value", ast.parse(text, mode="eval").body)


def changed(source: str) -> str | None:
    tree = ast.parse(source)
    possible = list(changes(tree))
    if not possible:
        return None
    random.choice(possible)()
    return ast.unparse(ast.fix_missing_locations(tree))


def passes_plainly(source: str, task: Task) -> bool:
    problem = problem_of(task)
    given = [source, problem.setup, problem.tests, problem.check, problem.entry]
    run = [sys.executable, "-c", PLAIN]
    done = subprocess.run(run, input=json.dumps(given), capture_output=True, text=True)
    return done.returncode == 0


def passes_here(source: str, task: Task) -> bool | str:
    try:
        return run_tests(f"```python\n{source}\n```", task).right
    except MachineryError as error:
        return str(error)


if __name__ == "__main__":
    random.seed(0)
    for env_id, env in make_envs("Agreement with a plain run."):
        counts: Counter[str] = Counter()
        for task in env.tasks:
            if source := changed(problem_of(task).reference):
                plain, here = passes_plainly(source, task), passes_here(source, task)
                counts["programs"] += 1
                counts["right"] += plain
                counts["agree"] += plain == here
                if plain != here:
                    print(f"{task.row.get('task_id')}: plainly {plain}, here {here}\n{source}")
        print(f"{env_id}: {dict(counts)}")
