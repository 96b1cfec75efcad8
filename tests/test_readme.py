"""Runs what README.md, CONTRIBUTING.md and docs show, so that a reader can paste it.

Every ``python`` block runs by itself, in a folder shared by its document. The commands in ``bash``
blocks are tried as far as costs nothing: a dry run, or their flags looked up in ``--help``; make's
targets and pip's extras must exist. An HTML comment on the line before a block changes that::

    <!-- file: reverse_text.py -->   the block is also saved under this name before anything runs
    <!-- not run: needs a GPU -->    skipped; the reason is required
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!--(?P<note>[^\n]*)-->\n)?```(?P<lang>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)
COMMAND = re.compile(
    r"(?:\$ )?(?:\w+=\S* )*"
    r"((?:train_agent|evaluate_agent|evaluate_strategy|list_envs|make|pip|uv)\b.*)"
)
SECONDS = 240  # A block that takes longer is a proof, not an example: mark it as not run.

pytestmark = pytest.mark.readme


@dataclass(frozen=True)
class Block:
    """A fenced block of a document, with the note before it."""

    document: Path
    line: int
    language: str
    code: str
    note: str

    def __str__(self) -> str:
        return f"{self.document.name}:{self.line}"

    @property
    def filename(self) -> str | None:
        return self.note.removeprefix("file:").strip() if self.note.startswith("file:") else None


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    return [
        Block(
            document,
            text.count("\n", 0, match.start("code")) + 1,
            match["lang"],
            match["code"],
            (match["note"] or "").strip(),
        )
        for match in FENCE.finditer(text)
    ]


def commands_of(block: Block) -> list[list[str]]:
    """Return the commands this file can try as lists of words, without prompts and variables."""
    lines = block.code.replace("\\\n", " ").splitlines()
    matches = (COMMAND.match(line) for line in lines)
    return [shlex.split(match[1], comments=True) for match in matches if match]


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [
    (block, words)
    for block in BLOCKS
    if block.language in ("bash", "console", "sh", "shell")
    for words in commands_of(block)
]


def commands(*heads: str) -> pytest.MarkDecorator:
    """Parametrize over the shell commands that begin with one of ``heads``."""
    chosen = [(block, words) for block, words in SHELL if words[0] in heads]
    ids = [f"{block}: {shlex.join(words)}" for block, words in chosen]
    return pytest.mark.parametrize(("block", "words"), chosen, ids=ids)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Block], Path]:
    """Return a function from a block to its document's folder, with the files it names."""
    folders: dict[Path, Path] = {}

    def find(block: Block) -> Path:
        if block.document not in folders:
            folder = folders[block.document] = tmp_path_factory.mktemp(block.document.stem)
            for each in BLOCKS:
                if each.document == block.document and each.filename:
                    (folder / each.filename).write_text(each.code, encoding="utf-8")
        return folders[block.document]

    return find


def skip_if_marked(block: Block) -> None:
    if block.note.startswith("not run"):
        pytest.skip(block.note)


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def installed(command: str) -> str:
    path = Path(sys.executable).with_name(command)
    assert path.exists(), f"{command} is not installed beside {sys.executable}"
    return str(path)


def test_there_is_a_readme() -> None:
    if not DOCUMENTS[0].exists():
        pytest.skip("README.md is not here")
    assert PYTHON and SHELL, "README.md shows neither Python nor a command"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_note_is_one_this_file_knows(block: Block) -> None:
    known = r"(not run: .+|file: \S+)?"
    assert re.fullmatch(known, block.note), f"{block}: what does <!-- {block.note} --> mean?"


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_runs(block: Block, folder_of: Callable[[Block], Path]) -> None:
    skip_if_marked(block)
    # A file with a main guard, not `-c`: what starts processes anew has to find its code again.
    script = folder_of(block) / (block.filename or f"line_{block.line}.py")
    script.write_text(block.code, encoding="utf-8")
    run([sys.executable, script.name], script.parent)


@commands("train_agent", "evaluate_agent", "evaluate_strategy", "list_envs")
def test_commands_know_their_flags(
    block: Block, words: list[str], folder_of: Callable[[Block], Path]
) -> None:
    skip_if_marked(block)
    shown = run([installed(words[0]), "--help"], folder_of(block))
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    unknown = [flag for flag in flags if not re.search(rf"{re.escape(flag)}(?![\w.-])", shown)]
    assert not unknown, f"{block}: {words[0]} has no {', '.join(unknown)}"


@commands("train_agent")
def test_training_commands_pass_a_dry_run(
    block: Block, words: list[str], folder_of: Callable[[Block], Path]
) -> None:
    skip_if_marked(block)
    if {"--help", "--resume"} & set(words) or re.search("<.+>", shlex.join(words)):
        pytest.skip("needs a run to go on from, or has a gap to fill in")
    run([installed(words[0]), *words[1:], "--dry-run"], folder_of(block))


@commands("make")
def test_make_has_the_target(block: Block, words: list[str]) -> None:
    if not (ROOT / "Makefile").exists():
        pytest.skip("the Makefile is not here")
    targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
    made = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(targets) <= set(made), f"{block}: make has {', '.join(made)}"


@commands("pip", "uv")
def test_pip_installs_an_extra_that_exists(block: Block, words: list[str]) -> None:
    named = re.findall(r"(?:taskgym|\.)\[([\w,-]+)\]", " ".join(words))
    extras = {extra for group in named for extra in group.split(",")}
    known = set(metadata("taskgym").get_all("Provides-Extra") or ())
    assert extras <= known, f"{block}: taskgym has {', '.join(sorted(known))}"
