"""The exact reach against brute force and ResNet50's oracles, and the effective field against the Jacobian."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssconv_lib import SSConv2d, convert_to_ssconv
from ssconv_lib.cut import features, in_box, in_features
from ssconv_lib.effective import absolute_gradient, effective_field, settle, share_outside
from ssconv_lib.listing import ListingConv2d
from ssconv_lib.models import create_model
from ssconv_lib.receptive_field import classical_size, iou, path_mass, reach

BOX = (4, 6)
SIZE = (2, 8, 8)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv(x.mean((2, 3), keepdim=True)))


class Sums(nn.Module):
    """An identity, a concatenation, a difference that would cancel, a quotient, and operators in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat((x, self.conv(x)), 1)
        y = y - y.roll(3, 2)
        y = y / (2 + torch.tanh(y.flip(3)))
        y += 1
        y *= 0.5
        return F.silu(y, inplace=True)[:, 1:]


def networks() -> dict[str, nn.Module]:
    """Small networks whose output moves with every input that it depends on: smooth, or with max-pooling alone."""
    torch.manual_seed(1)
    conv = lambda i, o, k, **options: nn.Conv2d(i, o, k, **{"padding": k // 2, **options})  # noqa: E731
    shuffle = {"alpha": 0.5, "spatial_size": 8, "padding": 1}
    return {
        "chain": nn.Sequential(conv(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), conv(3, 2, 3)),
        "stride": nn.Sequential(conv(2, 3, 3, stride=2), nn.SiLU(), conv(3, 2, 3)),
        "dilation": nn.Sequential(conv(2, 3, 3, dilation=2, padding=2), nn.Sigmoid(), conv(3, 2, 1)),
        "groups": nn.Sequential(conv(2, 4, 1, groups=2), nn.GELU(), conv(4, 4, 3, groups=2), conv(4, 4, (3), groups=4)),
        "circular": nn.Sequential(
            conv(2, 3, 3, padding_mode="circular"), nn.Tanh(), conv(3, 2, 3, padding_mode="reflect")
        ),
        "same": nn.Sequential(nn.Conv2d(2, 3, (1, 3), padding="same"), nn.Softplus(), conv(3, 2, 1)),
        "max_pool": nn.Sequential(conv(2, 3, 3), nn.MaxPool2d(3, 2, 1), conv(3, 2, 3)),
        "avg_pool": nn.Sequential(conv(2, 3, 3), nn.AvgPool2d(2), nn.Hardswish(), conv(3, 2, 1)),
        "gate": nn.Sequential(conv(2, 3, 3), nn.Tanh(), Gate(3)),
        "sums": nn.Sequential(Sums()),
        "ss": nn.Sequential(conv(2, 4, 1), nn.Tanh(), SSConv2d(4, 3, 3, seed=0, **shuffle)),
        "interleaved": nn.Sequential(conv(2, 8, 1), SSConv2d(8, 4, 3, groups=2, seed=1, **shuffle), conv(4, 2, 1)),
        "listing": nn.Sequential(
            conv(2, 5, 1), SSConv2d(5, 5, 3, groups=5, layout="listing", seed=1, **{**shuffle, "alpha": 0.4})
        ),
    }


def perturbed(model: nn.Module, layer: str, box, channel) -> Tensor:
    """Which pixels change the features in the box, each tried by itself, upwards and downwards, in two images."""
    model = copy.deepcopy(model).double().eval()
    keep = lambda name, y: in_box(y, box, SIZE[1:], channel)  # noqa: E731
    changed = torch.zeros(SIZE[1:], dtype=torch.bool)
    for seed in range(2):
        image = torch.randn(1, *SIZE, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            before = features(model, [layer], image, keep)[layer]
            for row, column, amount in itertools.product(range(SIZE[1]), range(SIZE[2]), (-7.0, 7.0)):
                moved = image.clone()
                moved[:, :, row, column] += amount
                changed[row, column] |= bool((features(model, [layer], moved, keep)[layer] != before).any())
    return changed


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("channel", [None, 1])
def test_the_reach_is_what_changes_the_features_when_each_pixel_is_tried(name, channel):
    model = networks()[name]
    layer = str(len(model) - 1)
    expected = perturbed(model, layer, BOX, channel)
    assert expected.any()
    assert torch.equal(reach(model, [layer], SIZE, box=BOX, channel=channel)[layer], expected)


def test_a_relu_that_is_shut_for_all_images_is_open_in_the_wiring():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True))
    nn.init.constant_(model[0].bias, -100)
    assert not perturbed(model, "1", BOX, None).any()
    assert reach(model, ["1"], SIZE, box=BOX)["1"].sum() == 4


def test_products_over_very_many_layers_neither_vanish_nor_overflow():
    depth = 700  # 3^-700 is no double
    chain = nn.Sequential(*[nn.Conv2d(1, 1, (1, 3), padding=(0, 1)) for _ in range(depth)])
    reached = reach(chain, [str(depth - 1)], (1, 1, 2 * depth + 5))[str(depth - 1)]
    assert reached.sum() == 2 * depth + 1


def test_the_model_stays_as_it_was():
    model = create_model("wrn10_1", num_classes=10, alpha=0.25).train()
    before = copy.deepcopy(model.state_dict())
    reach(model, ["stage1"], (3, 32, 32), box=(12, 20))
    assert all(module.training for module in model.modules())
    assert all(module.fast for module in model.modules() if isinstance(module, SSConv2d))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


class InPlace(nn.Module):
    """Arithmetic whose result nobody takes: a gate by mul_, a difference by sub_, a negative alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.conv(x))
        y.mul_(torch.sigmoid(x.mean((2, 3), keepdim=True)))
        y.sub_(x.roll(2, 3))
        return torch.add(y, x.flip(2), alpha=-1)


def test_arithmetic_in_place_and_with_a_factor_is_followed():
    model = nn.Sequential(InPlace())
    assert torch.equal(reach(model, ["0"], SIZE, box=BOX)["0"], perturbed(model, "0", BOX, None))


class Cut(nn.Module):
    def __init__(self, cut) -> None:
        super().__init__()
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        return x * self.cut(x.mean((2, 3), keepdim=True))


@pytest.mark.parametrize("cut", [lambda g: (g > 0).float(), lambda g: g.detach(), torch.sign])
def test_a_dependence_without_a_gradient_is_refused(cut):
    with pytest.raises(ValueError, match="there is no rule"):
        reach(nn.Sequential(Cut(cut)), ["0"], SIZE, box=BOX)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(1)


@pytest.mark.parametrize(
    ("model", "layer", "options", "message"),
    [
        (nn.Sequential(Attention()), "0", {}, "softmax, for which there is no rule"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2)), "0", {}, "dilation = 2"),
        (nn.Sequential(nn.Conv2d(2, 2, 1)), "1", {}, "layer '1'.*none of that name"),
        (nn.Sequential(nn.Conv2d(2, 2, 1)), "0", {"channel": 2}, "channel = 2"),
        (nn.Sequential(nn.Conv2d(2, 2, 1)), "0", {"box": (4, 9)}, r"box = \(4, 9\).*<= 8"),
        (nn.Sequential(nn.Conv2d(2, 2, 2, 2)), "0", {"box": (3, 6)}, "no multiples of the layer's stride 8/4"),
    ],
)
def test_what_has_no_answer_is_named(model, layer, options, message):
    with pytest.raises(ValueError, match=message):
        reach(model, [layer], SIZE, **{"box": BOX, **options})


def test_a_forward_ends_behind_the_layer_and_layers_it_does_not_reach_are_named():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
            self.after = 0

        def forward(self, x):
            x = self.used(x)
            self.after += 1
            return F.relu_(x)

    model = Unused()
    x = torch.randn(1, *SIZE)
    kept = features(model, ["used"], x)["used"]
    assert model.after == 0
    assert torch.equal(kept, model.used(x))
    with pytest.raises(ValueError, match="'nowhere'"):
        features(model, ["used", "nowhere"], x)
    assert not model.used._forward_hooks
    with pytest.raises(ValueError, match="'unused': a forward of the model does not reach it"):
        features(model, ["used", "unused"], x)
    assert model.after == 1
    twice = nn.Sequential(model.used, model.used, model.unused)
    with pytest.raises(ValueError, match="'0': a forward reaches it twice"):
        features(twice, ["0", "2"], x)


@pytest.mark.parametrize(("features", "expected"), [(112, (48, 64)), (56, (24, 32)), (14, (6, 8)), (7, (3, 4))])
def test_the_box_of_the_paper_has_the_sizes_of_table_5(features, expected):
    part = in_features((96, 128), 224, features)
    assert (part.start, part.stop) == expected


# Counted by hand: layer, its receptive field, first and last pixel reached by the box [96, 128), share of the image
RESNET50 = {
    "conv1": (7, 93, 129, 0.0273),
    "maxpool": (11, 91, 129, 0.0303),
    "layer1.0": (19, 87, 133, 0.0440),
    "layer1.1": (27, 83, 137, 0.0603),
    "layer1.2": (35, 79, 141, 0.0791),
    "layer2.0": (43, 75, 141, 0.0895),
    "layer2.1": (59, 67, 149, 0.1373),
    "layer2.2": (75, 59, 157, 0.1953),
    "layer2.3": (91, 51, 165, 0.2636),
    "layer3.0": (107, 43, 165, 0.3015),
    "layer3.1": (139, 27, 181, 0.4788),
    "layer3.2": (171, 11, 197, 0.6969),
    "layer3.3": (203, 0, 213, 0.9127),
    "layer3.4": (235, 0, 223, 1),
    "layer3.5": (267, 0, 223, 1),
    "layer4.0": (299, 0, 223, 1),
    "layer4.1": (363, 0, 223, 1),
    "layer4.2": (427, 0, 223, 1),
}
PAPER = {"input_size": (3, 224, 224), "box": (96, 128)}


@pytest.fixture(scope="module")
def plain():
    return reach(create_model("resnet50", num_classes=10), list(RESNET50), **PAPER)


def test_the_reach_of_resnet50_is_the_classical_square(plain):
    chain = [(7, 2), (3, 2)]
    strides = {2: 0, 3: 0, 4: 0}
    for name, (side, first, last, share) in RESNET50.items():
        if name.startswith("layer"):
            stage, block = int(name[5]), int(name[7:])
            chain.append((3, 2 if stage in strides and block == 0 else 1))
        upto = 1 if name == "conv1" else len(chain)
        assert classical_size(chain[:upto]) == side, name
        for axis in (0, 1):
            seen = plain[name].any(axis).nonzero().flatten()
            assert (seen[0], seen[-1]) == (first, last), name
        assert plain[name].sum() == (last - first + 1) ** 2, "a square without holes"
        assert plain[name].float().mean() == pytest.approx(share, abs=5e-5), name


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("alpha", "low", "high"), [(0.02, 0.986, 0.993), (0.04, 1, 1), (0.06, 1, 1)])
def test_shuffling_opens_the_view_to_the_whole_image_within_two_blocks(plain, alpha, low, high, seed):
    model = create_model("resnet50", num_classes=10, alpha=alpha, seed=seed)
    reached = reach(model, list(RESNET50), **PAPER)
    assert all(torch.equal(reached[name], plain[name]) for name in ("conv1", "maxpool"))
    assert low - 5e-4 <= reached["layer1.0"].float().mean() <= high + 5e-4
    assert all(reached[name].all() for name in list(RESNET50)[3:])


def test_the_mass_of_the_paths_from_outside_the_classical_field(plain):
    model = create_model("resnet50", num_classes=10, alpha=0.04)
    names = list(RESNET50)[2:9]
    masses = path_mass(model, names, **PAPER)
    outside = [masses[name][~plain[name]].sum().item() for name in names]
    assert outside == pytest.approx([0.042, 0.083, 0.12, 0.15, 0.18, 0.20, 0.21], abs=0.005)
    assert all(mass.sum().item() == pytest.approx(1) for mass in masses.values())


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("seresnet50", ["layer1.0", "layer4.2"]),
        ("densenet121", ["features.denseblock1", "features.denseblock4"]),
        ("resnext50_32x4d", ["layer1.0", "layer4.2"]),
        ("resnet50_abn", ["layer1.0", "layer4.2"]),
    ],
)
def test_every_network_of_the_paper_has_a_reach(name, layers):
    first, last = reach(create_model(name, num_classes=10), layers, **PAPER).values()
    assert last.all()
    assert first.all() == (name == "seresnet50"), "a gate depends on the whole image"


def test_listing_1_written_as_printed_has_the_reach_of_our_layer():
    torch.manual_seed(0)
    theirs = ListingConv2d(4, 3, 3, padding=1, alpha=0.5)
    theirs(torch.zeros(1, 4, 8, 8))  # draws its indices
    ours = SSConv2d(4, 3, 3, padding=1, bias=False, alpha=0.5, spatial_size=8, layout="listing")
    ours.load_state_dict(theirs.state_dict())
    model = lambda layer: nn.Sequential(nn.Conv2d(2, 4, 1), layer)  # noqa: E731
    assert torch.equal(*(reach(model(layer), ["1"], SIZE, box=BOX)["1"] for layer in (ours, theirs)))


# the effective receptive field


def jacobian_squared(model: nn.Module, layer: str, image: Tensor, channel: int | None) -> Tensor:
    part = lambda x: features(model, [layer], x, lambda n, y: in_box(y, BOX, SIZE[1:], channel))[layer]  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(part, image[None])
    return jacobian.flatten(0, 3).flatten(1, 2).square().sum((0, 1))


def test_the_effective_field_of_one_unit_is_its_squared_gradient():
    model = convert_to_ssconv(networks()["stride"].double(), 0.5, input_size=SIZE, replace="all").eval()
    images = torch.randn(3, *SIZE, dtype=torch.double)
    field = effective_field(model, ["2"], images, box=BOX, channel=1, at_once=2)["2"]  # the box is one unit at stride 2
    expected = torch.stack([jacobian_squared(model, "2", image, 1) for image in images])
    torch.testing.assert_close(field, expected)


def test_random_signs_give_the_sum_over_all_units_in_the_mean():
    model = networks()["chain"].double().eval()
    image = torch.randn(1, *SIZE, dtype=torch.double)
    draws = [effective_field(model, ["3"], image, box=BOX, seed=seed)["3"][0] for seed in range(600)]
    expected = jacobian_squared(model, "3", image[0], None)
    mean = torch.stack(draws).mean(0)
    assert (mean - expected).abs().max() < 0.15 * expected.max()
    assert mean.sum().item() == pytest.approx(expected.sum().item(), rel=0.05)


def test_the_absolute_gradient_of_all_units_is_that_of_the_jacobian_and_dead_units_are_left_out():
    model = networks()["stride"].double().eval()
    with torch.no_grad():
        model[2].weight[1] = 0
    image = torch.randn(1, *SIZE, dtype=torch.double)
    part = lambda x: features(model, ["2"], x, lambda n, y: in_box(y, BOX, SIZE[1:]))["2"]  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(part, image)[0, :, 0, 0, 0]  # (channels, C, H, W)
    field = absolute_gradient(model, ["2"], image, box=BOX, units=2)["2"]
    torch.testing.assert_close(field[0], jacobian[0].abs().sum(0))


def test_the_effective_field_lies_within_the_reach_and_its_share_outside_is_counted():
    model = networks()["ss"].eval()
    images = torch.randn(2, *SIZE)
    field = effective_field(model, ["2"], images, box=BOX)["2"]
    reached = reach(model, ["2"], SIZE, box=BOX)["2"]
    assert (field[:, ~reached] == 0).all()
    square = reach(networks()["chain"][:1], ["0"], SIZE, box=BOX)["0"]
    share = share_outside(field, square)
    assert ((share > 0) & (share < 1)).all()
    assert share_outside(field, torch.ones(8, 8, dtype=torch.bool)).tolist() == [0, 0]
    assert share_outside(torch.cat((field, 0 * field)), square).tolist() == share.tolist(), "dead maps don't count"
    torch.testing.assert_close(share[0], 1 - field[0][square].sum() / field[0].sum())


def test_a_model_in_training_is_looked_at_as_in_evaluation_and_stays_as_it_was():
    model = networks()["chain"]
    model[0].bias.requires_grad_(False)
    images = torch.randn(2, *SIZE)
    expected = effective_field(model.eval(), ["3"], images, box=BOX)["3"]
    assert torch.equal(effective_field(model.train(), ["3"], images, box=BOX)["3"], expected)
    assert all(module.training for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False, True, True, True, True]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_an_untrained_network_settles_on_the_statistics_of_the_images():
    model = networks()["chain"]
    batches = [torch.randn(5, *SIZE) + 3, torch.randn(5, *SIZE) - 1]
    assert not settle(model, batches).training
    with torch.no_grad():
        means = torch.stack([model[0](batch).mean((0, 2, 3)) for batch in batches])
    torch.testing.assert_close(model[1].running_mean, means.mean(0))


def test_agreement_of_maps_is_intersection_over_union():
    first, second = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    assert iou(first, second) == 1
    first[:2], second[1:3] = True, True
    assert iou(first, second) == pytest.approx(1 / 3)
    amounts = torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[0.25, 0.5, 0.25]])
    assert iou(*amounts) == pytest.approx(0.75 / 1.25)
