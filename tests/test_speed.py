"""Measurements as records, and as the frame that tables are made of. No test asserts a time."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from ssconv_lib import speed
from ssconv_lib.records import RecordStore, read_record
from ssconv_lib.speed import here, measure, measure_missing
from ssconv_lib.speedrun import SpeedRun
from ssconv_lib.study import frame, load_profile, missing, speed_frame, speed_missing, status

TINY = load_profile(Path(__file__).with_name("tiny.toml"))
LAYER = SpeedRun(network="conv3x3", channels=32, batch=2, pixels=6, rounds=3)


@pytest.fixture(scope="module")
def measured():
    return measure(LAYER)


@pytest.fixture
def record(measured):
    return copy.deepcopy(measured)


@pytest.fixture
def store(tmp_path):
    return RecordStore("tiny", tmp_path)


def test_a_record_says_what_was_measured_where_and_how_often(record):
    run = SpeedRun.from_dict(record["run"])
    assert run == here(LAYER)
    assert record["hash"] == run.hash != LAYER.hash
    assert (run.device, run.torch, run.threads) == tuple(record["origin"][name] for name in speed_machine())
    assert [*record["arms"]] == ["conv", "listing", "ss"]
    for arm in record["arms"].values():
        assert arm["n"] == len(arm["seconds"]) == 3
        assert arm["saved_bytes"] is None, "nothing is saved for a backward that does not come"
        assert arm["peak_bytes"] > 0
    assert record["arms"]["conv"]["ratio_quartiles"] == [1, 1]
    assert record["steps"] > 1, "so small a layer takes less than the shortest timing"


def speed_machine():
    return ("device", "torch", "threads")


def test_a_step_of_training_saves_what_conv_saves(monkeypatch):
    monkeypatch.setattr(speed, "SHORTEST", 0)
    run = SpeedRun(network="wrn16_4", batch=2, pixels=32, mode="training", memory_format="channels_last", rounds=1)
    arms = measure(run)["arms"]
    assert arms["ss"]["saved_bytes"] <= 1.01 * arms["conv"]["saved_bytes"] < arms["listing"]["saved_bytes"]
    assert arms["conv"]["peak_bytes"] < arms["listing"]["peak_bytes"]


def test_compiled_networks_are_measured_too(monkeypatch):
    """With a compiler that compiles nothing: what it does is not for this test."""
    modes = []
    monkeypatch.setattr(torch, "compile", lambda model, mode: modes.append(mode) or model)
    assert measure(dataclasses.replace(LAYER, compile="default"))["origin"]["compile"] == "default"
    assert modes == ["default"] * 3


def test_a_record_survives_the_store(store, record):
    run = here(LAYER)
    assert store.get(run) is None
    assert store.add(record) == []
    assert store.get(run) == record
    assert [*store] == [*store.speeds()] == [record]
    assert [path.name for path in store.folder.iterdir()] == [f"{run.label}.json"]
    assert store.get(LAYER) is None, "a plan is not a measurement"


def test_the_first_record_stays_unless_it_is_to_be_replaced(store, record):
    store.add(record)
    other = {**record, "steps": record["steps"] + 1}
    assert store.add(other) == [], "two measurements never give the same, so nothing is reported"
    assert store.get(here(LAYER)) == record
    store.add(other, replace=True)
    assert store.get(here(LAYER)) == other


DAMAGE = {
    "truncated": lambda text: text[: len(text) // 2],
    "of another kind": lambda text: text.replace('"kind": "speed"', '"kind": "noise"'),
    "of no kind": lambda text: text.replace('"kind": "speed",', ""),
    "of another batch": lambda text: text.replace('"batch": 2', '"batch": 4'),
    "of an impossible run": lambda text: text.replace('"batch": 2', '"batch": 0'),
    "without an arm": lambda text: text.replace('  "ss": {', '  "tt": {'),
    "with a word for a time": lambda text: text.replace('"seconds": [', '"seconds": ["x",'),
    "with a round more": lambda text: text.replace('"seconds": [', '"seconds": [0.5,'),
    "with another median": lambda text: text.replace('"median": ', '"median": 1'),
    "with half a byte": lambda text: text.replace('"peak_bytes": ', '"peak_bytes": 0.5, "was": '),
    "without steps": lambda text: text.replace('"steps"', '"stairs"'),
    "without an origin": lambda text: text.replace('"origin"', '"source"'),
    "with arms of no kind": lambda text: text.replace('"arms": {', '"arms": [], "were": {'),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_is_named_and_counts_as_missing(store, record, kind):
    store.add(record)
    path = store.path(here(LAYER))
    damaged = DAMAGE[kind](path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged)
    with pytest.raises(ValueError, match=rf"damaged record {here(LAYER).label}\.json"):
        read_record(path)
    with pytest.warns(UserWarning, match="counts as missing"):
        assert store.get(here(LAYER)) is None


def test_a_measurement_on_no_machine_is_no_record(store, record):
    record["run"] = LAYER.to_dict()
    record["hash"] = LAYER.hash
    store.folder.mkdir(parents=True)
    path = store.folder / f"{LAYER.label}.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="on no machine"):
        read_record(path)


def test_measure_missing_measures_once(store, monkeypatch):
    table = measure_missing(TINY, "scaling", store)
    assert list(zip(table["alpha"], table["channels"], table["arm"], strict=True)) == [
        (alpha, channels, arm) for alpha in (0.04, 0.25) for channels in (32, 64) for arm in ("conv", "listing", "ss")
    ]
    assert (table["n"] == 2).all()
    assert table.loc[table["arm"] == "conv", "ratio"].tolist() == [1.0] * 4
    monkeypatch.setattr(speed, "measure", lambda *_: pytest.fail("it is there"))
    assert measure_missing(TINY, "scaling", store).equals(table)


def test_a_frame_has_the_plans_cases_of_every_machine(store, record):
    assert speed_frame(TINY, "scaling", store).empty
    assert {"ratio", "saved_mb", "peak_mb", "date"} <= set(speed_frame(TINY, "scaling", store).columns)
    store.add(record)  # in the plan, with more rounds
    run = SpeedRun.from_dict(record["run"]).on("another", "2.11.0", 64)
    store.add({**record, "run": run.to_dict(), "hash": run.hash})
    stranger = here(dataclasses.replace(LAYER, pixels=7))
    store.add({**record, "run": stranger.to_dict(), "hash": stranger.hash})
    table = speed_frame(TINY, "scaling", store)
    assert sorted(set(table["device"])) == sorted({"another", here(LAYER).device})
    assert len(table) == 6
    assert set(table["pixels"]) == {6}
    conv = table[(table["arm"] == "conv") & (table["device"] == "another")].iloc[0]
    assert conv["ms_per_image"] == pytest.approx(1000 * conv["seconds"] / 2, rel=1e-4)
    assert conv["seconds_low"] <= conv["seconds"] <= conv["seconds_high"]
    own = table[table["device"] != "another"].set_index("arm")["seconds_each"]
    rounds = {name: tuple(arm["seconds"]) for name, arm in record["arms"].items()}
    assert own.to_dict() == rounds, "in their order: the arms are paired"
    assert speed_frame(TINY, "speed", store).empty


def test_missing_and_status_know_both_kinds(store, record):
    store.add(record)
    assert len(speed_missing(TINY, "scaling", here, store)) == 3
    elsewhere = speed_missing(TINY, "scaling", lambda run: run.on("another", "2.15.0", 1), store)
    assert len(elsewhere) == 4, "another machine lacks them all"
    table = status(TINY, store).set_index("study")
    assert table.loc["scaling", ["planned", "there", "missing", "made by"]].tolist() == [4, 1, 3, "bench"]
    assert table.loc["table1", "made by"] == "train"
    assert len(missing(TINY, store=store)) == len(TINY.runs())
    assert frame(TINY, "table1", store).empty
