"""What training does to effective fields, on weights made by hand."""

from pathlib import Path

import pytest
import torch

from ssconv_lib import SSConv2d, fieldlearned, fieldplots, fieldviews
from ssconv_lib.plan import load_profile
from ssconv_lib.training import build_model
from ssconv_lib.weights import save_weights, weights_path


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """Of the tests' own; its shuffling network has learned to ignore what is shuffled, but in its last layer."""
    monkeypatch.setenv("SSCONV_RESULTS", str(tmp_path))
    profile = load_profile(Path(__file__).with_name("tiny.toml"))
    for run, _ in fieldviews.looked_at(profile, "layerwise"):
        model = build_model(run.network, 2, run.input_size)
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, SSConv2d) and name == "layers.0.conv":
                    module.weight[:, module.shuffled] = 0
        save_weights(weights_path(run.network, profile.name), run.network, model, 2, run.input_size)
    return profile


def test_a_network_is_looked_at_once_with_all_its_layers():
    looked_at = fieldviews.looked_at(load_profile(Path(__file__).with_name("tiny.toml")), "layerwise")
    names = [(run.network.model, run.network.alpha, layers) for run, layers in looked_at]
    three = ["stem", "layers.0", "layers.1"]
    assert names == [
        ("long_range_cnn", 0.0, three),
        ("long_range_cnn", 0.0625, three),
        ("long_range_senet", 0.0, ["stem", "layers.0"]),
    ]


def test_a_layer_that_ignores_what_is_shuffled_sees_nothing_outside(profile):
    table = fieldlearned.learned([profile], "layerwise")
    assert list(table.columns) == fieldlearned.COLUMNS
    assert table[["model", "measure", "layer"]].values.tolist() == [
        ["small CNN + ss", "squared", "conv2"],
        ["small CNN + ss", "squared", "conv3"],
        ["small CNN + ss", "absolute", "conv2"],
        ["small CNN + ss", "absolute", "conv3"],
        ["small SENet", "squared", "conv2"],
        ["small SENet", "absolute", "conv2"],
    ], "not the stem, where there is nothing outside"
    first, second, absolute, _, gate, spread = table.itertuples()
    assert first.untrained > 0
    assert absolute.trained == 0
    assert (first.trained, first.factor) == (0, 0)
    assert 0 < second.trained < second.untrained
    assert second.factor == pytest.approx(second.trained / second.untrained)
    assert second.untrained_low < second.untrained < second.untrained_high
    assert spread.trained > 10 * gate.trained, "a gate's dependence is spread thinly"


def test_without_weights_there_is_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.setenv("SSCONV_RESULTS", str(tmp_path))
    profile = load_profile(Path(__file__).with_name("tiny.toml"))
    assert fieldlearned.learned([profile], "layerwise").empty
    assert fieldlearned.learned([profile], "no such study").empty
    assert fieldlearned.measures(profile, "layerwise", {"small CNN + ss": {}}) == ("", {})


def test_three_measures_of_the_shuffling_network_by_layer(profile):
    drawn = {"small CNN": {}, "small CNN + ss": {"layers.0": torch.rand(12, 12)}}
    name, rows = fieldlearned.measures(profile, "layerwise", drawn)
    assert name == "small CNN + ss"
    assert list(rows) == ["exact reach", fieldplots.ROOT, "Eq. 4"]
    assert rows["Eq. 4"] is drawn["small CNN + ss"]
    assert rows["exact reach"]["layers.0"].dtype == torch.bool
    effective = rows[fieldplots.ROOT]["layers.0"]
    assert effective.max() == 1
    assert (effective[~rows["exact reach"]["layers.0"]] == 0).all()


def test_images_are_of_the_generated_task_or_noise():
    tiny = load_profile(Path(__file__).with_name("tiny.toml")).field_runs("layerwise")[0]
    images = fieldlearned.images_for(tiny)
    assert images.shape == (32, 3, 12, 12)
    assert images.abs().max() > 1.5, "patches of amplitude 2 stand out"
    laptop = load_profile("laptop").field_runs("layerwise")[0]
    noise = fieldlearned.images_for(laptop)
    assert noise.shape == (32, 3, 32, 32)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
