"""`evaluate_strategy`: plays 2048 strategies on fixed seeds, compares them, shows their games."""

from __future__ import annotations

import sys

from taskgym.training.errors import run_command
from taskgym.training.strategies.config import parse


def main() -> None:
    """Entry point of the command."""
    run_command(_main)


def _main() -> None:
    config = parse(sys.argv[1:])
    from taskgym.training.strategies.evaluation import evaluate

    evaluate(config)


if __name__ == "__main__":
    main()
