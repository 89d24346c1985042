"""Pathfinder's tables, figure and claims, from runs made up so that the answers are known."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from test_tables import runs

from ssconv_lib import contours, figures, stats
from ssconv_lib.judge import COLUMNS
from ssconv_lib.plan import load_profile

PLAIN, BETTER = [48.0, 50.0, 49.0, 51.0], [30.0, 33.0, 31.0, 34.0]
PROFILE = """
title = "a test"
hardware = "any"
[run]
data = { name = "pathfinder", train = 64, test = 32 }
epochs = 1
[[runs]]
study = "pathfinder"
model = "long_range_cnn"
sweep = { seed = [0], alpha = [0, 0.0625] }
[[runs]]
study = "other"
data = { name = "longrange", train = 64, test = 32 }
model = "long_range_cnn"
"""


def records(errors, **options):
    return runs(errors, **{"model": "long_range_cnn", "data": "pathfinder", **options})


NAME = "a CNN of 4 layers"
FRAME = records({0.0: PLAIN, 0.0625: BETTER})


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")


def test_the_table_has_means_and_the_difference_paired_by_seed():
    other = records({0.0: [50.0, 51.0, 40.0], 0.0625: [49.0, 52.0]}, profile="gpu")
    table = contours.table(pd.concat([FRAME.iloc[::-1], other]))
    assert list(table) == contours.COLUMNS
    assert table["source"].tolist() == ["laptop (Pathfinder)"] * 2 + ["gpu (Pathfinder)"] * 2
    plain, ss, _, of_gpu = table.to_dict("records")
    assert (plain["n"], plain["error"], plain["sd"]) == (4, 49.5, pytest.approx(np.std(PLAIN, ddof=1)))
    assert np.isnan(plain["difference"])
    expected = stats.paired_difference(PLAIN, BETTER)
    assert (ss["difference"], ss["d_low"], ss["d_high"]) == pytest.approx((expected.mean, expected.low, expected.high))
    assert ss["detectable"] == pytest.approx(expected.detectable())
    assert of_gpu["difference"] == pytest.approx(0), "the seed without a partner doesn't count"
    assert contours.table(FRAME[:0]).empty


def test_the_figure_shows_every_run_in_its_row_and_the_mean():
    (ax,) = contours.runs(FRAME).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"{NAME}, conv", f"{NAME}, α = 1/16"]
    points = [one.get_offsets() for one in ax.collections]
    for place, errors in enumerate((PLAIN, BETTER)):
        assert sorted(points[2 * place][:, 0]) == sorted(errors)
        assert (abs(points[2 * place][:, 1] - place) < 0.5).all()
        assert points[2 * place + 1].tolist() == [[np.mean(errors), place]]


def test_the_rows_of_several_profiles_are_told_apart():
    (ax,) = contours.runs(pd.concat([FRAME, FRAME.assign(profile="gpu")])).axes
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == [f"{NAME}, {arm} ({profile})" for profile in ("laptop", "gpu") for arm in ("conv", "α = 1/16")]


@pytest.mark.parametrize(
    ("ss", "outcome"),
    [(BETTER, "supported"), ([58.0, 59.0, 60.0, 60.0], "not supported"), ([49.0, 49.0, 50.0, 50.5], "cannot tell")],
)
def test_a_claim_goes_by_the_interval_and_names_n_interval_and_what_could_be_seen(ss, outcome):
    (row,) = contours.claims(records({0.0: PLAIN, 0.0625: ss}))
    assert list(row) == COLUMNS
    assert row["verdict"] == outcome
    assert row["claim"] == f"Shuffling helps {NAME} to follow a contour (α = 1/16)"
    assert row["where"] == "Not in the paper; laptop (Pathfinder)"
    one = stats.paired_difference(PLAIN, ss)
    numbers = f"{one.mean:.1f} points, 95 % interval {one.low:.1f} to {one.high:.1f} (n = 4 pairs)".replace("-", "−")
    assert numbers in row["evidence"]
    assert f"{one.detectable():.1f} points could have been seen" in row["evidence"]


def test_one_pair_makes_no_claim():
    assert contours.claims(FRAME[FRAME["seed"] == 0]) == []
    assert contours.claims(FRAME[FRAME["alpha"] > 0]) == []


def test_examples_are_the_studys_images_a_class_a_row(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE)
    profile = load_profile(path)
    figure, shown = contours.examples(profile, "pathfinder")
    assert len(figure.axes) == len(shown) == 2 * contours.EXAMPLES
    images = [ax.images[0].get_array() for ax in figure.axes]
    assert len({image.tobytes() for image in images}) == len(images)
    assert images[0].shape == (32, 32, 3)
    assert shown.groupby("row")["label"].unique().map(list).to_dict() == {0: [1], 1: [0]}
    assert contours.examples(profile, "other") is None, "of another task"
    assert contours.examples(profile, "nothing") is None


def test_chance_is_named_above_its_line():
    (ax,) = contours.runs(FRAME).axes
    (name,) = ax.texts
    assert name.get_text() == "chance"
    assert ax.lines[0].get_xdata()[0] == 50
    ax.figure.canvas.draw()
    assert name.get_window_extent().y0 >= ax.get_window_extent().y1
