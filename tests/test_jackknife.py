"""The jackknife gives a mean its t interval, and a ratio of means one that holds the truth as often as it says."""

import numpy as np
import pytest

from ssconv_lib import stats
from ssconv_lib.jackknife import jackknife


def test_of_a_mean_it_is_the_t_interval():
    values = np.random.default_rng(0).normal(3, 1, 9)
    for level in (0.95, 0.5):
        ours, usual = jackknife(lambda kept: values[kept].mean(), 9, level), stats.summarise(values, level)
        assert (ours.mean, ours.sd, ours.n) == pytest.approx((usual.mean, usual.sd, usual.n))
        assert (ours.low, ours.high) == pytest.approx((usual.low, usual.high))


def test_of_a_ratio_of_means_it_covers_the_truth_as_often_as_it_says():
    generator, hits, tries = np.random.default_rng(1), 0, 1000
    for _ in range(tries):
        x, y = generator.normal(2, 0.5, 8), generator.normal(4, 0.5, 8)
        found = jackknife(lambda kept, x=x, y=y: x[kept].mean() / y[kept].mean(), 8)
        hits += found.low <= 0.5 <= found.high
    assert 0.92 < hits / tries < 0.98


def test_one_value_has_no_interval_and_none_is_refused():
    one = jackknife(lambda kept: 2.0, 1)
    assert one.mean == 2
    assert np.isnan([one.low, one.high]).all()
    with pytest.raises(ValueError, match="n is 0: expected at least one value"):
        jackknife(lambda kept: 2.0, 0)
