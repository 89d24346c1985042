"""What the compiler adds, from measurements that can be computed by hand: plain convolution takes 25 ms an image."""

import pytest
from test_speedtables import RATIOS, measured, together

from ssconv_lib import compilertables, speedtables, study


def added(eager, compiled):
    return compilertables.with_the_compiler(speedtables.cases(eager), speedtables.cases(compiled))


def test_extra_milliseconds_of_the_same_source_and_case():
    compiled = measured(compile="default", ratios={**RATIOS, "listing": 1.4, "ss": 1.02})
    elsewhere = [measured(compile="default", native=True), measured(compile="default", memory_format="channels_last")]
    table = added(together(measured(), measured(mode="training")), together(compiled, *elsewhere))
    assert table["arm"].tolist() == ["listing", "ss"], "nothing to compare with"
    assert table[["eager_ms", "compiled_ms"]].to_numpy().tolist() == [
        pytest.approx([5, 10]),
        pytest.approx([1.25, 0.5]),
    ]
    first = table.iloc[0]
    assert first[["eager_ms_low", "eager_ms_high", "compiled_ms_low"]].tolist() == pytest.approx([4.75, 5.25, 9.75])
    shown = speedtables.readable(table).iloc[0]
    assert shown["extra ms an image, torch.compile"] == "10.00 (9.75 to 10.25)"
    assert shown["extra ms an image, eager"] == "5.00 (4.75 to 5.25)"


def test_a_layer_among_the_networks_is_another_case():
    layer = measured(network="conv3x3", channels=64)
    assert len(added(together(measured(), layer), measured(compile="default"))) == 2
    assert added(layer, measured(compile="default")).empty


def test_quicker_than_plain_convolution_reads_as_a_minus():
    table = added(measured(ratios={**RATIOS, "ss": 1.0}), measured(compile="default"))
    assert speedtables.readable(table)["extra ms an image, eager"].tolist()[1] == "0.00 (−0.25 to 0.25)"


def test_milliseconds_since_plain_convolution_gets_quicker_too():
    compiled = measured(compile="default")
    compiled["ms_per_image"] /= 2
    assert added(measured(), compiled)["compiled_ms"].tolist() == pytest.approx([2.5, 0.625])


def test_listing_1_measured_twice_agrees_by_quartiles():
    def second(listing, **fields):
        return measured(native=True, ratios={**RATIOS, "listing": listing, "ss": 9}, **fields)

    assert compilertables.measured_twice(together(measured(), second(1.219))) == (1, 1)
    assert compilertables.measured_twice(together(measured(), second(1.221))) == (1, 0)
    other = {"memory_format": "channels_last"}
    frame = together(measured(), second(1.2), measured(**other), second(1.4, **other), measured(profile="gpu"))
    assert compilertables.measured_twice(frame) == (2, 1)
    assert compilertables.measured_twice(together(measured(), second(1.2, threads=1))) == (0, 0), "another machine"


def test_without_records_the_columns_are_there():
    nothing = study.empty_speed_frame()
    assert compilertables.measured_twice(nothing) == (0, 0)
    for eager, compiled in ((nothing, nothing), (measured(), nothing), (nothing, measured(compile="default"))):
        table = added(eager, compiled)
        assert table.empty and {"source", "arm", "eager_ms", "compiled_ms_high"} <= set(table.columns)
