"""Holds the rules of the house that no linter knows: rooms, imports, exports, packaging, paths."""

import ast
import importlib
import re
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "envs" / "core.py").exists(), reason="reads the checkout, and this is not one"
)

# Each room and the rooms it may import; the direction is one way (CONTRIBUTING.md, "Rooms").
ROOMS: dict[str, set[str]] = {
    "sandbox": set(),
    "envs": {"sandbox"},
    "agents": {"envs"},
    "training": {"envs", "agents"},
}

# The third parties a room may name at the top of a file.
LIGHT = {
    "sandbox": {"RestrictedPython"},
    "envs": {"gymnasium", "numpy"},
    "agents": {"gymnasium", "numpy"},
    "training": {"gymnasium", "numpy", "tqdm", "tyro", "yaml"},
}

# All others are imported inside functions, so that `import` and `--help` stay quick, but for the
# files below: they load what they like, because they are imported inside functions themselves.
DEFERRED = {
    "envs/answer_worker.py",
    "training/async_learner.py",
    "training/async_sampler.py",
    "training/async_trainer.py",
    "training/callbacks.py",
    "training/grpo_trainer.py",
    "training/halving.py",
    "training/learner.py",
    "training/memory/micro_batch.py",
    "training/memory/storages.py",
    "training/micro_batches.py",
    "training/sampler.py",
    "training/sampler_gap.py",
    "training/shown_processor.py",
    "training/tree_attention.py",
    "training/unsloth_trainer.py",
    "training/warmup.py",
    "training/watched_trainer.py",
}
ONLY_TRL = {
    "training/async_learner.py",
    "training/async_sampler.py",
    "training/async_trainer.py",
    "training/grpo_trainer.py",
    "training/learner.py",
    "training/unsloth_trainer.py",
    "training/warmup.py",
    "training/watched_trainer.py",
}


@dataclass(frozen=True)
class Import:
    """One name a file imports: ``module`` may be a module or something in it."""

    path: str
    line: int
    module: str
    at_top: bool
    for_types: bool

    @property
    def package(self) -> str:
        return self.module.split(".")[0]

    @property
    def room(self) -> str | None:
        parts = self.module.split(".")
        return parts[1] if parts[0] == "taskgym" and len(parts) > 1 else None

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def files_of(room: str) -> list[Path]:
    return sorted(p for p in (ROOT / room).rglob("*.py") if "__pycache__" not in p.parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(path: Path) -> Iterator[Import]:
    yield from _walk(tree_of(path), path.relative_to(ROOT).as_posix(), True, False)


def _walk(node: ast.AST, path: str, at_top: bool, for_types: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(path, node.lineno, alias.name, at_top, for_types)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:  # Relative imports are refused by ruff (TID252).
            yield Import(path, node.lineno, f"{node.module}.{alias.name}", at_top, for_types)
    inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, path, at_top and not inside, for_types or typing)


def every_import() -> Iterator[tuple[str, Import]]:
    return ((room, each) for room in ROOMS for path in files_of(room) for each in imports_of(path))


def complaints(found: list[str]) -> str:
    return "\n" + "\n".join(found)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    allowed = ROOMS[room] | {room}
    found = [
        f"{each}: {room} may import {', '.join(sorted(ROOMS[room])) or 'no other room'}"
        for path in files_of(room)
        for each in imports_of(path)
        if each.room is not None and each.room not in allowed
    ]
    assert not found, complaints(found)


def test_modules_name_light_packages_only_at_the_top() -> None:
    standard = sys.stdlib_module_names | {"taskgym"}
    found = [
        f"{each} at the top: move it into the function that needs it"
        for room, each in every_import()
        if each.at_top and not each.for_types
        if each.package not in standard | LIGHT[room] and each.path not in DEFERRED
    ]
    assert not found, complaints(found)


def test_files_that_load_heavy_packages_are_imported_inside_functions_only() -> None:
    loaders = DEFERRED | named_after("transformers") | named_after("vllm")
    modules = {"taskgym." + path.removesuffix(".py").replace("/", ".") for path in loaders}
    found = [
        f"{each} at the top, which loads a heavy package"
        for _, each in every_import()
        if each.at_top and not each.for_types and each.path not in loaders
        if each.module in modules or each.module.rpartition(".")[0] in modules
    ]
    assert not found, complaints(found)


def named_after(package: str) -> set[str]:
    return {f"agents/{path.name}" for path in files_of("agents") if package in path.name}


@pytest.mark.parametrize("package", ["vllm", "transformers"])
def test_agents_know_an_engine_only_in_the_file_named_after_it(package: str) -> None:
    found = [
        f"{each}: only agents/*{package}*.py may"
        for room, each in every_import()
        if room == "agents" and each.package == package and each.path not in named_after(package)
        if each.path not in DEFERRED
    ]
    assert not found, complaints(found)


def test_only_the_learner_and_the_warm_up_know_trl() -> None:
    found = [
        f"{each}: only {', '.join(sorted(ONLY_TRL))} may"
        for _, each in every_import()
        if each.package == "trl" and each.path not in ONLY_TRL
    ]
    assert not found, complaints(found)


def test_the_sandbox_needs_nothing_but_restrictedpython() -> None:
    allowed = sys.stdlib_module_names | {"RestrictedPython", "taskgym"}
    found = [str(e) for room, e in every_import() if room == "sandbox" and e.package not in allowed]
    assert not found, complaints(found)


def test_every_module_opens_with_a_docstring() -> None:
    found = [
        f"{path.relative_to(ROOT)} says not what it is for"
        for folder in (*ROOMS, "tests", "benchmarks", "constraints")
        for path in files_of(folder)
        if path.read_text().strip() and not ast.get_docstring(tree_of(path))
    ]
    assert not found, complaints(found)


def exports_of(path: Path) -> bool:
    names = (
        target
        for node in tree_of(path).body
        for target in (node.targets if isinstance(node, ast.Assign) else [])
        + ([node.target] if isinstance(node, ast.AnnAssign) else [])
    )
    return any(isinstance(name, ast.Name) and name.id == "__all__" for name in names)


@pytest.mark.parametrize("room", ROOMS)
def test_exports_are_sorted_and_exist(room: str) -> None:
    for path in filter(exports_of, files_of(room)):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = importlib.import_module(".".join(("taskgym", *parts)).removesuffix(".__init__"))
        exported = list(module.__all__)
        # The order ruff writes (RUF022): CONSTANTS, then Classes, then functions.
        in_order = sorted(exported, key=lambda n: (not n.isupper(), not n[:1].isupper(), n))
        assert exported == in_order, f"{path} sorts __all__ otherwise than ruff"
        missing = [each for each in exported if not hasattr(module, each)]
        assert not missing, f"{path} exports what is not there: {missing}"


def pyproject(*keys: str) -> Any:
    table: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for key in keys:
        table = table[key]
    return table


def test_pyproject_lists_exactly_the_folders_with_python_files() -> None:
    table = pyproject("tool", "setuptools")
    folders = {path.parent.relative_to(ROOT) for room in ROOMS for path in files_of(room)}
    assert set(table["packages"]) == {"taskgym." + ".".join(folder.parts) for folder in folders}
    assert table["package-dir"] == {f"taskgym.{room}": room for room in ROOMS}


def test_every_room_is_marked_as_typed() -> None:
    assert [room for room in ROOMS if not (ROOT / room / "py.typed").exists()] == []


@pytest.mark.parametrize("room", ROOMS)
def test_typings_are_relative_links_to_the_rooms(room: str) -> None:
    link = ROOT / "typings" / "taskgym" / room
    assert link.readlink() == Path("../..", room)
    if tracked := git("ls-files", "--stage", str(link)):
        assert tracked.startswith("120000 "), f"committed as a file, not as a link: {tracked}"


def git(*args: str) -> str:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs git and a repository")
    run = ["git", "-C", str(ROOT), *args]
    return subprocess.run(run, capture_output=True, text=True, check=True).stdout


# Split in two, so that this file does not name them either.
HOSTS = [
    ("pypi", r"\.org"),
    ("python", r"hosted\.org"),
    ("download", r"\.pytorch\.org"),
    ("registry", r"\.(npmjs\.org|yarnpkg\.com)"),
    ("deb", r"\.debian\.org"),
    ("conda", r"\.anaconda\.org"),
]
MACHINE_PATHS = [
    ("", r"(?<![\w.~])/(opt|mnt|srv|work|Users)/\w"),
    ("/root", r"/\.(pyenv|cache)"),
    ("/home", r"/(?!user\b|you\b)\w+/\w"),
]


def test_no_file_names_a_machine_or_a_registry_host() -> None:
    wanted = re.compile("|".join(head + tail for head, tail in (*HOSTS, *MACHINE_PATHS)))
    listed = git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    found = []
    for name in filter(None, listed):
        path = ROOT / name
        if path.is_symlink() or not path.is_file() or path == Path(__file__).resolve():
            continue
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{name} names {match[0]}" for match in wanted.finditer(text)]
    assert not found, complaints(found)


@pytest.mark.parametrize(
    "line", ["import envs", "import agents.chat", "from training import train"]
)
def test_ruff_refuses_the_bare_name_of_a_room(line: str) -> None:
    ruff = shutil.which("ruff", path=Path(sys.executable).parent) or shutil.which("ruff")
    if not ruff:
        pytest.skip("ruff is not installed")
    checked = subprocess.run(
        [ruff, "check", "--no-cache", "--select=TID251", "--stdin-filename=envs/new.py", "-"],
        input=line + "\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert checked.returncode == 1 and "its bare name is not ours" in checked.stdout


# --- what an import costs ----------------------------------------------------------------------

BUDGET = 0.5  # Seconds of CPU beyond gymnasium's own import.
MEASURE = """
import sys, time
import gymnasium
before = time.process_time()
import taskgym.envs
print(time.process_time() - before, *sys.modules)
"""
STAYS_OUT = ("datasets", "jax", "matplotlib", "sympy", "torch", "transformers", "trl", "vllm")


def run_python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_importing_the_envs_is_light() -> None:
    runs = [run_python(MEASURE) for _ in range(3)]
    loaded = [name for name in STAYS_OUT if name in runs[0][1:]]
    assert not loaded, f"import taskgym.envs loads {loaded}"
    seconds = statistics.median(float(run[0]) for run in runs)
    assert seconds <= BUDGET, f"import taskgym.envs takes {seconds:.2f} s of CPU"


def test_commands_start_without_the_heavy_packages() -> None:
    modules = {target.partition(":")[0] for target in pyproject("project", "scripts").values()}
    present = [m for m in modules if (ROOT / Path(*m.split(".")[1:]).with_suffix(".py")).exists()]
    if not present:
        pytest.skip("no command has been written yet")
    names = run_python(f"import sys, {', '.join(present)}; print(*sys.modules)")
    loaded = [name for name in STAYS_OUT if name in names]
    assert not loaded, f"importing the commands loads {loaded}"
