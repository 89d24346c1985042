"""Stored maps of Eq. 4, sorted for the figures and tables of chapter 5."""

import pandas as pd
import pytest
import torch

from ssconv_lib import fieldviews

BASE = {"model": "wrn10_2", "alpha": 0.06, "layer": "stage1.0", "trained": True, "box_low": 12, "box_high": 20}
BASE |= {"iterations": 1000, "channel": None, "beta": 1e-6, "start": 0.0, "fill": "mean", "device": "a processor"}


def frame(*rows):
    return pd.DataFrame([{**BASE, "hash": str(k), **row} for k, row in enumerate(rows)])


def maps(count):
    return {str(k): torch.full((3, 4, 4), k / 10) for k in range(count)}


@pytest.mark.parametrize(("count", "chosen"), [(5, "acegi"), (3, "aei"), (20, "abcdefghi"), (1, "a")])
def test_a_figure_takes_layers_evenly_from_first_to_last(count, chosen):
    layers = {name: torch.zeros(2, 2) for name in "abcdefghi"}
    assert "".join(fieldviews.some_layers({"net": layers}, count)["net"]) == chosen


def test_sizes_stand_beside_the_exact_reach():
    found = frame({"size": 0.75, "size_strict": 0.7}, {"size": 1.0, "size_strict": 0.5, "trained": False})
    sizes = fieldviews.optimised_sizes(found, {"WRN-10-2 + ss": {"stage1.0": torch.ones(4, 4, dtype=torch.bool)}})
    of = sizes.set_index(["trained", "kind"])["fraction"]
    assert of[True].to_dict() == {"σ(R) ≥ 1/2": 0.75, "σ(R) > 1/2": 0.7, "exact reach": 1.0}
    assert of[False].to_dict() == {"σ(R) ≥ 1/2": 1.0, "σ(R) > 1/2": 0.5, "exact reach": 1.0}
    assert fieldviews.optimised_sizes(found[:0], {}).empty


def test_the_summary_puts_before_beside_after_and_compares_the_trained_map_with_the_reach(monkeypatch):
    rows = [{"layer": "stem", "size": 0.5}, {"layer": "stem", "size": 0.25, "trained": False}, {"size": 1.0}]
    found = frame(*[{"profile": "laptop", "data": "cifar10", **row} for row in rows])
    square = torch.zeros(4, 4, dtype=torch.bool)
    square[:2] = True
    fields = {
        "0": torch.stack([0.5 * square, 0.6 * square, 0.4 * square]),
        "1": torch.zeros(3, 4, 4),
        "2": torch.ones(3, 4, 4),
    }
    monkeypatch.setattr(fieldviews, "field_frame", lambda *_: found)
    monkeypatch.setattr(fieldviews, "field_maps", lambda *_: fields)
    reached = {"WRN-10-2 + ss": {"stem": square, "stage1.0": square}}
    monkeypatch.setattr(fieldviews, "exact", lambda *_: reached)
    stem, block = fieldviews.summary(None, "layerwise").to_dict("records")
    assert stem == {
        "source": "laptop (CIFAR-10)",
        "model": "WRN-10-2 + ss",
        "layer": "conv1",
        "exact": 0.5,
        "untrained": 0.25,
        "trained": 0.5,
        "iou": 1.0,
    }
    assert (block["layer"], block["trained"], block["iou"]) == ("conv2_1", 1.0, 0.5)
    assert block["untrained"] != block["untrained"], "not there"


def test_each_sensitivity_figure_varies_one_thing():
    channel = {"channel": 5, "beta": 1e-12}
    found = frame({}, {"beta": 1e-4}, {"beta": 1e-8}, {"start": -3.0, **channel}, channel, {"fill": "black"})
    rows = fieldviews.settings(found, maps(6))
    of = {name: panels["WRN-10-2 + ss"] for name, (_, panels) in rows.items()}
    assert {name: list(panels) for name, panels in of.items()} == {
        "beta": ["β = 10⁻⁸", "β = 10⁻⁶", "β = 10⁻⁴"],
        "start": ["R₀ = −3", "R₀ = 0"],
        "fill": ["hidden is black", "hidden is mean"],
    }
    assert of["beta"]["β = 10⁻⁴"].max() == pytest.approx(0.1), "the map of the record with hash 1"
    assert of["start"]["R₀ = −3"].max() == pytest.approx(0.3)
    assert [fieldviews.looked_at_text(same) for same, _ in rows.values()] == [
        "conv2_1, 1,000 iterations",
        "channel 5 of conv2_1, 1,000 iterations",
        "conv2_1, 1,000 iterations",
    ]
    assert fieldviews.settings(found[:0], {}) == {}
    longer = frame({}, {"beta": 1e-4, "iterations": 3000})
    assert fieldviews.settings(longer, maps(2)) == {}, "two things differ"


def test_the_cost_of_an_iteration_is_a_median_over_records():
    rows = [{"naive_seconds": s, "fast_seconds": s / 2, "ratio": 2.0} for s in (0.01, 0.09, 0.02)]
    (row,) = fieldviews.cost(frame(*rows)).to_dict("records")
    assert (row["naive_ms"], row["fast_ms"], row["ratio"], row["n"]) == (pytest.approx(20), pytest.approx(10), 2.0, 3)


def test_figures_6_to_8_go_by_what_a_network_is_and_not_by_its_place():
    found = frame({"model": "long_range_senet", "alpha": 0.0}, {}, {"model": "densenet_bc_40_12", "alpha": 0.0})
    names = fieldviews.figure_names(found)
    assert names == {"figure8": "small SENet", "figure7": "WRN-10-2 + ss", "figure6": "DenseNet-BC-40-12"}
