"""The rules of chapter 4's verdict, at the edges of the intervals."""

import pytest
from test_speedtables import RATIOS, measured, together

from ssconv_lib import speedjudge, study

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
        (0.98, 1.16, "cannot tell", "reproduced", "here too"),
        (0.90, 1.00, "not reproduced", "not reproduced", "smaller here"),
        (1.00, 1.05, "cannot tell", "not reproduced", "smaller here"),
    ],
)
def test_the_verdict_on_the_cost(low, high, slower, own, elsewhere):
    for papers_setting, size in ((True, own), (False, elsewhere)):
        case = {"rounds": 9, "pixels": 224, "papers_setting": papers_setting}
        assert speedjudge.judge_cost(low, high, **case) == (slower, size)


def test_few_rounds_and_small_images_say_less():
    case = {"pixels": 224, "papers_setting": False}
    assert speedjudge.judge_cost(1.14, 1.16, rounds=4, **case) == ("cannot tell", "cannot tell")
    assert speedjudge.judge_cost(1.14, 1.16, rounds=5, **case | {"pixels": 96}) == ("reproduced", "cannot tell")


@pytest.mark.parametrize(
    ("listing", "ours", "outcome"),
    [
        ((1.12, 1.16), (1.02, 1.04), "reproduced"),
        ((1.04, 1.06), (1.02, 1.04), "cannot tell"),  # they touch
        ((1.40, 1.50), (1.10, 1.16), "cannot tell"),  # faster than Listing 1, not surely below the paper's
        ((1.02, 1.04), (1.05, 1.06), "not reproduced"),
        ((1.02, 1.06), (1.05, 1.07), "cannot tell"),
    ],
)
def test_the_verdict_on_better_code(listing, ours, outcome):
    assert speedjudge.judge_better_code(listing, ours, rounds=5) == outcome
    assert speedjudge.judge_better_code(listing, ours, rounds=4) == "cannot tell"


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
    assert "1.153 times as long (quartiles 1.143 to 1.163, n = 15)" in rows[0]["evidence"]
    assert "1.153 (1.145 to 1.160 before rounding)" in rows[0]["evidence"]
    assert rows[0]["claim"].startswith("The inference speed is shown in Table 4")


def test_a_machines_verdict_is_that_of_most_of_its_cases():
    worse = {**RATIOS, "listing": 1.02}
    same = {**RATIOS, "listing": 1.05}
    clear = [measured(memory_format=layout) for layout in ("nchw", "channels_last")]
    (row,) = speedjudge.better_code_claims(together(*clear, measured(precision="bf16", ratios=same)))
    assert row["verdict"] == "reproduced"
    assert "below Listing 1 and the paper's ratio in 2 of 3 cases, above Listing 1 in 0" in row["evidence"]
    assert "its medians are 1.050, Listing 1's 1.050 to 1.200; at most 1.05 in 3 of 3" in row["evidence"]
    (row,) = speedjudge.better_code_claims(together(*clear, measured(precision="bf16", ratios=worse)))
    assert row["verdict"] == "cannot tell", "one says the opposite"
    (row,) = speedjudge.better_code_claims(together(clear[0], measured(precision="bf16", ratios=same)))
    assert row["verdict"] == "cannot tell", "half is not most"


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
