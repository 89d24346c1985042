"""The mechanism task's tables count what was solved, and their border is that of the exact receptive field."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from matplotlib import pyplot as plt

from ssconv_lib import figures, mechanismjudge, mechanismplots, mechanismtables, receptive_field, stats
from ssconv_lib.judge import COLUMNS
from ssconv_lib.longrange import LongRange
from ssconv_lib.models import MODELS
from ssconv_lib.models.toy import LongRangeCNN

torch.set_num_threads(1)


def runs(errors, *, model="long_range_cnn", size=24, exact=True, control="none", data="longrange"):
    """A frame of runs: {(distance, alpha): errors by seed}."""
    rows = [
        ("gpu", data, model, alpha, control, seed, size, distance, exact, error)
        for (distance, alpha), values in errors.items()
        for seed, error in enumerate(values)
    ]
    columns = ["profile", "data", "model", "alpha", "control", "seed", "size", "distance", "exact", "error"]
    return pd.DataFrame(rows, columns=columns)


FOUR = runs(
    {
        (12, 0.0): [1.0, 2.0, 30.0],
        (12, 0.0625): [0.0, 0.0, 0.0],
        (17, 0.0): [50.0, 49.0, 9.9],
        (18, 0.0): [50.0, 49.0, 51.0],
        (18, 0.03125): [50.0, 2.0, 51.0],
        (18, 0.0625): [1.0, 49.0, 3.0],
        (18, 0.25): [1.0, 2.0, 3.0],
        (18, 1.0): [50.0, 50.0, 50.0],
    }
)
THREE = runs({(9, 0.0): [1.0] * 3, (15, 0.0): [50.0] * 3, (15, 0.0625): [50.0] * 3}, model="long_range_cnn_d3")


@pytest.mark.parametrize("depth", [2, 3, 4, 6])
def test_from_the_border_on_no_unit_of_the_plain_network_reaches_both_patches(depth):
    size = 4 * depth + 16  # so that the canvas doesn't cut the middle unit's field
    torch.manual_seed(0)
    layer = f"layers.{depth - 2}"
    field = receptive_field.reach(LongRangeCNN(2, depth=depth, width=4), [layer], (3, size, size))[layer]
    patch = mechanismtables.PATCH
    corners = F.max_pool2d(field[None].float(), patch, stride=1)[0] > 0  # of the patches that it sees a pixel of
    _, _, height, width = receptive_field.box(corners)
    largest = max(height, width) - 1  # Chebyshev distance of two such corners
    assert largest + 1 == mechanismtables.border(depth)


def test_depth_and_patch_are_those_of_the_networks_and_the_task():
    assert LongRange().patch == mechanismtables.PATCH
    plain = {name: mechanismtables.depth_of(name) for name in MODELS if name.startswith("long_range_cnn")}
    assert plain["long_range_cnn"] == 4
    for name, depth in plain.items():
        assert len(MODELS[name].factory(num_classes=2).layers) == depth - 1, name
    assert [mechanismtables.depth_of(name) for name in ("long_range_cnn_d12", "long_range_senet")] == [12, None]


def test_cells_count_the_runs_solved_and_keep_every_error():
    table = mechanismtables.cells(pd.concat([FOUR, THREE]))
    row = table[(table["depth"] == 4) & (table["distance"] == 17)].iloc[0]
    assert (row["n"], row["solved"], row["border"], row["outside"]) == (3, 1, 18, False)
    assert row["errors"] == [50.0, 49.0, 9.9]
    assert row["mean"] == pytest.approx(np.mean([50, 49, 9.9]))
    assert (row["low"], row["high"]) == pytest.approx((6.149, 79.234), abs=1e-3), "Wilson's interval of 1 of 3"
    assert table["outside"].tolist() == [False, True, True] + [False] * 3 + [True] * 5
    assert table["source"].unique().tolist() == ["gpu (generated task)"]


def test_cells_leave_out_controls_other_networks_and_real_images():
    others = [
        FOUR[FOUR["alpha"] > 0].assign(control="fresh", error=0.0),
        runs({(18, 0.0): [0.0]}, model="long_range_senet"),
        runs({(None, 0.0): [0.0]}, model="wrn10_2", data="cifar10"),
    ]
    assert mechanismtables.cells(pd.concat([FOUR, *others])).equals(mechanismtables.cells(FOUR))
    labelled = FOUR.assign(control=np.where(FOUR["alpha"] == 0, "fresh", "none"))
    assert mechanismtables.cells(labelled).equals(mechanismtables.cells(FOUR)), "α = 0 has no control"
    assert mechanismtables.cells(FOUR[:0]).empty


def test_seeds_are_in_order_whatever_the_records_order():
    table = mechanismtables.cells(FOUR.iloc[::-1])
    assert table.equals(mechanismtables.cells(FOUR))


def test_the_border_table_counts_both_sides():
    table = mechanismtables.border_table(mechanismtables.cells(pd.concat([FOUR, THREE])))
    three, four, everything = table.to_dict("records")
    assert (four["border"], four["solved inside"], four["solved outside"]) == (18, "3 of 6", "0 of 3")
    assert (four["last solved"], four["first unsolved"]) == (12, 18)
    assert (three["border"], three["solved inside"], three["solved outside"]) == (14, "3 of 3", "0 of 3")
    sums = (everything["depth"], everything["solved inside"], everything["solved outside"])
    assert sums == ("all", "6 of 9", "0 of 6")
    assert "p" not in table, "beyond the border patches are also further apart"
    inside = mechanismtables.border_table(mechanismtables.cells(FOUR[FOUR["distance"] < 18]))
    assert inside["solved outside"].tolist() == ["0 of 0"]
    assert mechanismtables.border_table(mechanismtables.cells(FOUR[:0])).empty


DEEPER = runs({(8, 0.0): [1.0] * 3, (15, 0.0): [2.0, 3.0, 50.0], (18, 0.0): [50.0] * 3}, model="long_range_cnn_d6")
SHALLOW = runs({(8, 0.0): [1.0] * 3, (15, 0.0): [50.0] * 4, (18, 0.0): [50.0] * 3}, model="long_range_cnn_d3")


def test_sides_are_compared_at_one_distance():
    table = mechanismtables.same_distance(mechanismtables.cells(pd.concat([DEEPER, SHALLOW])))
    assert table["distance"].tolist() == [8, 15, 18, "all"]
    assert table["solved inside"].tolist() == ["6 of 6", "2 of 3", "0 of 3", "8 of 12"]
    assert table["solved outside"].tolist() == ["0 of 0", "0 of 4", "0 of 3", "0 of 7"]
    near, informs, far, everything = table["p"]
    assert np.isnan(near), "all of these see both patches"
    assert informs == pytest.approx(stats.fisher(2, 3, 0, 4))
    assert far == 1
    assert everything == pytest.approx(informs), "near is easier for all, which is not what is asked"
    assert everything > 0.05 > stats.fisher(8, 12, 0, 7)


def test_images_of_two_sizes_are_two_strata():
    larger = runs({(15, 0.0): [50.0] * 3}, size=32)
    table = mechanismtables.same_distance(mechanismtables.cells(pd.concat([DEEPER, SHALLOW, larger])))
    informs = table[(table["distance"] == 15) & (table["size"] == 24)]
    assert informs["solved inside"].tolist() == ["2 of 3"]
    assert table["p"].iloc[-1] == pytest.approx(informs["p"].iloc[0])
    one_sided = mechanismtables.same_distance(mechanismtables.cells(larger))
    assert one_sided["p"].isna().tolist() == [True]
    assert mechanismtables.same_distance(mechanismtables.cells(FOUR[:0])).empty


def test_the_smallest_alpha_that_solves():
    table = mechanismtables.smallest_alpha(mechanismtables.cells(pd.concat([FOUR, THREE]))).set_index(
        ["depth", "distance"]
    )
    row = table.loc[4, 18]
    found = {"conv solved": "0 of 3", "one run solves from": "1/32", "most solve from": "1/16"}
    found |= {"all solve from": "1/4", "most solve up to": "1/4", "α tried": "1/32, 1/16, 1/4, 1"}
    assert row[list(found)].to_dict() == found, "at α = 1, above the smallest with which all solve it, none does"
    assert table.loc[3, 15][[name for name in found if "solve " in name or "solves" in name]].isna().all()
    assert (4, 17) not in table.index, "no α above 0 was tried there"


def judged(*frames):
    return mechanismjudge.border_claims(mechanismtables.cells(pd.concat(frames)))


@pytest.mark.parametrize(
    ("outside", "outcome"),
    [
        ([50.0] * 4, "supported"),
        ([50.0] * 3, "cannot tell"),
        ([50.0] * 9 + [3.0], "not supported"),
    ],
)
def test_that_it_fails_beyond_the_border_is_judged_by_the_runs_there_alone(outside, outcome):
    row, _ = judged(runs({(15, 0.0): [1.0] * 9, (18, 0.0): outside, (18, 0.0625): [1.0] * 9}))
    assert list(row) == COLUMNS
    assert row["claim"] == mechanismjudge.FAILS
    assert row["verdict"] == outcome
    share = stats.proportion(sum(error < 10 for error in outside), len(outside))
    assert f"where no unit reaches both patches: {share}." in row["evidence"]
    assert "p =" not in row["evidence"]
    assert stats.proportion(0, 3).high > 0.5 > stats.proportion(0, 4).high
    assert judged(FOUR[FOUR["distance"] == 12]) == [], "no run beyond the border"


@pytest.mark.parametrize(
    ("deep", "shallow", "outcome"),
    [
        ([1.0] * 4, [50.0] * 4, "supported"),
        ([1.0] * 3, [50.0] * 3, "cannot tell"),
        ([50.0] * 4, [1.0] * 4, "not supported"),
        ([1.0] * 4, [1.0] * 4, "cannot tell"),
    ],
)
def test_that_the_border_counts_is_judged_at_one_distance(deep, shallow, outcome):
    near = [runs({(8, 0.0): [1.0] * 9}, model=model) for model in ("long_range_cnn_d3", "long_range_cnn_d6")]
    frames = [runs({(15, 0.0): deep}, model="long_range_cnn_d6"), runs({(15, 0.0): shallow}, model="long_range_cnn_d3")]
    row = judged(*near, *frames)[1]
    assert row["claim"] == mechanismjudge.MORE_OFTEN
    assert row["verdict"] == outcome
    counts = [sum(error < 10 for error in errors) for errors in (deep, shallow)]
    n = len(deep)
    assert f"{counts[0]} of {n} against {counts[1]} of {n} (24×24 pixels, 15 apart)" in row["evidence"]
    assert f"exact p = {stats.fisher(counts[0], n, counts[1], n):.2g}, stratified" in row["evidence"]
    assert " 8 apart" not in row["evidence"], "all of these see both"
    assert "All against none could be told from 4 runs a side on" in row["evidence"]


def test_near_and_far_alone_say_nothing_of_the_border():
    """As `quick` has it: one network, near this side of its border and far beyond it."""
    fails, counts = judged(runs({(11, 0.0): [1.0] * 9, (20, 0.0): [50.0] * 9}))
    assert (fails["verdict"], counts["verdict"]) == ("supported", "cannot tell")
    assert counts["evidence"] == "No image size and distance has runs on both sides of the border."


def test_what_it_takes_to_tell_all_from_none():
    assert stats.fisher(3, 3, 0, 3) > 0.05 > stats.fisher(4, 4, 0, 4)
    assert mechanismjudge.runs_a_side() == 4
    assert mechanismjudge.runs_a_side(0.01) == 5, "2 of C(10, 5) = 252"


@pytest.fixture
def style():
    figures.use_style()
    yield
    plt.close("all")


def test_the_figure_shows_every_run_and_the_border_between_two_columns(style):
    table = mechanismtables.cells(pd.concat([FOUR, THREE]))
    three, four = mechanismplots.distances(table).axes
    columns = [int(label.get_text()) for label in four.get_xticklabels()]
    assert columns == sorted(table["distance"].unique())
    for ax, frame in ((three, THREE), (four, FOUR)):
        drawn = np.concatenate([points.get_offsets() for points in ax.collections])
        assert sorted(drawn[:, 1]) == sorted(frame["error"])
        assert {columns[round(x)] for x in drawn[:, 0]} == set(frame["distance"])
    (line,) = [line for line in four.lines if line.get_linestyle() == "-"]
    assert line.get_xdata()[0] == columns.index(18) - 0.5
    assert "from 18 px on" in four.texts[-1].get_text()
    colours = {tuple(points.get_facecolor()[0]) for points in four.collections}
    assert len(colours) == FOUR["alpha"].nunique()


@pytest.mark.parametrize("distances", [(8, 18, 21), (17, 18, 40), (8, 17, 30)])
def test_the_border_parts_the_distances_that_a_unit_reaches_from_the_others(style, distances):
    """Whatever the gaps: one pixel before the border a unit still reaches both."""
    frame = runs({(distance, alpha): [50.0] * 9 for distance in distances for alpha in (0.0, 1 / 32, 1 / 16, 1 / 4)})
    (ax,) = mechanismplots.distances(mechanismtables.cells(frame)).axes
    (line,) = [line for line in ax.lines if line.get_linestyle() == "-"]
    drawn = np.concatenate([points.get_offsets() for points in ax.collections])[:, 0]
    reached = sum(distance < 18 for distance in distances)
    assert (drawn < line.get_xdata()[0]).sum() == 4 * 9 * reached


def test_each_panel_of_the_map_has_its_own_alphas(style):
    three, four = mechanismplots.heat_map(mechanismtables.cells(pd.concat([FOUR, THREE]))).axes
    for ax, frame in ((three, THREE), (four, FOUR)):
        assert len(ax.get_yticks()) == frame["alpha"].nunique()


def test_readers_see_what_solves_and_not_how_it_was_counted():
    smallest = mechanismtables.smallest_alpha(mechanismtables.cells(pd.concat([FOUR, THREE])))
    shown = mechanismtables.shown(smallest)
    assert shown["beyond the border"].tolist() == ["yes" if out else "no" for out in smallest["outside"]]
    assert shown["all from α ="].tolist() == smallest["all solve from"].fillna("").tolist()
    assert not {"exact", "one run solves from", "most solve up to"} & set(shown)


def test_columns_of_neighbouring_distances_do_not_overlap(style):
    table = mechanismtables.cells(FOUR)
    (ax,) = mechanismplots.distances(table).axes
    drawn = np.concatenate([points.get_offsets() for points in ax.collections])[:, 0]
    assert (abs(drawn[:, None] - np.arange(3)).min(1) < 0.5).all()


def test_the_map_counts_the_runs_solved(style):
    (ax,) = mechanismplots.heat_map(mechanismtables.cells(FOUR)).axes
    counts = {
        (int(text.get_position()[0]), int(text.get_position()[1])): text.get_text()
        for text in ax.texts
        if " of " in text.get_text() and "px" not in text.get_text()
    }
    assert counts[0, 0] == "2 of 3"
    assert counts[2, 4 - 1] == "3 of 3"
    assert len(counts) == 8
    (line,) = ax.lines
    assert line.get_xdata()[0] == 1.5, "between 17 and 18"


@pytest.mark.parametrize("draw", [mechanismplots.heat_map, mechanismplots.distances])
def test_cells_of_two_profiles_are_refused_and_not_drawn_upon_each_other(style, draw):
    both = mechanismtables.cells(pd.concat([FOUR, FOUR.assign(profile="laptop")]))
    with pytest.raises(ValueError, match=r"are of gpu \(generated task\), laptop \(generated task\): .*one profile"):
        draw(both)
    with pytest.raises(ValueError, match="are of no records"):
        draw(both[:0])
