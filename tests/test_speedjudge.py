"""The rules of chapter 4's verdict, at the edges of the intervals, and how often they err when nothing differs."""

import math

import numpy as np
import pytest
from scipy.stats import binom
from test_speedtables import RATIOS, measured, together

from ssconv_lib import speedjudge, study

WHOLE_LINE = -math.inf, math.inf
LEAST, MOST = 1.655 / 1.445, 1.665 / 1.435  # what 1.66 and 1.44 can have been


def test_the_papers_ratio_and_what_rounding_hides():
    assert speedjudge.printed_ratio() == pytest.approx((1.66 / 1.44, LEAST, MOST))


@pytest.mark.parametrize(
    ("low", "high", "slower", "own", "elsewhere"),
    [
        (1.14, 1.16, "reproduced", "reproduced", "here too"),
        (1.10, 1.14, "reproduced", "not reproduced", "smaller here"),
        (1.17, 1.30, "reproduced", "not reproduced", "larger here"),
        (0.98, 1.05, "cannot tell", "not reproduced", "smaller here"),
        (0.98, 1.16, "cannot tell", "cannot tell", "cannot tell"),  # what includes both tells nothing
        (0.90, 1.00, "not reproduced", "not reproduced", "smaller here"),
        (1.00, 1.05, "cannot tell", "not reproduced", "smaller here"),
        (*WHOLE_LINE, "cannot tell", "cannot tell", "cannot tell"),
    ],
)
def test_the_verdict_on_the_cost(low, high, slower, own, elsewhere):
    for papers_setting, size in ((True, own), (False, elsewhere)):
        assert speedjudge.judge_cost(low, high, pixels=224, papers_setting=papers_setting) == (slower, size)


def test_small_images_say_less():
    assert speedjudge.judge_cost(1.14, 1.16, pixels=96, papers_setting=False) == ("reproduced", "cannot tell")


@pytest.mark.parametrize(
    ("gain", "ours", "outcome"),
    [
        ((1.08, 1.12), (1.02, 1.04), "reproduced"),
        ((1.00, 1.12), (1.02, 1.04), "cannot tell"),  # it touches
        ((1.20, 1.30), (1.10, 1.16), "cannot tell"),  # faster than Listing 1, not surely below the paper's
        ((0.95, 0.98), (1.05, 1.06), "not reproduced"),
        ((0.95, 1.02), (1.05, 1.07), "cannot tell"),
        ((1.00, 1.00), (1.00, 1.00), "cannot tell"),
        (WHOLE_LINE, WHOLE_LINE, "cannot tell"),
    ],
)
def test_the_verdict_on_better_code(gain, ours, outcome):
    assert speedjudge.judge_better_code(gain, ours) == outcome


def test_rounds_are_paired():
    rounds = [4.0, 1.0, 32.0, 8.0, 2.0, 16.0, 64.0]  # whatever disturbed the machine hit both
    slower = [1.1 * one for one in rounds[:-1]] + [1.3 * rounds[-1]]
    assert speedjudge.ratio_interval(slower, rounds) == pytest.approx((1.1, 1.3))
    assert speedjudge.ratio_interval(rounds, slower)[1] == pytest.approx(1 / 1.1)
    assert speedjudge.ratio_interval(slower[:5], rounds[:5]) == WHOLE_LINE
    with pytest.raises(ValueError):
        speedjudge.ratio_interval(slower, rounds[:-1])


@pytest.mark.parametrize("n", [6, 7, 15])
def test_without_a_difference_verdicts_are_wrong_in_at_most_5_of_100(n):
    """Three arms with the same heavy-tailed times, on a machine that gets slower and slower; binomial, five errors."""
    random, count = np.random.default_rng(n), 2000
    noise = np.exp(0.05 * random.standard_t(2, (count, 3, n)) + 0.3 * np.arange(n))
    costs, codes = [], []
    for conv, listing, ours in noise.tolist():
        interval = speedjudge.ratio_interval(listing, conv)
        costs.append(speedjudge.judge_cost(*interval, pixels=224, papers_setting=False)[0])
        gain = speedjudge.ratio_interval(listing, ours)
        codes.append(speedjudge.judge_better_code(gain, (0.9, 1.1)))
    right = 2 * binom.cdf(0 if n < 9 else 3, n, 0.5)
    for outcomes in (costs, codes):
        wrong = 1 - outcomes.count("cannot tell") / count
        assert wrong <= 0.05 and abs(wrong - right) < 5 * (right * (1 - right) / count) ** 0.5


def test_only_a_gpu_with_the_papers_batch_and_images_judges_its_ratio():
    ratios = {**RATIOS, "listing": 1.153}
    gpu = {"profile": "gpu", "device": "NVIDIA H100", "ratios": ratios}
    frame = together(measured(ratios=ratios), measured(**gpu), measured(**gpu, batch=256))
    rows = speedjudge.cost_claims(frame)
    assert [row["verdict"] for row in rows] == [
        "slower: reproduced; 1.15 times: here too",
        "slower: reproduced; 1.15 times: here too",
        "slower: reproduced; 1.15 times: reproduced",
    ]
    assert rows[2]["where"] == "Section 4.2, Table 4; gpu: NVIDIA H100, torch 2.15.0; 224 pixels, batch 256"
    assert "1.153 times as long (95 % interval 1.142 to 1.164, n = 15)" in rows[0]["evidence"], "the 4th and 12th"
    assert "1.153 (1.145 to 1.160 before rounding)" in rows[0]["evidence"]
    assert rows[0]["claim"].startswith("The inference speed is shown in Table 4")


def test_a_machines_verdict_is_that_of_most_of_its_cases():
    worse = {**RATIOS, "listing": 1.02}
    same = {**RATIOS, "listing": 1.05}
    clear = [measured(memory_format=layout) for layout in ("nchw", "channels_last")]
    (row,) = speedjudge.better_code_claims(together(*clear, measured(precision="bf16", ratios=same)))
    assert row["verdict"] == "reproduced"
    assert "ours is quicker than Listing 1 in 2 of 3 cases, slower in 0;" in row["evidence"]
    assert "quicker, and below the paper's ratio, in 2." in row["evidence"]
    assert "Our medians are 1.050, Listing 1's 1.050 to 1.200 (n = 15 rounds a case)" in row["evidence"]
    assert "at most 1.05 in 3 of 3" in row["evidence"]
    (row,) = speedjudge.better_code_claims(together(*clear, measured(precision="bf16", ratios=worse)))
    assert row["verdict"] == "cannot tell", "one says the opposite"
    (row,) = speedjudge.better_code_claims(together(clear[0], measured(precision="bf16", ratios=same)))
    assert row["verdict"] == "cannot tell", "half is not most"


def test_overlapping_spreads_decide_when_the_rounds_agree_and_five_rounds_never_do():
    wide = {"ratios": {**RATIOS, "listing": 1.07}, "spread": 0.02}  # the quartiles overlap, every round is slower
    for n, outcome in ((7, "reproduced"), (6, "reproduced"), (5, "cannot tell")):
        (row,) = speedjudge.better_code_claims(measured(n=n, **wide))
        assert row["verdict"] == outcome
    (row,) = speedjudge.cost_claims(measured(n=5))
    assert row["verdict"] == "slower: cannot tell; 1.15 times: cannot tell"
    assert "1.200 times as long (too few rounds for an interval, n = 5)" in row["evidence"]


def test_quicker_than_listing_1_but_not_surely_below_the_papers_ratio_is_counted():
    frame = measured(ratios={**RATIOS, "listing": 1.4, "ss": 1.14}, mode="training")
    (row,) = speedjudge.better_code_claims(together(frame, measured(mode="training", n=7, precision="bf16")))
    assert (
        "quicker than Listing 1 in 2 of 2 cases, slower in 0; quicker, and below the paper's ratio, in 1."
        in (row["evidence"])
    )
    assert "(n = 7 to 15 rounds a case)" in row["evidence"] and row["verdict"] == "cannot tell"


def test_the_same_case_of_two_profiles_keeps_its_own_rounds():
    ratios = {"conv": 1.0, "listing": 0.9, "ss": 1.0}
    rows = speedjudge.cost_claims(together(measured(), measured(profile="quick", ratios=ratios)))
    assert [row["verdict"].partition(";")[0] for row in rows] == ["slower: reproduced", "slower: not reproduced"]


def test_machines_and_training_are_judged_apart():
    rows = speedjudge.better_code_claims(together(measured(), measured(mode="training"), measured(threads=1)))
    assert [row["evidence"].partition(":")[0] for row in rows] == ["inference", "training", "inference"]
    papers, ours, _ = rows
    assert papers["where"].startswith("Section 4.2; ") and papers["verdict"] == "reproduced"
    assert ours["where"].startswith("Not in the paper; ") and ours["verdict"] == "supported"
    assert ours["claim"] == speedjudge.TRAINING_CLAIM != papers["claim"]
    assert speedjudge.better_code_claims(measured(arms=("conv", "ss"))) == []
    assert speedjudge.better_code_claims(study.empty_speed_frame()) == []
    assert speedjudge.cost_claims(study.empty_speed_frame()) == []
