"""The tables of chapter 5, on networks small enough to know the answers."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from ssconv_lib import fieldnets, fieldtables, fieldviews
from ssconv_lib.models import create_model
from ssconv_lib.plan import load_profile


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("layer1.0", "conv2_1"),
        ("stage3.1", "conv4_2"),
        ("maxpool", "pool"),
        ("stem", "conv1"),
        ("layers.0", "conv2"),
        ("block1", "block1"),
    ],
)
def test_layers_have_the_names_of_table_5(name, text):
    assert fieldtables.layer_text(name) == text


def test_the_chain_of_resnet50_is_that_of_table_5():
    chain = fieldnets.classical_chain(create_model("resnet50", num_classes=10))
    assert list(chain) == fieldnets.LAYERS
    assert chain["maxpool"] == [(7, 2), (3, 2)]
    assert chain["layer2.0"] == [(7, 2), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)]
    assert [len(chain[f"layer{stage}.0"]) for stage in (1, 2, 3, 4)] == [3, 6, 10, 16]


def test_untrained_networks_have_the_same_weights_with_and_without_shuffling_and_the_images_statistics():
    images = torch.randn(4, 3, 64, 64)
    state = torch.random.get_rng_state()
    plain, gated = (fieldnets.untrained(name, 0, images) for name in ("resnet14", "seresnet14"))
    assert torch.equal(torch.random.get_rng_state(), state)
    again = fieldnets.untrained("resnet14", 0, images)
    assert not plain.training
    assert torch.equal(plain.layer4[0].conv2.weight, again.layer4[0].conv2.weight)
    torch.testing.assert_close(plain.bn1.running_mean, plain.conv1(images).mean((0, 2, 3)))
    assert any("se." in name for name, _ in gated.named_parameters())


def test_noise_images_are_the_same_every_time_and_of_unit_size():
    images = fieldnets.noise(2)
    assert images.shape == (2, 3, 224, 224)
    assert torch.equal(images, fieldnets.noise(2))
    assert images.std().item() == pytest.approx(1, abs=0.01)


def square(low: int, high: int, size: int = 8) -> torch.Tensor:
    seen = torch.zeros(size, size, dtype=torch.bool)
    seen[low:high, low:high] = True
    return seen


def test_the_reach_table_has_the_first_and_last_pixel_and_each_models_share():
    reached = {"plain": {"layer1.0": square(2, 6)}, "ss": {"layer1.0": square(0, 8)}}
    table = fieldtables.reach_table(reached, {"layer1.0": [(3, 1), (3, 2)]})
    assert table.to_dict("records") == [
        {"layer": "conv2_1", "size": 5, "first": 2, "last": 5, "plain": 0.25, "ss": 1.0}
    ]


def test_mass_outside_is_a_mean_over_images_with_its_interval():
    field = torch.stack([square(2, 6).float() + 0.25 * square(0, 8), square(2, 6).float()])  # 12 of 32 outside, and 0
    table = fieldtables.mass_outside({"ss": {"layer1.0": field}}, {"layer1.0": square(2, 6)}, "squared")
    (row,) = table.to_dict("records")
    assert (row["n"], row["measure"]) == (2, "squared")
    assert row["share"] == pytest.approx((48 * 0.25 / (16 * 1.25 + 48 * 0.25)) / 2)
    assert row["low"] == 0, "a share below 0 is none"
    assert row["high"] > row["share"]


def test_without_influence_the_channelwise_penalty_moves_nothing_under_adams_default_eps():
    """Erratum 27: 10,000 steps at β = 1e-12 move R by .025; with the layerwise β, or a tiny eps, R leaves."""
    table = fieldtables.drift([1e-6, 1e-12], [1e-8, 1e-16], [-3.0, 0.0], 10_000).set_index(["beta", "eps", "start"])
    assert table.loc[(1e-12, 1e-8, 0.0), "moved"] == pytest.approx(-0.025, abs=5e-4)
    assert table.loc[(1e-12, 1e-8, -3.0), "after"] == pytest.approx(table.loc[(1e-12, 1e-8, -3.0), "before"], abs=1e-3)
    assert (table.loc[[(1e-6, 1e-8, 0.0), (1e-12, 1e-16, 0.0)], "after"] < 1e-4).all()


def test_untrained_networks_bring_in_more_than_their_paths_and_gates_thinly_spread():
    images = fieldnets.noise(4)
    models = fieldnets.trio(0.04, images)
    plain = fieldnets.reaches(models, ["layer1.0"])["ResNet50"]
    table = fieldtables.shares_outside(models, plain, images, ["layer1.0"]).set_index(["model", "measure"])["share"]
    ss, se = table["ResNet50 + ss"], table["SEResNet50"]
    assert "ResNet50" not in table.index.get_level_values("model")
    assert ss["paths"] == pytest.approx(0.042, abs=0.002)
    assert ss["squared"] > ss["paths"]
    assert ss["squared"] > 100 * se["squared"]
    assert 1 < ss["absolute"] / se["absolute"] < 20


def test_maps_are_sorted_by_network_and_layer_and_averaged_over_channels():
    rows = [("long_range_cnn", 0.0, "stem", "a"), ("long_range_cnn", 0.125, "stem", "b"), ("wrn10_2", 0.0, "stem", "c")]
    frame = pd.DataFrame(rows, columns=["model", "alpha", "layer", "hash"])
    maps = {
        name: torch.stack([torch.full((2, 2), value), torch.zeros(2, 2)])
        for name, value in (("a", 1.0), ("b", 0.5), ("c", 0.0))
    }
    drawn = fieldviews.drawn(frame, maps)
    assert list(drawn) == ["small CNN", "small CNN + ss", "WRN-10-2"]
    assert drawn["small CNN + ss"]["stem"].tolist() == [[0.25, 0.25], [0.25, 0.25]]


def test_the_exact_reach_of_a_study_needs_no_weights():
    profile = load_profile(Path(__file__).with_name("tiny.toml"))
    reached = fieldviews.exact(profile, "layerwise")
    assert reached["small CNN"]["stem"].sum() == 4**2, "2 pixels, and one on each side"
    assert reached["small SENet"]["layers.0"].all()
    assert fieldviews.exact(profile, "no such study") == {}
