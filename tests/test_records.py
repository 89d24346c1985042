"""The store: whole or absent, found by its hash, damage named, merging keeps the first."""

import copy
import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ssconv_lib.data import LongRange
from ssconv_lib.files import HERE, sweep, write_whole
from ssconv_lib.origin import origin
from ssconv_lib.records import RecordStore, make_record, read_record
from ssconv_lib.run import Run

RUN = Run(data=LongRange(), model="long_range_cnn", alpha=0.125, epochs=2)
HISTORY = [{"epoch": e, "train_loss": 0.5, "train_error": 50.0, "loss": 0.5, "error": 50.0 - e} for e in (1, 2)]
MEASURED = {
    "history": HISTORY,
    "final": {"error": 48.0, "best_error": 48.0, "best_epoch": 2, "evaluated_on": "test", "n_images": 100},
    "seconds": {"train": 1.0, "evaluate": 0.5},
    "peak_memory_mb": 100.0,
    "origin": origin("cpu"),
}


@pytest.fixture
def record():
    return make_record(RUN, copy.deepcopy(MEASURED))


@pytest.fixture
def store(tmp_path):
    return RecordStore("tiny", tmp_path)


def test_a_record_is_found_by_its_run(store, record):
    assert store.get(RUN) is None
    assert store.add(record) == []
    assert store.get(RUN) == record
    assert [path.name for path in store.folder.iterdir()] == [f"{RUN.label}.json"]
    assert [*store] == [record]


def test_a_record_says_where_it_comes_from(record):
    assert record["hash"] == RUN.hash
    assert Run.from_dict(record["run"]) == RUN
    assert set(record["origin"]) == {"commit", "python", "torch", "device", "threads", "date"}
    assert "/" not in record["origin"]["device"]


def test_adding_again_keeps_the_first_and_reports_what_differs(store, record):
    store.add(record)
    slower = {**record, "seconds": {"train": 9.0, "evaluate": 9.0}}
    assert store.add(slower) == []
    other = {**record, "final": {**record["final"], "error": 10.0}}
    assert store.add(other) == ["final"]
    assert store.get(RUN) == record


DAMAGE = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "not an object": lambda text: "[]",
    "of another schema": lambda text: text.replace('"schema": 1', '"schema": 99'),
    "with a changed run": lambda text: text.replace('"alpha": 0.125', '"alpha": 0.25'),
    "with an impossible run": lambda text: text.replace('"alpha": 0.125', '"alpha": 7'),
    "unfinished": lambda text: text.replace('"epochs": 2', '"epochs": 3'),
    "without an error": lambda text: text.replace('"error": 48.0,', ""),
    "without a field": lambda text: text.replace('"history"', '"story"'),
    "with a NaN": lambda text: text.replace('"error": 48.0,', '"error": NaN,'),
    "without an origin": lambda text: text.replace('"origin"', '"source"'),
    "with an error over 100": lambda text: text.replace('"error": 48.0', '"error": 480.0'),
    "with another final error": lambda text: text.replace('"error": 48.0,\n  "best', '"error": 47.0,\n  "best'),
    "with a word for a history": lambda text: text.replace('"history": [', '"history": "xx", "was": ['),
    "nested too deep": lambda text: text.replace('"schema"', f'"deep": {"[" * 10**5}{"]" * 10**5}, "schema"'),
    "in another encoding": lambda text: "\udcff",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_is_named_and_counts_as_missing(store, record, kind):
    store.add(record)
    path = store.path(RUN)
    path.write_text(DAMAGE[kind](path.read_text()), errors="surrogateescape")
    with pytest.warns(UserWarning, match=rf"damaged record {RUN.label}\.json.*counts as missing"):
        assert store.get(RUN) is None
    with pytest.warns(UserWarning, match="counts as missing"):
        assert [*store] == []


def test_a_damaged_record_is_replaced_by_a_new_one(store, record):
    store.add(record)
    store.path(RUN).write_text("{")
    with pytest.warns(UserWarning, match="damaged"):
        store.add(record)
    assert store.get(RUN) == record


def test_a_renamed_record_is_refused(store, record):
    store.add(record)
    moved = store.path(RUN).rename(store.folder / f"long_range_cnn-a0.5-s0-{RUN.hash}.json")
    with pytest.raises(ValueError, match=r"a0\.5.*the run inside is"):
        read_record(moved)


def test_a_record_that_cannot_be_written_leaves_nothing(store, record):
    record["final"]["error"] = float("nan")
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.add(record)
    assert not store.folder.exists()


def test_write_whole_leaves_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [path]


def test_write_whole_can_keep_what_is_there(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_whole(path, b"second", replace=False)
    assert path.read_bytes() == b"first"
    assert [*tmp_path.iterdir()] == [path]


def test_of_two_writers_at_once_the_first_stays(store, record, monkeypatch):
    """The other writer finishes after we looked and before we write."""
    other = {**record, "final": {**record["final"], "n_images": 99}}
    get = RecordStore.get
    monkeypatch.setattr(RecordStore, "get", lambda self, run: monkeypatch.undo() or store.add(record) or None)
    assert store.add(other) == ["final"]
    assert get(store, RUN) == record


def test_sweep_removes_what_dead_writers_left_and_nothing_else(tmp_path):
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    dead, alive = process.pid, os.getpid()
    names = [f".a.json.{HERE}.{dead}.x.tmp", f".a.json.{HERE}.{alive}.x.tmp", f".a.json.elsewhere.{dead}.x.tmp"]
    old = tmp_path / f".b.json.elsewhere.{alive}.x.tmp"
    for name in [*names, old.name, "a.json", ".hidden", ".a.tmp"]:
        (tmp_path / name).touch()
    os.utime(old, (time.time() - 8 * 86_400,) * 2)
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:], "a.json", ".hidden", ".a.tmp"}


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_where_there_are_no_links_the_first_record_stays_all_the_same(tmp_path, monkeypatch, number):
    """As on a memory stick, or a folder of the cloud that looks like a disk."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write_whole(tmp_path / "a", b"first", replace=False)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a", b"second", replace=False)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def _write_often(folder, number):
    store = RecordStore("tiny", folder)
    for seed in range(40):
        run = Run(data=LongRange(), model="long_range_cnn", alpha=0.125, epochs=2, seed=seed)
        store.add(make_record(run, {**MEASURED, "peak_memory_mb": float(number)}))


@pytest.mark.filterwarnings("error")
def test_several_writers_share_a_store(tmp_path):
    """Every record is readable at every moment, none is lost, none half written."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_often, args=(tmp_path, n)) for n in range(3)]
    for writer in writers:
        writer.start()
    store = RecordStore("tiny", tmp_path)
    while any(writer.is_alive() for writer in writers):
        for record in store:
            assert record["final"] == MEASURED["final"]
    assert len([*store]) == 40
    assert all(path.suffix == ".json" for path in store.folder.iterdir())
