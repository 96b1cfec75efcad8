"""Code-MBPP-v0: a function from one sentence and a first test (Austin et al. 2021, MBPP)."""

from __future__ import annotations

import re
from typing import Any

from taskgym.envs.code_env import CodeEnv
from taskgym.envs.code_rows import Columns, Problem, blocks

_FUNCTION = re.compile(r"^def[ \t]+(\w+)[ \t]*\(", re.MULTILINE)


class CodeMbpp(CodeEnv):
    """Short Python functions from a sentence, scored by their tests in a sandbox.

    Args:
        shown_tests: How many of a task's tests its question shows. The paper shows all three,
            which a policy that is rewarded for them learns to answer by heart.
        dataset: The keyword arguments of `CodeEnv`.
    """

    source = "google-research-datasets/mbpp (sanitized), or your own rows"
    hub_id = "google-research-datasets/mbpp"
    hub_config = "sanitized"
    sample = "mbpp.jsonl"
    known_columns = {  # noqa: RUF012
        "question": ("prompt", "text", "question"),
        "reference": ("code", "reference", "solution"),
        "tests": ("test_list", "tests"),
        "setup": ("test_imports", "test_setup_code"),
        "entry": ("entry_point",),
    }

    def __init__(self, *, shown_tests: int = 1, **dataset: Any):
        super().__init__(**dataset)
        if shown_tests < 0:
            raise ValueError(f"shown_tests is 0 or more, got {shown_tests}")
        self.shown_tests = shown_tests

    def read(self, row: Columns) -> tuple[str, Problem] | str:
        """The sentence with the function's head and the tests shown."""
        asked, reference, tests = row.text("question"), row.text("reference"), row.texts("tests")
        if not asked.strip() or not reference.strip() or not tests:
            return "no question, reference or tests"
        entry = row.text("entry") if row.has("entry") else find_entry(reference, tests)
        head = find_head(reference, entry)
        if not head:
            return "no function that every test calls"
        parts: list[Any] = [asked.strip(), "The function begins with", [head]]
        if shown := tests[: self.shown_tests]:
            parts += ["and has to pass tests such as", shown]
        setup = "\n".join(row.texts("setup")) if row.has("setup") else ""
        return blocks(*parts), Problem(entry, reference, setup, tests, "", "")


def find_entry(reference: str, tests: tuple[str, ...]) -> str:
    """The last function of the reference that every test calls; empty if there is none."""
    names = [
        name
        for name in _FUNCTION.findall(reference)
        if all(re.search(rf"\b{name}\s*\(", test) for test in tests)
    ]
    return names[-1] if names else ""


def find_head(reference: str, entry: str) -> str:
    """The reference's `def` line of a function; empty if it has none."""
    found = re.search(rf"^def[ \t]+{re.escape(entry)}[ \t]*\(.*?\)[^\n]*?:", reference, re.M | re.S)
    return found[0] if found else ""
