"""`train_agent`: trains a LoRA policy on an environment by GRPO."""

from __future__ import annotations

import sys
from pathlib import Path

from taskgym.training.cli import add_working_directory, parse_train_config
from taskgym.training.environment import prepare_environment
from taskgym.training.errors import run_command


def main() -> None:
    """Entry point of the command."""
    run_command(_main)


def _main() -> None:
    prepare_environment()
    config = parse_train_config(sys.argv[1:])
    if config.verify:
        from taskgym.training.verify import verify

        found = verify(Path(config.verify))
        print(found.table())
        sys.exit(found.below)
    add_working_directory()
    from taskgym.training.memory.fit import table
    from taskgym.training.train import check, describe, plan_tasks, train

    if config.plan:
        print(table(config, plan_tasks(config)))
    elif config.dry_run:
        check(config)
        plan_tasks(config)
        print(describe(config))
    else:
        train(config)


if __name__ == "__main__":
    main()
