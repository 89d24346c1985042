"""The method's pictures draw what the layer does; the exact reach, Listing 1 and the counts behind them."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet50

from ssconv_lib import SSConv2d, convert_to_ssconv, figures, pictures, sources
from ssconv_lib.cost import cost
from ssconv_lib.listing import ListingConv2d, group, values_copied
from ssconv_lib.models import create_model
from ssconv_lib.receptive_field import box, change, classical_size, reach
from ssconv_lib.shuffle import listing_order


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def layer(**options):
    return SSConv2d(16, 8, 3, **{"padding": 1, "alpha": 0.25, "spatial_size": 8, "seed": 0, **options})


@pytest.fixture
def x():
    return torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))


def stack(layers):
    """A chain of convolutions of (kernel, stride), with batch norm and ReLU between them."""
    convs = [nn.Conv2d(3 if i == 0 else 4, 4, k, s, padding=k // 2) for i, (k, s) in enumerate(layers)]
    return nn.Sequential(*(module for conv in convs for module in (conv, nn.BatchNorm2d(4), nn.ReLU())))


@pytest.mark.parametrize("layers", [[(3, 1)] * 4, [(7, 2), (3, 2), (1, 1), (3, 1)], [(5, 1), (3, 2), (3, 2)]])
def test_the_reach_of_plain_convolutions_is_the_classical_square(layers):
    names = [str(3 * i) for i in range(len(layers))]
    reached = reach(stack(layers), names, (3, 64, 64))
    for i, name in enumerate(names):
        side = classical_size(layers[: i + 1])
        assert box(reached[name])[2:] == (side, side)
        assert reached[name].sum() == side**2


def test_max_pooling_reaches_its_whole_window_and_the_model_stays_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 7, 2, 3), nn.MaxPool2d(3, 2, 1))
    before = model[0].weight.clone()
    reached = reach(model, ["1"], (3, 64, 64))["1"]
    assert box(reached)[2:] == (11, 11), "ResNet50's pool"
    assert torch.equal(model[0].weight, before)
    assert isinstance(model[1], nn.MaxPool2d)


def test_the_reach_of_an_ss_convolution_is_its_window_and_what_pi_brings_in():
    ss = SSConv2d(4, 4, 3, padding=1, alpha=0.25, spatial_size=16, seed=0)
    reached = reach(nn.Sequential(nn.Conv2d(3, 4, 1), ss), ["1"], (3, 16, 16))["1"]
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[7:10, 7:10] = True
    brought = ss.permutation.view(16, 16)[7:10, 7:10].flatten()
    expected[brought // 16, brought % 16] = True
    assert torch.equal(reached, expected)


def test_only_pixels_within_reach_change_an_output():
    """With the real weights; single pixels may not, where a ReLU is closed."""
    torch.manual_seed(0)
    model, name = create_model("wrn10_2", num_classes=10, alpha=0.06), "stage1.0.conv2"
    within = reach(model, [name], (3, 32, 32))[name]
    assert 49 < within.sum() < 1024
    image = pictures.house(32)
    assert change(model, name, image, ~within) == 0
    window = torch.zeros(32, 32, dtype=torch.bool)
    window[13:20, 13:20] = True
    for part in (within & window, within & ~window):
        assert change(model, name, image, part) > 1e-3


@pytest.mark.parametrize("options", [{}, {"groups": 4}, {"groups": 4, "layout": "listing", "alpha": 0.2}])
def test_mosaic_data_is_the_real_map_before_and_after(x, options):
    ss = layer(**options)
    data = pictures.mosaic_data(x[0], ss.shuffle(x)[0])
    before, after = (data[name].to_numpy().reshape(16, 8, 8) for name in ("before", "after"))
    channels = range(16)[ss.shuffled]
    np.testing.assert_allclose(before, x[0], atol=5.1e-4)
    moved = before[channels].ravel()[ss.permutation]
    np.testing.assert_array_equal(after[range(len(channels)) if ss.layout == "listing" else channels].ravel(), moved)
    assert data[["channel", "row", "column"]].agg(["min", "max"]).to_numpy().tolist() == [[1, 1, 1], [16, 8, 8]]


@pytest.mark.parametrize("groups", [1, 4])
def test_mosaic_frames_just_the_shuffled_channels(x, groups):
    ss = layer(groups=groups)
    shuffled = list(range(16)[ss.shuffled])
    figure = pictures.mosaic(x[0], ss.shuffle(x)[0], shuffled, columns=4, groups=groups)
    for ax in figure.axes:
        numbers = {text.get_text() for text in ax.texts if text.get_color() == figures.BLUE}
        assert numbers == {str(channel + 1) for channel in shuffled}
        assert len([p for p in ax.patches if p.get_linewidth() == pictures.FRAME]) == len(shuffled)
        assert len(ax.patches) == 16 + (groups if groups > 1 else 0)


@pytest.mark.parametrize("groups", [1, 4])
def test_window_data_names_the_values_that_the_window_reads(x, groups):
    ss = layer(groups=groups)
    data = pictures.window_data(ss, row=4, column=3)
    after = ss.shuffle(x)[0]
    assert len(data) == 9 * ss.num_shuffled
    for tap in data.itertuples():
        source = x[0, tap.source_channel, tap.source_row, tap.source_column]
        assert after[tap.channel, tap.row, tap.column] == source
    assert set(zip(data.row, data.column, strict=True)) == {(i, j) for i in (3, 4, 5) for j in (2, 3, 4)}


def test_window_draws_a_dot_for_each_value(x):
    figure = pictures.window(x[0], pictures.window_data(layer(), 4, 3), other=8)
    assert [len(ax.collections[0].get_offsets()) for ax in figure.axes] == [9, 36]


def test_group_data_tells_what_group_does():
    data = pictures.group_data(16, (0.25, 0.2), groups=4)
    of = dict(list(data.groupby(["alpha", "version"])))
    assert of[0.25, "Listing 1"].channel.tolist() == of[0.25, "Eq. 2"].channel.tolist() == list(range(1, 17))
    assert of[0.2, "Listing 1"].channel.tolist() == [1, 2, 3, *range(5, 17), 4]
    assert data[data.shuffled].groupby(["alpha", "version"]).channel.apply(list).to_dict() == {
        (0.2, "Eq. 2"): [1, 2, 3],
        (0.2, "Eq. 3"): [5, 10, 15],
        (0.2, "Listing 1"): [1, 2, 3],
        (0.25, "Eq. 2"): [1, 2, 3, 4],
        (0.25, "Eq. 3"): [4, 8, 12, 16],
        (0.25, "Listing 1"): [1, 2, 3, 4],
    }
    assert of[0.2, "Eq. 3"].group.tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    strips = pictures.groups_strip(data).axes
    assert len(strips) == 2
    blue = [p for ax in strips for p in ax.patches if np.allclose(p.get_facecolor()[:3], (0, 0.4471, 0.698), atol=1e-3)]
    assert len(blue) == int(data.shuffled.sum())


def test_receptive_field_figure_shows_in_full_colour_what_is_reached():
    image, seen = pictures.house(8), torch.zeros(8, 8, dtype=torch.bool)
    seen[3:6, 3:6] = True
    maps = ({"stem": seen}, {"stem": torch.ones(8, 8, dtype=torch.bool)})
    data = pictures.reach_data(*maps, {"stem": 3})
    assert data.pixels.tolist() == [9, 64]
    assert data.fraction.tolist() == [9 / 64, 1]
    figure = pictures.receptive_field(image, *maps, data, ["stem"])
    drawn = [torch.tensor(ax.images[0].get_array()).permute(2, 0, 1) for ax in figure.axes[:2]]
    assert [int((d == image).all(0).sum()) for d in drawn] == [9, 64]
    assert [line.get_ydata().tolist() for line in figure.axes[2].lines] == [[100], [900 / 64]]


def test_house_is_a_picture_of_several_colours():
    image = pictures.house(24)
    assert image.shape == (3, 24, 24)
    assert 0 <= image.min() < image.max() <= 1
    assert len(image.flatten(1).T.unique(dim=0)) > 20


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0, 0.1, 0.2, 0.25])
def test_listing_equals_the_listing_layout(x, groups, alpha):
    theirs = ListingConv2d(16, 8, groups=groups, alpha=alpha)
    expected = theirs(x)
    ours = layer(groups=groups, alpha=alpha, layout="listing", bias=False)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours(x), expected)
    torch.testing.assert_close(theirs(x.to(memory_format=torch.channels_last)), expected)


def test_listing_is_lazy_as_the_paper_prints_it(x):
    theirs = ListingConv2d(16, 8, alpha=0.25)
    assert list(theirs.state_dict()) == ["conv.weight"]
    torch.manual_seed(7)
    theirs(x)
    torch.manual_seed(7)
    assert torch.equal(theirs.random_indices, torch.randperm(4 * 64)), "from the global generator"


@pytest.mark.parametrize("s", range(1, 17))
def test_group_is_listing_order(x, s):
    assert torch.equal(group(x[:, :s], x[:, s:]), listing_order(x, s))


class CountCat(TorchDispatchMode):
    written = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.cat.default:
            self.written += result.numel()
        return result


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.25, 0.3])
@pytest.mark.parametrize("layout", ["auto", "listing"])
def test_values_copied_is_what_listing_1_writes(x, groups, alpha, layout):
    theirs = ListingConv2d(16, 8, groups=groups, alpha=alpha)
    with CountCat() as count:
        theirs(x[:1])
    assert values_copied(layer(groups=groups, alpha=alpha, layout=layout)) == count.written


@pytest.mark.parametrize(
    ("name", "parameters", "macs", "channels", "moved"),
    [
        ("wrn16_4", 2_748_890, 392_612_352, 75, 17_472),
        ("resnext29_2x64d", 9_130_314, 1_411_065_856, 536, 155_648),
    ],
)
def test_cost(name, parameters, macs, channels, moved):
    plain, ss = (cost(create_model(name, num_classes=10, alpha=alpha), (3, 32, 32)) for alpha in (0, 0.06))
    assert (plain["parameters"], plain["macs"]) == (ss["parameters"], ss["macs"]) == (parameters, macs)
    assert (ss["channels"], ss["moved"]) == (channels, moved)
    assert plain["channels"] == plain["moved"] == plain["listing_copies"] == 0


def test_what_listing_1_would_copy_in_resnet50():
    with torch.device("meta"):
        model = convert_to_ssconv(resnet50(), 0.04, input_size=(3, 224, 224))
    layers = [m for m in model.modules() if isinstance(m, SSConv2d)]
    assert sum(values_copied(m) for m in layers) == 8_203_776
    assert sum(m.permutation.numel() for m in layers) == 309_582


def test_a_source_is_shown_without_its_docstring_and_runs():
    text = sources.code(SSConv2d.forward)
    assert text.startswith("def forward(self, input: Tensor) -> Tensor:\n    if isinstance(input, Proxy)")
    assert text.endswith("    return self._conv_forward(self.shuffle(input), self.weight, self.bias)")
    shown = sources.show(SSConv2d.forward, box).data
    assert shown.startswith("```python\n# ssconv_lib.conv.SSConv2d.forward\ndef forward")
    assert shown.endswith("\n```")
