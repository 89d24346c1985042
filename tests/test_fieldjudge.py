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


def test_the_stem_contradicts_almost_1_at_every_layer_but_not_that_the_image_is_covered():
    shuffled, gated, everywhere = fieldjudge.cover_claims(REACH)
    assert (shuffled["verdict"], gated["verdict"]) == ("reproduced", "reproduced")
    assert "from conv2_1 on" in shuffled["evidence"]
    assert everywhere["verdict"] == "not reproduced"
    assert "Not at conv1, with 3.0% of the image" in everywhere["evidence"]


def test_a_gap_behind_the_first_open_layer_is_no_cover():
    gap = REACH.assign(**{"ResNet50 + ss": [0.03, 0.993, 0.9]})
    assert fieldjudge.cover_claims(gap)[0]["verdict"] == "not reproduced"
    whole = REACH.assign(**{"ResNet50 + ss": 1.0, "SEResNet50": 1.0})
    assert fieldjudge.cover_claims(whole)[2]["verdict"] == "reproduced"
    shut = REACH.assign(**{"ResNet50 + ss": 0.5})
    assert fieldjudge.cover_claims(shut)[0]["verdict"] == "not reproduced"


@pytest.mark.parametrize(("low", "verdict"), [(0.05, "reproduced"), (0.0, "not reproduced")])
def test_use_needs_an_interval_above_0_at_every_layer(low, verdict):
    rows = [
        {"model": model, "layer": layer, "n": 8, "share": 0.06 * k, "low": low * k, "high": 0.07}
        for model in (fieldjudge.SHUFFLED, fieldjudge.GATED)
        for k, layer in enumerate(("conv2_1", "conv2_2"), start=1)
    ]
    shuffled, gated = fieldjudge.use_claims(pd.DataFrame(rows))
    assert shuffled["verdict"] == gated["verdict"] == verdict
    assert "6 % of its mass is outside at conv2_1, 12 % at conv2_2 (8 images)" in shuffled["evidence"]


@pytest.mark.parametrize(
    ("two", "ss", "se"), [(0.3, "reproduced", "not reproduced"), (0.56, "not reproduced", "reproduced")]
)
def test_location_is_judged_against_a_box_with_itself(two, ss, se):
    same = {"compared": "the same box, other images", "overlap": 0.6}
    rows = [{"model": m, **part} for m in ("ss", "SE") for part in (same, {"compared": "two boxes", "overlap": two})]
    shuffled, gated = fieldjudge.location_claims(pd.DataFrame(rows))
    assert (shuffled["verdict"], gated["verdict"]) == (ss, se)
    assert "by 0.60 for one box seen twice" in shuffled["evidence"]


def test_optimised_maps_are_judged_source_by_source_by_the_one_that_agrees_least():
    one = {"source": ["quick", "quick", "laptop"], "model": ["plain", "SE", "ss"], "layer": ["a", "b", "c"]}
    quick, laptop = fieldjudge.optimised_claims(pd.DataFrame({**one, "iou": [1.0, 0.85, 0.95]}))
    assert (quick["verdict"], laptop["verdict"]) == ("not reproduced", "reproduced")
    assert (
        "quick: intersection over union with the exact reach 0.85 to 1.00 over 2 maps, lowest in SE at b"
        in quick["evidence"]
    )
    assert fieldjudge.optimised_claims(pd.DataFrame({**one, "iou": None})) == []
