"""The description of an optimised receptive field, and the map in its record: what can't be is quoted."""

import base64
import dataclasses
import json
import re
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssconv_lib.data import Cifar10, Images, LongRange
from ssconv_lib.fieldmap import check_field, decode_map, encode_map, field_sizes
from ssconv_lib.fieldrun import FieldRun
from ssconv_lib.origin import origin
from ssconv_lib.records import RecordStore, read_record, run_of
from ssconv_lib.run import Run

NETWORK = Run(data=LongRange(size=12, distance=6), model="long_range_cnn", alpha=0.125, epochs=2)
RUN = FieldRun(network=NETWORK, layer="layers.0.conv", box=(4, 8), iterations=3)


@st.composite
def field_runs(draw):
    data = draw(st.sampled_from([LongRange(), Cifar10(), Cifar10(normalise="gcn"), Images(pixels=64)]))
    model = "long_range_cnn" if data.name == "longrange" else "wrn10_2"
    low = draw(st.integers(0, 10))
    black = data in (Cifar10(), Images(pixels=64))
    return FieldRun(
        network=Run(data=data, model=model, alpha=draw(st.sampled_from([0, 0.06])), epochs=draw(st.integers(1, 300))),
        layer=draw(st.sampled_from(["stem", "stage1.0", "layers.0.conv_2"])),
        box=(low, draw(st.integers(low + 1, 24))),
        trained=draw(st.booleans()),
        channel=draw(st.none() | st.integers(0, 64)),
        beta=draw(st.floats(0, 1)),
        start=draw(st.floats(-3, 3)),
        eps=draw(st.floats(1e-30, 1)),
        iterations=draw(st.integers(1, 10**5)),
        fill=draw(st.sampled_from(["mean", "black"])) if black else "mean",
        seed=draw(st.integers(0, 2**63 - 1)),
    )


@given(field_runs())
def test_a_field_survives_json(run):
    again = FieldRun.from_dict(json.loads(json.dumps(run.to_dict(), allow_nan=False)))
    assert again == run
    assert again.hash == FieldRun.from_dict(run.identity()).hash == run.hash
    assert run.label.startswith("field-")
    assert run.label.endswith(run.hash)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", run.label), "file names are safe"


@given(field_runs(), field_runs())
def test_the_hash_is_the_identity(one, other):
    assert (one.hash == other.hash) == (one.identity() == other.identity())


def test_golden_hashes():
    """Committed records are found by these: if this fails, a default has changed, and must not."""
    assert RUN.label == "field-long_range_cnn-a0.125-layers.0.conv-4-8-935cea78f043"
    untrained = dataclasses.replace(RUN, trained=False, channel=1)
    assert untrained.label == "field-long_range_cnn-a0.125-untrained-layers.0.conv-4-8-c1-a47533857149"


@pytest.mark.parametrize("change", [{"epochs": 3}, {"lr": 0.2}, {"batch_size": 8}, {"precision": "bf16"}])
def test_how_it_would_be_trained_is_nothing_to_an_untrained_network(change):
    other = dataclasses.replace(RUN, network=dataclasses.replace(NETWORK, **change))
    assert other.hash != RUN.hash
    one, other = (dataclasses.replace(run, trained=False) for run in (RUN, other))
    assert one.label == other.label
    assert one.hash != RUN.hash


@pytest.mark.parametrize("change", [{"alpha": 0.25}, {"seed": 1}, {"pi_seed": 1}, {"layout": "listing"}])
def test_what_it_is_built_of_counts_for_an_untrained_network(change):
    one = dataclasses.replace(RUN, trained=False)
    assert dataclasses.replace(one, network=dataclasses.replace(NETWORK, **change)).hash != one.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "../stem"}, r"layer = '\.\./stem'.*letters"),
        ({"layer": ""}, "layer = ''"),
        ({"layer": "layers..0"}, "layer = "),
        ({"box": [4, 4]}, r"box = \(4, 4\).*0 <= low < high <= 12"),
        ({"box": [4, 13]}, r"box = .*<= 12"),
        ({"box": [4.0, 8]}, "box = .*whole"),
        ({"box": [1, 4, 8]}, "box = .*two"),
        ({"box": 4}, "box is 4"),
        ({"channel": -1}, "channel = -1"),
        ({"channel": True}, "channel is True"),
        ({"beta": -1e-6}, "beta is"),
        ({"eps": 0}, "eps = 0.0"),
        ({"lr": 0}, "lr = 0.0"),
        ({"start": float("inf")}, "start is inf"),
        ({"iterations": 0}, "iterations is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"seed": 2**63}, "seed = "),
        ({"fill": "white"}, "fill is 'white'"),
        ({"fill": "black"}, "fill = 'black'.*need no normalisation"),
        ({"network": "wrn10_2"}, "network is 'wrn10_2'.*expected a table"),
        ({"network": {"model": "wrn10_2"}}, "needs the field 'data'"),
        ({"epochs": 3}, "no field 'epochs'"),
    ],
)
def test_what_cannot_be_optimised_is_quoted(change, message):
    with pytest.raises(ValueError, match=message):
        FieldRun.from_dict({**RUN.to_dict(), **change})


def test_black_must_be_one_value():
    of_each = Run(data=Cifar10(normalise="gcn"), model="wrn10_2")
    with pytest.raises(ValueError, match=r"fill = 'black'.*by its own values"):
        FieldRun(network=of_each, layer="stem", box=(8, 16), fill="black")


@pytest.mark.parametrize("missing", ["network", "layer", "box"])
def test_some_fields_are_needed(missing):
    with pytest.raises(ValueError, match=missing):
        FieldRun.from_dict({name: value for name, value in RUN.to_dict().items() if name != missing})


SIGMA = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
SIGMA[0, 0, :4] = torch.tensor([0.5, 0.0, 1.0, 0.5 - 2**-20])


@pytest.fixture
def record():
    return {
        "schema": 1,
        "kind": "field",
        "hash": RUN.hash,
        "run": RUN.to_dict(),
        "map": encode_map(SIGMA),
        "sizes": field_sizes(SIGMA),
        "loss": {"iteration": [1, 2, 3], "perceptual": [2.0, None, 1.0], "penalty": [0.5, 0.5, 0.5]},
        "cost": {"naive": [0.2, 0.3], "fast": [0.1, 0.1]},
        "seconds": 1.0,
        "origin": origin("cpu"),
    }


def test_a_map_comes_back_to_a_256th_and_its_halves_exactly(record):
    found = decode_map(record)
    assert found.shape == SIGMA.shape
    assert ((SIGMA - found) >= 0).all()
    assert (SIGMA - found).max() <= 1 / 256
    assert torch.equal(found >= 0.5, SIGMA >= 0.5)
    assert found[0, 0, :4].tolist() == [0.5, 0.0, 255 / 256, 127 / 256]
    assert found.max() < 1


def test_sizes_are_shares_of_all_values():
    sigma = torch.tensor([[[0.05, 0.1], [0.5, 0.75]]])
    assert field_sizes(sigma) == {"at_least_half": 0.5, "above_half": 0.25, "at_least_tenth": 0.75}


def test_a_record_of_a_field_is_stored_and_found(tmp_path, record):
    store = RecordStore("tiny", tmp_path)
    assert store.add(record) == []
    assert store.get(RUN) == record
    assert run_of(record) == RUN
    assert [*store] == [record]
    assert [*store.speeds()] == []
    assert store.add({**record, "seconds": 9.0, "cost": {"naive": [1.0], "fast": [1.0]}}) == []
    other = torch.zeros(3, 12, 12)
    assert store.add({**record, "map": encode_map(other), "sizes": field_sizes(other)}) == ["map", "sizes"]


def packed(values, more=b""):
    return base64.b64encode(zlib.compress(values, 9) + more).decode()


BOMB = packed(bytes(10**8))
DAMAGE = {
    "the shape": (("map", "shape"), [3, 12, 13], "shape"),
    "the shape and the bytes": (("map", "shape"), [3, 10**6, 10**6], "shape"),
    "base64": (("map", "values"), "!" + packed(bytes(432)), "unpacked"),
    "zlib": (("map", "values"), base64.b64encode(b"nonsense").decode(), "unpacked"),
    "a value too few": (("map", "values"), packed(bytes(431)), "432 bytes"),
    "a value too many": (("map", "values"), packed(bytes(433)), "432 bytes"),
    "something behind the values": (("map", "values"), packed(bytes(432), b"more"), "432 bytes"),
    "a bomb": (("map", "values"), BOMB, "432 bytes"),
    "other values": (("map", "values"), packed(bytes(432)), "at_least_half"),
    "a size over 1": (("sizes", "at_least_tenth"), 1.5, "size"),
    "another size": (("sizes", "above_half"), 0.25, "above_half"),
    "another small size": (("sizes", "at_least_tenth"), 0.25, "at_least_tenth"),
    "an end too early": (("loss", "iteration"), [1, 2], "not finished"),
    "iterations that fall": (("loss", "iteration"), [2, 1, 3], "rising"),
    "a part too short": (("loss", "penalty"), [0.5, 0.5], "loss"),
    "a word in the loss": (("loss", "perceptual"), [1.0, "x", 1.0], "loss"),
    "a cost of nothing": (("cost", "fast"), [0.1, 0.0], "cost"),
    "uneven costs": (("cost", "naive"), [0.1], "cost"),
    "negative seconds": (("seconds",), -1.0, "seconds"),
    "no origin": (("origin",), {}, "device"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_of_a_field_is_refused(tmp_path, record, kind):
    store = RecordStore("tiny", tmp_path)
    store.add(record)
    where, value, message = DAMAGE[kind]
    damaged = json.loads(store.path(RUN).read_text())
    part = damaged
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = value
    store.path(RUN).write_text(json.dumps(damaged))
    with pytest.raises(ValueError, match=rf"damaged record {re.escape(RUN.label)}\.json.*{message}"):
        read_record(store.path(RUN))


def test_a_bomb_is_never_unpacked(record):
    """The unpacker is told to stop one byte behind the map's last."""
    import tracemalloc

    record["map"]["values"] = BOMB
    tracemalloc.start()
    with pytest.raises(ValueError, match="432 bytes"):
        check_field(record, RUN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 10**6
