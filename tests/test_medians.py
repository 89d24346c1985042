"""The median's interval: ranks by hand, scipy's sign test as the oracle, and simulation with a fixed seed."""

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from ssconv_lib.stats import median_interval

numbers = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("n", "k"), [(6, 1), (7, 1), (8, 1), (9, 2), (15, 4), (50, 18), (100, 40)]
)  # of the usual tables
def test_the_ranks_are_those_of_the_binomial(n, k):
    ranked = range(1, n + 1)
    assert median_interval([*ranked][::-1]) == (k, n + 1 - k)
    outside = 2 * sum(math.comb(n, below) for below in range(k)) / 2**n
    assert outside <= 0.05 < outside + 2 * math.comb(n, k) / 2**n, "the narrowest that there is"


@pytest.mark.parametrize("n", range(1, 6))
def test_few_values_exclude_nothing(n):
    assert median_interval([2.0] * n) == (-math.inf, math.inf)
    assert median_interval([1, 2, 3, 4, 5], level=0.9) == (1, 5), "of 32 ways to lie, 2 leave it out"


def test_ties_are_values_like_others():
    assert median_interval([1] * 6) == (1, 1)
    assert median_interval([1, 1, 1, 1, 1, 2, 2]) == (1, 2)


@given(numbers)
def test_the_ends_are_values_around_the_median(values):
    low, high = median_interval(values)
    assert low <= median(values) <= high
    assert len(values) < 6 or {low, high} <= {*values}
    assert median_interval([-one for one in values]) == (-high, -low)


@given(numbers.filter(lambda values: 0 not in values))
def test_it_excludes_0_when_the_sign_test_does(values):
    low, high = median_interval(values)
    p = scipy_stats.binomtest(sum(one > 0 for one in values), len(values)).pvalue
    assert (low > 0 or high < 0) == (p <= 0.05)


@pytest.mark.parametrize("n", [6, 7, 9, 15])
@pytest.mark.parametrize("draw", ["standard_normal", "standard_cauchy", "exponential", "coarse"])
def test_it_covers_the_true_median_as_often_as_it_says(n, draw):
    random = np.random.default_rng(n)
    if draw == "coarse":  # three values, half of the weight on the middle one
        rows, true = random.choice(3, (2000, n), p=[0.3, 0.5, 0.2]), 1
    else:
        rows, true = getattr(random, draw)(size=(2000, n)), math.log(2) if draw == "exponential" else 0
    covered = np.mean([low <= true <= high for low, high in map(median_interval, rows)])
    least = 1 - 2 * scipy_stats.binom.cdf(median_interval(range(n))[0], n, 0.5)
    assert covered >= 0.95
    assert draw == "coarse" or abs(covered - least) < 5 * math.sqrt(least * (1 - least) / len(rows))


def test_what_is_no_sample_is_named():
    with pytest.raises(ValueError, match=r"values has shape \(0,\)"):
        median_interval([])
    with pytest.raises(ValueError, match=r"values\[1\] is nan"):
        median_interval([1, math.nan])
    with pytest.raises(ValueError, match="level is 95"):
        median_interval([1, 2], level=95)
