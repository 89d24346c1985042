"""Hand-computed values, scipy's own tests as oracles, and simulation with a binomial tolerance."""

import itertools
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from ssconv_lib import paper, stats

pytestmark = pytest.mark.filterwarnings("error")
errors = st.floats(1, 99)
samples = st.lists(errors, min_size=2, max_size=8)
pairs = st.lists(st.tuples(errors, errors), min_size=2, max_size=8)


def within_binomial_error(hits, expected, trials):
    """Five standard errors: a right rate fails once in a million."""
    return abs(np.mean(hits) - expected) < 5 * math.sqrt(expected * (1 - expected) / trials)


def spread_out(values):
    return np.ptp(values) > 1e-3


# summarise


def test_summary_by_hand():
    summary = stats.summarise([1, 2, 3])  # sd 1, t(.975, 2) = 4.3027, half width 4.3027 / sqrt(3)
    assert (summary.mean, summary.sd, summary.n) == (2, 1, 3)
    assert (summary.low, summary.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)
    assert str(summary) == "2.00 ± 1.00 (n = 3)"
    assert f"{summary:.1f}" == "2.0 ± 1.0 (n = 3)"


def test_one_run_has_no_spread_and_none_is_an_error():
    single = stats.summarise([5.12])
    assert math.isnan(single.sd) and math.isnan(single.low) and math.isnan(single.high)
    assert str(single) == "5.12 (n = 1)"
    with pytest.raises(ValueError, match=r"values has shape \(0,\)"):
        stats.summarise([])
    with pytest.raises(ValueError, match=r"values\[1\] is nan"):
        stats.summarise([1, math.nan])
    with pytest.raises(ValueError, match="level is 95"):
        stats.summarise([1, 2], level=95)


@pytest.mark.parametrize("n", [2, 5])
def test_intervals_cover_the_true_mean_as_often_as_they_say(n):
    runs = np.random.default_rng(n).normal(5, 0.2, (3000, n))
    for level in (0.8, 0.95):
        covered = [s.low <= 5 <= s.high for s in (stats.summarise(row, level) for row in runs)]
        assert within_binomial_error(covered, level, len(runs))


# differences


def test_paired_difference_by_hand():
    difference = stats.paired_difference([5, 6, 7], [4, 4, 4])  # 1, 2, 3
    assert (difference.mean, difference.sd, difference.n, difference.counts) == (2, 1, 3, (3,))
    assert (difference.low, difference.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)


@given(pairs)
def test_paired_difference_agrees_with_scipy(values):
    first, second = np.array(values).T
    assume(spread_out(first - second))
    ours, theirs = stats.paired_difference(first, second), scipy_stats.ttest_rel(first, second)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-8, abs=1e-8)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-9)


@given(samples, samples)
def test_unpaired_difference_agrees_with_scipy(first, second):
    assume(spread_out(first) and spread_out(second))
    ours, theirs = stats.unpaired_difference(first, second), scipy_stats.ttest_ind(first, second, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), rel=1e-8, abs=1e-8)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("compare", [stats.paired_difference, stats.unpaired_difference])
@given(values=pairs, shift=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_differences_are_antisymmetric_and_ignore_shift_and_scale(compare, values, shift, scale):
    first, second = np.array(values).T
    assume(spread_out(first) and spread_out(second) and spread_out(first - second))
    here, back = compare(first, second), compare(second, first)
    assert (here.mean, here.low, here.high, here.p) == pytest.approx((-back.mean, -back.high, -back.low, back.p))
    moved = compare(scale * first + shift, scale * second + shift)
    expected = np.array([here.mean, here.sd, here.low, here.high]) * scale
    assert (moved.mean, moved.sd, moved.low, moved.high) == pytest.approx(expected, rel=1e-6, abs=1e-6 * scale)
    assert moved.p == pytest.approx(here.p, rel=1e-5, abs=1e-9)


def test_series_are_paired_by_seed_and_the_unmatched_counted():
    conv = pd.Series({0: 5.0, 1: 5.2, 2: 5.1, 7: 9.0})
    ss = pd.Series({2: 4.8, 1: 4.8, 0: 4.9, 3: math.nan, 4: 1.0})
    difference = stats.paired_difference(conv, ss)
    assert difference.mean == pytest.approx((0.1 + 0.4 + 0.3) / 3)
    assert (difference.n, difference.unmatched) == (3, 2)  # 7 and 4; 3 holds nothing


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1, 2], [1], "2 and 1 values can't be paired"),
        (pd.Series([1.0]), [1], "one of first and second is a Series"),
        (pd.Series([1.0, 2.0], index=[3, 3]), pd.Series([1.0]), "first holds seed 3 more than once"),
        (
            pd.Series([1.0], index=[0]),
            pd.Series([1.0], index=[1]),
            r"no seed is in both: first has \[0\], second \[1\]",
        ),
        ([1, math.inf], [1, 2], r"first\[1\] is inf"),
    ],
)
def test_what_cannot_be_paired_is_named(first, second, message):
    with pytest.raises(ValueError, match=message):
        stats.paired_difference(first, second)


def test_a_spread_that_is_not_known_is_said():
    same = stats.paired_difference([5.1, 5.2], [5.0, 5.1])  # 0.1 twice, but for the last bits
    assert 5.1 - 5.0 != 5.2 - 5.1
    assert same.sd == 0 and same.low == same.mean == same.high and math.isnan(same.p)
    assert "agree to the last digit" in same.degenerate and math.isnan(same.detectable())
    single = stats.paired_difference([5], [4])
    assert math.isnan(single.low) and "a single pair" in single.degenerate
    assert "a single run in an arm" in stats.unpaired_difference([1, 2], [1]).degenerate
    assert "agree" in stats.unpaired_difference([1, 1], [2, 2]).degenerate
    one_sided = stats.unpaired_difference([1, 1, 1], [2, 2.5])  # df of the arm that varies
    assert not one_sided.degenerate and one_sided.df == pytest.approx(1)


# power


@pytest.mark.parametrize(
    ("sd", "needed"), [(0.12, [4, 7, 24]), (0.16, [6, 12, 42]), (0.20, [9, 17, 64]), (0.25, [12, 26, 100])]
)
def test_seeds_needed_per_arm(sd, needed):
    assert [stats.seeds_needed(sd, delta) for delta in (0.3, 0.2, 0.1)] == needed


@given(st.floats(0.05, 1), st.floats(0.05, 1), st.booleans())
def test_seeds_needed_is_the_fewest_that_see_it(sd, delta, paired):
    n = stats.seeds_needed(sd, delta, paired=paired)
    assert stats.detectable(sd, n, paired=paired) <= delta
    assert n == 2 or stats.detectable(sd, n - 1, paired=paired) > delta


@pytest.mark.parametrize(("n", "paired", "power"), [(2, True, 0.8), (5, True, 0.9), (2, False, 0.8), (5, False, 0.5)])
def test_detectable_is_seen_with_the_stated_power(n, paired, power):
    trials, sd, generator = 4000, 0.2, np.random.default_rng(n)
    delta = stats.detectable(sd, n, power, paired=paired)
    if paired:
        p = scipy_stats.ttest_1samp(generator.normal(delta, sd, (trials, n)), 0, axis=1).pvalue
    else:
        arms = generator.normal(delta, sd, (trials, n)), generator.normal(0, sd, (trials, n))
        p = scipy_stats.ttest_ind(*arms, axis=1).pvalue
    assert within_binomial_error(p < 0.05, power, trials)


@given(samples.filter(spread_out), st.floats(0.3, 0.95))
def test_a_difference_knows_what_its_design_sees(values, power):
    paired = stats.paired_difference(values, [0] * len(values))
    if paired.n < 4:
        assert np.isnan(paired.detectable(power)), "the sd of two or three pairs may be anything"
    else:
        assert paired.detectable(power) == pytest.approx(stats.detectable(paired.sd, paired.n, power))
    arms = stats.unpaired_difference(values, [50 + value for value in values])  # equal sd: Welch is Student
    if arms.n > 2:  # of two and two, two degrees of freedom
        assert arms.detectable(power) == pytest.approx(stats.detectable(arms.sd, arms.n, power, paired=False), rel=1e-6)


@pytest.mark.parametrize("df", [1, 2, 4, 1000])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_power_has_no_holes(df, level):
    """scipy's nct.cdf is nan at scattered arguments; the smallest difference seen must grow with power throughout."""
    seen = [stats.detectable(1, df + 1, power, level) for power in np.linspace(0.51, 0.99, 25)]
    assert np.all(np.diff(seen) > 0)


def test_impossible_designs_are_refused():
    with pytest.raises(ValueError, match="n is 1: expected at least 2"):
        stats.detectable(0.1, 1)
    with pytest.raises(ValueError, match="sd_of_difference is nan"):
        stats.detectable(math.nan, 3)
    with pytest.raises(ValueError, match=r"power is 0\.05"):
        stats.detectable(0.1, 3, power=0.05)
    with pytest.raises(ValueError, match="delta is 0"):
        stats.seeds_needed(0.1, 0)


# proportions


def test_wilson_by_hand():
    k, n, z = 2, 5, 1.959964
    centre, half = (k + z**2 / 2) / (n + z**2), z / (n + z**2) * math.sqrt(k * (n - k) / n + z**2 / 4)
    solved = stats.proportion(k, n)
    assert (solved.estimate, solved.low, solved.high) == pytest.approx((0.4, centre - half, centre + half), abs=1e-6)
    assert str(solved) == "2 of 5 (95 % interval 12 % to 77 %)"


@given(st.integers(1, 50).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_failures_mirror_successes(k_of_n):
    k, n = k_of_n
    solved, failed = stats.proportion(k, n), stats.proportion(n - k, n)
    assert (solved.low, solved.high) == pytest.approx((1 - failed.high, 1 - failed.low), abs=1e-12)
    assert 0 <= solved.low <= solved.estimate <= solved.high <= 1


def test_fisher_by_hand():
    assert stats.fisher(3, 3, 0, 3) == pytest.approx(2 / 20)  # the two extreme tables of C(6, 3)
    assert stats.fisher(2, 4, 2, 4) == pytest.approx(1)
    with pytest.raises(ValueError, match="4 of 3: expected a count k from 0 to n"):
        stats.fisher(4, 3, 0, 3)
    with pytest.raises(ValueError, match="0 of 0"):
        stats.proportion(0, 0)


counts = st.integers(1, 9).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, counts)
def test_one_stratum_is_fishers_test(one, other):
    found = stats.stratified([(*one, *other)])
    assert found.p == pytest.approx(stats.fisher(*one, *other), rel=1e-9)
    assert found.k == one[0]
    assert found.expected == pytest.approx(one[1] * (one[0] + other[0]) / (one[1] + other[1]))


def enumerated(*tables):
    """p of the sum over strata, by giving each stratum's successes to its runs in every way."""
    ways = []
    for k1, n1, k2, n2 in tables:
        chosen = itertools.combinations(range(n1 + n2), k1 + k2)
        ways.append([sum(run < n1 for run in runs) for runs in chosen])
    sums = [sum(way) for way in itertools.product(*ways)]
    observed = sum(table[0] for table in tables)
    return sum(sums.count(k) for k in set(sums) if sums.count(k) <= sums.count(observed)) / len(sums)


@pytest.mark.parametrize(
    "tables",
    [
        [(3, 4, 0, 2), (2, 3, 1, 3)],
        [(0, 3, 2, 2), (4, 4, 0, 3)],
        [(1, 2, 1, 2), (2, 5, 0, 2)],
        [(3, 3, 0, 3), (0, 2, 0, 2)],
    ],
)
def test_two_strata_are_what_counting_every_way_gives(tables):
    assert stats.stratified(tables).p == pytest.approx(enumerated(*tables), rel=1e-9)
    assert stats.stratified(tables[::-1]).p == pytest.approx(enumerated(*tables), rel=1e-9)


def test_what_differs_between_strata_alone_is_no_difference_between_sides():
    """Near is easy and only one side has runs there: pooled it looks like a difference, and it is none."""
    easy, hard = (9, 9, 0, 0), (0, 6, 0, 9)
    assert stats.fisher(9, 15, 0, 9) < 0.01
    assert stats.stratified([easy, hard]) == (9, 9, 1)
    informs = (6, 6, 0, 3)
    assert stats.stratified([easy, informs, hard]).p == pytest.approx(stats.fisher(*informs))
    assert stats.stratified([]) == (0, 0, 1)
    with pytest.raises(ValueError, match="4 of 3: expected a count"):
        stats.stratified([(4, 3, 0, 3)])
    with pytest.raises(ValueError, match="1 of 0: expected a count"):
        stats.stratified([(1, 2, 1, 0)])


def test_the_stratified_p_is_at_most_the_level_as_often_as_it_says():
    rng = np.random.default_rng(0)
    runs = rng.binomial([6, 3, 4, 4], [0.9, 0.9, 0.2, 0.2], (2000, 4))  # alike within a stratum, not between them
    p = [stats.stratified([(a, 6, b, 3), (c, 4, d, 4)]).p for a, b, c, d in runs]
    for level in (0.05, 0.2):
        assert np.mean(np.array(p) <= level) < level + 3 * math.sqrt(level * (1 - level) / len(p))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_rejects_what_stepping_down_by_hand_does(p):
    corrected = stats.holm(p)
    for level in (0.01, 0.05, 0.3):
        rejected, order = set(), np.argsort(p, kind="stable")
        for rank, place in enumerate(order):
            if (len(p) - rank) * p[place] > level:
                break
            rejected.add(int(place))
        assert rejected == {place for place, value in enumerate(corrected) if value <= level}
    assert all(value >= plain for value, plain in zip(corrected, p, strict=True))


def test_a_comparison_not_made_does_not_count_in_holms_correction():
    assert stats.holm([0.01, float("nan"), 0.04, 0.03]) == pytest.approx([0.03, float("nan"), 0.06, 0.06], nan_ok=True)
    assert stats.holm([]) == []


def test_sampling_error_of_a_test_set():
    assert stats.sampling_error(0.05, 10_000) == pytest.approx(0.002179, abs=1e-6)
    with pytest.raises(ValueError, match="divide percent by 100"):
        stats.sampling_error(5, 10_000)
    with pytest.raises(ValueError, match="n_test is 0"):
        stats.sampling_error(0.05, 0)


# verdict


def measured(low, high):
    """Four pairs whose t interval is [low, high]."""
    mean, half = (low + high) / 2, (high - low) / 2
    step = half / scipy_stats.t.ppf(0.975, 3) * 3**0.5  # twice mean ± step has sd step * 2 / sqrt(3), se half of it
    difference = stats.paired_difference([mean - step, mean + step] * 2, [0] * 4)
    assert (difference.low, difference.high) == pytest.approx((low, high), abs=1e-9)
    return difference


ENDS = {"negative": -0.1, "small": 0.1, "inside": 0.3, "large": 0.5}
EXPECTED = {  # the paper: 0.3 ± 0.1; by where the two ends of the interval lie
    ("negative", "negative"): ("not reproduced", ""),
    ("negative", "small"): ("not reproduced", ""),
    ("negative", "inside"): ("cannot tell", ""),
    ("negative", "large"): ("cannot tell", ""),
    ("small", "small"): ("reproduced", "smaller"),
    ("small", "inside"): ("reproduced", ""),
    ("small", "large"): ("reproduced", ""),
    ("inside", "inside"): ("reproduced", ""),
    ("inside", "large"): ("reproduced", ""),
    ("large", "large"): ("reproduced", "larger"),
}


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("ends", "expected"), EXPECTED.items(), ids="-".join)
def test_the_verdict_at_every_order_of_zero_paper_and_interval(ends, expected, sign):
    assert len(EXPECTED) == len(list(itertools.combinations_with_replacement(ENDS, 2)))
    low, high = ENDS[ends[0]] - 0.01, ENDS[ends[1]] + 0.01
    difference = measured(*sorted((sign * low, sign * high)))
    verdict = stats.verdict(difference, sign * 0.3, rounding=0.1)
    assert (verdict.outcome, verdict.size) == expected
    assert (verdict.paper_low, verdict.paper_high) == ((0.2, 0.4) if sign > 0 else (-0.4, -0.2))
    assert verdict.sentence.startswith(expected[0].capitalize() + ": over 4 pairs of runs")
    assert ("the effect is" in verdict.sentence) == bool(expected[1])
    assert ("other side" in verdict.sentence) == (ends == ("negative", "negative"))
    assert f"{difference.detectable():.2f} points would have been seen" in verdict.sentence
    assert verdict.detectable == difference.detectable()


@given(st.floats(-2, 2), st.floats(0.001, 2), st.floats(0.05, 1), st.floats(0, 1))
def test_the_verdict_rule_as_written(middle, half, paper_difference, share):
    difference, rounding = measured(middle - half, middle + half), share * paper_difference
    verdict = stats.verdict(difference, paper_difference, rounding=rounding)
    excludes_paper = difference.high < verdict.paper_low or difference.low > verdict.paper_high
    expected = "reproduced" if difference.low > 0 else "not reproduced" if excludes_paper else "cannot tell"
    assert verdict.outcome == expected
    assert bool(verdict.size) == (expected == "reproduced" and excludes_paper)


@given(st.floats(-2, 2), st.floats(0.001, 2), st.floats(0.05, 1), st.floats(0, 1))
def test_a_relative_is_not_held_to_the_papers_size(middle, half, paper_difference, share):
    difference, rounding = measured(middle - half, middle + half), share * paper_difference
    verdict = stats.verdict(difference, paper_difference, rounding=rounding, relative=True)
    expected = "reproduced" if difference.low > 0 else "not reproduced" if difference.high < 0 else "cannot tell"
    assert verdict.outcome == expected
    excluded = "includes 0 and excludes" in verdict.sentence
    assert excluded == (expected == "cannot tell" and difference.high < verdict.paper_low)


def test_an_interval_that_touches_excludes_nothing():
    from_zero = stats.Difference(0.1, 0.1, 2, 0.0, 0.2, 0.05, "paired t test", 0.01, 1, (2,))
    assert stats.verdict(from_zero, 0.3, rounding=0.1).outcome == "cannot tell"
    assert stats.verdict(from_zero, 0.3).outcome == "not reproduced"  # 0.2 is below 0.3 printed exactly


def test_rounding_and_unit_come_with_the_papers_number():
    difference = measured(-0.1, 0.25)
    printed = paper.difference(2, "wrn16_4")
    assert stats.verdict(difference, printed).outcome == "cannot tell"
    assert stats.verdict(difference, printed, rounding=0).outcome == "not reproduced"
    slower = stats.verdict(measured(-0.3, -0.1), paper.difference(4, "resnet50"), name="conv minus ss")
    assert slower.sentence == (
        "Reproduced: over 4 pairs of runs, conv minus ss is −0.20 ms on average (95 % interval −0.30 to −0.10; "
        "paired t test), on the same side of 0 as the paper's −0.22 ms (−0.23 to −0.21 before rounding). "
        "With this spread, a true difference of 0.13 ms would have been seen with 80 % power."
    )


def test_a_number_that_excludes_zero_does_not_read_zero():
    assert "interval 0.004 to 0.01" in stats.verdict(measured(0.004, 0.01), 0.3).sentence


def test_without_a_spread_the_verdict_says_why():
    single = stats.verdict(stats.paired_difference([5.1], [4.8]), 0.3, rounding=0.1)
    assert single.outcome == "cannot tell" and math.isnan(single.detectable)
    assert single.sentence == (
        "Cannot tell: over 1 pair of runs, the difference is 0.30 points on average, beside the paper's 0.3 points "
        "(0.2 to 0.4 before rounding); a single pair has no spread to judge by, and more seeds are needed."
    )
    same = stats.verdict(stats.paired_difference([5.1, 5.2], [4.8, 4.9]), 0.3)
    assert same.outcome == "cannot tell" and "agree to the last digit" in same.sentence


def test_the_sentence_counts_runs():
    arms = stats.verdict(stats.unpaired_difference([5.0, 5.1, 5.3], [5.2, 5.0]), 0.3)
    assert "over 3 against 2 runs" in arms.sentence and "Welch" in arms.sentence
    arms = stats.verdict(stats.unpaired_difference([5.0, 5.1], [5.2, 5.0]), 0.3)
    assert "over 2 runs an arm" in arms.sentence
    seeds = stats.paired_difference(pd.Series([5.0, 5.1, 5.3]), pd.Series([4.8, 5.0]))
    assert "over 2 pairs of runs (1 without a partner left out)" in stats.verdict(seeds, 0.3).sentence


@pytest.mark.parametrize(("printed", "rounding"), [(0.0, 0.0), (0.1, 0.2), (math.nan, 0.0), (0.3, -0.1)])
def test_a_paper_difference_without_direction_is_refused(printed, rounding):
    with pytest.raises(ValueError, match="has no direction"):
        stats.verdict(measured(-1, 1), printed, rounding=rounding)


# curve


def sweep(truth, seeds, sd, rng=0):
    generator = np.random.default_rng(rng)
    x = np.repeat(np.arange(len(truth), dtype=float), seeds)
    y = np.repeat(np.asarray(truth, dtype=float), seeds) + sd * generator.standard_normal(len(x))
    return x, y, np.tile(np.arange(seeds), len(truth))


def test_a_straight_line_is_fitted_exactly():
    curve = stats.smooth_curve(*sweep(np.arange(6) * 0.5 + 3, 2, 0), points=11, resamples=5)
    assert list(curve.columns) == ["x", "fit", "low", "high"]
    assert curve.x.tolist() == pytest.approx(np.arange(11) / 2)
    for column in ("fit", "low", "high"):
        assert curve[column].to_numpy() == pytest.approx(curve.x * 0.5 + 3)


def test_the_same_runs_give_the_same_curve_in_any_order():
    x, y, seed = sweep([5, 4.9, 4.8, 4.9, 5.1], 3, 0.1)
    curve = stats.smooth_curve(x, y, seed, points=7, resamples=10)
    pd.testing.assert_frame_equal(curve, stats.smooth_curve(x, y, seed, points=7, resamples=10))
    other = stats.smooth_curve(x, y, seed, points=7, resamples=10, rng=1)
    assert (curve.fit == other.fit).all() and (curve.low != other.low).any()


def test_the_curve_covers_the_truth_and_more_seeds_narrow_it():
    truth = 5 + 0.05 * (np.arange(7) - 3.0) ** 2
    covered, width = {}, {}
    for seeds in (2, 5):
        curves = [
            stats.smooth_curve(*sweep(truth, seeds, 0.15, rng), points=7, resamples=25, rng=rng) for rng in range(25)
        ]
        covered[seeds] = np.mean([(curve.low <= truth) & (truth <= curve.high) for curve in curves])
        width[seeds] = np.median([curve.high - curve.low for curve in curves])
    # points of one curve hang together, so count curves, not points, for the tolerance
    assert all(rate > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 25) for rate in covered.values()), covered
    assert width[2] > 2 * width[5]


def test_where_nothing_is_smoothed_the_band_is_the_t_interval():
    """The mean of a bootstrap of two seeds varies half as much as the mean of two seeds, unless corrected."""
    x, y, seed = sweep(np.exp(np.arange(7)), 2, 0.001)
    curve = stats.smooth_curve(x, y, seed, points=7)
    intervals = [stats.summarise(y[x == at]) for at in range(7)]
    ratios = (curve.high - curve.low) / [interval.high - interval.low for interval in intervals]
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_a_curve_needs_points_and_seeds():
    with pytest.raises(ValueError, match="at least 5 distinct x, got 3"):
        stats.smooth_curve(*sweep([1, 2, 3], 2, 0.1))
    x, y, seed = sweep([1, 2, 3, 4, 5], 2, 0.1)
    with pytest.raises(ValueError, match="at least 2 seeds at each x: x = 4 has one"):
        stats.smooth_curve(x[:-1], y[:-1], seed[:-1])
    with pytest.raises(ValueError, match="x = 0 holds seed 0 more than once"):
        stats.smooth_curve(x, y, seed * 0)
    with pytest.raises(ValueError, match=r"y\[0\] is nan"):
        stats.smooth_curve(x, y * math.nan, seed)


def test_no_warning_escapes_from_runs_that_agree():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for compare in (stats.paired_difference, stats.unpaired_difference):
            assert compare([5.0, 5.0], [5.0, 5.0]).degenerate
        assert stats.summarise([5.0, 5.0]).low == 5.0
