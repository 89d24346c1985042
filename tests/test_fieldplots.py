"""The figures of receptive fields show each map's values, the box, and the numbers of their tables."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb

from ssconv_lib import fieldlines, fieldpanels, fieldplots, figures
from ssconv_lib.receptive_field import share

LAYERS = ["stem", *(f"layer1.{i}" for i in range(7))]


@pytest.fixture(autouse=True)
def style():
    figures.use_style()
    yield
    plt.close("all")


def square(low, high, size=24):
    m = torch.zeros(size, size)
    m[low:high, low:high] = 1
    return m


def maps_in(figure):
    return [ax for ax in figure.axes if ax.images]


def shown(ax):
    """Title, what stands below, and the values drawn."""
    return ax.get_title() or ax.get_title(loc="left"), ax.get_xlabel(), np.asarray(ax.images[0].get_array())


def pixel(figure, ax, row, column):
    """The colour in the middle of a map's pixel, as it is drawn."""
    figure.canvas.draw()
    x, y = ax.transData.transform((column, row))
    drawn = np.asarray(figure.canvas.buffer_rgba())
    return drawn[drawn.shape[0] - 1 - int(y), int(x), :3] / 255


@pytest.mark.parametrize("size", [24, 32, 64, 224])
def test_0_is_white_and_1_red_and_no_value_is_smoothed(size):
    m = square(2, size // 2, size)
    figure = fieldplots.map_grid({"ResNet50": {"stem": m}}, (size - 4, size - 2), title="A title")
    (ax,) = maps_in(figure)
    assert figure.get_size_inches()[0] == 7.5
    assert ax.images[0].get_interpolation() == "nearest"
    np.testing.assert_allclose(pixel(figure, ax, size // 4, size // 4), to_rgb(fieldpanels.RED), atol=0.01)
    np.testing.assert_allclose(pixel(figure, ax, size * 2 // 3, size // 4), (1, 1, 1), atol=0.01)
    half = fieldplots.map_grid({"ResNet50": {"stem": torch.full((8, 8), 0.5)}}, (6, 8), title="A title")
    middle = (np.array(to_rgb(fieldpanels.RED)) + 1) / 2
    np.testing.assert_allclose(pixel(half, maps_in(half)[0], 2, 2), middle, atol=0.02)


def test_white_to_red_gets_darker_in_grey_print_all_the_way():
    grey = fieldpanels.WHITE_TO_RED(np.linspace(0, 1, 32))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(grey) < 0).all()
    assert grey[0] - grey[-1] > 0.65


def test_the_box_is_blue_and_half_open():
    figure = fieldplots.map_grid({"ResNet50": {"stem": square(8, 12)}}, (8, 12), title="A title")
    (box,) = maps_in(figure)[0].patches
    assert (*box.get_xy(), box.get_width(), box.get_height()) == (7.5, 7.5, 4, 4), "pixels 8 to 11, edge to edge"
    assert box.get_edgecolor()[:3] == pytest.approx(to_rgb(figures.BLUE))
    assert not box.get_fill()


def test_a_single_model_goes_on_in_further_lines_with_a_title_each():
    maps = {layer: square(0, i + 1) for i, layer in enumerate(LAYERS)}
    figure = fieldplots.map_grid({"ResNet50": maps}, (8, 12), title="A title")
    panels = maps_in(figure)
    assert [shown(ax)[0] for ax in panels] == ["conv1", *(f"conv2_{i}" for i in range(1, 8))]
    tops = [round(ax.get_position().y1, 6) for ax in panels]
    assert tops == [tops[0]] * 6 + [tops[6]] * 2
    assert tops[6] < tops[0]
    for ax, m in zip(panels, maps.values(), strict=True):
        np.testing.assert_array_equal(shown(ax)[2], m)
    names = [text.get_text() for ax in panels for text in ax.texts]
    assert names == ["ResNet50"] * 2, "at the left of each line"
    lower = fieldplots.map_grid({"ResNet50": dict(list(maps.items())[:6])}, (8, 12), title="A title")
    assert lower.get_size_inches()[1] < figure.get_size_inches()[1]


def test_models_are_rows_and_layers_columns_and_a_lacking_layer_a_dash():
    full = {"stem": square(0, 12), "layer1.0": square(0, 24)}
    rows = {"ResNet50": full, "SEResNet50": {"layer1.0": square(0, 1)}}
    figure = fieldplots.map_grid(rows, (8, 12), title="A title")
    panels = maps_in(figure)
    assert [shown(ax)[:2] for ax in panels] == [("conv1", "25 %"), ("conv2_1", "100 %"), ("", "< 1 %")]
    upper, lower = panels[1].get_position(), panels[2].get_position()
    assert upper.x0 == pytest.approx(lower.x0)
    assert upper.y0 > lower.y1
    first = next(ax for ax in figure.axes if not ax.images and ax.texts)
    assert {text.get_text() for text in first.texts} == {"SEResNet50", "–"}
    assert not any(spine.get_visible() for spine in first.spines.values())


def test_a_share_is_100_percent_only_where_every_pixel_is_at_least_half():
    assert [fieldpanels.percent(x) for x in (0, 0.001, 0.26, 0.99, 1)] == ["0 %", "< 1 %", "26 %", "99 %", "100 %"]
    assert [fieldpanels.percent(x) for x in (0.995, 0.99996)] == ["> 99 %", "> 99.9 %"]
    values = torch.tensor([[0.49, 0.5], [0.51, 0.0]])
    assert share(values) == 0.5
    assert share(torch.tensor([[True, False], [False, False]])) == 0.25


@pytest.mark.parametrize(("options", "text", "below"), [({}, "≥ 0.5", "25 %"), ({"threshold": 0.1}, "≥ 0.1", "75 %")])
def test_number_key_and_data_have_the_same_threshold_and_the_drawing_none(options, text, below):
    rows = {"ss": {"layer1.0": torch.tensor([[0.05, 0.1], [0.4, 0.5]])}}
    figure = fieldplots.map_grid(rows, (0, 1), title="A title", **options)
    (ax,) = maps_in(figure)
    assert shown(ax)[1] == below
    assert f"number: share of pixels {text}." in figure.texts[0].get_text()
    assert shown(ax)[2].ravel().tolist() == pytest.approx([0.05, 0.1, 0.4, 0.5])
    assert f"{100 * fieldplots.grid_data(rows, **options)['share'].iloc[0]:.0f} %" == below


def test_the_outline_follows_the_edges_of_pixels_and_is_drawn_only_where_it_is_given():
    region = square(8, 12) > 0
    pieces = {tuple(sorted(piece)) for piece in fieldpanels.border(region)}
    low, high = 7.5, 11.5
    assert pieces == {
        ((low, low), (low, high)),
        ((high, low), (high, high)),
        ((low, low), (high, low)),
        ((low, high), (high, high)),
    }
    wide = torch.zeros(4, 6, dtype=torch.bool)
    wide[0, 5] = True
    assert [(5.5, -0.5), (5.5, 0.5)] in fieldpanels.border(wide), "at the image's border too; x before y"
    maps = {"stem": square(0, 12), "layer1.0": square(0, 24)}
    figure = fieldplots.map_grid({"ResNet50": maps}, (8, 12), outlines={"layer1.0": region}, title="A title")
    lines = [[c for c in ax.collections if isinstance(c, LineCollection)] for ax in maps_in(figure)]
    assert [len(of) for of in lines] == [0, 1]
    assert "dashed: classical receptive field" in figure.texts[0].get_text()
    assert figure.texts[1].get_text() == "A title"


def test_the_colour_bar_goes_from_0_to_1_and_has_its_label():
    figure = fieldplots.map_grid(
        {"ResNet50": {"stem": 0.3 * square(0, 9)}}, (8, 12), label="mean σ(R)", title="A title"
    )
    bar = next(ax for ax in figure.axes if ax.get_title(loc="left") == "mean σ(R)")
    assert bar.get_ylim() == (0, 1)
    assert maps_in(figure)[0].images[0].get_clim() == (0, 1), "not the map's own range"


@pytest.mark.parametrize(
    ("m", "message"),
    [
        (torch.zeros(3, 8, 8), r"ResNet50, conv1 has the shape \(3, 8, 8\): expected \(H, W\)"),
        (torch.full((8, 8), 1.5), "ResNet50, conv1 goes from 1.5 to 1.5: expected 0 to 1"),
        (torch.full((8, 8), torch.nan), "goes from nan"),
    ],
)
def test_what_is_no_map_is_refused(m, message):
    with pytest.raises(ValueError, match=message):
        fieldplots.map_grid({"ResNet50": {"stem": m}}, (2, 4), title="A title")
    with pytest.raises(ValueError, match="no map to draw"):
        fieldplots.map_grid({"ResNet50": {}}, (2, 4), title="A title")


def test_channelwise_draws_values_from_the_threshold_on_as_1_and_each_box_in_its_panel():
    values = torch.tensor([[0.05, 0.1], [0.4, 0.0]]).repeat_interleave(8, 0).repeat_interleave(8, 1)
    boxes = [(8, 12), (12, 16)]
    models = ["ResNet50 + ss", "SEResNet50", "ResNet50"]
    figure = fieldplots.channelwise([[values, values]] * 3, boxes, models, ["ab", "cd", ""], title="A title")
    panels = maps_in(figure)
    assert [shown(ax)[0] for ax in panels] == [
        "(a) ResNet50 + ss,\nbox 8–12",
        "(b) ResNet50 + ss,\nbox 12–16",
        "(c) SEResNet50,\nbox 8–12",
        "(d) SEResNet50,\nbox 12–16",
        "ResNet50,\nbox 8–12",
        "ResNet50,\nbox 12–16",
    ]
    assert [ax.patches[0].get_x() for ax in panels] == [7.5, 11.5] * 3
    for ax in panels:
        drawn = shown(ax)[2]
        assert drawn[::8, ::8].ravel().tolist() == pytest.approx([0.05, 1, 1, 0])
        assert shown(ax)[1] == "50 %"
    with pytest.raises(ValueError, match=r"maps has \[1, 2\] maps: expected one for each of 2 boxes in 2 models"):
        fieldplots.channelwise([[values], [values, values]], boxes, ["x", "y"], ["ab", "cd"], title="A title")


def test_displayed_keeps_the_order_and_goes_from_0_to_1():
    field = torch.tensor([[0.0, 4.0], [100.0, 1.0]])
    torch.testing.assert_close(fieldplots.displayed(field), torch.tensor([[0.0, 0.2], [1.0, 0.1]]))
    torch.testing.assert_close(fieldplots.displayed(field), fieldplots.displayed(1e-20 * field)), "whatever the unit"
    assert not fieldplots.displayed(torch.zeros(4, 4)).any()
    with pytest.raises(ValueError, match="smallest value is -1"):
        fieldplots.displayed(field - 1)
    with pytest.raises(ValueError, match="≥ 0"):
        fieldplots.displayed(field * torch.nan)


def test_beside_has_a_row_a_measure_and_the_agreement_below_the_last():
    layers = {"stem": square(6, 14), "layer1.0": square(4, 16)}
    measures = {"exact reach": {name: m > 0 for name, m in layers.items()}, "Eq. 4": layers}
    agreement = pd.DataFrame({"layer": ["conv1", "conv2_1"], "iou": [1, 0.876]})
    figure = fieldplots.beside(measures, (8, 12), agreement=agreement, title="A title")
    assert [shown(ax)[:2] for ax in maps_in(figure)] == [
        ("conv1", ""),
        ("conv2_1", ""),
        ("", "IoU 1.00"),
        ("", "IoU 0.88"),
    ]
    np.testing.assert_array_equal(shown(maps_in(figure)[0])[2], layers["stem"])
    assert "root" not in figure.texts[0].get_text()
    rooted = fieldplots.beside({fieldplots.ROOT: layers, **measures}, (8, 12), agreement=agreement, title="A title")
    assert "; root: √(field / its largest value); IoU: " in rooted.texts[0].get_text()
    with pytest.raises(ValueError, match="agreement has 'conv1' more than once"):
        fieldplots.beside(measures, (8, 12), agreement=pd.concat([agreement, agreement]), title="A title")


def size_table():
    rows = [
        (model, layer, kind, x, trained)
        for model, x in (("ResNet50", 0.2), ("ResNet50 + ss", 1.0), ("SEResNet50", 1.0))
        for kind in ("σ(R) ≥ .5", "exact reach")
        for trained in (True, False)
        for layer in ("conv1", "pool", "conv2_1")
        if (model, layer) != ("SEResNet50", "pool")
    ]
    return pd.DataFrame(rows, columns=["model", "layer", "kind", "fraction", "trained"])


def test_sizes_have_a_panel_a_kind_and_lines_that_stay_apart_where_they_lie_on_each_other():
    figure = fieldlines.sizes(size_table())
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["σ(R) ≥ .5", "exact reach"]
    for ax in figure.axes:
        assert ax.get_ylim() == (0, 1)
        lines = ax.lines
        assert [line.get_label() for line in lines] == [
            *(name for name in ("ResNet50", "ResNet50 + ss", "SEResNet50") for _ in range(2))
        ]
        assert [line.get_ydata()[0] for line in lines] == [0.2, 0.2, 1, 1, 1, 1]
        assert lines[4].get_xdata().tolist() == [0, 2], "SEResNet50 has no pool"
        marks = [line.get_markersize() for line in lines]
        assert (np.diff(marks) < -0.5).all(), "the later ones are smaller"
        assert [line.get_zorder() for line in lines] == sorted(line.get_zorder() for line in lines)
        assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == 3
        for told_by in ("marker", "linestyle", "color"):
            assert len({plt.getp(line, told_by) for line in lines}) == 3, told_by
        assert [line.get_markerfacecolor() == "white" for line in lines] == [False, True] * 3
        assert {text.get_text() for text in ax.texts} >= {"SEResNet50: 100 %", "ResNet50, untrained: 20 %"}
        heights = sorted(text.xyann[1] for text in ax.texts)
        assert (np.diff(heights) > 0.1).all(), "no name on another"
        assert heights[0] >= 0
    ticks = [tick.get_text() for tick in figure.axes[-1].get_xticklabels()]
    assert ticks == ["conv1", "pool", "conv2_1"]


def test_sizes_without_a_column_trained_are_all_filled():
    data = size_table().query("trained").drop(columns="trained")
    figure = fieldlines.sizes(data)
    assert {line.get_markerfacecolor() for ax in figure.axes for line in ax.lines}.isdisjoint({"white"})
    assert "untrained" not in [text.get_text() for text in figure.legends[0].texts]


def test_mass_outside_has_a_line_for_each_model_and_measure_on_a_log_scale():
    columns = ["model", "measure", "layer", "share", "low", "high"]
    rows = [("ss", "squared", "conv2_1", 0.1, 0.05, 0.15), ("ss", "squared", "conv3_1", 0.2, 0.15, 0.25)]
    rows += [("ss", "absolute", "conv2_1", 0.4, 0.3, 0.5), ("SE", "squared", "conv2_1", 0.001, 0, 0.002)]
    figure = fieldlines.mass_outside(pd.DataFrame(rows, columns=columns))
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["ss, squared"].get_ydata().tolist() == [0.1, 0.2]
    assert lines["ss, absolute"].get_color() == lines["ss, squared"].get_color() != lines["SE, squared"].get_color()
    assert lines["ss, absolute"].get_linestyle() != lines["ss, squared"].get_linestyle()
    (bars, *_) = [c for c in ax.collections if isinstance(c, LineCollection)]
    assert [piece[:, 1].tolist() for piece in bars.get_segments()] == [[0.05, 0.15], [0.15, 0.25]]
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < 0.001
    assert ax.yaxis.get_major_formatter()(0.001, 0) == "0.1 %"


def test_learned_points_from_before_to_after_and_tells_more_from_less_by_colour():
    base = {"source": "quick", "model": "ss", "measure": "squared"}
    rows = [
        {**base, "layer": "a", "untrained": 0.1, "untrained_low": 0.09, "untrained_high": 0.11, "trained": 0.2}
        | {"trained_low": 0.1, "trained_high": 0.3},
        {**base, "layer": "b", "untrained": 0.1, "untrained_low": 0.09, "untrained_high": 0.11, "trained": 0.01}
        | {"trained_low": 0.0, "trained_high": 0.02},
    ]
    (ax,) = fieldlines.learned(pd.DataFrame(rows)).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in dots] == [0.1, 0.2, 0.1, 0.01]
    hollow, more, _, less = (line.get_markerfacecolor() for line in dots)
    assert len({hollow, more, less}) == 3


@pytest.mark.parametrize(("size", "block"), [(24, 1), (32, 1), (64, 2), (224, 7), (40, 2)])
def test_grid_data_has_block_means_and_the_whole_maps_numbers(size, block):
    m = torch.rand(size, size, generator=torch.Generator().manual_seed(0))
    data = fieldplots.grid_data({"ResNet50": {"stem": m, "layer1.0": m > 2}})
    assert [*data] == ["model", "layer", "share", "mean", "row", "column", "value"]
    one = data[data.layer == "conv1"]
    assert len(one) == (size // block) ** 2 <= 32**2
    assert (one.share == (m >= 0.5).float().mean().item()).all()
    assert one["mean"].iloc[0] == pytest.approx(m.mean().item())
    cell = one[(one.row == 2 * block) & (one.column == 3 * block)]
    expected = m[2 * block : 3 * block, 3 * block : 4 * block].mean().item()
    assert cell.value.tolist() == pytest.approx([expected])
    assert (data[data.layer == "conv2_1"].value == 0).all()


def test_blocks_at_the_edge_are_means_of_what_is_there():
    data = fieldplots.grid_data({"ResNet50": {"stem": torch.ones(33, 33)}})
    assert (data.value == 1).all()
    assert data.row.max() == 32


@pytest.mark.filterwarnings("error")
def test_a_sheet_is_saved_as_it_was_laid_out(tmp_path):
    rows = {"ResNet50": {"stem": square(8, 12)}}
    figure = fieldplots.map_grid(rows, (8, 12), title="A title")
    before = maps_in(figure)[0].get_position().bounds
    figures.save(figure, fieldplots.grid_data(rows), tmp_path / "fig3")
    assert maps_in(figure)[0].get_position().bounds == before
    assert (tmp_path / "fig3.svg").stat().st_size > 1000


def test_no_text_of_a_sheet_leaves_the_page_or_lies_on_another():
    maps = {layer: square(0, i + 1) for i, layer in enumerate(LAYERS)}
    rows = {"ResNet50": maps, "ResNet50 + ss": maps}
    figure = fieldplots.map_grid(rows, (8, 12), outlines=maps, title="A title")
    figures.caption_profile(figure, "laptop")
    figure.canvas.draw()
    texts = [t for t in figure.findobj(plt.Text) if t.get_text() and t.get_visible()]
    boxes = [text.get_window_extent() for text in texts]
    for i, (text, box) in enumerate(zip(texts, boxes, strict=True)):
        assert text.get_fontsize() >= 7
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, text
        for other in boxes[i + 1 :]:
            assert not box.padded(-0.5).overlaps(other.padded(-0.5)), (text, other)
