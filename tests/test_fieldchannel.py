"""Channelwise maps have the places and letters of Fig. 4, and numbers beside the reach."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from ssconv_lib import fieldchannel
from ssconv_lib.plan import load_profile

BASE = {"model": "wrn10_2", "alpha": 0.06, "box_low": 12, "box_high": 20}


def frame(*rows):
    return pd.DataFrame([{**BASE, "hash": str(k), **row} for k, row in enumerate(rows)])


def maps(count):
    return {str(k): torch.full((3, 4, 4), k / 10) for k in range(count)}


@pytest.mark.parametrize(("channel", "value"), [(16, 0.1), (0, 0.1), (None, 0.5), (float("nan"), 0.5)])
def test_a_single_channel_is_counted_from_the_threshold_of_fig_4(channel, value):
    assert fieldchannel.threshold(channel) == value


def test_the_letters_are_those_of_fig_4_and_a_network_that_it_lacks_comes_last_without():
    both = [{"box_low": 4, "box_high": 12}, {}]
    plain, gates = {"alpha": 0.0}, {"alpha": 0.0, "model": "seresnet14"}
    found = frame(*({**kind, **box} for kind in (plain, gates, {}) for box in both))
    drawn, boxes, names, letters = fieldchannel.by_box(found, maps(6))
    assert boxes == [(4, 12), (12, 20)]
    assert list(zip(names, letters, strict=True)) == [("WRN-10-2 + ss", "ab"), ("SEResNet14", "cd"), ("WRN-10-2", "")]
    assert [m.max().item() for of in drawn for m in of] == pytest.approx([0.4, 0.5, 0.2, 0.3, 0, 0.1])
    assert fieldchannel.by_box(found[2:4], maps(6))[3] == ["cd"], "gates alone are no (a)"
    assert fieldchannel.by_box(found[found.box_low == 4], maps(6))[3] == ["", "", ""], "the paper has two boxes"


def test_channelwise_maps_go_by_network_and_box_and_a_network_short_of_one_is_left_out():
    found = frame({"box_low": 12}, {"box_low": 4, "box_high": 12}, {"alpha": 0.0})
    drawn, boxes, names, letters = fieldchannel.by_box(found, maps(3))
    assert (boxes, names, letters) == ([(4, 12), (12, 20)], ["WRN-10-2 + ss"], ["ab"])
    assert [m.max().item() for m in drawn[0]] == pytest.approx([0.1, 0])
    assert fieldchannel.by_box(found[:0], {}) is None


def test_channelwise_numbers_compare_with_the_reach_and_with_chance(monkeypatch):
    profile = load_profile(Path(__file__).with_name("tiny.toml"))
    first, second = profile.field_runs("channelwise")
    reached = fieldchannel._reach(first)
    half = torch.zeros(12, 12)
    half[:6] = 1
    fields = {first.hash: reached.float()[None], second.hash: half[None]}
    monkeypatch.setattr(fieldchannel, "field_maps", lambda *_: fields)
    a, b = fieldchannel.channelwise_table(profile, "channelwise").to_dict("records")
    assert (a["box"], a["iou"], a["found"]) == ("2–4", 1.0, a["exact"])
    assert b["found"] == 0.5
    outside = ~(fieldchannel._reach(first, alpha=0.0) | fieldchannel._reach(second, alpha=0.0))
    p, q = reached[outside].float().mean().item(), half[outside].mean().item()
    assert b["by_chance"] == pytest.approx(p * q / (p + q - p * q))
    both = (reached & (half > 0) & outside).sum() / ((reached | (half > 0)) & outside).sum()
    assert b["outside"] == pytest.approx(both.item())
    assert fieldchannel.channelwise_table(profile, "no such study").empty
