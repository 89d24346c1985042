"""The bootstrap over counts is the bootstrap over images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ssconv_lib.bootstrap import over_images_and_draws, paired_bootstrap, paired_bootstrap_mean


def answers(only_first, only_second, both, n, seed=0):
    """Wrong answers with these counts, in some order."""
    kinds = [(1, 0)] * only_first + [(0, 1)] * only_second + [(1, 1)] * both
    kinds += [(0, 0)] * (n - len(kinds))
    return np.random.default_rng(seed).permutation(np.array(kinds, dtype=bool)).T


def test_the_interval_is_that_of_scipys_bootstrap_over_images():
    first, second = answers(30, 55, 40, 500)
    ours = paired_bootstrap(first, second, draws=100_000)
    theirs = stats.bootstrap(
        (100.0 * first, 100.0 * second),
        lambda a, b, axis: (b - a).mean(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        batch=500,
        rng=np.random.default_rng(1),
    )
    assert ours.mean == pytest.approx(5.0)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.2)  # a step is 0.2
    narrow = paired_bootstrap(first, second, draws=100_000, level=0.8)
    assert ours.low < narrow.low < narrow.high < ours.high
    assert ours.n == 500


def test_its_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        kind = generator.choice(4, size=400, p=[0.1, 0.16, 0.2, 0.54])
        one = paired_bootstrap((kind == 0) | (kind == 2), (kind == 1) | (kind == 2), draws=2000)
        covered += one.low <= 6.0 <= one.high
    assert 0.92 <= covered / 400 <= 0.98


def test_mcnemar_is_the_exact_binomial_test_and_the_p_of_the_bootstrap_is_near_it():
    for only_first, only_second in ((30, 55), (55, 30), (20, 22), (0, 9)):
        one = paired_bootstrap(*answers(only_first, only_second, 40, 500), draws=100_000)
        assert one.mcnemar == pytest.approx(stats.binomtest(only_second, only_first + only_second).pvalue)
        share = (only_first + only_second) / 500
        error = 100 * ((share - (one.mean / 100) ** 2) / 500) ** 0.5
        normal = 2 * stats.norm.sf(max(abs(one.mean) - 0.1, 0) / error)  # half a step of 0.2: a draw of 0 counts
        assert one.p == pytest.approx(normal, abs=0.01)
        assert (one.p < 0.05) == (one.low > 0 or one.high < 0)


def test_it_depends_on_the_counts_alone_and_on_the_seed():
    one, other = (paired_bootstrap(*answers(30, 55, both, 500, seed)) for both, seed in ((40, 0), (200, 7)))
    assert one == other
    assert one != paired_bootstrap(*answers(30, 55, 40, 500), seed=1)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_the_other_way_round_the_sign_is_the_other(only_first, only_second, both):
    first, second = answers(only_first, only_second, both, 60)
    there, back = paired_bootstrap(first, second), paired_bootstrap(second, first)
    assert there.mean == pytest.approx(100 * (only_second - only_first) / 60)
    assert there.mean == -back.mean
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=100 / 60 + 1e-9)
    assert there.low <= there.mean <= there.high
    assert there.mcnemar == pytest.approx(back.mcnemar)
    assert 0 < there.p <= 1


def test_images_answered_alike_leave_nothing_to_judge_by():
    first, _ = answers(0, 0, 10, 50)
    one = paired_bootstrap(first, first)
    assert (one.mean, one.low, one.high, one.p, one.mcnemar) == (0, 0, 0, 1, 1)
    assert one.detectable != one.detectable
    assert one.degenerate == "no image is answered differently"
    assert paired_bootstrap(*answers(0, 1, 0, 50)).degenerate == ""


def test_the_detectable_difference_is_seen_in_four_of_five_samples():
    discordant, n = 0.1, 2000
    sample = answers(100, 100, 100, n)
    least = paired_bootstrap(*sample).detectable
    assert least == pytest.approx((1.95996 + 0.84162) * 100 * (discordant / n) ** 0.5, rel=1e-4)
    generator, seen = np.random.default_rng(0), 0
    shares = [(discordant - least / 100) / 2, (discordant + least / 100) / 2]
    for _ in range(400):
        kind = generator.choice(3, size=n, p=[*shares, 1 - discordant])
        seen += paired_bootstrap(kind == 0, kind == 1, draws=2000).low > 0
    assert 0.75 <= seen / 400 <= 0.86
    assert paired_bootstrap(*sample, level=0.99).detectable > least


def test_an_average_over_draws_resamples_images_with_all_their_answers():
    generator = np.random.default_rng(0)
    first = generator.random(400) < 0.2
    hard = generator.random(400) < 0.15  # the draws fail on the same images, so they are no 3 · 400 independent ones
    seconds = [hard ^ (generator.random(400) < 0.02) for _ in range(3)]
    ours = paired_bootstrap_mean(first, seconds, draws=100_000)
    difference = 100 * (np.mean(seconds, axis=0) - first)
    theirs = stats.bootstrap(
        (difference,),
        np.mean,
        method="percentile",
        n_resamples=20_000,
        batch=500,
        rng=np.random.default_rng(1),
    )
    assert ours.mean == pytest.approx(difference.mean())
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.15)
    assert ours.mcnemar != ours.mcnemar
    back = paired_bootstrap_mean(seconds, [first])
    assert back.mean == pytest.approx(-ours.mean)


def test_one_draw_or_the_same_one_thrice_is_the_plain_comparison():
    first, second = answers(30, 55, 40, 500)
    plain = paired_bootstrap(first, second)
    assert paired_bootstrap_mean(first, second[None]) == plain
    thrice = paired_bootstrap_mean(first, [second] * 3)
    assert (thrice.mean, thrice.low, thrice.high, thrice.p) == pytest.approx(
        (plain.mean, plain.low, plain.high, plain.p)
    )
    assert thrice.detectable == pytest.approx(plain.detectable)


def test_an_interval_over_draws_adds_their_variance():
    first = np.zeros(400, dtype=bool)
    seconds = np.stack([np.arange(400) < count for count in (20, 40, 60)])  # 5, 10 and 15 points
    one = over_images_and_draws(first, seconds)
    by_image = np.repeat([100, 200 / 3, 100 / 3, 0], [20, 20, 20, 340])
    over_images, over_draws = by_image.var() / 400, 25 / 3
    df = 2 * ((over_images + over_draws) / over_draws) ** 2
    half = stats.t.ppf(0.975, df) * (over_images + over_draws) ** 0.5
    assert (one.mean, one.low, one.high) == pytest.approx((10, 10 - half, 10 + half))
    assert one.p == pytest.approx(2 * stats.t.sf(10 / (over_images + over_draws) ** 0.5, df))
    alone = paired_bootstrap_mean(first, seconds)
    assert one.high - one.low > 2 * (alone.high - alone.low)
    assert one.detectable > alone.detectable
    assert over_images_and_draws(first, seconds[:1]) == paired_bootstrap_mean(first, seconds[:1])
    alike, plain = (compare(first, seconds[[0, 0]]) for compare in (over_images_and_draws, paired_bootstrap_mean))
    assert (alike.low, alike.high, alike.detectable) == (plain.low, plain.high, plain.detectable)


def test_over_images_and_draws_the_truth_is_covered_as_often_as_it_says():
    """Draws whose own cost varies by 3 points, on 300 images: over images alone the interval would be too narrow."""
    rng, covered, too_few = np.random.default_rng(0), 0, 0
    for _ in range(500):
        first = rng.random(300) < 0.2
        seconds = rng.random((3, 300)) < np.clip(rng.normal(0.3, 0.03, (3, 1)), 0, 1)
        one, other = over_images_and_draws(first, seconds), paired_bootstrap_mean(first, seconds, draws=500)
        covered += one.low <= 10 <= one.high
        too_few += other.low <= 10 <= other.high
    assert 0.94 < covered / 500 < 0.995
    assert too_few < covered


def test_tensors_are_taken_as_arrays_are():
    first, second = answers(30, 55, 40, 500)
    assert paired_bootstrap(torch.tensor(first), torch.tensor(second)) == paired_bootstrap(first, second)
    stacked = torch.stack([torch.tensor(second)] * 2)
    one, other = (paired_bootstrap_mean(torch.tensor(first), seconds) for seconds in ([*stacked], stacked))
    assert (one.mean, one.low, one.high) == (other.mean, other.low, other.high)


def test_what_are_no_wrong_answers_is_refused():
    first, second = answers(30, 55, 40, 500)
    with pytest.raises(ValueError, match="500 and 499 answers can't be paired"):
        paired_bootstrap(first, second[1:])
    with pytest.raises(ValueError, match=r"second is of shape \(1, 500\) and type int64: expected whether"):
        paired_bootstrap(first, second.astype(int))
    with pytest.raises(ValueError, match=r"first is of shape \(1, 0\)"):
        paired_bootstrap(first[:0], second[:0])
    with pytest.raises(ValueError, match="level is 95"):
        paired_bootstrap(first, second, level=95)
    with pytest.raises(ValueError, match="draws is 0"):
        paired_bootstrap(first, second, draws=0)
