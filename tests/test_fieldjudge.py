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
    assert "99.3 % in every block" in everywhere["evidence"]
    nearly = REACH.assign(**{"ResNet50 + ss": [0.03, 0.99996, 1.0]})
    assert "at least 99.9 %" in fieldjudge.cover_claims(nearly)[0]["evidence"], "which is not all"
    assert "at least 100 %" in gated["evidence"]
    assert "3 % in front of the blocks (conv1)" in everywhere["evidence"]
    gap = REACH.assign(**{"ResNet50 + ss": [0.03, 0.9, 1.0]})
    assert [row["verdict"] for row in fieldjudge.cover_claims(gap)] == [
        "not reproduced",
        "reproduced",
        "not reproduced",
    ]


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
    assert "6 % to 12 % (squared) or 6 % to 12 % (absolute)" in shuffled["evidence"]


@pytest.mark.parametrize(
    ("two", "ss", "se"), [(0.3, "reproduced", "not reproduced"), (0.56, "not reproduced", "reproduced")]
)
def test_location_is_judged_against_a_box_with_itself(two, ss, se):
    same = {"compared": "the same box, other images", "overlap": 0.6}
    both = (same, {"compared": "two boxes", "overlap": two})
    rows = [{"model": m, "n": 2, **part} for m in ("ResNet50 + ss", "SEResNet50") for part in both]
    shuffled, gated = fieldjudge.location_claims(pd.DataFrame(rows))
    assert (shuffled["verdict"], gated["verdict"]) == (ss, se)
    assert "by 0.60 of one seen twice" in shuffled["evidence"]
    noisy = pd.DataFrame(rows).assign(overlap=0.05)
    assert {row["verdict"] for row in fieldjudge.location_claims(noisy)} == {"cannot tell"}


def test_optimised_maps_are_judged_source_by_source_by_the_one_that_agrees_least():
    one = {"source": ["quick", "quick", "laptop"], "model": ["plain", "SE", "ss"], "layer": ["a", "b", "c"]}
    quick, laptop = fieldjudge.optimised_claims(pd.DataFrame({**one, "iou": [1.0, 0.85, 0.95]}))
    assert (quick["verdict"], laptop["verdict"]) == ("not reproduced", "reproduced")
    assert (
        "quick: intersection over union with the exact reach 0.85 to 1.00 over 2 maps, lowest in SE at b"
        in quick["evidence"]
    )
    assert fieldjudge.optimised_claims(pd.DataFrame({**one, "iou": None})) == []
