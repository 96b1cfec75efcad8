"""Intervals cover what they promise; pass@k equals counting."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from taskgym.training.statistics import (
    mean_interval,
    paired_difference,
    pass_at_k,
    rate_interval,
    task_pass_at_k,
    wilson_interval,
)

shapes_NK = st.tuples(st.integers(1, 12), st.integers(1, 6))
successes_NK = hnp.arrays(np.bool_, shapes_NK)
scores_NK = hnp.arrays(np.float64, shapes_NK, elements=st.floats(-100, 100))


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_pass_at_k_equals_drawing_every_subset(samples, data):
    k = data.draw(st.integers(1, len(samples)))
    draws = [any(draw) for draw in itertools.combinations(samples, k)]
    assert task_pass_at_k([samples], k)[0] == pytest.approx(np.mean(draws), abs=1e-15)


@settings(deadline=None)
@given(successes_NK)
def test_pass_at_k_rises_from_the_success_rate_to_the_share_of_tasks_ever_solved(success):
    rates = pass_at_k(success)
    assert rates[1] == pytest.approx(success.mean())
    assert list(rates.values()) == sorted(rates.values())
    assert task_pass_at_k(success, success.shape[1]).tolist() == success.any(axis=1).tolist()


@pytest.mark.parametrize(
    "samples, ks", [(1, [1]), (2, [1, 2]), (3, [1, 2]), (8, [1, 2, 4, 8]), (9, [1, 2, 4, 8])]
)
def test_pass_at_k_is_told_for_powers_of_two_up_to_the_samples(samples, ks):
    assert list(pass_at_k(np.zeros((3, samples)))) == ks


def test_pass_at_k_stays_exact_where_binomials_are_huge():
    success = np.zeros((1, 2000))
    success[0, 0] = 1
    assert task_pass_at_k(success, 1000)[0] == 0.5


@settings(deadline=None)
@given(scores_NK)
def test_a_mean_lies_inside_its_interval_and_the_interval_inside_the_task_means(scores):
    interval, means = mean_interval(scores), scores.mean(axis=1)
    if len(means) > 1:
        slack = 1e-9
        assert means.min() - slack <= interval.low <= interval.mean <= interval.high
        assert interval.high <= means.max() + slack
    assert interval.mean == pytest.approx(scores.mean(), abs=1e-9)


@settings(deadline=None)
@given(successes_NK)
def test_a_rate_interval_is_never_wider_than_one_sample_a_task_would_give(success):
    rate, interval = success.mean(), rate_interval(success)
    tasks = wilson_interval(rate * len(success), len(success))
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1
    assert interval.mean == pytest.approx(rate)
    assert 0 < interval.high - interval.low <= tasks.high - tasks.low + 1e-9


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_one_sample_a_task_gives_the_plain_wilson_interval(solved):
    plain = wilson_interval(sum(solved), len(solved))
    ours = rate_interval(np.array(solved)[:, None])
    assert (ours.low, ours.mean, ours.high) == pytest.approx((plain.low, plain.mean, plain.high))


def test_wilson_gives_the_published_numbers():
    interval = wilson_interval(81, 263)  # Newcombe 1998, table I
    assert (interval.low, interval.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20).low == 0.0 and wilson_interval(0, 20).high > 0.1
    assert wilson_interval(20, 20).high == 1.0


def beta_binomial(rng, tasks, samples, a, b):
    return rng.binomial(1, rng.beta(a, b, size=(tasks, 1)), size=(tasks, samples))


@pytest.mark.parametrize("a, b", [(1, 1), (0.2, 0.6), (8, 2)])
def test_rate_intervals_of_clustered_samples_cover_the_truth_nineteen_times_in_twenty(a, b):
    rng, truth = np.random.default_rng(1), a / (a + b)
    intervals = [rate_interval(beta_binomial(rng, 60, 8, a, b)) for _ in range(1000)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.985


def test_treating_samples_as_independent_would_not_cover():
    rng = np.random.default_rng(2)
    draws = [beta_binomial(rng, 60, 8, 0.5, 0.5) for _ in range(500)]
    naive = [wilson_interval(draw.sum(), draw.size) for draw in draws]
    assert np.mean([interval.low <= 0.5 <= interval.high for interval in naive]) < 0.8


def test_mean_and_paired_intervals_cover_the_truth():
    rng = np.random.default_rng(3)
    covered_mean, covered_difference = [], []
    for _ in range(150):
        tasks = rng.normal(size=(50, 1))
        before = tasks + rng.normal(size=(50, 4))
        after = tasks + 0.5 + rng.normal(size=(50, 8))
        mean, difference = mean_interval(before), paired_difference(before, after)
        covered_mean.append(mean.low <= 0 <= mean.high)
        covered_difference.append(difference.low <= 0.5 <= difference.high)
    assert np.mean(covered_mean) > 0.89
    assert np.mean(covered_difference) > 0.89


@settings(deadline=None)
@given(scores_NK, st.floats(-5, 5))
def test_a_constant_gain_is_known_for_certain(scores, gain):
    if len(scores) == 1:
        return
    difference = paired_difference(scores, scores + gain)
    assert (difference.low, difference.mean, difference.high) == pytest.approx((gain,) * 3)


def test_one_task_says_nothing_about_others():
    interval = mean_interval([[0.5, 1.0]])
    assert interval.mean == 0.75 and math.isnan(interval.low) and math.isnan(interval.high)


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(4).random((30, 2))
    assert mean_interval(values) == mean_interval(values.copy())


@pytest.mark.parametrize("bad", [[1.0, 0.0], [], [[]], [[[1.0]]], 1.0, [[math.nan]]])
def test_wrong_shapes_are_refused_and_shown(bad):
    for function in (mean_interval, rate_interval, pass_at_k):
        with pytest.raises(ValueError, match="_NK"):
            function(bad)


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match="only 0 and 1"):
        rate_interval([[0.5]])
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_difference(np.zeros((2, 1)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="the 4 samples of each task, got 5"):
        task_pass_at_k(np.zeros((2, 4)), 5)
    with pytest.raises(ValueError, match="got 3/2"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="trials > 0"):
        wilson_interval(0, 0)
