"""Choosing the best of several α looks better than it is, by as much as theory says; power knows what it rests on."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tables import runs

from ssconv_lib import readable, selection, stats
from ssconv_lib.selection import MeasuredSd, pair_sd, pooled_sd, power_table, selection_bias

EXPECTED_MINIMUM = {1: 0.0, 2: np.pi**-0.5, 3: 1.5 * np.pi**-0.5}  # of k standard normals, below 0: exact


def row(*given, **options):
    return selection_bias(*given, **options).iloc[0]


@pytest.mark.parametrize("arms", EXPECTED_MINIMUM)
@pytest.mark.parametrize(("sd", "n"), [(0.16, 5), (0.3, 1)])
def test_the_optimism_under_the_null_is_the_expected_minimum_of_normals(sd, n, arms):
    expected = EXPECTED_MINIMUM[arms] * sd / n**0.5
    assert row(sd, n, arms, draws=40_000)["optimism"] == pytest.approx(expected, abs=5 * sd / (n * 40_000) ** 0.5)


def test_one_arm_beats_conv_as_often_as_the_normal_distribution_says():
    table = row(0.2, 4, 1, draws=40_000)
    for delta in selection.DELTAS:
        tail = selection.distributions.norm.sf(delta, scale=0.2 * (2 / 4) ** 0.5)
        assert table[f"looks {delta:g} better (%)"] == pytest.approx(100 * tail, abs=1.3)
    assert table[selection.SEEN] == pytest.approx(2.5, abs=0.4), "of a t test without a choice"
    assert row(0.2, 4, 7, draws=10_000)[selection.SEEN] > 4


def test_the_test_sets_sampling_error_widens_the_report_and_biases_nothing():
    without, with_it = (row(0.2, 4, 3, shared=shared, draws=20_000) for shared in (0.0, 0.5))
    widened = "sd of the error reported"
    assert without.drop(widened).equals(with_it.drop(widened))
    assert with_it[widened] == pytest.approx((without[widened] ** 2 + 0.25) ** 0.5, rel=0.03)


def test_a_clear_truth_is_found_and_adds_no_optimism():
    table = row(0.1, 4, 3, truth=[0.0, -2.0, 0.0], draws=20_000)
    assert table["best chosen (%)"] == 100
    assert table["optimism"] == pytest.approx(0, abs=0.002)
    assert table["looks 0.3 better (%)"] == 100
    assert "best chosen (%)" not in row(0.1, 4, 3, draws=100), "under the null there is no best"


def test_a_draw_is_the_same_again_and_a_single_seed_has_no_interval():
    assert selection_bias(0.2, 3, 3, draws=7_000).equals(selection_bias(0.2, 3, 3, draws=7_000))
    assert np.isnan(row(0.2, 1, 3, draws=100)[selection.SEEN])


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 10), st.integers(1, 9), st.integers(1, 6))
def test_optimism_scales_with_the_sd_and_is_never_negative_for_more_arms(sd, n, arms):
    one, ten = (row(scale * sd, n, arms, draws=500)["optimism"] for scale in (1, 10))
    assert ten == pytest.approx(10 * one, rel=1e-9, abs=1e-12)
    assert row(sd, n, arms + 6, draws=500)["optimism"] > one


def test_the_sd_of_a_run_is_pooled_within_the_arms_of_one_network():
    frame = runs({0.0: [10.0, 12.0], 0.06: [3.0, 4.0, 5.0], 0.1: [7.0]})
    measured = pooled_sd(frame)
    assert measured.sd == pytest.approx(((2 + 2) / 3) ** 0.5)
    assert (measured.df, measured.n, measured.records) == (3, 2, 5), "one run of an α tells nothing of the spread"
    shifted = frame.assign(error=frame["error"] + 5 * frame["alpha"])
    assert pooled_sd(shifted).sd == pytest.approx(measured.sd), "the α may differ in their means"
    controlled = pd.concat([frame.assign(control="none"), frame.assign(control="fresh", error=frame["error"] + 9)])
    assert pooled_sd(controlled).sd == pytest.approx(measured.sd), "a control is an arm of its own"


def test_the_sd_of_a_pair_is_that_of_conv_minus_ss():
    measured = pair_sd(runs({0.0: [10.0, 12.0, 11.0, 9.0], 0.06: [9.0, 10.0, 8.0]}))
    assert (measured.sd, measured.df, measured.n, measured.records) == (pytest.approx(1.0), 2, 3, 6)


def test_the_interval_of_an_sd_covers_it_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0, 2.0, (4000, 9)).std(1, ddof=1)
    covered = [low < 2.0 < high for low, high in (MeasuredSd(sd, 8, 9, 9).interval() for sd in draws)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_power_names_what_is_needed_what_n_sees_and_where_the_sd_comes_from():
    table = power_table(MeasuredSd(0.4, 8, 9, 18), MeasuredSd(0.25, 16, 9, 18), deltas=(0.2, 0.5))
    assert table["design"].tolist() == ["pairs", "pairs", "runs an arm", "runs an arm"]
    wanted = [(0.4, 0.2, True), (0.4, 0.5, True), (0.25, 0.2, False), (0.25, 0.5, False)]
    assert table["needed"].tolist() == [stats.seeds_needed(sd, delta, paired=pair) for sd, delta, pair in wanted]
    assert (table["low"] < table["needed"]).all()
    assert (table["high"] > table["needed"]).all()
    assert table["sees now"].tolist()[::2] == pytest.approx(
        [stats.detectable(0.4, 9), stats.detectable(0.25, 9, paired=False)]
    )
    assert table["records"].tolist() == [18] * 4
    shown = readable.readable(table)
    assert shown["needed"].tolist()[1] == str(table["needed"].iloc[1])
    assert " to " in shown["95 % interval"].iloc[0]


def test_tables_name_whose_spread_they_rest_on():
    frame = runs({0.0: [10.0, 12.0, 11.0], 0.06: [9.0, 10.0, 8.0]})
    whose = "WRN-10-2, laptop (CIFAR-10)"
    assert [pair_sd(frame).source, pooled_sd(frame).source] == [whose] * 2
    other = pooled_sd(frame.assign(profile="gpu"))
    assert power_table(pair_sd(frame), other)["source"].tolist() == [whose] * 4 + ["WRN-10-2, gpu (CIFAR-10)"] * 4
    both = pooled_sd(pd.concat([frame, frame.assign(profile="gpu")]))
    assert both.source == "WRN-10-2, laptop (CIFAR-10) and gpu (CIFAR-10)"
    assert row(pooled_sd(frame), 3, 3, draws=100)["source"] == whose
    assert row(0.2, 3, 3, draws=100)["source"] == power_table(0.2, 0.2)["source"].iloc[0] == ""
    assert next(iter(power_table(0.2, 0.2))) == next(iter(selection_bias(0.2, 3, 3, draws=9))) == "source"


def test_the_columns_name_says_that_it_is_one_sided():
    assert {"better", "2.5"} <= set(selection.SEEN.replace(",", "").split())
    worse = row(0.1, 9, 1, truth=[5.0], draws=200)
    assert worse[selection.SEEN] == 0, "an interval that excludes 0 on the other side doesn't count"


def test_power_of_plain_numbers_leaves_empty_what_it_does_not_know():
    table = power_table(0.4, 0.25, deltas=(0.3,))
    assert table["needed"].tolist() == [stats.seeds_needed(0.4, 0.3, paired=True), stats.seeds_needed(0.25, 0.3)]
    assert table[["low", "high", "n so far", "sees now", "records"]].isna().all().all()
    assert readable.readable(table)["95 % interval"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: selection_bias(0.0, 3, 3), "the sd is 0.0: expected a finite number above 0"),
        (lambda: selection_bias(0.2, 0, 3), "n is 0 and arms 3: expected at least one"),
        (lambda: selection_bias(0.2, 3, 3, truth=[0.1]), "truth has 1 values for 3 arms"),
        (lambda: pooled_sd(runs({0.0: [1.0], 0.06: [2.0]})), "no arm of these 2 records has two runs"),
        (lambda: pooled_sd(pd.concat([runs({0.0: [1.0]}), runs({0.0: [1.0]}, model="wrn16_4")])), "of one network"),
        (lambda: pair_sd(runs({0.0: [1.0], 0.02: [1.0], 0.06: [2.0]})), "have α = 0.02, 0.06 beside 0"),
        (lambda: pair_sd(runs({0.0: [1.0], 0.06: [2.0]})), "make 1 pairs"),
    ],
)
def test_what_has_no_answer_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
