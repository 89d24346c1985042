"""The description of a measurement: what can't be measured is quoted, and the machine is part of the hash."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssconv_lib.speedrun import ARMS, LAYERS, NETWORKS, SE_ARMS, SpeedRun

PLAN = SpeedRun(network="resnet50", batch=8, pixels=160)
RUN = PLAN.on("a processor", "2.15.0", 2)


@st.composite
def speed_runs(draw):
    single = draw(st.booleans())
    network = draw(st.sampled_from(LAYERS if single else NETWORKS))
    others = (*ARMS[1:], *SE_ARMS) if network == "resnet50" else ARMS[1:]
    run = SpeedRun(
        network=network,
        batch=draw(st.integers(1, 512)),
        pixels=draw(st.integers(1, 256)),
        channels=draw(st.integers(1, 2048)) if single else None,
        mode="inference" if single else draw(st.sampled_from(["inference", "training"])),
        precision=draw(st.sampled_from(["fp32", "bf16"])),
        memory_format=draw(st.sampled_from(["nchw", "channels_last"])),
        compile=draw(st.sampled_from([None, "default"])),
        alpha=draw(st.floats(0.001, 1)),
        arms=("conv", *draw(st.lists(st.sampled_from(others), unique=True))),
        rounds=draw(st.integers(1, 100)),
    )
    return run if draw(st.booleans()) else run.on("a processor", "2.15.0", draw(st.integers(1, 64)))


@given(speed_runs())
def test_a_measurement_survives_json(run):
    again = SpeedRun.from_dict(json.loads(json.dumps(run.to_dict(), allow_nan=False)))
    assert again == run
    assert again.hash == SpeedRun.from_dict(run.identity()).hash == run.hash
    assert run.label.endswith(run.hash)


@given(speed_runs(), speed_runs())
def test_the_hash_is_the_identity(one, other):
    assert (one.hash == other.hash) == (one.identity() == other.identity())


def test_golden_hashes():
    """Committed records are found by these: if this fails, a default has changed, and must not."""
    assert PLAN.hash == "a3e5d133264c"
    assert RUN.label == "speed-resnet50-inference-fp32-nchw-b8-160px-c548b78655bb"
    assert (
        dataclasses.replace(RUN, network="conv1x1", channels=64, pixels=14, compile="default").title
        == "conv1x1-c64-a0.04-inference-fp32-nchw-b8-14px-compiled"
    )


@pytest.mark.parametrize("change", [{"device": "another"}, {"torch": "2.16.0"}, {"threads": 1}, {"protocol": 2}])
def test_each_machine_has_a_record_of_its_own(change):
    other = dataclasses.replace(RUN, **change)
    assert other.hash != RUN.hash
    assert (other.plan.hash == PLAN.hash) == ("protocol" not in change)


def test_more_rounds_measure_the_same():
    assert dataclasses.replace(RUN, rounds=99).hash == RUN.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "resnet51"}, "network = 'resnet51'.*resnet50, densenet121"),
        ({"network": "conv3x3"}, "channels = None.*single layer"),
        ({"channels": 64}, "channels = 64.*only there"),
        ({"network": "conv3x3", "channels": 0}, "channels = 0.*at least 1"),
        ({"network": "conv3x3", "channels": 8, "mode": "training"}, "mode = 'training'.*inference"),
        ({"mode": "dreaming"}, "mode is 'dreaming'"),
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"memory_format": "nhwc"}, "memory_format is 'nhwc'"),
        ({"compile": "fast"}, "compile = 'fast'.*default"),
        ({"alpha": 0}, "alpha = 0.0.*above 0"),
        ({"alpha": 1.5}, "alpha=1.5"),
        ({"batch": 0}, "batch is 0"),
        ({"pixels": "96"}, "pixels is '96'"),
        ({"rounds": 0}, "rounds is 0"),
        ({"arms": ["ss"]}, "arms = .*expected conv"),
        ({"arms": ["conv", "ss", "ss"]}, "arms = .*each arm once"),
        ({"network": "densenet121", "arms": ["conv", "se"]}, "arms = .*conv, listing, ss"),
        ({"threads": 2}, "device = None.*together"),
        ({"epochs": 3}, "no field 'epochs'"),
    ],
)
def test_what_cannot_be_measured_is_quoted(change, message):
    with pytest.raises(ValueError, match=message):
        SpeedRun.from_dict({**PLAN.to_dict(), **change})


@pytest.mark.parametrize("missing", ["network", "batch", "pixels"])
def test_some_fields_are_needed(missing):
    with pytest.raises(ValueError, match=f"needs the field {missing!r}"):
        SpeedRun.from_dict({name: value for name, value in PLAN.to_dict().items() if name != missing})
