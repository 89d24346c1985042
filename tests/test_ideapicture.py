"""The landing page's figure: its shares are those of the exact reach, and its colours are where the maps say."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from ssconv_lib import ideapicture
from ssconv_lib.models import create_model
from ssconv_lib.paths import ROOT
from ssconv_lib.pictures import house
from ssconv_lib.receptive_field import box, reach

COMMITTED = ROOT / "book" / "images" / "idea.csv"


@pytest.fixture(scope="module")
def drawn():
    figure, data = ideapicture.idea()
    yield figure, data
    plt.close(figure)


@pytest.fixture(scope="module")
def masks():
    """What chapter 1 computes for this layer, whatever the weights."""
    nets = {
        method: create_model("wrn16_4", num_classes=10, alpha=alpha) for method, alpha in (("conv", 0), ("ss", 0.06))
    }
    return {method: reach(net, ["stage1.0.conv2"], (3, 32, 32))["stage1.0.conv2"] for method, net in nets.items()}


def test_the_table_has_the_pixels_that_are_reached(drawn, masks):
    data = drawn[1].set_index(["row", "column"])
    assert (len(data), data.index.min(), data.index.max()) == (1024, (1, 1), (32, 32))
    for method, mask in masks.items():
        assert torch.equal(torch.tensor(data[method].to_numpy()).view(32, 32).bool(), mask)
    assert box(masks["conv"])[2:] == (7, 7), "three convolutions of 3x3"
    assert masks["ss"][masks["conv"]].all()
    assert masks["ss"].sum() > 5 * masks["conv"].sum()


def test_the_captions_say_the_shares(drawn, masks):
    shares = [f"{100 * mask.sum() / 1024:.0f} % of the picture" for mask in masks.values()]
    assert [ax.texts[0].get_text() for ax in drawn[0].axes] == shares
    assert [ax.get_title() for ax in drawn[0].axes] == ["Convolution", "A few channels shuffled"]
    parameters = sum(p.numel() for p in create_model("wrn16_4", num_classes=10).parameters())
    assert f"{parameters:,} parameters" in drawn[0].texts[0].get_text()


def test_only_what_is_seen_is_in_colour_and_the_frame_is_the_plain_window(drawn, masks):
    fine = ideapicture.FINE
    image = house(32 * fine).permute(1, 2, 0).numpy()
    for ax, mask in zip(drawn[0].axes, masks.values(), strict=True):
        shown = np.asarray(ax.images[0].get_array())
        seen = np.kron(mask.numpy(), np.ones((fine, fine))) > 0
        np.testing.assert_array_equal(shown[seen], image[seen])
        assert np.ptp(shown[~seen], axis=-1).max() == 0, "grey"
        assert shown[~seen].min() > 0.6, "and pale"
        (frame,) = ax.patches
        top, left, height, width = box(masks["conv"])
        assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((left, top), width, height)


def test_the_letters_can_be_read_on_a_phone(drawn):
    """At 350 pixels, the width of a phone's page, no letter is lower than 8 pixels."""
    pixels = 350 / drawn[0].get_figwidth() / 72  # of a point
    texts = [*drawn[0].texts, *(text for ax in drawn[0].axes for text in (*ax.texts, ax.title, ax.xaxis.label))]
    assert min(text.get_fontsize() for text in texts) * pixels > 8


def test_a_network_with_other_parameters_is_refused(monkeypatch):
    narrow = {0.0: "wrn10_2", 0.06: "long_range_cnn"}
    monkeypatch.setattr(ideapicture, "create_model", lambda _, num_classes, alpha: create_model(
        narrow[alpha], num_classes=num_classes, alpha=alpha))  # fmt: skip
    with pytest.raises(ValueError, match="as many parameters"):
        ideapicture.seen()


def test_write_leaves_picture_and_table_and_is_the_one_in_the_book(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(ideapicture, "idea", lambda: drawn)
    style = dict(plt.rcParams)
    ideapicture.write(tmp_path / "idea")
    assert dict(plt.rcParams) == style
    assert sorted(path.name for path in tmp_path.iterdir()) == ["idea.csv", "idea.png", "idea.svg"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "idea.csv"), pd.read_csv(COMMITTED))
