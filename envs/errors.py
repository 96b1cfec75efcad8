"""The errors of the envs, one short tree.

TaskgymError
├── DataError(ValueError)        rows that cannot be read or lack a column
├── RewardError(ValueError)      a reward component returned something that is no number
└── MachineryError(RuntimeError) ours, not the model's: the trajectory carries it and is left out
"""


class TaskgymError(Exception):
    """Anything taskgym raises on purpose."""


class DataError(TaskgymError, ValueError):
    """Rows that cannot be read, or that lack what the env needs."""


class RewardError(TaskgymError, ValueError):
    """A reward component returned NaN, infinity or no number: a bug, never scored as 0."""


class MachineryError(TaskgymError, RuntimeError):
    """A verifier or sandbox failed: the completion could not be judged, so it has no score."""
