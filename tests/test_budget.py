"""What the whole experiment takes: from runs made up so that the answer is known."""

import pandas as pd
import pytest

from ssconv_lib import budget
from ssconv_lib.plan import load_profile

FIELDS = {
    "data": "imagenet",
    "device": "a GPU",
    "processes": 1,
    "model": "resnet50",
    "pixels": 112,
    "precision": "bf16",
    "epochs": 10,
}


def runs(seconds, **fields):
    rows = [{**FIELDS, "n_train": 1000, "train_seconds": one, **fields} for one in seconds]
    return pd.DataFrame(rows)


def test_multiply_accumulates_are_the_networks():
    assert budget.macs("resnet50", 224) == 4_089_184_256
    assert budget.macs("wrn16_4", 32, classes=10) == pytest.approx(0.393e9, rel=2e-3)


def test_rates_are_medians_by_device_network_and_size():
    cifar = runs([7.0], model="wrn16_4").assign(n_train=None, pixels=None, data="cifar10")
    table = budget.measured_rates([runs([10.0, 20.0, 40.0]), runs([5.0], processes=2), cifar])
    assert table["images_per_second"].tolist() == [500, 2000]
    assert table["runs"].tolist() == [3, 1]
    assert table["GMAC_per_second"].tolist()[0] == pytest.approx(500 * 3 * budget.macs("resnet50", 112) / 1e9)
    assert budget.measured_rates([]).empty
    moved = runs([7.0]).assign(train_seconds=None)  # to another machine on the way: no rate of any
    assert budget.measured_rates([moved, runs([7.0], data="flowers")]).empty, "of how many classes?"
    ten = budget.measured_rates([runs([10.0], data="imagenette160", model="resnet14_abn")])["GMAC_per_second"][0]
    assert ten == pytest.approx(1000 * 3 * budget.macs("resnet14_abn", 112, classes=10) / 1e9)


def test_the_estimate_is_work_over_rate():
    planned = pd.DataFrame({"EMAC": [0.003, 0.001]})
    rates = pd.DataFrame({"device": ["a GPU"], "GMAC_per_second": [4e6 / 86_400 / 2], "processes": 1})  # two days' work
    (row,) = budget.estimate(rates, planned, price=3.0).to_dict("records")
    assert row["days, 1 device"] == pytest.approx(2)
    assert row["days, 8 devices"] == pytest.approx(0.25)
    assert row["money"] == pytest.approx(2 * 24 * 3)
    eight = rates.assign(processes=8, GMAC_per_second=8 * rates["GMAC_per_second"])
    assert budget.estimate(eight, planned, price=3.0).to_dict("records") == [
        pytest.approx({**row, "processes": 8, "GMAC_per_second": eight["GMAC_per_second"][0]})
    ]


def test_the_printed_protocol_is_thirty_runs_of_a_hundred_epochs():
    profile = load_profile("paper")
    planned = budget.work(profile, ["table3"])
    assert planned["runs"].tolist() == [6] * 5
    assert planned["images"].tolist() == [6 * 100 * 1_281_167] * 5
    resnet = planned.set_index("model")["EMAC"]["resnet50"]
    assert resnet == pytest.approx(6 * 100 * 1_281_167 * 3 * 4_089_184_256 / 1e18)
    both = budget.work(profile, ["table3", "alpha_search_test"])
    assert both["runs"].tolist() == [6] * 5 + [6], "the three runs at .04 are Table 3's"
    held_out = budget.work(profile, ["alpha_search"])["images"].tolist()
    assert held_out == [9 * 100 * (1_281_167 - 128_116)]
    for run in profile.runs("table3"):
        assert (run.epochs, run.batch_size, run.lr, run.momentum, run.weight_decay) == (100, 256, 0.1, 0.9, 1e-4)
        assert [run.epochs * eval(milestone) for milestone in run.milestones] == pytest.approx([30, 60, 90])
        assert run.precision == "fp32" and run.data.pixels == 224 and run.forwards == 8
