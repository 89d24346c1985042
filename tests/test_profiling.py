"""Where time goes, and the bytes that must move: counted by hand where that can be done."""

import pandas as pd
import pytest
import torch
from torch import nn

from ssconv_lib import profiling
from ssconv_lib.conv import SSConv2d
from ssconv_lib.profiling import bytes_moved, bytes_of, copy_bandwidth, kind_of
from ssconv_lib.speedrun import SpeedRun

LAYER = SpeedRun(network="conv3x3", channels=32, batch=2, pixels=6, alpha=0.25)


def test_operators_of_a_step_with_their_kinds():
    tables = profiling.profile_arms(LAYER, rounds=2)
    plain, ss = tables["conv"], tables["ss"]
    assert list(plain.columns) == ["op", "kind", "calls", "seconds"]
    assert (plain["seconds"] >= 0).all()
    assert plain["kind"].iloc[-1] == "outside"
    assert plain.set_index("op").loc["aten::conv2d", "calls"] == 1
    assert "convolution" in set(plain["kind"])
    assert not set(plain["kind"]) & {"gather"}
    assert {"convolution", "gather", "copy"} <= set(ss["kind"])
    assert "aten::cat" in set(tables["listing"]["op"])


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::convolution_backward", "convolution"),
        ("aten::native_batch_norm", "batch norm"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NCHW", "batch norm"),
        ("aten::clamp_min_", "activation"),
        ("aten::gather", "gather"),
        ("aten::copy_", "copy"),
        ("aten::add_", "arithmetic"),
        ("autograd::engine::evaluate_function: ConvolutionBackward0", "dispatch"),
        ("aten::view", "other"),
    ],
)
def test_kinds(op, kind):
    assert kind_of(op) == kind


def test_bytes_of_one_layer():
    layer = SSConv2d(8, 4, 1, alpha=0.25, spatial_size=6)
    x = torch.randn(3, 8, 6, 6)
    pixels = 3 * 36 * 4  # bytes of one channel of the batch
    assert bytes_moved(nn.Sequential(layer), x) == {
        "shuffle": 3 * 2 * 2 * pixels,  # 2 channels saved, gathered and restored; read and written
        "listing": 2 * (8 + 2) * pixels,  # all channels by cat and 2 by index_select; read and written
        "convolutions": (8 + 4) * pixels,
    }


def test_what_does_not_shuffle_moves_nothing_and_the_model_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), SSConv2d(8, 4, 1, alpha=0.1)).train()
    mean = model[1].running_mean.clone()
    counts = bytes_moved(model, torch.randn(1, 3, 6, 6))
    assert counts == {"shuffle": 0, "listing": 0, "convolutions": (3 + 8 + 8 + 4) * 144}
    assert model.training
    assert model[1].training
    assert torch.equal(model[1].running_mean, mean)
    assert not model[0]._forward_hooks


def test_half_the_size_is_half_the_bytes():
    layer, x = SSConv2d(8, 4, 1, alpha=0.25, spatial_size=6), torch.randn(3, 8, 6, 6)
    full = bytes_moved(layer, x)
    half = bytes_moved(layer.bfloat16(), x.bfloat16())
    assert {name: 2 * count for name, count in half.items()} == full


def test_bytes_of_a_planned_measurement():
    run = SpeedRun(network="conv1x1", channels=8, batch=3, pixels=6, alpha=0.25)
    counts = bytes_of(run)
    assert counts == {"shuffle": 3 * 2 * 2 * 432, "listing": 2 * (8 + 2) * 432, "convolutions": (8 + 8) * 432}


def test_the_speed_of_a_copy_is_that_of_its_bytes(monkeypatch):
    monkeypatch.setattr(profiling, "timer", lambda step, steps, device: lambda: 0.5)
    assert copy_bandwidth(values=1000, rounds=3) == 2 * 4000 / 0.5
    monkeypatch.undo()
    assert copy_bandwidth(values=1000, rounds=3) > 0


def test_arms_are_profiled_in_turn_and_the_fastest_step_kept(monkeypatch):
    seconds = iter([9.0, 9.0, 9.0, 3.0, 1.0, 2.0, 1.0, 4.0, 3.0])  # a round to warm up, two that count
    order = []

    def profiled(arm, device):
        order.append(arm)
        return pd.DataFrame({"seconds": [next(seconds)]})

    monkeypatch.setattr(profiling, "build_arms", lambda run, device: {name: name for name in run.arms})
    monkeypatch.setattr(profiling, "_profiled", profiled)
    fastest = profiling.profile_arms(LAYER, rounds=2)
    assert order == [*LAYER.arms] * 3
    assert {name: table["seconds"].sum() for name, table in fastest.items()} == {"conv": 1, "listing": 1, "ss": 2}
