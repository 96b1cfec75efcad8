"""How sure a mean is: 95 % intervals over tasks, paired differences, and pass@k.

Axis letters: N tasks, K samples of each. The unit of chance is the task, not the sample: K samples
of one task resemble each other, so treating all N x K as independent gives intervals too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

Z = 1.959963984540054  # the 97.5 % point of the standard normal: two-sided 95 %
RESAMPLES = 4000  # the ends of an interval then wander by about 2 % of its width
_BLOCK = 100  # resamples drawn at once: 100 x N indices in memory, not 4000 x N


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its 95 % interval; `dataclasses.asdict` gives its JSON form."""

    mean: float
    low: float
    high: float


def mean_interval(values_NK: ArrayLike) -> Interval:
    """The mean of any score, with a bootstrap over tasks (percentile; deterministic).

    Somewhat narrow under 30 tasks and of no width when all tasks agree: use `rate_interval` for
    successes. One task says nothing about others: its `low` and `high` are NaN.

    Args:
        values_NK: Shape (N, K), one row per task.

    Raises:
        ValueError: Not two axes, empty, or not finite.
    """
    return _bootstrap(_task_means(values_NK, "values_NK"))


def paired_difference(before_NK: ArrayLike, after_NJ: ArrayLike) -> Interval:
    """The mean of after - before on the same tasks, with a bootstrap over tasks.

    Pairing removes the spread between easy and hard tasks, which is most of the noise: two wide
    intervals that overlap can still differ for certain.

    Args:
        before_NK: Shape (N, K), one row per task.
        after_NJ: Shape (N, J): the same tasks in the same order; J may differ from K.

    Raises:
        ValueError: As `mean_interval`, or the numbers of tasks differ.
    """
    before_N = _task_means(before_NK, "before_NK")
    after_N = _task_means(after_NJ, "after_NJ")
    if before_N.size != after_N.size:
        raise ValueError(
            f"a paired difference needs the same tasks, got {before_N.size} and {after_N.size}"
        )
    return _bootstrap(after_N - before_N)


def rate_interval(success_NK: ArrayLike) -> Interval:
    """The success rate with a Wilson interval whose sample size is what the tasks are worth.

    With K = 1 this is Wilson's interval on N trials. With more samples the effective size lies
    between N (all samples of a task agree) and N x K (they are independent): p(1 - p) over the
    variance of the task means. Four made-up tasks, two solved and two not, steady that variance
    where successes are rare (the "plus four" of Agresti and Coull 1998).

    Args:
        success_NK: Shape (N, K), zeros and ones or booleans, one row per task.

    Raises:
        ValueError: Not two axes, empty, or a value other than 0 and 1.
    """
    success_N = _successes(success_NK).mean(axis=1)
    steadied = np.concatenate([success_N, [0.0, 0.0, 1.0, 1.0]])
    rate = steadied.mean()
    size = success_N.size * rate * (1 - rate) / steadied.var()
    return wilson_interval(float(success_N.mean() * size), float(size))


def wilson_interval(successes: float, trials: float) -> Interval:
    """The interval of a plain proportion (Wilson 1927): honest at 0 and 1 and for few trials.

    Raises:
        ValueError: No trials, or successes outside [0, trials].
    """
    if not (trials > 0 and -1e-9 <= successes <= trials * (1 + 1e-9)):
        raise ValueError(f"need 0 <= successes <= trials and trials > 0, got {successes}/{trials}")
    rate = min(1.0, max(0.0, successes / trials))
    square = Z * Z / trials
    centre = (rate + square / 2) / (1 + square)
    half = Z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials)) / (1 + square)
    # The ends touch 0 and 1 only up to rounding; the mean always lies between them.
    return Interval(rate, min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half)))


def pass_at_k(success_NK: ArrayLike) -> dict[int, float]:
    """The chance that one of k samples solves a task, averaged over tasks, for k = 1, 2, 4 ... K.

    Args:
        success_NK: Shape (N, K), zeros and ones or booleans, one row per task.
    """
    samples = _successes(success_NK).shape[1]
    powers = [2**power for power in range(samples.bit_length())]
    return {k: float(task_pass_at_k(success_NK, k).mean()) for k in powers}


def task_pass_at_k(success_NK: ArrayLike, k: int) -> Floats:
    """Unbiased pass@k of every task: 1 - C(K - c, k) / C(K, k) (Chen et al. 2021, eq. 1).

    Args:
        success_NK: Shape (N, K), zeros and ones or booleans; c is a row's number of ones.
        k: How many samples one may try; at most K.

    Returns:
        Shape (N,).

    Raises:
        ValueError: As `rate_interval`, or k outside 1 ... K.
    """
    success = _successes(success_NK)
    samples = success.shape[1]
    if not 1 <= k <= samples:
        raise ValueError(f"k must be between 1 and the {samples} samples of each task, got {k}")
    # Whole numbers until the last division: exact for any K.
    miss_C = [math.comb(samples - c, k) / math.comb(samples, k) for c in range(samples + 1)]
    correct_N = success.sum(axis=1).astype(np.intp)
    pass_C = 1.0 - np.asarray(miss_C, dtype=np.float64)
    pass_N: Floats = pass_C[correct_N]
    return pass_N


def _bootstrap(values_N: Floats) -> Interval:
    mean, tasks = float(values_N.mean()), values_N.size
    if tasks == 1:
        return Interval(mean, math.nan, math.nan)
    rng = np.random.default_rng(0)  # a report written twice says the same
    means = [
        values_N[rng.integers(tasks, size=(_BLOCK, tasks))].mean(axis=1)
        for _ in range(RESAMPLES // _BLOCK)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(mean, min(mean, float(low)), max(mean, float(high)))


def _task_means(values_NK: ArrayLike, name: str) -> Floats:
    means_N: Floats = _matrix(values_NK, name).mean(axis=1)
    return means_N


def _successes(success_NK: ArrayLike) -> Floats:
    success = _matrix(success_NK, "success_NK")
    if not np.isin(success, (0.0, 1.0)).all():
        raise ValueError("success_NK must hold only 0 and 1")
    return success


def _matrix(values: ArrayLike, name: str) -> Floats:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"{name} must have shape (tasks, samples), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} holds a value that is not finite")
    return matrix
