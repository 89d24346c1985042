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
FAR, NEAR = [50.0, 49.0, 51.0, 50.0], [1.0, 2.0, 0.5, 3.0]
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


def test_the_table_counts_the_runs_that_follow_the_contour():
    other = records({0.0: [50.0, 51.0, 4.0], 0.0625: [2.0, 9.9]}, profile="gpu")
    table = contours.table(pd.concat([FRAME.iloc[::-1], other]))
    assert list(table) == contours.COLUMNS
    assert table["source"].tolist() == ["laptop (Pathfinder)"] * 2 + ["gpu (Pathfinder)"] * 2
    assert table["solved"].tolist() == [0, 0, 1, 2]
    assert table["n"].tolist() == [4, 4, 3, 2]
    assert table["error"].tolist() == pytest.approx([np.mean(PLAIN), np.mean(BETTER), 35, 5.95])
    share = stats.proportion(1, 3)
    assert table.loc[2, ["low", "high"]].tolist() == pytest.approx([100 * share.low, 100 * share.high])
    assert table["p"].tolist()[1::2] == pytest.approx([1, stats.fisher(1, 3, 2, 2)])
    assert table["p"].isna().tolist() == [True, False, True, False]
    assert contours.table(FRAME[:0]).empty


def test_the_figure_shows_every_run_in_its_row_and_how_many_follow_the_contour():
    frame = records({0.0: PLAIN, 0.0625: NEAR[:3] + FAR[:1]})
    (ax,) = contours.runs(frame).axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [f"{NAME}, conv", f"{NAME}, α = 1/16"]
    points = [one.get_offsets() for one in ax.collections]
    assert len(points) == 2, "a mean would be where no run is"
    for place, errors in enumerate((PLAIN, NEAR[:3] + FAR[:1])):
        assert sorted(points[place][:, 0]) == sorted(errors)
        assert (abs(points[place][:, 1] - place) < 0.5).all()
    assert [text.get_text() for text in ax.texts[2:]] == ["0 of 4", "3 of 4"]
    assert [text.get_position()[1] for text in ax.texts[2:]] == [0, 1]
    assert ax.get_xlim()[0] < -1, "a run without an error stands clear of the axis"


def test_the_rows_of_several_profiles_are_told_apart():
    (ax,) = contours.runs(pd.concat([FRAME, FRAME.assign(profile="gpu")])).axes
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == [f"{NAME}, {arm} ({profile})" for profile in ("laptop", "gpu") for arm in ("conv", "α = 1/16")]


@pytest.mark.parametrize(
    ("conv", "ss", "outcome"),
    [
        (FAR, NEAR, "supported"),
        (NEAR, FAR, "not supported"),
        (FAR, [*NEAR[:3], 50.0], "cannot tell"),
        (NEAR, NEAR, "cannot tell"),
        (PLAIN, BETTER, "cannot tell"),
    ],
)
def test_a_claim_goes_by_the_runs_that_solve_it_and_says_what_could_be_told(conv, ss, outcome):
    (row,) = contours.claims(records({0.0: conv, 0.0625: ss}))
    assert list(row) == COLUMNS
    assert row["verdict"] == outcome
    assert row["claim"] == f"Shuffling helps {NAME} to follow a contour (α = 1/16)"
    assert row["where"] == "Not in the paper; laptop (Pathfinder)"
    counts = [sum(error < 10 for error in errors) for errors in (ss, conv)]
    assert f"With shuffling solved: {stats.proportion(counts[0], 4)}" in row["evidence"]
    assert f"without: {stats.proportion(counts[1], 4)}" in row["evidence"]
    assert "from 4 runs a side on" in row["evidence"]


def test_without_plain_runs_there_is_no_claim():
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
    name = ax.texts[0]
    assert name.get_text() == "chance"
    assert ax.lines[0].get_xdata()[0] == 50
    ax.figure.canvas.draw()
    assert name.get_window_extent().y0 >= ax.get_window_extent().y1
