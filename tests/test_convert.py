"""convert_to_ssconv: which convolutions, which sizes, which seeds, and nothing else touched."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

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


class ScaledStdConv2d(nn.Conv2d):
    """A subclass as timm's, which may compute anything."""


def said(convert_it):
    """The warnings of a conversion."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        convert_it()
    return [str(one.message) for one in seen]


def test_subclasses_are_not_replaced_and_named():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), ScaledStdConv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
    assert said(lambda: convert(model)) == ["subclasses of nn.Conv2d, so left as they are: 1 (ScaledStdConv2d)"]
    assert converted_names(model) == ["2"]


def test_a_network_of_subclasses_alone_says_that_nothing_is_shuffled():
    many = nn.Sequential(*(ScaledStdConv2d(3 if n == 0 else 8, 8, 1) for n in range(6)))
    weighted = nn.Sequential(nn.Conv2d(3, 8, 1), weight_norm(nn.Conv2d(8, 8, 1)))
    for model, others in (
        (many, "1, 2, 3 and 2 more (ScaledStdConv2d)"),
        (weighted, "1 (ParametrizedConv2d)"),
    ):
        first, second = said(lambda model=model: convert(model))
        assert first.endswith(others)
        assert second == "alpha=0.5: no channel is shuffled in the 0 layers replaced"
        assert converted_names(model) == []


def test_nothing_is_said_of_what_was_not_asked_for():
    def build():
        return nn.Sequential(ScaledStdConv2d(3, 8, 1), nn.Conv2d(8, 8, 1), ScaledStdConv2d(8, 8, 3, 2, 1))

    assert said(lambda: convert(build())) == [], "the stem and a stride"
    assert said(lambda: convert(build(), replace=lambda name, conv: name == "1")) == []
    assert said(lambda: convert(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)), alpha=0)) == []


def test_an_alpha_that_is_too_small_for_the_network_is_no_error_but_said():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1))
    assert said(lambda: convert(model, alpha=0.1)) == ["alpha=0.1: no channel is shuffled in the 1 layers replaced"]
    assert converted_names(model) == ["1"]


def test_a_stem_of_a_subclass_is_the_stem():
    model = nn.Sequential(ScaledStdConv2d(3, 8, 1), nn.Conv2d(8, 8, 1))
    assert converted_names(convert(model)) == ["1"]


class SqueezeExcitation(nn.Module):
    """As torchvision's, whose convolutions' names say nothing."""

    def __init__(self):
        super().__init__()
        self.pool, self.fc1, self.fc2 = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return x * self.fc2(self.fc1(self.pool(x)).relu()).sigmoid()


class Excitation(SqueezeExcitation):
    """A gate by its map alone."""


@pytest.mark.parametrize("gate", [SqueezeExcitation, Excitation])
@pytest.mark.parametrize("replace", ["paper", "stride", "all"])
def test_a_gate_is_known_by_its_class_or_its_map_and_other_layers_are_as_without_it(gate, replace):
    def build(between):
        return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), between, nn.Conv2d(8, 8, 1))

    model, without = convert(build(gate()), replace=replace), convert(build(nn.Identity()), replace=replace)
    assert converted_names(model) == converted_names(without)
    for name in converted_names(model):
        assert torch.equal(model.get_submodule(name).permutation, without.get_submodule(name).permutation)
    by_hand = convert(build(gate()), replace=lambda name, conv: "fc" in name)
    assert converted_names(by_hand) == ["2.fc1", "2.fc2"], "a function decides of gates, too"


def test_the_summary_leaves_gates_out_by_their_class():
    model = convert(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), SqueezeExcitation()))
    summary = shuffle_summary(model)
    assert (summary["convs"], summary["converted"], summary["active"]) == (2, 1, 1)


class Residual(nn.Module):
    """A block of a ResNet whose map may shrink to one position, with a gate at its end."""

    def __init__(self, stride):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, stride, 1), nn.Conv2d(8, 8, 1)
        self.gate, self.downsample = Excitation(), nn.Conv2d(8, 8, 1, stride)

    def forward(self, x):
        return self.gate(self.conv3(self.conv2(self.conv1(x)))) + self.downsample(x)


def test_the_last_gate_is_one_and_the_last_maps_of_one_position_are_none():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Residual(2), Residual(2), Residual(1))
    all_names = [f"{block}.conv{number}" for block in (1, 2, 3) for number in (1, 2, 3)]
    down = ["1.conv2", "2.conv2", "2.downsample", "3.downsample"]
    large = convert(copy.deepcopy(model), input_size=(3, 16, 16))
    assert converted_names(large) == [name for name in all_names if name not in down]
    small = convert(copy.deepcopy(model), input_size=(3, 4, 4))
    assert small.get_submodule("3.conv1").spatial_size == (1, 1)
    assert converted_names(small) == converted_names(large)


def test_images_of_one_position_have_no_gates_by_their_map():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), Excitation())
    assert converted_names(convert(model, input_size=(3, 1, 1))) == ["1", "2.fc1", "2.fc2"]


def test_no_gate_of_torchvisions_networks_is_replaced():
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    model = convert(mobilenet_v3_small(), alpha=0.25, input_size=(3, 32, 32))
    names = converted_names(model)
    assert not [name for name in names if name.endswith((".fc1", ".fc2"))]
    assert "features.4.block.3.0" in names, "behind a gate"


def test_lazy_models_start_from_weights_of_their_own():
    def build():
        return nn.Sequential(nn.LazyConv2d(8, 3, padding=1), nn.LazyConv2d(8, 3, padding=1))

    torch.manual_seed(0)
    first, second = convert(build()), convert(build())
    assert converted_names(first) == ["1"]
    assert not torch.equal(first[1].weight, second[1].weight)
    torch.manual_seed(0)
    plain = build()
    plain(torch.zeros(1, 3, 8, 6))
    assert torch.equal(first[1].weight, plain[1].weight), "as without conversion"


def test_handles_of_hooks_taken_before_still_remove_them():
    model, calls = Net(), []
    conv = model.block.conv1
    handles = [
        conv.register_forward_hook(lambda *_: calls.append("forward")),
        conv.register_forward_hook(lambda *_, **__: calls.append("keywords"), with_kwargs=True, always_call=True),
        conv.register_forward_pre_hook(lambda *_: calls.append("before")),
        conv.register_full_backward_hook(lambda *_: calls.append("backward")),
        conv.register_state_dict_post_hook(lambda *_: calls.append("saved")),
        conv.register_load_state_dict_post_hook(lambda *_: calls.append("loaded")),
    ]
    del conv
    convert(model)
    images = torch.randn(2, 3, 8, 6)

    def use():
        calls.clear()
        model(images).sum().backward()
        model.load_state_dict(model.state_dict())
        return sorted(calls)

    assert use() == ["backward", "before", "forward", "keywords", "loaded", "saved"]
    for handle in handles:
        handle.remove()
    assert use() == []


def test_a_hook_that_knows_its_module_knows_the_layer():
    model, seen = Net(), []
    handle = model.block.conv1.register_load_state_dict_pre_hook(lambda module, *_: seen.append(module))
    convert(model)
    model.load_state_dict(model.state_dict())
    assert seen == [model.block.conv1]
    handle.remove()
    model.load_state_dict(model.state_dict())
    assert len(seen) == 1


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
