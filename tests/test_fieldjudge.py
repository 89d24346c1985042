"""The claims of Sec. 5.1: the verdict follows from the numbers, either way."""

import pandas as pd
import pytest

from ssconv_lib import fieldjudge, judge

REACH = pd.DataFrame(
    {
        "layer": ["conv1", "conv2_1", "conv2_2"],
        "size": [7, 19, 27],
        "ResNet50": [0.03, 0.5, 1.0],
        "ResNet50 + ss": [0.03, 0.993, 1.0],
        "SEResNet50": [0.03, 1.0, 1.0],
    }
)


def test_growth_needs_every_layer_to_see_at_least_what_the_one_before_sees():
    row = fieldjudge.growth_claim(REACH)
    assert row["verdict"] == "reproduced"
    assert "conv1 sees 7 pixels a side, and from conv2_2 on" in row["evidence"]
    assert fieldjudge.growth_claim(REACH.assign(ResNet50=[0.03, 0.5, 0.4]))["verdict"] == "not reproduced"
    assert list(row) == judge.COLUMNS


def test_the_view_must_be_open_in_every_block_where_the_plain_one_is_not():
    shuffled, gated, everywhere = fieldjudge.cover_claims(REACH)
    assert [row["verdict"] for row in (shuffled, gated, everywhere)] == ["reproduced"] * 3
    assert "Exact reach: 99.3 % in every block" in everywhere["evidence"]
    assert "ResNet50 + ss and SEResNet50" in everywhere["claim"], "it stands alone in the README"
    nearly = REACH.assign(**{"ResNet50 + ss": [0.03, 0.99996, 1.0]})
    assert "Exact reach: over 99.9 % of" in fieldjudge.cover_claims(nearly)[0]["evidence"], "which is not all"
    assert "Exact reach: 100 % of" in gated["evidence"]
    assert "3 % in front of the blocks (conv1)" in everywhere["evidence"]
    gap = REACH.assign(**{"ResNet50 + ss": [0.03, 0.9, 1.0]})
    assert [row["verdict"] for row in fieldjudge.cover_claims(gap)] == [
        "not reproduced",
        "reproduced",
        "not reproduced",
    ]


def test_each_row_names_its_own_figure_and_that_nothing_was_trained():
    rows = [fieldjudge.growth_claim(REACH), *fieldjudge.cover_claims(REACH)]
    assert [row["where"] for row in rows] == [
        "Fig. 3, 6; untrained",
        "Fig. 3, 7; untrained",
        "Fig. 3, 8; untrained",
        "Fig. 5 (a); untrained",
    ]
    assert "ResNet50 + ss" in rows[1]["claim"], "Fig. 7"
    assert "SEResNet50" in rows[2]["claim"], "Fig. 8"


def test_the_plain_networks_own_field_is_no_cover():
    plain = REACH.assign(**{"ResNet50 + ss": REACH["ResNet50"], "SEResNet50": REACH["ResNet50"]})
    assert {row["verdict"] for row in fieldjudge.cover_claims(plain)} == {"not reproduced"}


def test_untrained_gradients_do_not_settle_what_is_used():
    rows = [
        {"model": model, "measure": measure, "layer": layer, "n": 8, "share": 0.06 * k, "low": 0.01, "high": 0.07}
        for model in ("ResNet50 + ss", "SEResNet50")
        for measure in ("squared", "absolute", "paths")
        for k, layer in enumerate(("conv2_1", "conv2_2"), start=1)
    ]
    shuffled, gated = fieldjudge.use_claims(pd.DataFrame(rows))
    assert shuffled["verdict"] == gated["verdict"] == "cannot tell"
    assert shuffled["where"] == gated["where"] == "Sec. 5.1; untrained, on noise"
    assert "6 % to 12 % (squared) or 6 % to 12 % (absolute)" in shuffled["evidence"]


def location(two, low, high, same=0.6, n=(2, 1)):
    rows = []
    for model, count in zip(("ResNet50 + ss", "SEResNet50"), n, strict=True):
        rows += [{"model": model, "n": 2 * count, "compared": "the same box, other images", "overlap": same}]
        ratio = {"overlap": two, "of_same": two / same, "low": low, "high": high}
        rows += [{"model": model, "n": count, "compared": "two boxes", **ratio}]
    return fieldjudge.location_claims(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("two", "low", "high", "ss", "se"),
    [
        (0.3, 0.4, 0.6, "reproduced", "not reproduced"),
        (0.57, 0.91, 0.99, "not reproduced", "reproduced"),
        (0.51, 0.7, 0.95, "cannot tell", "cannot tell"),
        (0.57, 0.85, 1.05, "cannot tell", "cannot tell"),
        (0.57, float("nan"), float("nan"), "cannot tell", "cannot tell"),
    ],
)
def test_location_is_judged_by_the_interval_of_the_overlap_over_that_of_a_box_with_itself(two, low, high, ss, se):
    shuffled, gated = location(two, low, high)
    assert (shuffled["verdict"], gated["verdict"]) == (ss, se)


def test_location_says_what_it_was_seen_in_and_cannot_be_told_from_noise_alone():
    shuffled, gated = location(0.3, 0.4, 0.6)
    assert shuffled["where"] == "Fig. 4; untrained, on noise, n = 2 networks"
    assert gated["where"] == "Fig. 4; untrained, on noise, n = 1 network"
    assert "by 0.30 of two boxes, by 0.60 of one seen twice" in shuffled["evidence"]
    assert "ratio is 0.50 (95 % interval over images 0.40 to 0.60)" in shuffled["evidence"]
    assert {row["verdict"] for row in location(0.01, 0.1, 0.3, same=0.05)} == {"cannot tell"}


def test_the_rules_have_the_numbers_that_judge():
    text = " ".join(fieldjudge.RULES)
    assert "mean 99 % of the image" in text
    assert "at least 0.9 of what" in text
    assert "less than 0.5" in text


def test_optimised_maps_are_judged_source_by_source_by_the_one_that_agrees_least():
    one = {"source": ["quick", "quick", "laptop"], "model": ["plain", "SE", "net + ss"], "layer": ["a", "b", "c"]}
    quick, laptop = fieldjudge.optimised_claims(pd.DataFrame({**one, "iou": [1.0, 0.85, 0.95]}))
    assert (quick["verdict"], laptop["verdict"]) == ("not reproduced", "reproduced")
    assert "with the exact reach 0.85 to 1.00 over 2 maps" in quick["evidence"]
    assert "lowest in SE at b" in quick["evidence"]
    assert (quick["where"], laptop["where"]) == ("Eq. 4; plain, SE, quick", "Eq. 4; net, laptop")
    assert fieldjudge.optimised_claims(pd.DataFrame({**one, "iou": None})) == []
