"""The ImageNet networks: the oracles of the paper's networks, their packages' checkpoints, the attention branch."""

import copy
import math
import sys
from functools import cache

import pytest
import torch
from torch import nn

from ssconv_lib import SSConv2d
from ssconv_lib.convert import convert_to_ssconv, shuffle_summary
from ssconv_lib.cost import cost
from ssconv_lib.models import IMAGENET, MODELS, create_model, model_names

# parameters, GMAC, convolutions, converted by the readings "paper", "stride", "all"; 1000 classes at 224x224
SIZES = {
    "resnet50": (25_557_032, 4.089, 53, 45, 46, 53),
    "resnet50_abn": (43_584_866, 7.617, 66, 57, 59, 66),
    "seresnet50": (28_088_024, 4.092, 53, 45, 46, 53),
    "densenet121": (7_978_856, 2.834, 120, 116, 119, 120),
    "resnext50_32x4d": (25_028_904, 4.230, 53, 45, 46, 53),
    "resnet14": (10_064_936, 1.469, 17, 9, 10, 17),
    "resnet14_abn": (19_167_586, 3.250, 24, 15, 17, 24),
    "seresnet14": (10_765_336, 1.469, 17, 9, 10, 17),
}

# convolutions that shuffle, shuffled channels, Σ m
RESNET50 = {0.02: (45, 381, 151_998), 0.04: (45, 771, 309_582), 0.06: (45, 1160, 462_854)}
SHUFFLED = {
    "resnet50": RESNET50,
    "resnet50_abn": {0.02: (57, 621, 199_038), 0.04: (57, 1254, 404_250), 0.06: (57, 1887, 605_346)},
    "seresnet50": RESNET50,
    "densenet121": {0.02: (116, 718, 231_721), 0.04: (116, 1523, 514_010), 0.06: (116, 2268, 762_342)},
    "resnext50_32x4d": {0.02: (45, 513, 200_508), 0.04: (45, 1034, 419_930), 0.06: (45, 1560, 621_957)},
}

ABN = [name for name in SIZES if name.endswith("abn")]
PACKAGES = {name: "timm" if name.startswith("se") else "torchvision" for name in SIZES}


def build(name, alpha=0.0, num_classes=10, size=64, **options):
    torch.manual_seed(0)
    return create_model(name, num_classes=num_classes, alpha=alpha, input_size=(3, size, size), **options)


@cache
def described(name, alpha=0.0, layout="leading", replace="paper"):
    """A network without values, which takes no time, what it shuffles, and each convolution's kind and stride."""
    with torch.device("meta"):
        model = create_model(name, num_classes=1000, alpha=alpha, layout=layout, replace=replace)
    convs = {n: (type(m), m.stride) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    return model, shuffle_summary(model), convs


def images(size=64, n=2):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1))


def same_weights(one, other):
    """Whether all that the first has is in the second, bit for bit, and the second has nothing else but π."""
    one, other = one.state_dict(), other.state_dict()
    return all(key.endswith(".permutation") for key in other.keys() - one.keys()) and all(
        torch.equal(value, other[key]) for key, value in one.items()
    )


def test_every_network_for_imagenet_is_listed_here():
    assert {name for name in model_names() if MODELS[name].input_size == IMAGENET} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_parameters_macs_and_converted_convolutions(name):
    parameters, gmac, convs, converted, _, _ = SIZES[name]
    for alpha, expected in ((0.0, 0), (0.06, converted)):
        with torch.device("meta"):
            counts = cost(described(name, alpha)[0], IMAGENET)
        assert (counts["parameters"], counts["convs"], counts["converted"]) == (parameters, convs, expected)
        assert counts["macs"] / 1e9 == pytest.approx(gmac, abs=5e-4)


@pytest.mark.parametrize(("name", "alpha"), [(name, alpha) for name, rows in SHUFFLED.items() for alpha in rows])
def test_shuffled_channels(name, alpha):
    _, counts, _ = described(name, alpha)
    assert (counts["active"], counts["channels"], counts["positions"]) == SHUFFLED[name][alpha]


def test_eq3_shuffles_a_little_more_of_resnext():
    _, counts, _ = described("resnext50_32x4d", 0.06, "auto")
    assert (counts["active"], counts["channels"], counts["positions"]) == (45, 1582, 635_971)


@pytest.mark.parametrize("name", SIZES)
def test_the_readings_of_all_but_downsampling_layers(name):
    for replace, converted in zip(("stride", "all"), SIZES[name][4:], strict=True):
        assert described(name, 0.06, replace=replace)[1]["converted"] == converted


@pytest.mark.parametrize("name", SIZES)
def test_stem_strides_projections_transitions_and_gates_stay_plain(name):
    *_, convs = described(name, 0.06)
    plain = {n for n, (kind, _) in convs.items() if kind is nn.Conv2d}
    stem = "features.conv0" if name == "densenet121" else "conv1"
    strided = {n for n, (_, stride) in convs.items() if stride != (1, 1)}
    joints = {n for n in convs if "downsample" in n or "transition" in n}
    gates = {n for n in convs if ".se." in n}
    assert plain == {stem} | strided | joints | gates
    assert len(gates) == {"seresnet50": 32, "seresnet14": 8}.get(name, 0)
    assert all(described(name, 0.06, replace="all")[2][gate][0] is nn.Conv2d for gate in gates)


def test_sizes_of_resnet50_are_those_of_table_5():
    shapes = {}
    with torch.device("meta"):
        model = create_model("resnet50", num_classes=1000).eval()
        for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            hook = model.get_submodule(name).register_forward_hook
            hook(lambda module, inputs, output, name=name: shapes.update({name: tuple(output.shape[1:])}))
        model(torch.zeros(1, *IMAGENET))
    assert shapes == {
        "conv1": (64, 112, 112),
        "maxpool": (64, 56, 56),
        "layer1": (256, 56, 56),
        "layer2": (512, 28, 28),
        "layer3": (1024, 14, 14),
        "layer4": (2048, 7, 7),
    }


@pytest.mark.parametrize("name", SIZES)
def test_forward_at_sizes_from_64_on(name):
    plain = build(name, num_classes=7)
    for size, n in ((64, 2), (96, 1), (224, 1)):
        model = convert_to_ssconv(copy.deepcopy(plain), 0.04, input_size=(3, size, size)).eval()
        with torch.inference_mode():
            logits = model(images(size, n))
            assert logits.shape == (n, 7)
            assert logits.isfinite().all()
            assert size > 64 or not torch.equal(logits, plain.eval()(images(size, n)))


@pytest.mark.parametrize("name", SIZES)
def test_plain_and_shuffling_networks_start_from_the_same_weights(name):
    plain = build(name)
    after_plain = torch.get_rng_state()
    shuffling = build(name, alpha=0.04, seed=7)
    assert torch.equal(after_plain, torch.get_rng_state())
    assert [key for key, _ in plain.named_parameters()] == [key for key, _ in shuffling.named_parameters()]
    assert same_weights(plain, shuffling)
    assert all(module.training for model in (plain, shuffling) for module in model.modules())
    norms = [module for module in shuffling.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.weight.eq(1).all() and norm.num_batches_tracked == 0 for norm in norms)


def published(name):
    """The network from its package, by the package's own function."""
    if name == "seresnet50":
        return pytest.importorskip("timm").create_model(name, pretrained=False)
    return getattr(pytest.importorskip("torchvision").models, name)(weights=None)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "resnext50_32x4d", "seresnet50"])
def test_checkpoints_of_the_package_load(name):
    torch.manual_seed(1)
    theirs = published(name).eval()
    plain, shuffling = build(name, num_classes=1000), build(name, 0.04, num_classes=1000)
    assert not same_weights(theirs, plain)
    for model in (plain, shuffling):
        model.load_state_dict(theirs.state_dict())
        assert same_weights(theirs, model)
    with torch.inference_mode():
        expected = theirs(images())
        assert torch.equal(plain.eval()(images()), expected)
        for module in shuffling.modules():
            if isinstance(module, SSConv2d):
                module.permutation.copy_(torch.arange(len(module.permutation)))
        torch.testing.assert_close(shuffling.eval()(images()), expected)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "resnext50_32x4d"])
def test_initial_weights_are_those_of_torchvision(name):
    torch.manual_seed(0)
    assert same_weights(published(name), build(name, num_classes=1000))


def test_seresnet_starts_as_timm_does_but_for_the_last_scale_of_each_block():
    torch.manual_seed(0)
    theirs, ours = published("seresnet50"), build("seresnet50", num_classes=1000)
    zeroed = {key for key, value in theirs.state_dict().items() if key.endswith("bn3.weight") and not value.any()}
    assert len(zeroed) == 16
    different = {k for k, value in ours.state_dict().items() if not torch.equal(value, theirs.state_dict()[k])}
    assert different == zeroed


@pytest.mark.parametrize("layers", [14, 50])
def test_seresnet_is_resnet_with_gates(layers):
    def shapes(name):
        with torch.device("meta"):
            model = create_model(name, num_classes=10)
        return {key: value.shape for key, value in model.state_dict().items() if ".se." not in key}

    plain, gated = (described(f"{name}{layers}")[2] for name in ("resnet", "seresnet"))
    assert {n: conv for n, conv in gated.items() if ".se." not in n} == plain
    assert shapes(f"seresnet{layers}") == shapes(f"resnet{layers}")


@pytest.mark.parametrize("name", SIZES)
def test_a_missing_package_is_named_with_the_remedy(name, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(RuntimeError, match=rf"^{name} comes from {PACKAGES[name]}.*pip install"):
        create_model(name, num_classes=10)


@pytest.fixture(scope="module")
def abn():
    """A trained network's stand-in: statistics that aren't those of a fresh one; in eval mode."""
    model = build("resnet14_abn", 0.04)
    with torch.no_grad():
        for _ in range(3):
            model(images(n=8))
    return model.eval()


def test_the_attention_map_has_the_size_of_the_features_and_is_between_0_and_1(abn):
    with torch.no_grad():
        features, attention = abn.features(images()), abn.attention_map(images())
    assert features.shape == (2, 1024, 4, 4)
    assert attention.shape == (2, 1, 4, 4)
    assert (attention > 0).all()
    assert (attention < 1).all()
    assert attention.std() > 0.01


def test_logits_of_both_branches_in_training_and_of_one_in_eval_mode(abn):
    perception, attention = copy.deepcopy(abn).train()(images())
    assert perception.shape == attention.shape == (2, 10)
    assert not torch.equal(perception, attention)
    with torch.no_grad():
        logits = abn(images())
        features = abn.features(images())
        assert torch.equal(logits, abn.perceive(features, abn.attention_map(images())))
    assert logits.shape == (2, 10)


def test_which_of_the_two_logits_is_the_perception_branchs(abn):
    model = copy.deepcopy(abn).train()
    nn.init.zeros_(model.fc.weight)
    nn.init.ones_(model.fc.bias)
    perception, attention = model(images())
    assert perception.eq(1).all()
    assert not attention.eq(1).any()


def test_the_perception_branch_sees_the_features_through_the_map(abn):
    seen = []
    hook = abn.layer4.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    with torch.no_grad():
        features, attention = abn.features(images()), abn.attention_map(images())
        logits, turned = (abn.perceive(features, one) for one in (attention, 1 - attention))
    hook.remove()
    torch.testing.assert_close(seen[0], features * attention + features)
    assert (logits - turned).abs().max() > 1e-3 * logits.abs().max()


def test_a_map_of_zeros_leaves_the_plain_network():
    plain, abn = build("resnet14", 0.04).eval(), build("resnet14_abn", 0.04).eval()
    with torch.no_grad():
        features = abn.features(images())
        assert torch.equal(abn.perceive(features, torch.zeros(2, 1, 4, 4)), plain(images()))
        assert not torch.equal(abn(images()), plain(images()))


@pytest.mark.parametrize("alpha", [0.0, 0.04])
def test_the_attention_branch_comes_on_top_of_a_resnets_checkpoint(alpha):
    resnet, abn = build("resnet14"), build("resnet14_abn", alpha)
    nn.init.normal_(resnet.fc.weight)  # otherwise the two start alike
    assert not torch.equal(resnet.fc.weight, abn.fc.weight)
    missing, unexpected = abn.load_state_dict(resnet.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all(key.startswith("attention_branch.") for key in missing)
    assert all(torch.equal(abn.state_dict()[key], value) for key, value in resnet.state_dict().items())


def test_the_branchs_stage_is_layer4_without_its_stride():
    *_, convs = described("resnet50_abn")
    stage, layer4 = (
        {n.removeprefix(prefix): stride for n, (_, stride) in convs.items() if n.startswith(prefix)}
        for prefix in ("attention_branch.stage.", "layer4.")
    )
    assert stage == dict.fromkeys(layer4, (1, 1))
    assert [n for n, stride in layer4.items() if stride == (2, 2)] == ["0.conv2", "0.downsample.0"]
    abn = build("resnet14_abn").state_dict()
    prefix = "attention_branch.stage."
    shapes = {key.removeprefix(prefix): value.shape for key, value in abn.items() if key.startswith(prefix)}
    assert shapes == {k.removeprefix("layer4."): v.shape for k, v in abn.items() if k.startswith("layer4.")}


def test_the_branch_turns_class_responses_into_logits_and_a_map(abn):
    branch, seen = abn.attention_branch, {}
    hooks = [
        branch.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: (inputs[0].clone(), output.clone())})
        )
        for name in ("conv", "logits", "map", "map_norm")
    ]
    with torch.no_grad():
        attention, logits = branch(abn.features(images()))
    for hook in hooks:
        hook.remove()
    responses = branch.norm2(seen["conv"][1]).relu()
    torch.testing.assert_close(seen["logits"][0], responses)
    torch.testing.assert_close(seen["map"][0], responses)
    torch.testing.assert_close(logits, seen["logits"][1].mean((2, 3)))
    torch.testing.assert_close(attention, seen["map_norm"][1].sigmoid())
    kernels = [tuple(branch.get_submodule(name).weight.shape) for name in ("conv", "logits", "map")]
    assert kernels == [(10, 2048, 1, 1), (10, 10, 1, 1), (1, 10, 3, 3)]
    assert all(conv.bias is None for conv in (branch.conv, branch.logits, branch.map))


def test_each_loss_reaches_its_branch_and_what_both_share():
    model = build("resnet14_abn", 0.04)
    perception, attention = (nn.functional.cross_entropy(one, torch.tensor([0, 1])) for one in model(images()))
    names, parameters = zip(*model.named_parameters(), strict=True)

    def reached(loss):
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        return {name for name, g in zip(names, gradients, strict=True) if g is not None and g.any()}

    only_logits = {"attention_branch.logits.weight"}
    perception_alone = {n for n in names if n.startswith(("layer4.", "fc.", "attention_branch.map"))}
    assert reached(perception) == set(names) - only_logits
    assert reached(attention) == set(names) - perception_alone
    assert len(perception_alone) == 12 + 2 + 3


def test_the_attention_branch_starts_as_the_resnet_does():
    checked = 0
    for module in build("resnet14_abn").attention_branch.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            scaled = module.weight.detach() * math.sqrt(fan_out / 2)  # N(0, 1) if drawn after He et al.
            margin = 5 / math.sqrt(scaled.numel())  # standard errors: 1/√n of the mean, 1/√(2n) of the deviation
            assert abs(scaled.mean()) < margin
            assert abs(scaled.std() - 1) < margin
            checked += 1
    assert checked == 7


@pytest.mark.parametrize("name", ABN)
def test_a_conversion_reaches_every_convolution_of_the_attention_branch(name, recwarn):
    described.__wrapped__(name, 0.04, replace="all")
    assert not [warning for warning in recwarn if "not reached" in str(warning.message)]
