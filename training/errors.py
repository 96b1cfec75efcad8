"""The errors a command answers with one clear sentence and an exit code, not a traceback.

UserError(ValueError)            what was asked cannot be done; the message says what can
├── ConfigError                  a flag, a YAML file or a recipe
├── ModelError                   a model that cannot be found or loaded
└── RunError                     a run folder that cannot be written or resumed
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn

import gymnasium as gym
from taskgym.envs import TaskgymError

USAGE = 2  # exit code for what the user can mend
INTERRUPTED = 130  # as a shell reports Ctrl-C
UNREAD = 141  # as a shell reports SIGPIPE


class UserError(ValueError):
    """What was asked cannot be done."""


class ConfigError(UserError):
    """A flag, a YAML file or a recipe that does not fit."""


class ModelError(UserError):
    """A model that cannot be found or loaded."""


class RunError(UserError):
    """A run folder that cannot be written or resumed."""


def run_command(command: Callable[[], None]) -> None:
    """Runs a command; errors the user can mend become one sentence and an exit code."""
    try:
        command()
        sys.stdout.flush()
    except (UserError, TaskgymError) as error:
        fail(str(error))
    except gym.error.Error as error:  # unknown ids: Gymnasium names the nearest
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        if not _unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes the rest when it exits
        sys.exit(UNREAD)
    except OSError as error:
        if not disk_is_full(error):
            raise
        fail(f"no space left on the disk of {error.filename or 'the run folder'}")


def _unread() -> bool:
    """Whether nobody reads stdout any more, as in `list_envs | head -1`."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def disk_is_full(error: BaseException) -> bool:
    """Whether a full disk is behind an error; safetensors and torch say so in words only."""
    words = ("No space left", "Disk quota exceeded", "inline_container.cc")
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or any(word in str(error) for word in words)


def fail(message: str) -> NoReturn:
    """Prints one sentence and exits."""
    size = os.environ.get("WORLD_SIZE", "1")
    whose = f" in process {os.environ.get('RANK', 0)} of {size}" if size != "1" else ""
    print(f"error{whose}: {message}", file=sys.stderr)
    sys.exit(USAGE)
