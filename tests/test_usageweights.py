"""The weights of kept networks are paired with the plain one of their seed, and judged layer by layer."""

import numpy as np
import pandas as pd
import pytest
import torch

from ssconv_lib import usageweights
from ssconv_lib.judge import COLUMNS
from ssconv_lib.plan import load_profile
from ssconv_lib.training import build_model
from ssconv_lib.usagetables import weight_norms
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
