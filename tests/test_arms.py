"""The arms: the same weights in all, the layers that their names promise, and a check of what they compute."""

import sys

import pytest
import torch
from torch import nn

from ssconv_lib import arms as module
from ssconv_lib.arms import build_arms, build_network, convert
from ssconv_lib.conv import SSConv2d
from ssconv_lib.listing import ListingConv2d
from ssconv_lib.speedrun import SpeedRun

LAYER = SpeedRun(network="conv3x3", channels=32, batch=2, pixels=6, alpha=0.25)
WRN = SpeedRun(network="wrn16_4", batch=2, pixels=32)


def count(model, kind):
    return sum(isinstance(layer, kind) for layer in model.modules())


@pytest.mark.parametrize(
    ("network", "converted"),
    [("resnet50", 45), ("densenet121", 116), ("resnext50_32x4d", 45), ("seresnet50", 45), ("wrn16_4", 10)],
)
def test_networks_are_converted_as_the_paper_does(network, converted):
    run = SpeedRun(network=network, batch=1, pixels=32)
    plain = build_network(network)
    ss = convert(plain, run)
    assert count(plain, SSConv2d) == 0
    assert count(ss, SSConv2d) == converted


def test_all_six_arms_of_resnet50():
    names = ("conv", "listing", "ss", "se", "se_listing", "se_ss")
    found = build_arms(SpeedRun(network="resnet50", batch=2, pixels=32, arms=names))
    assert tuple(found) == names
    for name, arm in found.items():
        assert not arm.model.training
        assert (count(arm.model, SSConv2d) > 0) == name.endswith("ss"), name
        assert (count(arm.model, ListingConv2d) > 0) == name.endswith("listing"), name
        gates = [path for path, _ in arm.model.named_modules() if path.endswith(".se")]
        assert len(gates) == (16 if name.startswith("se") else 0), name
    outputs = {name: arm.output() for name, arm in found.items()}
    assert torch.allclose(outputs["listing"], outputs["ss"], rtol=1e-4)
    assert torch.allclose(outputs["se_listing"], outputs["se_ss"], rtol=1e-4)
    assert not torch.allclose(outputs["conv"], outputs["ss"])


def test_arms_have_the_same_weights_but_none_in_common():
    found = build_arms(WRN)
    lists = [[*arm.model.parameters()] for arm in found.values()]
    for together in zip(*lists, strict=True):
        assert all(torch.equal(together[0], other) for other in together)
        assert len({parameter.data_ptr() for parameter in together}) == 3, "a step of one must not train another"


@pytest.mark.parametrize("memory_format", ["nchw", "channels_last"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_and_layout_are_those_of_the_run(memory_format, precision):
    run = SpeedRun(network="wrn16_4", batch=2, pixels=32, precision=precision, memory_format=memory_format)
    for arm in build_arms(run).values():
        expected = torch.bfloat16 if precision == "bf16" else torch.float32
        assert arm.images.dtype == expected
        assert {parameter.dtype for parameter in arm.model.parameters()} == {expected}
        assert arm.images.is_contiguous() == (memory_format == "nchw")


def test_training_takes_a_step():
    run = SpeedRun(network="wrn16_4", batch=2, pixels=32, mode="training", precision="bf16")
    for arm in build_arms(run).values():
        before = [parameter.detach().clone() for parameter in arm.model.parameters()]
        arm.step()
        assert arm.model.training
        assert all(parameter.dtype == torch.float32 for parameter in arm.model.parameters())
        assert not all(map(torch.equal, before, arm.model.parameters()))


def test_a_single_layer_is_that_layer():
    found = build_arms(LAYER)
    assert [type(arm.model[0]) for arm in found.values()] == [nn.Conv2d, ListingConv2d, SSConv2d]
    assert found["ss"].output().shape == (2, 32, 6, 6)


def test_too_small_an_alpha_to_shuffle_is_no_failure():
    found = build_arms(SpeedRun(network="conv1x1", channels=8, batch=1, pixels=4))
    assert torch.equal(found["conv"].output(), found["ss"].output())


def test_arms_that_compute_something_else_are_refused(monkeypatch):
    monkeypatch.setattr(ListingConv2d, "shuffle", lambda self, x: x)
    with pytest.raises(RuntimeError, match="Listing 1 and SSConv2d differ by"):
        build_arms(LAYER)


def test_an_arm_that_does_not_shuffle_is_refused(monkeypatch):
    monkeypatch.setattr(ListingConv2d, "shuffle", lambda self, x: x)
    monkeypatch.setattr(SSConv2d, "forward", nn.Conv2d.forward)
    with pytest.raises(RuntimeError, match="gives what the plain one gives"):
        build_arms(LAYER)


def test_the_generators_stay_where_they_are():
    before = torch.get_rng_state()
    build_network("wrn16_4")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RuntimeError, match=r"seresnet50 comes from timm.*pip install"):
        module.build_network("seresnet50")
