"""Code-HumanEval-v0: a function from its head and docstring (Chen et al. 2021, HumanEval)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from taskgym.envs.code_env import CodeEnv
from taskgym.envs.code_rows import Columns, Problem, blocks
from taskgym.envs.dataset import SAMPLES
from taskgym.envs.rows import Row
from taskgym.envs.sources import load_rows


class CodeHumanEval(CodeEnv):
    """Python functions from their docstrings, scored by their tests in a sandbox.

    What stands before the function in its prompt (imports, helpers) stands before the program too.
    Where HumanEval's tests call the function by its own name (33 only), they call the reference.

    Args:
        split: The hub data set has one split, `test`; files and lists are as for all envs.
        dataset: The keyword arguments of `CodeEnv`.
    """

    source = "openai/openai_humaneval, or your own rows"
    hub_id = "openai/openai_humaneval"
    sample = "humaneval.jsonl"
    known_columns = {  # noqa: RUF012
        "prompt": ("prompt",),
        "solution": ("canonical_solution", "solution"),
        "check": ("test",),
        "entry": ("entry_point",),
    }

    def __init__(self, *, split: str | None = None, **dataset: Any):
        data = dataset.get("data")
        of_hub = data is None or str(data).partition(":")[0] == self.hub_id
        super().__init__(split=split or ("test" if of_hub else "train"), **dataset)

    @property
    def evaluation_only(self) -> bool:
        """Whether some of the tasks are OpenAI's, which are there to be measured on."""
        return any(str(task.row.get("task_id")).startswith("HumanEval/") for task in self.tasks)

    def read(self, row: Columns) -> tuple[str, Problem] | str:
        """The head with its docstring, and what stands before it."""
        prompt, solution, check, entry = map(row.text, ("prompt", "solution", "check", "entry"))
        head = re.search(rf"^def[ \t]+{re.escape(entry)}\b", prompt, re.MULTILINE)
        if not (entry and head and solution.strip() and check.strip()):
            return "no prompt, solution, test or entry point"
        lines = prompt.strip("\n").split("\n")
        question = blocks(f"Write the function `{entry}`:", lines)
        preamble = prompt[: head.start()].lstrip("\n")
        return question, Problem(entry, prompt + solution, "", (), check, preamble)

    def _sample(self) -> Sequence[Row]:
        return load_rows(SAMPLES / self.sample)  # for any split: it is one set
