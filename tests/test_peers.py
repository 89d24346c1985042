"""Controls and peers of shuffling: what each has and lacks, and what its units can see."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ssconv_lib import SSConv2d, convert_to_ssconv
from ssconv_lib.cost import cost
from ssconv_lib.models import MODELS, create_model
from ssconv_lib.models.cifar import kept_width
from ssconv_lib.models.peers import ChannelNorm, GlobalContext
from ssconv_lib.receptive_field import box, reach

PEERS = {
    "wrn10_2": ["wrn10_2_se", "wrn10_2_gc", "wrn10_2_dilated"],
    "long_range_cnn": ["long_range_gcnet", "long_range_dilated"],
}
PEER_OF = [(peer, plain) for plain, peers in PEERS.items() for peer in peers]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(name, **options):
    torch.manual_seed(0)
    return create_model(name, num_classes=10, **options)


def widths(name):
    return [conv.out_channels for conv in build(name).modules() if isinstance(conv, nn.Conv2d)]


# ---- narrower


@pytest.mark.parametrize(
    ("name", "plain", "alpha", "parameters", "macs"),
    [
        ("wrn10_2_narrow06", "wrn10_2", 0.06, (274_123, 303_706), (40_950_394, 44_483_840)),
        ("wrn10_2_narrow25", "wrn10_2", 0.25, (171_334, 303_706), (25_105_344, 44_483_840)),
        ("long_range_narrow0625", "long_range_cnn", 1 / 16, (25_660, 29_098), (3_966_060, 4_479_296)),
        ("long_range_narrow25", "long_range_cnn", 0.25, (16_642, 29_098), (2_612_976, 4_479_296)),
    ],
)
def test_a_narrower_network_lacks_the_channels_that_alpha_would_shuffle(name, plain, alpha, parameters, macs):
    assert widths(name) == [kept_width(width, alpha) for width in widths(plain)]
    shuffling = convert_to_ssconv(build(plain), alpha, input_size=MODELS[plain].input_size)
    for key, conv in build(name).named_modules():
        twin = dict(shuffling.named_modules())[key]
        if isinstance(twin, SSConv2d):
            assert conv.in_channels == twin.in_channels - twin.num_shuffled, key
        if isinstance(conv, nn.Linear):
            assert conv.in_features == kept_width(twin.in_features, alpha)
    costs = [cost(build(which), MODELS[which].input_size) for which in (name, plain)]
    assert tuple(c["parameters"] for c in costs) == parameters
    assert tuple(c["macs"] for c in costs) == macs


def test_a_width_loses_the_floor_of_alpha_times_it():
    assert [kept_width(w, 0.06) for w in (16, 32, 64, 128)] == [16, 31, 61, 121]
    assert [kept_width(w, 0.25) for w in (16, 32)] == [12, 24]
    assert kept_width(100, 0.29) == 71, "exactly: .29 is 29/100"
    with pytest.raises(ValueError, match="alpha=2"):
        kept_width(16, 2)


# ---- peers


@pytest.mark.parametrize(("name", "plain"), PEER_OF)
def test_a_peer_starts_from_the_plain_networks_weights(name, plain):
    own = {key.replace(".unit.", "."): value for key, value in build(name).state_dict().items()}
    for key, value in build(plain).state_dict().items():
        assert torch.equal(own[key], value), key
    added = own.keys() - build(plain).state_dict().keys()
    assert bool(added) == (not name.endswith("dilated"))
    assert all(".behind." in key or ".gc." in key for key in added)


@pytest.mark.parametrize(("name", "plain"), PEER_OF)
def test_what_alpha_converts_is_the_same_in_a_peer_and_an_addition_stays_plain(name, plain):
    converted = [
        {key.replace(".unit.", ".") for key, module in build(which, alpha=1 / 16).named_modules() if is_ss(module)}
        for which in (name, plain)
    ]
    assert converted[0] == converted[1]
    assert len(converted[0]) == {"wrn10_2": 4, "long_range_cnn": 3}[plain]


def is_ss(module):
    return isinstance(module, SSConv2d)


@pytest.mark.parametrize(
    ("name", "layers", "side", "whole"),
    [
        ("wrn10_2", ["stage1", "stage3"], 25, None),
        ("wrn10_2_se", ["stage1", "stage3"], None, "stage1"),
        ("wrn10_2_gc", ["stage1", "stage3"], None, "stage1"),
        ("wrn10_2_dilated", ["stage1", "stage3"], 41, "stage3"),
        ("long_range_cnn", ["layers.0", "layers.2"], 16, None),
        ("long_range_gcnet", ["layers.0", "layers.2"], None, "layers.0"),
        ("long_range_dilated", ["layers.0", "layers.2"], 32, "layers.2"),
    ],
)
def test_each_peer_sees_the_whole_image_where_the_plain_network_does_not(name, layers, side, whole):
    """`whole`: the first of the layers whose middle unit does."""
    size = MODELS[name].input_size
    seen = reach(build(name), layers, size)
    assert next((layer for layer in layers if seen[layer].all()), None) == whole
    if side:  # on an image so large that nothing is cut off, a square without holes
        large = (3, 2 * size[1], 2 * size[2])
        field = reach(build(name), layers[-1:], large)[layers[-1]]
        assert box(field)[2:] == (side, side)
        assert field.sum() == side**2


@pytest.mark.parametrize("name", ["wrn10_2_gc", "long_range_gcnet"])
def test_a_network_with_global_contexts_starts_as_the_plain_one(name):
    plain = next(p for peer, p in PEER_OF if peer == name)
    x = torch.randn(2, *MODELS[name].input_size)
    torch.testing.assert_close(build(name)(x), build(plain)(x))


def test_a_global_context_is_a_softmax_weighted_mean_of_positions_transformed_and_added_everywhere():
    torch.manual_seed(0)
    block = GlobalContext(8, reduction=2).double()
    nn.init.normal_(block.up.weight)
    x = 5 * torch.randn(2, 8, 3, 4, dtype=torch.double)
    weights = F.conv2d(x, block.attend.weight[:, :, None, None]).flatten(2).softmax(-1)  # (N, 1, H·W)
    context = x.flatten(2) @ weights.mT  # (N, C, 1)
    hidden = F.layer_norm(block.down(context.squeeze(-1)), (4,), block.norm.weight, block.norm.bias).relu()
    torch.testing.assert_close(block(x), x + block.up(hidden)[:, :, None, None])


def test_a_global_context_survives_logits_of_any_size():
    block = GlobalContext(4, reduction=2)
    assert block(1e6 * torch.randn(1, 4, 5, 5)).isfinite().all()


def test_the_channel_norm_is_layer_norm():
    norm, x = ChannelNorm(6), torch.randn(5, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(x), F.layer_norm(x, (6,), norm.weight, norm.bias))


def test_a_gate_ends_each_residual_branch():
    model = build("wrn10_2_se")
    block = model.stage2[0]
    shortcut = []
    block.shortcut.register_forward_hook(lambda module, inputs, output: shortcut.append(output))
    block.behind.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    assert torch.equal(block(torch.randn(1, 32, 8, 8)), shortcut[0])
    assert [stage[0].behind.se.fc1.out_channels for stage in (model.stage1, model.stage2, model.stage3)] == [4, 8, 16]


@pytest.mark.parametrize("name", ["wrn10_2_dilated", "long_range_dilated"])
def test_only_what_a_shuffle_would_replace_is_dilated(name):
    convs = {key: module for key, module in build(name).named_modules() if isinstance(module, nn.Conv2d)}
    wide = {key: conv.dilation[0] for key, conv in convs.items() if conv.dilation != (1, 1)}
    assert (
        wide
        == {
            "wrn10_2_dilated": {f"stage{k}.0.conv{i}": 2 for k, i in ((1, 1), (1, 2), (2, 2), (3, 2))},
            "long_range_dilated": {"layers.1.conv": 2, "layers.2.conv": 4},
        }[name]
    )


# ---- depth


@pytest.fixture(scope="module", params=[3, 4, 6, 8])
def rows_seen(request):
    """Depth, and the first and last row that each unit on the diagonal of the last feature map sees, of 24."""
    name = "long_range_cnn" if request.param == 4 else f"long_range_cnn_d{request.param}"
    model = build(name)
    spans = [reach(model, ["layers"], (3, 24, 24), box=(2 * k, 2 * k + 2))["layers"] for k in range(12)]
    return request.param, [(top, top + height - 1) for top, _, height, _ in map(box, spans)]


def test_the_field_of_the_deeper_networks_is_four_pixels_a_layer(rows_seen):
    depth, rows = rows_seen
    assert rows == [(max(0, 2 * k + 1 - 2 * depth), min(23, 2 * k + 2 * depth)) for k in range(12)]


def test_the_smallest_distance_at_which_no_unit_reaches_both_patches(rows_seen):
    """Windows are squares, so the axis along which the patches are further apart decides."""
    depth, rows = rows_seen
    patch = 3
    distances = range(patch, 24 - patch + 1)
    both = {
        distance: any(
            low <= corner + patch - 1 and high >= corner + distance
            for corner, (low, high) in itertools.product(range(24 - patch + 1 - distance), rows)
        )
        for distance in distances
    }
    first = next((distance for distance in distances if not both[distance]), None)
    assert first == {3: 14, 4: 18, 6: None, 8: None}[depth]
