"""The program in a completion: which fence counts, what is passed over, what was cut off."""

import pytest
from taskgym.envs.code_blocks import find_program

PROGRAM = 'def strategy(board):\n    return "W"\n'
OTHER = 'def strategy(board):\n    return "S"\n'


def fenced(code, label="python", fence="```"):
    return f"{fence}{label}\n{code}{fence}\n"


ACCEPTED = {
    "plain": fenced(PROGRAM),
    "no label": fenced(PROGRAM, label=""),
    "odd label": fenced(PROGRAM, label="py3 title='x'"),
    "tildes": fenced(PROGRAM, fence="~~~"),
    "four backticks": fenced(PROGRAM, fence="````"),
    "no newline at the end": fenced(PROGRAM).rstrip("\n"),
    "prose around": f"Sure!\n\n{fenced(PROGRAM)}\nIt goes up.",
    "inline code before": f"I use `W` and ```x``` here.\n{fenced(PROGRAM)}",
    "prose fence before": f"{fenced('Plan: go up.' + chr(10), label='')}{fenced(PROGRAM)}",
    "prose fence after": f"{fenced(PROGRAM)}{fenced('W W W' + chr(10), label='')}",
    "a draft before": f"{fenced(OTHER)}Better:\n{fenced(PROGRAM)}",
    "a cut-off draft after": f"{fenced(PROGRAM)}Or:\n```python\n{OTHER}",
    "think": f"<think>{fenced(OTHER)}</think>\n{fenced(PROGRAM)}",
    "think, opened by the prompt": f"{fenced(OTHER)}</think>{fenced(PROGRAM)}",
    "analysis channel": (
        f"<|channel|>analysis<|message|>{fenced(OTHER)}<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{fenced(PROGRAM)}<|return|>"
    ),
    "analysis channel, decoded": f"analysisHm:\n{fenced(OTHER)}assistantfinal\n{fenced(PROGRAM)}",
    "windows lines": fenced(PROGRAM).replace("\n", "\r\n"),
    "in a list item": "1. Code:\n" + "".join(
        f"    {line}\n" for line in fenced(PROGRAM).splitlines()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_last_closed_fence_with_the_function_is_the_program(name):
    assert find_program(ACCEPTED[name], "strategy") == (PROGRAM, "")


@pytest.mark.parametrize(
    "code",
    [
        "import math\n" + PROGRAM,
        "# define it\n" + PROGRAM,
        "def helper(b):\n    return b\n\n" + PROGRAM,
        "def strategy(grid: list[list[int]]) -> str:\n    return 'W'\n",
        "def  strategy ( b, depth=2 ):\n    return 'W'\n",
        PROGRAM + "\nprint(strategy([[0]]))\n",
        "async def strategy(board):\n    return 'W'\n",
        "strategy = lambda board: 'W'\n",
        'def strategy(board):\n    """Example:\n    ```\n    strategy(b)\n    ```\n    """\n',
    ],
)
def test_all_of_the_block_is_kept(code):
    assert find_program(fenced(code), "strategy").source == code


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("", "no code fence"),
        ("I would go up.", "no code fence"),
        (PROGRAM, "no code fence"),
        (f"```python\n{PROGRAM}", "not closed"),
        (fenced("Go up.\n"), "no code fence defines a function strategy"),
        (fenced("def strategy_two(board):\n    return 'W'\n"), "no code fence defines"),
        (fenced("class A:\n    def strategy(self):\n        pass\n"), "no code fence defines"),
        (f"<think>{fenced(PROGRAM)}", "ends before the reasoning"),
        (f"<|channel|>analysis<|message|>{fenced(PROGRAM)}", "ends before the reasoning"),
        (f"analysisWe draft:\n{fenced(PROGRAM)}", "ends before the reasoning"),
        (f"<think>{fenced(PROGRAM)}</think>I would go up.", "no code fence"),
    ],
)
def test_what_holds_no_whole_program_says_why(completion, reason):
    source, why = find_program(completion, "strategy")
    assert source is None
    assert reason in why


@pytest.mark.parametrize(
    "text", ["```\n" * 500_000, "`" * 2_000_000, "\0\ud800 ~~~\n" * 200_000, " " * 2_000_000]
)
def test_floods_are_read_in_linear_time(text):
    assert find_program(text, "strategy").source is None
