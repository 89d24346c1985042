"""convert_to_ssconv: which convolutions, which sizes, which seeds, and nothing else touched."""

import copy

import pytest
import torch
from torch import nn

from ssconv_lib import SSConv2d, convert_to_ssconv
from ssconv_lib.convert import shuffle_summary
from ssconv_lib.shuffle import draw_permutation


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.shortcut_proj = nn.Conv2d(8, 8, 1)
        self.se = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.dense = nn.Conv2d(8, 8, 1)  # contains the letters "se", and is no gate

    def forward(self, x):
        out = self.norm(self.conv1(x))
        return self.dense(out * self.se(out)) + self.shortcut_proj(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.late = nn.Conv2d(8, 4, 1)  # defined first, reached last
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.block = Block()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.late(self.drop(self.block(self.down(self.stem(x)))))


def converted_names(model):
    return [name for name, module in model.named_modules() if isinstance(module, SSConv2d)]


def convert(model, alpha=0.5, **options):
    return convert_to_ssconv(model, alpha, **{"input_size": (3, 8, 6), **options})


@pytest.mark.parametrize(
    ("replace", "expected"),
    [
        ("paper", {"late", "block.conv1", "block.dense"}),
        ("stride", {"late", "stem", "block.conv1", "block.dense", "block.shortcut_proj"}),
        ("all", {"late", "stem", "down", "block.conv1", "block.dense", "block.shortcut_proj"}),
        (lambda name, conv: conv.groups > 1, {"block.conv1"}),
        (lambda name, conv: "se" in name.split("."), {"block.se.1"}),
    ],
)
def test_readings_of_all_but_downsampling(replace, expected):
    assert set(converted_names(convert(Net(), replace=replace))) == expected


def test_sizes_layouts_and_the_functional_definition():
    model = convert(Net())
    conv1 = model.block.conv1
    assert conv1.spatial_size == (4, 3)
    assert conv1.layout == "interleaved"
    assert model.block.dense.layout == "leading"
    assert model.late.permutation.numel() == 4 * 4 * 3
    assert conv1.name == "block.conv1"


def test_the_model_is_changed_in_place_and_nothing_else_is():
    model = Net()
    model.block.norm.eval()
    model.stem.weight.requires_grad_(False)
    parameters = dict(model.named_parameters())
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    flags = {name: module.training for name, module in model.named_modules()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    assert convert(model) is model
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    assert all(torch.equal(model.get_buffer(name), buffer) for name, buffer in buffers.items())
    assert flags == {name: module.training for name, module in model.named_modules()}
    assert not model.block.norm.training
    assert not model._forward_hooks
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_alpha_zero_gives_the_same_outputs():
    model = Net().eval()
    plain = copy.deepcopy(model)
    x = torch.randn(2, 3, 8, 6)
    assert torch.equal(convert(model, 0)(x), plain(x))
    assert shuffle_summary(model)["active"] == 0
    assert model(torch.randn(2, 3, 10, 10)).shape == (2, 4, 5, 5), "without shuffling, any size will do"


def test_an_optimizer_made_before_goes_on():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    convert(model)
    before = model.block.conv1.weight.clone()
    model(torch.randn(2, 3, 8, 6)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model.block.conv1.weight, before)


def test_no_two_layers_share_a_permutation_and_seeds_matter():
    model = nn.Sequential(*(nn.Conv2d(8, 8, 1) for _ in range(4)))
    convert_to_ssconv(model, 0.5, input_size=(8, 5, 5))
    again = convert_to_ssconv(
        copy.deepcopy(nn.Sequential(*(nn.Conv2d(8, 8, 1) for _ in range(4)))), 0.5, input_size=(8, 5, 5)
    )
    other = convert_to_ssconv(nn.Sequential(*(nn.Conv2d(8, 8, 1) for _ in range(4))), 0.5, input_size=(8, 5, 5), seed=1)
    pis = [tuple(m.permutation.tolist()) for m in (*model[1:], *other[1:])]
    assert len(set(pis)) == 6
    assert all(torch.equal(a.permutation, b.permutation) for a, b in zip(model[1:], again[1:], strict=True))


def test_golden_permutation_of_a_named_layer():
    """The seed is the first 63 bits of a SHA-256 of (seed, qualified name): stable over machines and versions."""
    import hashlib
    import json

    model = convert(Net(), seed=4)
    digest = hashlib.sha256(json.dumps([4, "block.dense"]).encode()).digest()
    seed = int.from_bytes(digest[:8], "little") >> 1
    assert torch.equal(model.block.dense.permutation, draw_permutation(4 * 12, seed))
    assert model.block.dense.permutation[:6].tolist() == [7, 37, 8, 26, 0, 9]


class Shared(nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.first = nn.Conv2d(8, 8, 1)
        self.again = nn.ModuleDict({"same": self.first})
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

    def forward(self, x):
        return self.again["same"](self.pool(self.first(self.stem(x))))


def test_a_shared_module_is_replaced_once_under_all_its_names():
    model = convert(Shared(pool=False))
    assert isinstance(model.first, SSConv2d)
    assert model.again["same"] is model.first


def test_a_shared_module_at_two_sizes_is_an_error_that_names_both_and_changes_nothing():
    model = Shared(pool=True)
    with pytest.raises(ValueError, match=r"'first'.*\(8, 6\) and \(4, 3\).*replace="):
        convert(model)
    assert converted_names(model) == []
    assert model.training
    convert(model, replace=lambda name, conv: name == "stem", alpha=0.4)
    assert converted_names(model) == ["stem"]


def test_what_the_forward_does_not_reach_stays_plain_with_a_warning():
    model = Net()
    model.auxiliary = nn.Conv2d(8, 8, 1)
    with pytest.warns(UserWarning, match="not reached.*auxiliary"):
        convert(model)
    assert type(model.auxiliary) is nn.Conv2d


def test_subclasses_are_not_replaced():
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(nn.Conv2d(3, 8, 1), Own(8, 8, 1), nn.Conv2d(8, 8, 1))
    assert converted_names(convert(model)) == ["2"]


def test_a_stem_of_a_subclass_is_the_stem():
    class Own(nn.Conv2d):
        pass

    model = nn.Sequential(Own(3, 8, 1), nn.Conv2d(8, 8, 1))
    assert converted_names(convert(model)) == ["1"]


def test_convolutions_called_by_keyword_are_reached():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return self.conv(input=self.stem(input=x))

    assert converted_names(convert(Keyword())) == ["conv"]


def test_converting_twice_is_an_error():
    model = convert(Net())
    with pytest.raises(ValueError, match="already"):
        convert(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 2}, "alpha=2"),
        ({"layout": "diagonal"}, "layout='diagonal'"),
        ({"replace": "none"}, "replace='none': expected one of 'paper', 'stride', 'all'"),
        ({"replace": ["stem"]}, r"replace=\['stem'\]"),
        ({"input_size": (8, 6)}, r"input_size=\(8, 6\)"),
        ({"input_size": 32}, "input_size=32"),
        ({"input_size": (3, 8.0, 6)}, r"input_size=\(3, 8.0, 6\)"),
    ],
)
def test_bad_calls_are_refused(options, message):
    model = Net()
    with pytest.raises(ValueError, match=message):
        convert(model, **options)
    assert converted_names(model) == []


def test_a_failing_forward_leaves_the_model_as_it_was():
    model = Net()
    with pytest.raises(ValueError, match=r"input_size=\(5, 8, 6\): the model can't take.*RuntimeError"):
        convert(model, input_size=(5, 8, 6))
    assert converted_names(model) == []
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_lone_convolution_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="SSConv2d.from_conv"):
        convert_to_ssconv(nn.Conv2d(3, 8, 1), 0.5, input_size=(3, 8, 8), replace="all")


def test_a_plain_checkpoint_loads_into_the_converted_model():
    source, model = Net(), convert(Net())
    model.load_state_dict(source.state_dict(), strict=True)
    assert torch.equal(model.block.dense.weight, source.block.dense.weight)


def test_another_input_size_is_an_error_that_names_the_layer():
    model = convert(Net())
    with pytest.raises(ValueError, match=r"'block.conv1'.*\(5, 5\).*\(4, 3\)"):
        model(torch.randn(1, 3, 10, 10))
