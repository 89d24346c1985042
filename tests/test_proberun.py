"""The description of a probe, and the answers in its record: what can't be is quoted."""

import base64
import dataclasses
import json
import re
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssconv_lib.data import Cifar10, Images, LongRange
from ssconv_lib.origin import origin
from ssconv_lib.proberecord import check_probe, encode_outcomes, pack, state_digest, unpack
from ssconv_lib.proberun import PROBES, ProbeRun
from ssconv_lib.probes import Outcome
from ssconv_lib.records import RecordStore, read_record, run_of
from ssconv_lib.run import Run

NETWORK = Run(data=LongRange(size=12, distance=6, train=64, test=32), model="long_range_cnn", alpha=0.125, epochs=2)
RUN = ProbeRun(network=NETWORK, probe="wiring")


@st.composite
def probe_runs(draw):
    data = draw(st.sampled_from([LongRange(), Cifar10(), Images(pixels=64)]))
    return ProbeRun(
        network=Run(
            data=data,
            model="long_range_cnn" if data.name == "longrange" else "wrn10_2",
            alpha=draw(st.sampled_from([0, 0.06])),
            control=draw(st.sampled_from(["none", "per_channel"])),
            seed=draw(st.integers(0, 3)),
        ),
        probe=draw(st.sampled_from([*PROBES])),
        images=draw(st.none() | st.integers(1, 10**4)),
        draws=draw(st.integers(1, 9)),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


@given(probe_runs())
def test_a_probe_survives_json(run):
    again = ProbeRun.from_dict(json.loads(json.dumps(run.to_dict(), allow_nan=False)))
    assert again == run
    assert again.hash == ProbeRun.from_dict(run.identity()).hash == run.hash
    assert run.label.startswith(f"probe-{run.probe}-{run.network.model}-a")
    assert run.label.endswith(f"-s{run.network.seed}-{run.hash}")
    assert ("per_channel" in run.label) == (run.network.control != "none" and run.network.alpha > 0)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", run.label), "file names are safe"


@given(probe_runs(), probe_runs())
def test_the_hash_is_the_identity(one, other):
    assert (one.hash == other.hash) == (one.identity() == other.identity())


def test_golden_hashes():
    """Committed records are found by these: if this fails, a default has changed, and must not."""
    assert RUN.label == "probe-wiring-long_range_cnn-a0.125-s0-e42d2c2af333"
    network = dataclasses.replace(NETWORK, control="roll", seed=3)
    asked = ProbeRun(network=network, probe="ablation", images=1000, draws=5, seed=1)
    assert asked.label == "probe-ablation-long_range_cnn-a0.125-roll-s3-ebdd5066aeda"


@pytest.mark.parametrize("change", [{"images": 8}, {"draws": 2}, {"seed": 1}, {"probe": "shift"}, {"protocol": 2}])
def test_every_field_counts(change):
    assert dataclasses.replace(RUN, **change).hash != RUN.hash


def test_a_plain_networks_control_is_nothing():
    plain, other = (
        dataclasses.replace(RUN, network=dataclasses.replace(NETWORK, alpha=0.0, control=control))
        for control in ("none", "roll")
    )
    assert plain.label == other.label


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probe": "dreams"}, "probe = 'dreams' of a ProbeRun: expected one of ablation, wiring, shift"),
        ({"probe": 3}, "probe is 3"),
        ({"images": 0}, "images = 0.*1 or more"),
        ({"images": True}, "images is True"),
        ({"draws": 0}, "draws is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed = "),
        ({"protocol": 0}, "protocol is 0"),
        ({"network": "wrn10_2"}, "network is 'wrn10_2'.*expected a table"),
        ({"network": {"model": "wrn10_2"}}, "needs the field 'data'"),
        ({"epochs": 3}, "no field 'epochs'"),
    ],
)
def test_what_cannot_be_asked_is_quoted(change, message):
    with pytest.raises(ValueError, match=message):
        ProbeRun.from_dict({**RUN.to_dict(), **change})


@pytest.mark.parametrize("missing", ["network", "probe"])
def test_some_fields_are_needed(missing):
    with pytest.raises(ValueError, match=missing):
        ProbeRun.from_dict({name: value for name, value in RUN.to_dict().items() if name != missing})


@given(st.lists(st.booleans(), min_size=1, max_size=100))
def test_answers_come_back_whatever_their_number(wrong):
    found = unpack(pack(np.array(wrong)), len(wrong))
    assert found.dtype == bool
    assert found.tolist() == wrong


def test_ten_thousand_answers_take_less_than_two_kilobytes():
    for error in (0.06, 0.5):
        assert len(pack(np.random.default_rng(0).random(10**4) < error)) < 2000


WRONG = torch.arange(37) % 5 == 0  # 8 of 37
CONDITIONS = [{"treatment": "intact"}, {"treatment": "other_pi", "draw": 1, "agrees": 0.1, "on": True, "size": None}]


def outcomes():
    return [Outcome(CONDITIONS[0], WRONG), Outcome(CONDITIONS[1], ~WRONG, torch.zeros(37, dtype=torch.int64))]


@pytest.fixture
def record():
    return {
        "schema": 1,
        "kind": "probe",
        "hash": RUN.hash,
        "run": RUN.to_dict(),
        **encode_outcomes(outcomes()),
        "seconds": 1.0,
        "weights": "0" * 64,
        "origin": origin("cpu"),
    }


def test_errors_are_in_percent_and_answers_are_not_stored(record):
    assert record["n_images"] == 37
    assert [one["error"] for one in record["conditions"]] == [100 * 8 / 37, 100 * 29 / 37]
    assert [one["condition"] for one in record["conditions"]] == CONDITIONS
    assert {*record["conditions"][1]} == {"condition", "error", "wrong"}
    assert unpack(record["conditions"][1]["wrong"], 37).tolist() == (~WRONG).tolist()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "of no images"),
        ([Outcome({}, WRONG), Outcome({"draw": 1}, WRONG[1:])], r"of \[36, 37\] images"),
        ([Outcome({"draw": 1}, WRONG), Outcome({"draw": 1}, ~WRONG)], r"two outcomes .* condition \{'draw': 1\}"),
        ([Outcome({"alpha": 1}, WRONG)], "'alpha' can't name a part"),
        ([Outcome({"wrong": 1}, WRONG)], "'wrong' can't name a part"),
        ([Outcome({"agrees": float("nan")}, WRONG)], "agrees = nan of a condition: expected text, a finite number"),
        ([Outcome({"shift": (1, 2)}, WRONG)], r"shift = \(1, 2\)"),
        ([Outcome({}, WRONG.float())], "wrong is float32"),
        ([Outcome({}, WRONG[:, None])], r"bool of shape \(37, 1\)"),
    ],
)
def test_outcomes_that_no_table_has_room_for_are_quoted(found, message):
    with pytest.raises(ValueError, match=message):
        encode_outcomes(found)


def test_a_condition_that_is_1_and_one_that_is_true_are_two():
    assert len(encode_outcomes([Outcome({"draw": 1}, WRONG), Outcome({"draw": True}, WRONG)])["conditions"]) == 2


def test_a_record_of_a_probe_is_stored_and_found(tmp_path, record):
    store = RecordStore("tiny", tmp_path)
    assert store.add(record) == []
    assert store.get(RUN) == record
    assert run_of(record) == RUN
    assert [*store] == [record]
    assert [*store.speeds()] == []
    assert store.add({**record, "seconds": 9.0}) == []
    assert store.add({**record, "weights": "1" * 64}) == ["weights"]
    other = encode_outcomes([Outcome({}, WRONG[:8])])
    assert store.add({**record, **other}) == ["n_images", "conditions"]


def packed(values, more=b""):
    return base64.b64encode(zlib.compress(values, 9) + more).decode()


BYTES = np.packbits(WRONG.numpy()).tobytes()  # 5 of them
BOMB = packed(bytes(10**8))
FIRST = ("conditions", 0)
DAMAGE = {
    "base64": ((*FIRST, "wrong"), "!" + packed(BYTES), "unpacked"),
    "zlib": ((*FIRST, "wrong"), base64.b64encode(b"nonsense").decode(), "unpacked"),
    "a byte too few": ((*FIRST, "wrong"), packed(BYTES[:-1]), "5 bytes"),
    "a byte too many": ((*FIRST, "wrong"), packed(BYTES + b"0"), "5 bytes"),
    "something behind the answers": ((*FIRST, "wrong"), packed(BYTES, b"more"), "5 bytes"),
    "a bomb": ((*FIRST, "wrong"), BOMB, "5 bytes"),
    "an image too many": ((*FIRST, "wrong"), packed(BYTES[:-1] + b"\x05"), "more than 37"),
    "other answers": ((*FIRST, "wrong"), packed(bytes(5)), "not that of the answers"),
    "another error": ((*FIRST, "error"), 8.0, "not that of the answers"),
    "an error that is no fraction": ((*FIRST, "error"), None, "not that of the answers"),
    "a condition twice": ((*FIRST, "condition"), CONDITIONS[1], "two outcomes"),
    "a condition that is a list": ((*FIRST, "condition"), {"shift": [1, 2]}, "shift"),
    "no condition": (("conditions",), [], "no condition"),
    "another number of images": (("n_images",), 41, "6 bytes"),
    "no images": (("n_images",), 0, "n_images"),
    "a fraction of images": (("n_images",), 37.0, "n_images"),
    "no weights": (("weights",), "resnet", "SHA-256"),
    "negative seconds": (("seconds",), -1.0, "seconds"),
    "no origin": (("origin",), {}, "device"),
    "another run": (("run", "seed"), 1, "the run inside is"),
    "another probe": (("run", "probe"), "dreams", "expected one of"),
    "another kind": (("kind",), "field", "ProbeRun|FieldRun"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_of_a_probe_is_refused(tmp_path, record, kind):
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


def test_a_probe_of_so_many_images_has_so_many_answers(record):
    check_probe(record, dataclasses.replace(RUN, images=37))
    with pytest.raises(ValueError, match="n_images = 37, expected 36"):
        check_probe(record, dataclasses.replace(RUN, images=36))


def test_a_bomb_is_never_unpacked(record):
    """The unpacker is told to stop one byte behind the last."""
    import tracemalloc

    record["conditions"][0]["wrong"] = BOMB
    tracemalloc.start()
    with pytest.raises(ValueError, match="5 bytes"):
        check_probe(record, RUN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 10**6


def test_a_networks_digest_is_of_its_values_alone():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    before = state_digest(model)
    assert before == state_digest(model.to(memory_format=torch.channels_last).eval())
    model[1].running_mean[2] += 2**-20
    changed = state_digest(model)
    model[1].num_batches_tracked += 1  # which has no dimensions
    assert len({before, changed, state_digest(model)}) == 3
