"""The figures of trained networks show their tables' numbers, and nothing covers them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from ssconv_lib import figures, usageplots
from ssconv_lib.usagetables import NETWORK

AT = dict(zip(NETWORK, ("laptop (CIFAR-10)", "wrn10_2", 0.06, "none", 3, "hash"), strict=True))
PLAIN = {**AT, "alpha": 0.0, "network": "plain"}
NAN = float("nan")


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")


def wired(**at) -> pd.DataFrame:
    rows = [("zeroed", 40.0, 25.0, 20.0, 30.0), ("intact", 15.0, NAN, NAN, NAN), ("other_pi", 15.0, 0.0, NAN, NAN)]
    columns = ("treatment", "error", "drop", "low", "high")
    return pd.DataFrame([{**AT, **at, **dict(zip(columns, row, strict=True)), "n": 1000} for row in rows])


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_each_treatment_is_at_its_error_with_the_interval_around_what_it_adds():
    figure = usageplots.wiring(wired())
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["intact", "another π", "zeroed (Eq. 5)"]
    assert texts(ax) == ["15.0", "15.0 (+0.0)", "40.0 (+25.0)"]
    lines = [line.get_xdata() for line in ax.lines]
    assert [15, 15] in [list(x) for x in lines]  # the intact network, from top to bottom
    assert [35, 45] in [list(x) for x in lines]  # 15 + 20 to 15 + 30
    assert "1,000 images" in ax.get_title(loc="left")


def test_the_numbers_beside_the_points_stay_within_the_figure():
    figure = usageplots.wiring(pd.concat([wired(), wired(network="other", seed=4)]))
    assert len(figure.axes) == 2
    figure.canvas.draw()
    for ax in figure.axes:
        for text in ax.texts:
            assert text.get_window_extent().x1 <= figure.bbox.x1


def shifted() -> pd.DataFrame:
    rows = [("changed", 1, 5.0, 7.0, -2.0, -3.0, -1.0), ("error", 1, 15.0, 16.0, -1.0, -2.0, 0.0)]
    rows.append(("changed", 8, 20.0, 19.0, 1.0, -1.0, 3.0))
    columns = ("measure", "shift", "conv", "ss", "difference", "low", "high")
    return pd.DataFrame([{**AT, **dict(zip(columns, row, strict=True)), "n": 1000} for row in rows])


def test_shifts_show_the_answers_that_change_and_their_difference():
    figure = usageplots.shifts(shifted())
    figure.canvas.draw()
    left, right = figure.axes
    assert right.title.get_window_extent().x1 <= figure.bbox.x1, "the title is not cut off"
    drawn = {line.get_label(): line.get_ydata().tolist() for line in left.lines}
    assert drawn == {"conv": [5, 20], "ss": [7, 19]}
    (bars,) = right.containers
    assert bars[0].get_ydata().tolist() == [-2, 1]
    ends = [[low[1], high[1]] for low, high in bars[2][0].get_segments()]
    np.testing.assert_allclose(ends, [[-3, -1], [-1, 3]])
    assert [label.get_text() for label in left.get_xticklabels()] == ["1", "8"]


def corrupted() -> pd.DataFrame:
    rows = [("none", 0, 15.0, 16.0, -2.0, 0.5), ("noise", 1, 30.0, 25.0, 2.0, 8.0), ("noise", "mean", 30.0, 25.0, 2, 8)]
    rows += [("blur", 1, 20.0, 20.0, NAN, NAN), ("contrast", 1, 20.0, 30.0, -12.0, -8.0)]
    columns = ("corruption", "severity", "conv", "ss", "low", "high")
    return pd.DataFrame([{**AT, **dict(zip(columns, row, strict=True)), "n": 1000} for row in rows])


def sized() -> pd.DataFrame:
    rows = [(PLAIN, 32, "as is", 15.0), (PLAIN, 48, "as is", 50.0), (PLAIN, 48, "resized back", 30.0)]
    rows += [(AT, 32, "as is", 16.0), (AT, 32, "new π", 17.0), (AT, 48, "new π", 60.0), (AT, 48, "resized back", 31.0)]
    rows.append(({**PLAIN, "seed": 4}, 32, "as is", 99.0))
    return pd.DataFrame([{**at, "size": size, "way": way, "error": error} for at, size, way, error in rows])


def test_each_corruption_has_a_panel_from_the_clean_images_on_and_doubtful_differences_are_hollow():
    figure = usageplots.robustness(corrupted(), sized())
    noise, blur, contrast, _ = figure.axes
    for ax, conv, ss in ((noise, [15, 30], [16, 25]), (blur, [15, 20], [16, 20]), (contrast, [15, 20], [16, 30])):
        drawn = [line.get_ydata().tolist() for line in ax.lines if len(line.get_ydata())]
        assert drawn == [conv, ss]
    hollow = {ax: ax.collections[0].get_offsets()[:, 0].tolist() for ax in (noise, blur, contrast)}
    assert hollow == {noise: [0], blur: [0, 1], contrast: [0]}


def test_sizes_are_those_of_the_pair_and_its_own_size_needs_no_resizing_back():
    *_, ax = usageplots.robustness(corrupted(), sized()).axes
    drawn = {(to_hex(line.get_color()), line.get_linestyle()): line for line in ax.lines if len(line.get_xdata())}
    found = {key: (line.get_xdata().tolist(), line.get_ydata().tolist()) for key, line in drawn.items()}
    grey, blue, sky = (to_hex(colour) for colour in (figures.GREY, figures.BLUE, figures.SKY))
    assert found == {
        (grey, "-"): ([32, 48], [15, 50]),
        (grey, "--"): ([32, 48], [15, 30]),
        (blue, "-"): ([32, 48], [17, 60]),
        (sky, "--"): ([32, 48], [16, 31]),
    }


def test_the_legend_names_what_is_drawn_and_covers_no_panel():
    figure = usageplots.robustness(corrupted(), sized())
    figure.canvas.draw()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["conv", "conv, image resized back", "ss (other sizes: new π)", "ss, image resized back"]
    top = legend.get_window_extent().y1
    assert all(ax.get_tightbbox().y0 >= top for ax in figure.axes)


@pytest.mark.parametrize("draw", [usageplots.wiring, usageplots.shifts])
def test_a_table_without_rows_is_refused(draw):
    with pytest.raises(ValueError, match="no row to draw"):
        draw(wired()[:0].assign(measure=[]))
