"""The weights of kept networks are paired with the plain one of their seed, and judged layer by layer."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ssconv_lib import usageweights
from ssconv_lib.convert import convert_to_ssconv
from ssconv_lib.judge import COLUMNS
from ssconv_lib.models import create_model
from ssconv_lib.plan import load_profile
from ssconv_lib.training import build_model
from ssconv_lib.usageweights import channel_norms, weight_norms
from ssconv_lib.weights import load_weights, save_weights, weights_path

PROFILE = """
title = "a test"
hardware = "any"
[run]
data = { name = "longrange", size = 12, distance = 6, train = 64, test = 32 }
epochs = 1
[[runs]]
study = "reach"
model = "long_range_cnn"
sweep = { seed = [0, 1], alpha = [0, 0.25] }
[[probes]]
study = "usage"
networks = { study = "reach" }
sweep = { probe = ["wiring", "shift"] }
"""


@pytest.fixture
def profile(tmp_path, tmp_results):
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE)
    return load_profile(path)


def keep(profile, **wanted):
    """Save untrained networks of the profile's runs that have these fields."""
    for run in profile.runs("reach"):
        if all(getattr(run, name) == value for name, value in wanted.items()):
            torch.manual_seed(run.seed)
            model = build_model(run, 2, (3, 12, 12))
            save_weights(weights_path(run, profile.name), run, model, 2, (3, 12, 12))


def test_each_network_stands_beside_the_plain_one_of_its_seed(profile):
    keep(profile)
    table = usageweights.norms([profile], "usage")
    assert table.groupby("seed")["layer"].agg(list).tolist() == [["conv2.conv", "conv3.conv", "conv4.conv"]] * 2
    assert table["ss"].tolist() == pytest.approx(table["conv"].tolist()), "they start from the same weights"
    assert table["seed"].tolist() == [0] * 3 + [1] * 3
    assert table.loc[0, "ss"] != pytest.approx(table.loc[3, "ss"]), "the seeds' own"
    plain, ss = (next(r for r in profile.runs("reach") if r.seed == 1 and r.alpha == alpha) for alpha in (0, 0.25))
    own = weight_norms(load_weights(plain, profile.name), load_weights(ss, profile.name))
    pd.testing.assert_frame_equal(table[table["seed"] == 1][list(own)].reset_index(drop=True), own)
    assert set(table["profile"]) == {profile.name}


def test_networks_without_their_weights_or_partner_are_left_out(profile):
    assert usageweights.norms([profile], "usage").empty
    keep(profile, seed=1)
    keep(profile, seed=0, alpha=0.25)
    table = usageweights.norms([profile], "usage")
    assert set(table["seed"]) == {1}
    assert list(table) == list(usageweights.norms([], "usage"))


def layers(ss, conv=None, *, spread=0.1, **network):
    """A table of norms, a row a layer."""
    conv = [1.0] * len(ss) if conv is None else conv
    network = {"profile": "laptop", "model": "wrn10_2", "alpha": 0.06, "seed": 0, **network}
    rows = [
        {**network, "layer": f"{k}", "ss": a, "conv": b, "spread": spread}
        for k, (a, b) in enumerate(zip(ss, conv, strict=True))
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("ss", "conv", "outcome"),
    [
        ([1.5, 1.4, 1.3, 1.21], None, "supported"),
        ([0.5, 0.6, 0.7, 0.79], None, "supported"),
        ([1.5, 1.4, 1.1, 0.9], None, "in part"),
        ([0.5, 0.6, 1.1, 0.9], None, "in part"),
        ([1.5, 1.1, 1.1, 0.9], None, "cannot tell"),  # one of four may be chance
        ([1.5, 1.4, 1.3, 0.7], None, "cannot tell"),  # in two directions
        ([1.1, 1.19, 0.9, 0.81], None, "cannot tell"),
        ([1.5, 1.4, 1.3, 1.21], [1.3, 1.3, 1.3, 1.3], "cannot tell"),  # so do the plain network's
        ([1.5, 1.4, 1.3, 1.21], [0.7, 0.7, 0.7, 0.7], "supported"),  # they deviate the other way
    ],
)
def test_a_direction_is_judged_by_layers_beyond_chance_and_beside_the_plain_network(ss, conv, outcome):
    (row,) = usageweights.norm_claims(layers(ss, conv))
    assert list(row) == COLUMNS
    assert row["verdict"] == outcome


def test_the_evidence_counts_both_networks_layers():
    (row,) = usageweights.norm_claims(layers([1.5, 1.4, 1.1, 0.7], [1.3, 1.0, 1.0, 0.5]))
    assert "more weight in 2 of 4 layers, less in 1, the others within 2 sd of chance" in row["evidence"]
    assert f"mean ratio {np.mean([1.5, 1.4, 1.1, 0.7]):.2f}" in row["evidence"]
    assert "plain network: more in 1, less in 1 (mean ratio 0.95)" in row["evidence"]
    assert "n = 4 layers" in row["evidence"]
    assert row["where"] == "Not in the paper; WRN-10-2, α = 0.06, seed 0; laptop"


def test_every_network_has_a_row_and_layers_without_others_none():
    table = pd.concat([layers([1.5, 1.5]), layers([1.0, 1.0], seed=1), layers([np.nan] * 2, alpha=1.0)])
    assert [row["verdict"] for row in usageweights.norm_claims(table)] == ["supported", "cannot tell"]
    (row,) = usageweights.norm_claims(layers([1.5, np.nan]))
    assert "1 of 1 layers" in row["evidence"]
    assert usageweights.norm_claims(usageweights.norms([], "usage")) == []


def test_untrained_networks_weigh_all_channels_alike(profile):
    keep(profile)
    rows = usageweights.norm_claims(usageweights.norms([profile], "usage"))
    assert [row["verdict"] for row in rows] == ["cannot tell"] * 2


def test_channel_norms_are_those_of_the_weights_that_read_a_channel_in_groups_too():
    conv = nn.Conv2d(8, 12, 3, groups=4)
    norms = channel_norms(conv.weight, 4)
    assert norms.shape == (8,)
    for channel in range(8):
        x = torch.zeros(1, 8, 3, 3, requires_grad=True)
        reached = conv(x).flatten()
        squares = sum(torch.autograd.grad(unit, x, retain_graph=True)[0][0, channel].square().sum() for unit in reached)
        assert norms[channel] == pytest.approx(squares.sqrt().item(), rel=1e-5)


def test_weight_norms_compare_shuffled_channels_with_the_others_and_with_the_plain_network():
    torch.manual_seed(0)
    plain = create_model("long_range_cnn", num_classes=2)
    shuffled = create_model("long_range_cnn", num_classes=2)
    shuffled.load_state_dict(plain.state_dict())
    convert_to_ssconv(shuffled, 0.25, input_size=(3, 24, 24))
    with torch.no_grad():
        shuffled.layers[1].conv.weight[:, :8] *= 3
    table = weight_norms(plain, shuffled).set_index("layer")
    assert table.index.tolist() == ["conv2.conv", "conv3.conv", "conv4.conv"]
    assert (table[["shuffled", "channels"]] == [8, 32]).all(axis=None)
    assert (table["ss"] / table["conv"]).tolist() == pytest.approx([1, 3, 1])
    assert ((table["conv"] - 1).abs() < 4 * table["spread"]).all()


def test_networks_of_other_shapes_are_refused_by_the_layers_name():
    shuffled = create_model("long_range_cnn", num_classes=2, alpha=0.25)
    with pytest.raises(ValueError, match=r"layers.0.conv: .*same model"):
        weight_norms(create_model("long_range_resnext", num_classes=2), shuffled)


def test_the_spread_is_that_of_ratios_between_channels_which_are_alike():
    torch.manual_seed(1)
    plain = create_model("wrn10_1", num_classes=10)
    ratios, spreads = [], []
    for _ in range(40):
        with torch.no_grad():
            for conv in (m for m in plain.modules() if isinstance(m, nn.Conv2d)):
                conv.weight.normal_()
        shuffled = create_model("wrn10_1", num_classes=10, alpha=0.25)
        shuffled.load_state_dict(plain.state_dict(), strict=False)
        table = weight_norms(plain, shuffled)
        ratios += table["ss"].tolist()
        spreads += table["spread"].tolist()
    assert np.std([(r - 1) / s for r, s in zip(ratios, spreads, strict=True)]) == pytest.approx(1, abs=0.2)
