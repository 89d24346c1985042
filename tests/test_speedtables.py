"""Tables of speed, made of measurements that can be computed by hand: plain convolution takes 100 ms for 4 images."""

import pandas as pd
import pytest

from ssconv_lib import speedtables, study
from ssconv_lib.profiling import KINDS

RATIOS = {"conv": 1.0, "listing": 1.2, "ss": 1.05, "se": 1.3, "se_listing": 1.6, "se_ss": 1.35}


def measured(*, arms=("conv", "listing", "ss"), ratios=RATIOS, profile="laptop", spread=0.01, n=15, **fields):
    """The rows of one measurement, as `study.speed_frame` gives them; quartiles lie `spread` off the median.

    The rounds rise evenly from 2 · `spread` below the median to as much above it, in all arms alike; conv's are equal.
    """
    case = {"network": "resnet50", "channels": None, "mode": "inference", "precision": "fp32", "memory_format": "nchw"}
    case |= {"compile": None, "alpha": 0.04, "batch": 4, "pixels": 224}
    case |= {
        "device": "A Processor",
        "torch": "2.15.0+cpu",
        "threads": 2,
        "native": False,
        "date": "2026-11-24T00:00:00Z",
    } | fields
    training = case["mode"] == "training"
    rows = []
    for arm in arms:
        ratio, off = ratios[arm], 0 if arm == "conv" else spread
        times = {"seconds": 0.1 * ratio, "seconds_low": 0.1 * (ratio - off), "seconds_high": 0.1 * (ratio + off)}
        steps = [4 * number / (n - 1) - 2 if n > 1 else 0 for number in range(n)]
        times["seconds_each"] = tuple(0.1 * (ratio + off * step) for step in steps)
        times |= {"ratio": ratio, "ratio_low": ratio - off, "ratio_high": ratio + off, "ms_per_image": 25 * ratio}
        memory = {"saved_mb": 50 * ratio if training else None, "peak_mb": 100 * ratio}
        name = "-".join(str(value) for key, value in case.items() if key != "date")
        rows.append({"profile": profile, **case, "arm": arm, "n": n, **times, **memory, "hash": name})
    return pd.DataFrame(rows, columns=study.empty_speed_frame().columns)


def together(*frames):
    return pd.concat(frames, ignore_index=True)


def test_a_source_names_what_a_ratio_depends_on():
    row = measured().iloc[0]
    assert speedtables.source(row) == "laptop: A Processor, 2 threads, torch 2.15.0"
    assert speedtables.source(row.replace({2: 1})) == "laptop: A Processor, 1 thread, torch 2.15.0"
    compiled = measured(native=True).iloc[0]
    assert speedtables.source(compiled) == "laptop: A Processor, 2 threads, torch 2.15.0, layer compiled"
    gpu = measured(profile="gpu", device="NVIDIA H100").iloc[0]
    assert speedtables.source(gpu) == "gpu: NVIDIA H100, torch 2.15.0", "its threads don't matter"


def test_a_case_has_both_layers_beside_plain_convolution():
    frame = together(measured(), measured(mode="training", memory_format="channels_last"), measured(profile="quick"))
    cases = speedtables.cases(frame)
    assert cases["source"].str.partition(":")[0].tolist() == ["laptop", "laptop", "quick"]
    assert cases["mode"].tolist() == ["inference", "training", "inference"]
    first, second = cases.iloc[0], cases.iloc[1]
    assert (first["conv_ms"], first["n"], first["listing"], first["ss"]) == (25, 15, 1.2, 1.05)
    assert (first["listing_low"], first["listing_high"]) == pytest.approx((1.19, 1.21))
    assert pd.isna(first["conv_saved_mb"]) and pd.isna(first["ss_saved"]), "inference keeps nothing"
    assert (first["ss_peak"], second["ss_peak"]) == pytest.approx((1.05, 1.05))
    assert (second["conv_saved_mb"], second["listing_saved"], second["ss_saved"]) == pytest.approx((50, 1.2, 1.05))


def test_an_arm_that_was_not_measured_is_left_empty():
    row = speedtables.cases(measured(arms=("conv", "ss"))).iloc[0]
    assert pd.isna(row["listing"]) and row["ss"] == 1.05


def test_without_records_the_columns_are_there():
    nothing = study.empty_speed_frame()
    for table in (speedtables.cases(nothing), speedtables.scaling(nothing)):
        assert table.empty
        assert {"source", "network", "memory_format"} <= set(table.columns)
    assert speedtables.latest(nothing, "laptop").empty


def test_table4_puts_the_paper_first_and_ratios_beside_their_own_conv():
    table = speedtables.table4(measured(arms=tuple(RATIOS)))
    printed, ours = table.iloc[:3], table.iloc[3:]
    assert printed["arm"].tolist() == ["conv", "listing", "se"]
    assert printed["ms"].tolist() == [1.44, 1.66, 2.11]
    assert printed["ratio"].tolist() == pytest.approx([1, 1.66 / 1.44, 2.11 / 1.44])
    assert set(printed["n"]) == {1000} and set(printed["pixels"]) == {224}
    assert ours["arm"].tolist() == [*RATIOS]
    listing = ours[ours["arm"] == "listing"].iloc[0]
    assert (listing["ms"], listing["ms_low"], listing["ms_high"]) == pytest.approx((30, 29.75, 30.25))
    assert len(speedtables.table4(study.empty_speed_frame())) == 3


def layer(**fields):
    return measured(**{"network": "conv3x3", "channels": 64, "pixels": 28, "batch": 2} | fields)


def test_scaling_follows_one_axis_and_holds_the_others():
    alphas = [layer(alpha=alpha, ratios={"conv": 1, "listing": 1 + alpha, "ss": 1}) for alpha in (0.04, 0.25, 1)]
    table = speedtables.scaling(together(*alphas, layer(channels=128), layer(channels=128, alpha=0.5)))
    assert table["axis"].unique().tolist() == ["alpha", "channels"], "pixels and batch have one value"
    along = table[(table["axis"] == "alpha") & (table["arm"] == "listing")]
    assert along["value"].tolist() == [0.04, 0.25, 1], "the layer of 128 channels at .5 is on no axis"
    assert along["ratio"].tolist() == [1.04, 1.25, 2]
    assert table.loc[table["axis"] == "channels", "value"].unique().tolist() == [64, 128]
    assert set(table["held"]) == {"α = 0.04, 64 channels, 28 pixels, batch 2"}
    assert set(table["conv_ms"]) == {100}
    assert speedtables.scaling(layer()).empty


def test_latest_is_one_machine_of_one_profile():
    old, new = layer(), layer(device="Another", date="2026-11-25T00:00:00Z")
    frame = together(old, new, layer(profile="quick", date="2027-01-01T00:00:00Z"))
    assert set(speedtables.latest(frame, "laptop")["device"]) == {"Another"}


def test_every_kind_of_operator_is_in_one_part():
    kinds = [kind for group in speedtables.GROUPS.values() for kind in group]
    assert sorted(kinds) == sorted([*KINDS, "dispatch", "other", "outside"])


def test_parts_of_a_step_add_up():
    rows = [("convolution", 2, 0.08), ("gather", 1, 0.001), ("copy", 2, 0.003), ("outside", 0, 0.016)]
    operators = pd.DataFrame(rows, columns=["kind", "calls", "seconds"])
    parts = speedtables.parts_of_a_step({"conv": operators, "ss": operators}).set_index(["arm", "part"])
    assert parts.loc[("ss", "gather and copy"), ["calls", "ms"]].tolist() == [3, 4]
    assert parts.loc["conv", "ms"].sum() == pytest.approx(100)
    assert parts.loc[("conv", "norm, activation, pooling"), "ms"] == 0


MOVED = {"convolutions": 60_000_000, "shuffle": 6_000_000, "listing": 30_000_000}


def test_traffic_is_compared_with_the_least():
    table = speedtables.traffic(MOVED)
    assert table["MB"].tolist() == [60, 2, 6, 30]
    assert table["times the least"].tolist() == [30, 1, 3, 15]
    assert table["% of the convolutions'"].tolist() == pytest.approx([100, 10 / 3, 10, 50])


def test_extra_time_beside_the_time_of_a_copy():
    table = speedtables.extra_time(speedtables.cases(measured()), MOVED, 3e9).set_index("arm")
    assert table.loc["listing", ["extra_ms", "extra_ms_low", "extra_ms_high"]].tolist() == pytest.approx([20, 19, 21])
    assert table["copy_ms"].to_dict() == {"listing": 10, "ss": 2}


def test_readers_get_names_and_quartiles():
    cases = speedtables.cases(measured(memory_format="channels_last"))
    shown = speedtables.readable(cases[["network", "memory_format", "conv_ms", "ss", "ss_low", "ss_high"]]).iloc[0]
    assert shown.to_dict() == {
        "network": "ResNet50",
        "layout": "channels_last",
        "conv, ms an image": "25",
        "ours": "1.050 (1.040 to 1.060)",
    }
    table4 = speedtables.readable(speedtables.table4(measured())).iloc[[1, 4]]
    assert table4["arm"].tolist() == ["ss, Listing 1"] * 2
    assert table4["over conv"].tolist() == ["1.153", "1.200 (1.190 to 1.210)"]
