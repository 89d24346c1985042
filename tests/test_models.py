import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssconv_lib import SSConv2d
from ssconv_lib.convert import shuffle_summary
from ssconv_lib.models import IMAGENET, MODELS, create_model, model_names
from ssconv_lib.models.cifar import Bottleneck, DenseLayer, DenseNetBC, PreActBlock, WideResNet
from ssconv_lib.models.peers import GlobalContext
from ssconv_lib.models.toy import LongRangeCNN, LongRangeResNet, LongRangeResNeXt
from ssconv_lib.receptive_field import reach

# parameters, GMAC, convolutions, converted; of the paper's networks as published, with 10 classes at 32x32
SIZES = {
    "wrn16_4": (2_748_890, 0.393, 16, 10),
    "densenet_bc_100_12": (769_162, 0.288, 99, 96),
    "resnext29_2x64d": (9_130_314, 1.411, 31, 25),
    "wrn16_1": (175_066, 0.027, 15, 10),
    "wrn10_2": (303_706, 0.044, 10, 4),
    "wrn10_1": (77_850, 0.013, 9, 4),
    "densenet_bc_40_12": (176_122, 0.072, 39, 36),
    "resnext29_2x16d": (577_626, 0.089, 31, 25),
    "long_range_cnn": (29_098, 0.004, 4, 3),
    "long_range_resnext": (21_802, 0.003, 10, 9),
    "long_range_resnet": (11_626, 0.002, 10, 9),
    "long_range_senet": (30_754, 0.004, 4, 3),
    # controls and peers; gates don't count as convolutions
    "wrn10_2_narrow06": (274_123, 0.041, 10, 4),
    "wrn10_2_narrow25": (171_334, 0.025, 10, 4),
    "wrn10_2_se": (309_334, 0.044, 10, 4),
    "wrn10_2_gc": (309_614, 0.045, 10, 4),
    "wrn10_2_dilated": (303_706, 0.044, 10, 4),
    "long_range_narrow0625": (25_660, 0.004, 4, 3),
    "long_range_narrow25": (16_642, 0.003, 4, 3),
    "long_range_cnn_d3": (19_818, 0.003, 3, 2),
    "long_range_cnn_d6": (47_658, 0.007, 6, 5),
    "long_range_cnn_d8": (66_218, 0.010, 8, 7),
    "long_range_gcnet": (30_898, 0.004, 4, 3),
    "long_range_dilated": (29_098, 0.004, 4, 3),
}

# (convolutions that shuffle, shuffled channels, Σ m)
SHUFFLED = {
    ("wrn16_4", 0.02, "leading"): (9, 24, 5_568),
    ("wrn16_4", 0.04, "leading"): (9, 51, 11_904),
    ("wrn16_4", 0.06, "leading"): (9, 75, 17_472),
    ("wrn16_4", 0.06, "auto"): (9, 75, 17_472),
    ("densenet_bc_100_12", 0.02, "leading"): (45, 153, 47_424),
    ("densenet_bc_100_12", 0.04, "leading"): (95, 377, 127_040),
    ("densenet_bc_100_12", 0.06, "leading"): (96, 603, 208_320),
    ("resnext29_2x64d", 0.02, "leading"): (25, 173, 48_512),
    ("resnext29_2x64d", 0.04, "leading"): (25, 352, 103_168),
    ("resnext29_2x64d", 0.06, "leading"): (25, 527, 151_808),
    ("resnext29_2x64d", 0.02, "auto"): (25, 173, 48_512),
    ("resnext29_2x64d", 0.04, "auto"): (25, 352, 103_168),
    ("resnext29_2x64d", 0.06, "auto"): (25, 536, 155_648),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # batches this small only wait for each other on more
    yield
    torch.set_num_threads(before)


def build(name, alpha=0.0, layout="auto", **options):
    torch.manual_seed(0)
    return create_model(name, num_classes=10, alpha=alpha, layout=layout, **options)


def images(name, n=2):
    return torch.randn(n, *MODELS[name].input_size, generator=torch.Generator().manual_seed(1))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def gmac(model, name):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(images(name, 1))
    return counter.get_total_flops() / 2e9


def test_every_network_has_its_sizes_listed_here():
    assert {name for name in model_names() if MODELS[name].input_size != IMAGENET} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_parameters_macs_and_converted_convolutions(name):
    plain, shuffling = build(name), build(name, alpha=0.06)
    assert parameters(plain) == parameters(shuffling) == SIZES[name][0]
    assert gmac(plain, name) == gmac(shuffling, name) == pytest.approx(SIZES[name][1], abs=5e-4)
    for model, converted in ((plain, 0), (shuffling, SIZES[name][3])):
        summary = shuffle_summary(model)
        assert (summary["convs"], summary["converted"]) == (SIZES[name][2], converted)
        assert sum(isinstance(m, SSConv2d) for m in model.modules()) == converted


@pytest.mark.parametrize(("name", "alpha", "layout"), SHUFFLED)
def test_shuffled_channels(name, alpha, layout):
    summary = shuffle_summary(build(name, alpha, layout))
    assert (summary["active"], summary["channels"], summary["positions"]) == SHUFFLED[name, alpha, layout]


def test_the_narrow_wide_resnet_tells_the_alphas_apart():
    fractions = {}
    for alpha in (0.02, 0.04, 0.06):
        convs = [m for m in build("wrn10_2", alpha).modules() if isinstance(m, SSConv2d)]
        fractions[alpha] = [conv.num_shuffled / conv.in_channels for conv in convs]
    assert fractions[0.06] == [0, 1 / 32, 3 / 64, 7 / 128]  # the first has 16 inputs
    assert fractions[0.02] != fractions[0.04] != fractions[0.06]


def shuffled_by_groups(name, alpha, layout):
    """The number of groups that hold a shuffled channel, of each grouped ss convolution."""
    counts = []
    for conv in build(name, alpha, layout).modules():
        if isinstance(conv, SSConv2d) and conv.groups > 1:
            # what the layer moves, read off an input whose values are all distinct
            x = torch.arange(conv.in_channels * math.prod(conv.spatial_size), dtype=torch.float32)
            x = x.view(1, conv.in_channels, *conv.spatial_size)
            moved = (conv.shuffle(x) != x).flatten(2).any(2)[0]
            counts.append(int(moved.view(conv.groups, -1).any(1).sum()))
    return counts


@pytest.mark.parametrize(("name", "alpha"), [("resnext29_2x16d", 0.06), ("long_range_resnext", 1 / 16)])
def test_only_eq3_reaches_both_groups(name, alpha):
    leading, interleaved = (shuffled_by_groups(name, alpha, layout) for layout in ("leading", "auto"))
    assert len(leading) == {"resnext29_2x16d": 7, "long_range_resnext": 3}[name]
    assert set(leading) == {1}
    assert set(interleaved) == {2}


def test_the_narrow_resnext_tells_the_alphas_apart_in_most_convolutions():
    per_layer = [
        [m.num_shuffled for m in build("resnext29_2x16d", alpha, "leading").modules() if isinstance(m, SSConv2d)]
        for alpha in (0.04, 0.06)
    ]
    assert sum(a < b for a, b in zip(*per_layer, strict=True)) == 18


@pytest.mark.parametrize("name", SIZES)
def test_stem_shortcuts_and_transitions_stay_plain(name):
    model = build(name, alpha=0.06)
    plain = {n for n, m in model.named_modules() if type(m) is nn.Conv2d}
    converted = {n for n, m in model.named_modules() if isinstance(m, SSConv2d)}
    strided = {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.stride != (1, 1)}
    assert {n for n in plain if n.startswith("stem")} == {"stem.conv" if "long" in name else "stem"}
    assert strided <= plain
    assert not {n for n in converted if "shortcut" in n or "transition" in n}


@pytest.mark.parametrize("name", SIZES)
def test_plain_and_shuffling_networks_start_from_the_same_weights(name):
    plain = build(name)
    after_plain = torch.get_rng_state()
    shuffling = build(name, alpha=0.06, seed=7)
    assert torch.equal(after_plain, torch.get_rng_state())
    assert [k for k, _ in plain.named_parameters()] == [k for k, _ in shuffling.named_parameters()]
    state = shuffling.state_dict()
    for key, value in plain.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert all(key.endswith(".permutation") for key in state.keys() - plain.state_dict().keys())
    assert plain.training
    assert shuffling.training


def test_the_seed_is_that_of_the_permutations_alone():
    one, same, other = (build("wrn10_1", 0.06, seed=seed).state_dict() for seed in (1, 1, 2))
    active = [key for key in one if key.endswith("permutation") and len(one[key])]
    assert len(active) == 2
    for key in one:
        assert torch.equal(one[key], same[key])
        assert torch.equal(one[key], other[key]) == (key not in active)


@pytest.mark.parametrize("name", SIZES)
def test_forward_and_gradients(name):
    x = images(name)
    plain, shuffling = build(name), build(name, alpha=0.06)
    logits = shuffling(x)
    assert logits.shape == (2, 10)
    assert not torch.equal(logits, plain(x))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    closed = tuple(key for key, module in shuffling.named_modules() if isinstance(module, GlobalContext))
    begins_closed = lambda key: key.startswith(closed) and ".up." not in key  # noqa: E731 - its last layer is zero
    dead = [
        key for key, p in shuffling.named_parameters() if p.grad is None or bool(p.grad.any()) == begins_closed(key)
    ]
    assert not dead


def test_a_wide_resnet_block_activates_first_and_adds_last():
    seen = {}
    block = PreActBlock(4, 8, stride=2)
    block.shortcut.register_forward_hook(lambda module, inputs, output: seen.update(inputs=inputs, added=output))
    block.conv2.register_forward_hook(lambda module, inputs, output: seen.update(branch=output))
    x = torch.randn(2, 4, 6, 6)
    out = block(x)
    torch.testing.assert_close(seen["inputs"][0], nn.functional.batch_norm(x, None, None, training=True).relu())
    assert torch.equal(out, seen["branch"] + seen["added"])
    assert (block.conv1.stride, block.conv2.stride, block.shortcut.stride) == ((2, 2), (1, 1), (2, 2))


def test_a_wide_resnet_block_that_keeps_the_shape_adds_its_input_itself():
    block = PreActBlock(4, 4, stride=1)
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_a_bottleneck_activates_after_the_sum():
    block = Bottleneck(4, 4, 4, groups=2)
    nn.init.zeros_(block.conv3.weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x.relu())


def test_a_dense_layer_appends_so_that_the_leading_channels_are_the_oldest():
    x = torch.randn(2, 6, 4, 4)
    out = DenseLayer(6, growth=3)(x)
    assert out.shape == (2, 9, 4, 4)
    assert torch.equal(out[:, :6], x)


def test_another_image_size_and_number_of_classes():
    model = create_model("wrn10_1", num_classes=3, alpha=0.06, input_size=(3, 64, 48))
    assert model(torch.randn(2, 3, 64, 48)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"stage2.*\(32, 24\)"):
        model(torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("wrn16_4", ["stem.weight", "stage1.0.norm1.weight", "stage1.0.shortcut.weight", "stage3.1.conv2.weight"]),
        ("densenet_bc_40_12", ["stem.weight", "block1.0.conv1.weight", "transition1.conv.weight"]),
        ("resnext29_2x16d", ["stem.weight", "stage2.0.conv3.weight", "stage2.0.shortcut.0.weight"]),
        ("long_range_cnn", ["stem.conv.weight", "layers.2.conv.weight", "layers.2.norm.bias"]),
        ("long_range_resnext", ["stem.norm.weight", "layers.0.0.conv.weight", "layers.2.1.norm.bias"]),
        ("long_range_resnet", ["stem.norm.weight", "layers.0.conv1.weight", "layers.2.norm3.bias"]),
        ("long_range_senet", ["stem.norm.weight", "layers.0.unit.conv.weight", "layers.2.se.fc2.bias"]),
    ],
)
def test_state_dict_keys_are_stable(name, keys):
    assert {*keys, "head.weight", "head.bias"} <= build(name).state_dict().keys()


@pytest.mark.parametrize("name", [name for name in SIZES if not name.startswith("long_range")])
def test_initialization(name):
    checked = 0
    for key, module in build(name, alpha=0.06).named_modules():
        if ".behind" in key:
            continue  # a peer's addition has its own
        if isinstance(module, nn.Conv2d):
            assert module.bias is None
            fan_out = module.out_channels * math.prod(module.kernel_size)
            scaled = module.weight.detach() * math.sqrt(fan_out / 2)  # N(0, 1) if drawn after He et al.
            margin = 5 / math.sqrt(scaled.numel())  # standard errors: 1/√n of the mean, 1/√(2n) of the deviation
            assert abs(scaled.mean()) < margin
            assert abs(scaled.std() - 1) < margin
            checked += 1
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
        elif isinstance(module, nn.Linear):
            assert module.bias.eq(0).all()
            assert module.weight.std() > 0
    assert checked == SIZES[name][2]


@pytest.mark.parametrize("network", [LongRangeCNN, LongRangeResNeXt, LongRangeResNet])
@pytest.mark.parametrize("depth", [2, 4, 5])
def test_receptive_field_of_the_long_range_networks(network, depth, monkeypatch):
    # an average over the same windows passes gradients to all of a window's pixels, not to the largest alone
    monkeypatch.setattr(nn.functional, "max_pool2d", nn.functional.avg_pool2d)
    model = network(2, width=4, depth=depth).double().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())  # no path cancels another
    outputs = []
    model.layers.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    x = torch.ones(1, 3, 48, 48, dtype=torch.float64, requires_grad=True)
    model(x)
    (gradient,) = torch.autograd.grad(outputs[0][0, :, 12, 12].sum(), x)
    reached = gradient[0].ne(0).all(0)
    side = 4 * depth
    assert (reached.any(0).sum(), reached.any(1).sum(), reached.sum()) == (side, side, side**2)


def test_width_and_depth_of_the_long_range_networks():
    model = LongRangeCNN(2, width=8, depth=6)
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(3, 8)] + 5 * [(8, 8)]


def test_every_3x3_convolution_of_the_residual_toy_network_shuffles_from_one_sixteenth_on():
    model = build("long_range_resnet", 1 / 16)
    counts = {name: m.num_shuffled for name, m in model.named_modules() if isinstance(m, SSConv2d)}
    assert counts == {f"layers.{k}.conv{i}": 2 if i == 1 else 1 for k in range(3) for i in (1, 2, 3)}


def test_a_gate_lets_every_value_behind_it_depend_on_the_whole_image_and_is_never_converted():
    shuffling = build("long_range_senet", 1 / 16).named_modules()
    assert not any(isinstance(module, SSConv2d) for name, module in shuffling if ".se." in name)
    seen = reach(build("long_range_senet"), ["layers.0.unit", "layers.0"], (3, 24, 24))
    assert seen["layers.0.unit"].sum() == 8**2
    assert seen["layers.0"].all()


def test_a_bottleneck_of_the_residual_toy_network_keeps_its_input_beside_it():
    block = build("long_range_resnet").layers[0]
    nn.init.zeros_(block.norm3.weight)
    x = torch.randn(2, 32, 12, 12).relu()
    assert torch.equal(block(x), x)


def test_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(ValueError, match=r"wrn16_4.*long_range_cnn.*did you mean 'resnext29_2x64d'") as error:
        create_model("resnext_2x64d", num_classes=10)
    assert all(name in str(error.value) for name in model_names())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: create_model("wrn10_1", num_classes=0), "num_classes is 0"),
        (lambda: create_model("wrn10_1", num_classes=10, alpha=-0.1), "alpha"),
        (lambda: create_model("wrn10_1", num_classes=10, alpha=math.nan), "alpha"),
        (lambda: WideResNet(15, 1, 10), "depth is 15.*6n"),
        (lambda: DenseNetBC(4, 12, 10), "depth is 4"),
        (lambda: LongRangeCNN(2, depth=1), "depth is 1"),
    ],
)
def test_impossible_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("name", "last"), [("long_range_cnn", "layers.2.conv"), ("long_range_resnet", "layers.2")])
def test_from_distance_18_on_no_unit_of_the_toy_network_reaches_both_patches(name, last):
    """What chapter 2's first experiment rests on: the units before pooling see 16 pixels a side, exactly."""
    from ssconv_lib.longrange import LongRange, draw_corners

    seen = reach(build(name), [last], (3, 24, 24))[last]
    rows, columns = (seen.any(axis).nonzero() for axis in (1, 0))
    side = 16
    assert rows.max() - rows.min() + 1 <= side
    assert columns.max() - columns.min() + 1 <= side
    for distance, both in ((18, False), (12, True)):
        spec = LongRange(distance=distance)
        corners = draw_corners(spec, 20_000, np.random.default_rng(0))
        nearest = np.abs(corners[:, 0] - corners[:, 1]).max(1) - spec.patch + 2  # smallest window that touches both
        assert (nearest <= side).any() == both
