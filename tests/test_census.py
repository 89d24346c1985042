"""Table 3's networks counted, and Table 5 from the network: the numbers of the paper and of our reading of it."""

import pytest

from ssconv_lib import census

# parameters, multiply-accumulates in millions, convolutions, converted; active, channels, values moved at α = .04
EXPECTED = {
    "resnet50": (25_557_032, 4089, 53, 45, 45, 771, 309_582),
    "resnet50_abn": (43_584_866, 7617, 66, 57, 57, 1254, 404_250),
    "seresnet50": (28_088_024, 4092, 53, 45, 45, 771, 309_582),
    "densenet121": (7_978_856, 2834, 120, 116, 116, 1523, 514_010),
    "resnext50_32x4d": (25_028_904, 4230, 53, 45, 45, 1034, 419_930),
}


@pytest.fixture(scope="module")
def counts():
    return census.networks(0.04).set_index("model")


@pytest.mark.parametrize("name", EXPECTED)
def test_networks_are_the_papers(counts, name):
    row = counts.loc[name]
    found = (row["parameters"], round(1000 * row["GMAC"]), *row[["convs", "converted", "active", "channels", "moved"]])
    assert found == EXPECTED[name]


def test_shuffling_adds_neither_parameters_nor_arithmetic(counts):
    plain = census.networks(0.0).set_index("model")
    assert (plain[["parameters", "GMAC"]] == counts[["parameters", "GMAC"]]).all(axis=None)
    assert (plain["moved"] == 0).all() and (plain["converted"] == 0).all()


def test_readings_differ_by_the_downsampling_layers(counts):
    """Of ResNet50: `stride` adds the first stage's projection, `all` the stem, three strides and three projections."""
    table = census.readings(0.04).pivot(index="model", columns="reading", values="converted").loc[[*EXPECTED]]
    assert (table["paper"] == counts["converted"]).all()
    assert table.loc["resnet50"].to_dict() == {"paper": 45, "stride": 46, "all": 53}
    assert table.loc["densenet121"].to_dict() == {"paper": 116, "stride": 119, "all": 120}
    assert table.loc["seresnet50"].equals(table.loc["resnet50"]), "a gate is never converted"
    assert (table["all"] == counts["convs"]).all()


def test_table_5_is_the_networks():
    stages = census.stages()
    assert stages["agrees"].all()
    assert stages["channels"].tolist() == [64, 64, 256, 512, 1024, 2048]
    assert stages["height"].tolist() == stages["width"].tolist() == [112, 56, 56, 28, 14, 7]
    assert stages["box"].tolist() == [16, 8, 8, 4, 2, 1]
    assert stages["layer"].tolist() == ["conv1", "pool", "conv2_x", "conv3_x", "conv4_x", "conv5_x"]
