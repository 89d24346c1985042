"""Figures show the numbers they are given, look the same each time, and come with the data behind them."""

import hashlib
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_tables import grouped, runs

from ssconv_lib import figures, plots, sweeps, tables
from ssconv_lib.book import Chapter
from ssconv_lib.paper import PrintedDifference

SWEEP = runs({0.0: [50, 49, 51], 0.125: [0, 0.2, 30], 1.0: [50, 50, 49]}, data="longrange", model="long_range_cnn")


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")


def points(axes):
    return np.concatenate(
        [collection.get_offsets() for collection in axes.collections if len(collection.get_offsets())]
    )


def test_the_sweep_shows_every_run_and_counts_what_is_solved():
    figure = plots.alpha_sweep(SWEEP, sweeps.sweep_summary(SWEEP), {}, solved=True)
    (axes,) = figure.axes
    assert sorted(points(axes)[:, 1].round(6)) == sorted(SWEEP["error"]), "and no mean, where no run is"
    texts = [text.get_text().split("\n")[0] for text in axes.texts]
    assert texts == ["0 of 3", "2 of 3", "0 of 3"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1/8", "1"]
    assert axes.get_ylabel() == "test error (%)"


def test_the_sweep_draws_the_curve_it_is_given():
    frame = runs({a: [10 + a, 10.5 + a, 9.5 + a] for a in (0.0, 0.02, 0.04, 0.06, 0.1)})
    curve = sweeps.fitted_curve(frame)
    figure = plots.alpha_sweep(frame, sweeps.sweep_summary(frame), {"wrn10_2": curve})
    assert len(points(figure.axes[0])) == len(frame) + 5 + 1, "of real images the means, too, and the band"
    (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata()) == len(curve)]
    assert np.allclose(line.get_ydata(), curve["fit"])


def test_alphas_far_worse_than_others_do_not_hide_tenths():
    errors = {a: [10 + a, 10.5 + a, 9.5] for a in (0.0, 0.02, 0.06)} | {1.0: [40.0, 41.0, 42.0]}
    frame = runs(errors)
    whole, near = plots.alpha_sweep(frame, sweeps.sweep_summary(frame), {}).axes
    assert whole.get_ylim()[1] > 42 and near.get_ylim()[1] < 11
    assert near.get_xlim()[1] < 3 < whole.get_xlim()[1], "the place of the fourth"
    assert [text.get_text() for text in near.texts] == ["n = 3"] * 3
    alike = frame[frame["alpha"] < 1]
    assert len(plots.alpha_sweep(alike, sweeps.sweep_summary(alike), {}).axes) == 1


def test_a_mean_of_one_run_is_not_drawn():
    frame = runs({0.0: [10.0, 10.5], 0.06: [9.0]})
    (axes,) = plots.alpha_sweep(frame, sweeps.sweep_summary(frame), {}).axes
    assert points(axes)[:, 1].round(6).tolist() == [10.0, 10.5, 9.0, 10.25]


def test_paired_differences_show_each_pair_and_the_papers_band():
    pairs = tables.pairs([runs({0.0: [10.0, 12.0], 0.06: [9.0, 11.9]})])
    printed = {"WRN-10-2, laptop (CIFAR-10)": PrintedDifference(0.3, 1, "points")}
    (axes,) = plots.paired_differences(pairs, printed).axes
    assert {1.0, 0.1} <= set(points(axes)[:, 0].round(6))
    band = axes.collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1) == pytest.approx((0.2, 0.4))
    assert axes.get_yticklabels()[0].get_text() == "WRN-10-2, laptop (CIFAR-10)\nn = 2"


def test_learning_curves_have_a_line_a_run_and_the_mean():
    rows = [(0.0, s, "m", f"h{s}", e, 10.0 * e + s) for s in (0, 1) for e in (1, 2, 3)]
    histories = pd.DataFrame(rows, columns=["alpha", "seed", "model", "hash", "epoch", "error"])
    (axes,) = plots.learning_curves(histories).axes
    drawn = [tuple(line.get_ydata()) for line in axes.lines]
    assert drawn == [(10, 20, 30), (11, 21, 31), (10.5, 20.5, 30.5)]


def test_arms_show_every_run_in_the_order_of_the_table():
    frame = tables.arms(grouped({"auto": [8, 10.1, 9], "conv": [10, 12, 11], "leading": [9, 11, 10]}))
    (axes,) = plots.arms(frame, tables.ARMS).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["Conv", "Eq. 2", "Eq. 3"]
    assert set(frame["error"]) <= set(points(axes)[:, 1].round(6))


def test_seeds_do_not_hide_each_other():
    places = plots._jitter(pd.Series(range(5)))
    assert min(np.diff(np.sort(places))) > 0.01
    assert abs(places).max() < 0.12


def test_saving_gives_three_files_and_the_same_bytes_each_time(tmp_path):
    digests = []
    for name in ("one", "two"):
        figure = plots.alpha_sweep(SWEEP, sweeps.sweep_summary(SWEEP), {}, solved=True)
        figures.save(figure, SWEEP, tmp_path / name / "02_fig2")
        plt.close(figure)
        files = sorted((tmp_path / name).iterdir())
        assert [file.name for file in files] == ["02_fig2.csv", "02_fig2.png", "02_fig2.svg"]
        digests.append([hashlib.sha256(file.read_bytes()).hexdigest() for file in files])
    assert digests[0] == digests[1]
    saved = pd.read_csv(tmp_path / "one" / "02_fig2.csv")
    assert saved["error"].tolist() == SWEEP["error"].tolist()


def test_a_layout_that_is_off_by_its_last_bit_gives_the_same_file(tmp_path):
    """Solvers of layouts end an ulp apart in two processes; what matplotlib calls its clip paths depends on that."""
    drawn = []
    for shift in (0, 1e-13):
        figure = plt.figure(layout="none")
        for left in (0.1, 0.6):
            figure.add_axes((left + shift, 0.1, 0.3, 0.8)).plot([0, 1], [0, 1])
        figures.save(figure, pd.DataFrame(), tmp_path / "picture")
        drawn.append((tmp_path / "picture.svg").read_text())
    assert drawn[0] == drawn[1]
    defined, used = (re.findall(mark, drawn[0]) for mark in (r'<clipPath id="(\w+)"', r"url\(#(\w+)\)"))
    assert len(set(defined)) == 2
    assert set(used) == set(defined)


def test_colours_differ_in_lightness_or_hue_for_every_eye():
    """Okabe and Ito's set: pairwise far apart also when red and green are confused (a common simulation)."""
    from matplotlib.colors import to_rgb

    def deuteranope(colour):
        red, green, blue = (channel**2.2 for channel in to_rgb(colour))
        return np.array([0.367 * red + 0.861 * green - 0.228 * blue, 0.28 * red + 0.673 * green + 0.047 * blue, blue])

    seen = [deuteranope(colour) for colour in (figures.BLUE, figures.VERMILION, figures.GREY)]
    for i, one in enumerate(seen):
        for other in seen[i + 1 :]:
            assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize(("profile", "text"), [("quick", ["profile: quick"]), ("paper", [])])
def test_only_the_papers_own_protocol_goes_without_a_name(profile, text):
    figure = plt.figure()
    figures.caption_profile(figure, profile)
    assert [t.get_text() for t in figure.texts] == text


def test_a_chapter_puts_its_results_where_the_readme_says(tmp_results):
    chapter = Chapter("02", "laptop")
    chapter.table(pd.DataFrame({"a": [1.23456789]}), "numbers")
    chapter.figure(plt.figure(), pd.DataFrame({"a": [1]}), "picture")
    folder = tmp_results / "laptop" if (tmp_results / "laptop").exists() else next(tmp_results.rglob("laptop"))
    assert (folder / "tables" / "02_numbers.csv").read_text() == "a\n1.23457\n"
    assert (folder / "figures" / "02_picture.svg").exists()
    missing = chapter.missing("table1").data
    assert "0 of 20 runs" in missing
    assert "python -m ssconv_lib train --profile laptop --study table1" in missing


def test_words_for_a_figure_name_titles_axes_and_legend_once_each():
    figure, axes = plt.subplots(1, 2)
    figure.suptitle("Error over $α$")
    for ax in axes:
        ax.set(xlabel="α", ylabel="test error (%)")
        ax.plot([0, 1], label="ss")
        ax.legend()
    axes[0].set_title("WRN-10-2", loc="left")
    said = figures.alt_text(figure)
    assert said == "Figure. Error over α; WRN-10-2; x: α; y: test error (%); marked: ss"
    assert figures.alt_text(plt.figure()) == "Figure."
