"""The figures of speed show the numbers of their tables, each arm and machine where its label says."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from test_speedtables import RATIOS, layer, measured, together

from ssconv_lib import figures, speedplots, speedtables


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")


def drawn(axes):
    """The x of all markers, by label."""
    return {line.get_label(): np.round(line.get_xdata(), 6).tolist() for line in axes.lines if len(line.get_xdata())}


def test_table4_has_a_row_an_arm_and_the_papers_lines():
    frame = together(measured(arms=tuple(RATIOS)), measured(profile="gpu", device="NVIDIA H100", batch=256))
    figure = speedplots.table4(speedtables.table4(frame))
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [*speedtables.ARMS.values()][1:]
    shown = drawn(axes)
    assert shown["laptop: A Processor, 2 threads, torch 2.15.0; 224 px, batch 4, n = 15"] == [1.2, 1.05, 1.3, 1.6, 1.35]
    assert shown["gpu: NVIDIA H100, torch 2.15.0; 224 px, batch 256, n = 15"] == [1.2, 1.05]
    assert shown["paper: GeForce GTX 1080 Ti"] == pytest.approx([1.66 / 1.44] * 2, abs=1e-6)
    assert [text.get_text() for text in axes.texts] == ["1.15", "1.47"]
    low, high = axes.get_ylim()
    assert low > high, "the first arm is on top"


def test_networks_have_a_panel_a_machine_and_a_row_a_case():
    ours = [measured(mode="training"), measured(memory_format="channels_last"), measured()]
    cases = speedtables.cases(together(*ours, measured(network="wrn16_4", profile="gpu", device="NVIDIA H100")))
    first, second = speedplots.networks(cases).axes
    assert [tick.get_text() for tick in first.get_yticklabels()] == [
        "ResNet50",
        "inference, fp32, NCHW",
        "inference, fp32, channels_last",
        "training, fp32, NCHW",
        "WRN-16-4",
        "inference, fp32, NCHW",
    ]
    assert drawn(first)["ss, Listing 1"] == [1.2] * 3
    places = {line.get_label(): line.get_ydata() for line in first.lines}
    assert np.round(places["ss, ours"]).tolist() == [3, 2, 1], "training is the third row"
    assert len(second.lines[1].get_xdata()) == 1
    assert first.get_title(loc="left").splitlines()[0] == "laptop"
    assert second.get_title(loc="left").splitlines()[-1] == "WRN-16-4: 224 px, batch 4"


def test_scaling_has_a_column_an_axis_and_a_row_a_layout():
    alphas = [layer(alpha=alpha, memory_format=f) for alpha in (0.04, 0.25) for f in ("channels_last", "nchw")]
    widths = [layer(channels=128, memory_format=f) for f in ("channels_last", "nchw")]
    figure = speedplots.scaling(speedtables.scaling(together(*alphas, *widths)))
    assert len(figure.axes) == 4
    assert figure.axes[0].get_title(loc="left") == "3×3 convolution, NCHW"
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "α", "channels"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["ss, Listing 1"].get_xdata().tolist() == [0.04, 0.25]
    assert lines["ss, ours"].get_ydata().tolist() == [1.05, 1.05]
    assert figure.get_supylabel() == "time over plain convolution (median, quartiles)"


def test_parts_of_a_step_are_stacked_and_enlarged():
    rows = [("convolution", 2, 0.08), ("copy", 45, 0.004), ("outside", 0, 0.016)]
    operators = pd.DataFrame(rows, columns=["kind", "calls", "seconds"])
    table = speedtables.parts_of_a_step({"conv": operators, "ss": operators})
    left, right = speedplots.parts_of_a_step(table).axes
    ends = [bar.get_x() + bar.get_width() for bar in left.patches]
    assert max(ends) == pytest.approx(100), "a stack is the whole step"
    assert sorted(bar.get_width() for bar in right.patches)[-4:] == pytest.approx([4, 4, 16, 16])
    assert "ours: 45 calls" in [text.get_text() for text in right.texts]
