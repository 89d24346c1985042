"""Does what is seen outside move with the box? On networks small enough to know the answer, and on a gate."""

import pytest
import torch
from torch import nn

from ssconv_lib import fieldlocation, fieldnets
from ssconv_lib.receptive_field import iou


class FarColumn(nn.Module):
    """A layer that sees its own place and, if asked, a column far away, or the mean of all."""

    def __init__(self, kind: str, column: int = 0) -> None:
        super().__init__()
        self.kind, self.column, self.conv = kind, column, nn.Conv2d(3, 65, 1)

    def forward(self, x):
        y = self.conv(x)
        if self.kind == "mean":
            return y * y.mean((2, 3), keepdim=True)
        if self.kind == "shift":  # what is 96 columns to the right, and further by a constant
            return y + torch.relu(y).roll(-96 - self.column, 3)
        return y


class Network(nn.Module):
    def __init__(self, *options) -> None:
        super().__init__()
        self.layer = FarColumn(*options)

    def forward(self, x):
        return self.layer(x)


def test_location_tells_a_view_that_moves_with_the_box_from_one_that_does_not():
    torch.manual_seed(0)
    images = torch.randn(8, 3, 224, 224)
    kinds = {"moves": [Network("shift").eval(), Network("shift", 32).eval()], "stays": [Network("mean").eval()]}
    table = fieldlocation.location(kinds, Network("plain").eval(), images, "layer").set_index(["model", "compared"])
    same = "the same box, other images"
    assert 0.5 < table.loc[("moves", same), "overlap"] < 1, "other images open other ReLUs"
    assert table.loc[("moves", "two boxes"), "overlap"] == 0
    assert table.loc[("moves", "the same box, two π"), "exact"] == 0
    assert table.loc[("stays", "two boxes"), "overlap"] > 0.8
    assert table.loc[("stays", "two boxes"), "exact"] == 1
    assert table["n"].tolist() == [4, 2, 2, 2, 1]
    moves, stays = table.loc[("moves", "two boxes")], table.loc[("stays", "two boxes")]
    assert (moves["of_same"], moves["low"], moves["high"]) == (0, 0, 0)
    assert stays["of_same"] == pytest.approx(stays["overlap"] / table.loc[("stays", same), "overlap"])
    assert stays["low"] > 0.99
    assert table.loc[("moves", same), ["of_same", "low", "high"]].isna().all()


def test_the_interval_leaves_out_an_image_of_each_half_at_a_time():
    """Of two images in each half there are two leftovers, each a pair of images."""
    a, b = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    reached = torch.ones(3, 3, dtype=torch.bool)
    seen = {(0, "A"): (a, reached), (0, "B"): (b, reached)}
    _, row = fieldlocation._compared(seen, 2)

    def ratio(first, second):
        (a0, b0), (a1, b1) = ([fieldlocation._mean(view[half]) for view in (a, b)] for half in (first, second))
        return iou(a0, b1) / ((iou(a0, a1) + iou(b0, b1)) / 2)

    assert row["of_same"] == pytest.approx(ratio([0, 1], [2, 3]))
    one, other = ratio([0], [2]), ratio([1], [3])
    half = 12.706 * abs(one - other) / 2  # t of 1 degree of freedom; the jackknife's error of two values
    assert row["high"] - row["of_same"] == pytest.approx(half, rel=1e-3)
    assert row["of_same"] - row["low"] == pytest.approx(half, rel=1e-3)


def test_in_one_image_a_gate_shows_every_box_the_very_same():
    images = fieldnets.noise(2)
    gated, plain = (fieldnets.untrained(name, 0, images) for name in ("seresnet14", "resnet14"))
    boxes = fieldnets.BOX, fieldnets.OTHER_BOX
    first, second = (fieldlocation._reach(plain, "layer1.0", box) for box in boxes)
    one, other = (fieldlocation._cells(gated, "layer1.0", images, box, first | second) for box in boxes)
    for a, b in zip(one, other, strict=True):
        assert iou(a / a.sum(), b / b.sum()) == pytest.approx(1, abs=1e-5)
