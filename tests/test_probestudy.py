"""From a profile's [[probes]] to records and tables, by the command and in a chapter."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch

from ssconv_lib import __main__ as command_line
from ssconv_lib import book, probetask, study
from ssconv_lib.ablation import ablate
from ssconv_lib.book import Chapter
from ssconv_lib.data import load
from ssconv_lib.plan import load_profile
from ssconv_lib.proberecord import SOURCE_COLUMNS, state_digest
from ssconv_lib.probes import Outcome
from ssconv_lib.probetask import ask_missing
from ssconv_lib.records import RecordStore
from ssconv_lib.task import Plan, train_here
from ssconv_lib.weights import load_weights, weights_path

PROFILE = """
title = "a test"
hardware = "any"
{top}
[run]
data = {{ name = "longrange", size = 12, distance = 6, train = 64, test = 32 }}
epochs = 1
batch_size = 16
[[runs]]
study = "reach"
model = "long_range_cnn"
sweep = {{ seed = [0, 1], alpha = [0, 0.0625] }}
[probe]
draws = 2
[[probes]]
study = "ablation"
networks = {networks}
probe = "ablation"
[[probes]]
study = "usage"
networks = {{ study = "reach", seed = 0 }}
sweep = {{ probe = ["wiring", "shift"], images = [8] }}
"""
NETWORKS = '{ study = "reach", alpha = 0.0625 }'


def write(tmp_path, networks=NETWORKS, top="trains_in_chapter = true", more=""):
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE.format(networks=networks, top=top) + more)
    return path


@pytest.fixture
def profile(tmp_path):
    return load_profile(write(tmp_path))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Records and weights of the profile's networks, to copy."""
    folder = tmp_path_factory.mktemp("trained")
    train(load_profile(write(folder)), folder / "records")
    return folder


def train(profile, records):
    plan = Plan(profile.name, records, kept=frozenset(run.label for run in profile.kept))
    assert all(train_here(run, plan) for run in profile.runs("reach"))


@pytest.fixture
def records(trained, tmp_path):
    for part in ("records", "weights"):
        shutil.copytree(trained / part, tmp_path / part)
    return tmp_path / "records"


def toy(subject):
    """In place of every probe: a condition without a draw, and one for each draw."""
    for images, labels in subject.test_batches().epoch(0):
        wrong = (subject.model(images).argmax(1) != labels).cpu()
    yield Outcome({"treatment": "intact"}, wrong)
    for draw in range(subject.run.draws):
        yield Outcome({"treatment": "other", "draw": draw, "agrees": 0.5}, ~wrong)


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setattr(probetask, "find_probe", lambda name: toy)


def here(*arguments):
    """A command in this process, which starts in no time."""
    args = command_line._parser().parse_args([*map(str, arguments)])
    return args.command(args)


def test_a_block_is_a_probe_of_each_network_that_it_chooses(profile):
    assert profile.probe_studies == ["ablation", "usage"]
    runs = profile.probe_runs("ablation")
    assert [(run.network.seed, run.network.alpha, run.images, run.draws) for run in runs] == [
        (0, 0.0625, None, 2),
        (1, 0.0625, None, 2),
    ]
    assert [(run.probe, run.network.alpha, run.images) for run in profile.probe_runs("usage")] == [
        (probe, alpha, 8) for probe in ("wiring", "shift") for alpha in (0, 0.0625)
    ]
    assert len(profile.probe_runs()) == 6
    assert profile.probe_command("usage").endswith("probe --profile " + profile.source + " --study usage")
    assert (profile.studies, profile.field_studies) == (["reach"], [])


def test_networks_that_are_asked_are_kept(profile):
    assert {(run.seed, run.alpha) for run in profile.kept} == {(0, 0), (0, 0.0625), (1, 0.0625)}


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ('{ study = "nine" }', "study = 'nine', expected one that trains: reach"),
        ('{ study = "reach", seed = 7 }', "has seed = 7; they have 0, 1"),
        ('{ study = "reach", control = "roll" }', "has control = 'roll'; they have 'none'"),
        ('"reach"', r"networks = 'reach' in a block \[\[probes\]\] of study 'ablation'"),
    ],
)
def test_networks_that_are_not_there_are_quoted(tmp_path, networks, message):
    with pytest.raises(ValueError, match=message):
        load_profile(write(tmp_path, networks))


def test_an_unknown_probe_is_quoted(tmp_path):
    more = '\n[[probes]]\nstudy = "dreams"\nnetworks = { study = "reach" }\nprobe = "dreams"\n'
    with pytest.raises(ValueError, match="mine.toml: probe = 'dreams' of a ProbeRun: expected one of ablation, wiring"):
        load_profile(write(tmp_path, more=more))


def test_a_study_is_of_one_kind(tmp_path, profile):
    for blocks, more in (
        ("runs", '\n[[probes]]\nstudy = "reach"\nnetworks = { study = "reach" }\nprobe = "shift"\n'),
        ("fields", '\n[[fields]]\nstudy = "usage"\nbox = [4, 8]\nlayer = "stem"\nnetworks = { study = "reach" }\n'),
    ):
        with pytest.raises(ValueError, match=rf"is in a block \[\[{blocks}\]\] and in a block \[\[probes\]\]"):
            load_profile(write(tmp_path, more=more))
    with pytest.raises(ValueError, match=r"'usage' trains nothing: python -m ssconv_lib probe --profile"):
        profile.runs("usage")
    with pytest.raises(ValueError, match=r"'usage' is not of receptive fields: python -m ssconv_lib probe"):
        profile.field_runs("usage")
    with pytest.raises(ValueError, match=r"'reach' is not of probes: python -m ssconv_lib train"):
        profile.probe_runs("reach")
    with pytest.raises(ValueError, match="no study 'nine': it has ablation, usage"):
        profile.probe_runs("nine")
    with pytest.raises(ValueError, match="'probed' is not for a profile to set"):
        load_profile(write(tmp_path, top="probed = 1"))


def test_what_is_made_is_what_the_engine_finds_and_the_same_bits_twice(profile, records, tmp_path):
    outcome = ask_missing(profile, "ablation", records=records)
    runs = profile.probe_runs("ablation")
    assert outcome.made == [run.label for run in runs]
    assert (outcome.left, outcome.waiting, outcome.failed) == ([], {}, {})
    store, data = RecordStore(profile.name, records), load(profile.runs()[0].data)
    table = study.probe_frame(profile, "ablation", store)
    test = [(data.test.images, data.test.labels)]
    for run in runs:
        model = load_weights(run.network, profile.name, records.parent / "weights")
        assert store.get(run)["weights"] == state_digest(model)
        rows = table[(table["hash"] == run.hash) & (table["bn"] == "kept")]
        engine = [*ablate(model, test, draws=2)]
        for (_, row), (condition, wrong) in zip(rows.iterrows(), engine, strict=True):
            assert row[[*condition]].to_dict() == condition
            assert np.array_equal(row["wrong"], wrong.numpy())
            assert row["error"] == 100 * wrong.float().mean().item()
    shutil.copytree(records.parent / "weights", tmp_path / "other" / "weights")
    ask_missing(profile, "ablation", records=tmp_path / "other" / "records")
    again = RecordStore(profile.name, tmp_path / "other" / "records")
    assert all(again.get(run)["conditions"] == store.get(run)["conditions"] for run in runs)
    assert store.add(again.get(runs[0])) == []


def test_made_once_and_status_and_table_know_it(profile, records, toys, monkeypatch):
    store = RecordStore(profile.name, records)
    empty = study.probe_frame(profile, "usage", store)
    assert empty.empty
    assert [*empty.columns] == [*study.empty_probe_frame().columns]
    assert ask_missing(profile, "usage", records=records).made == [run.label for run in profile.probe_runs("usage")]
    monkeypatch.setattr(probetask, "find_probe", lambda name: pytest.fail("it is there"))
    assert ask_missing(profile, "usage", records=records).made == []
    status = study.status(profile, store).set_index("study")
    assert status.loc["usage", ["planned", "there", "missing", "made by"]].tolist() == [4, 4, 0, "probe"]
    assert status.loc["ablation", ["planned", "there", "missing"]].tolist() == [2, 0, 2]
    assert status.loc["usage", "seconds a run"] >= 0
    table = study.probe_frame(profile, "usage", store)
    runs = profile.probe_runs("usage")
    assert [*table.columns] == [*SOURCE_COLUMNS, "treatment", "draw", "agrees", "error", "n_images", "wrong", "hash"]
    assert table["hash"].tolist() == [run.hash for run in runs for _ in range(3)]
    assert table["network"].tolist() == [run.network.hash for run in runs for _ in range(3)]
    assert table["probe"].tolist() == ["wiring"] * 6 + ["shift"] * 6
    assert table["alpha"].tolist() == 2 * (3 * [0.0] + 3 * [0.0625])
    assert table["draw"].tolist() == [None, 0, 1] * 4, "whole numbers stay such beside nothing"
    assert set(table["n_images"]) == {8}
    assert {name: set(table[name]) for name in ("profile", "model", "layout", "control", "seed", "data")} == {
        "profile": {"mine"},
        "model": {"long_range_cnn"},
        "layout": {"auto"},
        "control": {"none"},
        "seed": {0},
        "data": {"longrange"},
    }
    for _, row in table.iterrows():
        assert row["error"] == 100 * row["wrong"].mean()
        assert (row["wrong"].dtype, row["wrong"].shape) == (bool, (8,))
    assert (table["wrong"][0] == ~table["wrong"][1]).all()


def test_a_damaged_record_is_made_again(profile, records, toys):
    store, run = RecordStore(profile.name, records), profile.probe_runs("usage")[0]
    ask_missing(profile, "usage", records=records)
    record = json.loads(store.path(run).read_text())
    record["conditions"][0]["error"] = 50.5
    store.path(run).write_text(json.dumps(record))
    with pytest.warns(UserWarning, match=f"damaged record {run.label}.json.*counts as missing"):
        assert ask_missing(profile, "usage", records=records).made == [run.label]
    assert store.get(run)["conditions"][0]["error"] != 50.5


def test_what_was_stopped_between_conditions_is_made_anew(profile, records, toys):
    asked = []
    with pytest.warns(UserWarning, match=r"probe-wiring-.* was stopped at condition 2, .* begins anew"):
        first = ask_missing(profile, "usage", records=records, is_stopped=lambda: asked.append(1) or len(asked) > 6)
    labels = [run.label for run in profile.probe_runs("usage")]
    assert (first.made, first.left) == (labels[:1], labels[1:]), "asked before each probe and after each condition"
    assert ask_missing(profile, "usage", records=records).made == labels[1:]
    spent = ask_missing(profile, "ablation", records=records, budget=1e-9)
    assert (spent.made, len(spent.left)) == ([], 2)


def test_a_network_that_cannot_be_asked_fails_alone(profile, records, monkeypatch, capsys):
    def choosy(subject):
        if subject.run.network.alpha == 0:
            raise RuntimeError("nothing to look at")
        yield from toy(subject)

    monkeypatch.setattr(probetask, "find_probe", lambda name: choosy)
    code = here("probe", "--profile", profile.source, "--study", "usage", "--records", records)
    out, err = capsys.readouterr()
    assert (code, out) == (1, "2 made, 0 left, 0 waiting, 2 failed\n")
    assert err.count("RuntimeError: nothing to look at") == 2


def test_what_is_no_table_row_is_no_record(profile, records, monkeypatch):
    monkeypatch.setattr(probetask, "find_probe", lambda name: lambda subject: iter([]))
    failed = ask_missing(profile, "usage", records=records).failed
    assert len(failed) == 4
    assert all("of no images" in why for why in failed.values())


def test_images_that_get_lost_on_the_way_fail(profile, records, monkeypatch):
    """As one of a folder whose profile leaves out what can't be read."""
    lost = [Outcome({}, torch.zeros(7, dtype=torch.bool))]
    monkeypatch.setattr(probetask, "find_probe", lambda name: lambda subject: iter(lost))
    failed = ask_missing(profile, "usage", records=records).failed
    assert set(failed.values()) == {"ValueError: n_images = 7, expected 8"}


def test_too_many_images_fail_alone(tmp_path, records, toys):
    path = write(tmp_path)
    path.write_text(path.read_text().replace("images = [8]", "images = [8, 33]"))
    outcome = ask_missing(load_profile(path), "usage", records=records)
    assert len(outcome.made) == 4
    assert len(outcome.failed) == 4
    assert all("images = 33" in why for why in outcome.failed.values())


def test_weights_that_are_missing_are_waited_for_and_the_rest_is_made(profile, records, toys, capsys):
    plain, shuffled = (run.network for run in profile.probe_runs("usage")[:2])
    weights_path(plain, profile.name, records.parent / "weights").unlink()
    code = here("probe", "--profile", profile.source, "--study", "usage", "--records", records)
    out, err = capsys.readouterr()
    assert (code, out) == (1, "2 made, 0 left, 2 waiting, 0 failed\n")
    assert f"error: 2 probes wait for weights: {plain.label} has a record, but its weights were not kept" in err
    assert shuffled.label not in err
    RecordStore(profile.name, records).path(plain).unlink()
    (how,) = ask_missing(profile, records=records).waiting
    command = f"python -m ssconv_lib train --profile {profile.source} --study reach"
    assert how == f"{plain.label} is not trained yet: {command} trains it and keeps its weights"


def test_one_thread_is_used_and_given_back(profile, records, monkeypatch):
    seen = []
    monkeypatch.setattr(probetask, "find_probe", lambda name: lambda _: seen.append(torch.get_num_threads()) or ())
    torch.set_num_threads(2)
    try:
        ask_missing(profile, "usage", records=records)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [1] * 4


def test_the_first_interrupt_ends_after_the_condition_at_hand(profile, records, monkeypatch, capsys):
    def interrupted(subject):
        os.kill(os.getpid(), signal.SIGINT)
        yield from toy(subject)

    monkeypatch.setattr(probetask, "find_probe", lambda name: interrupted)
    with pytest.warns(UserWarning, match="was stopped at condition 1"):
        assert here("probe", "--profile", profile.source, "--study", "usage", "--records", records) == 0
    out, err = capsys.readouterr()
    assert out == "0 made, 4 left, 0 waiting, 0 failed\n"
    assert "to go on, give the same command again" in err


def test_a_call_that_is_wrong_is_refused(tmp_path, records):
    path = write(tmp_path)
    with pytest.raises(ValueError, match="'reach' is not of probes"):
        here("probe", "--profile", path, "--study", "reach", "--records", records)
    path.write_text(path.read_text().partition("[probe]")[0])
    with pytest.raises(ValueError, match=r"plans no probes: it has no block \[\[probes\]\]"):
        here("probe", "--profile", path, "--records", records)


def test_status_says_how_to_make_them(profile, records, capsys):
    assert here("status", "--profile", profile.source, "--records", records) == 0
    assert (
        f"to ask the trained networks: python -m ssconv_lib probe --profile {profile.source}" in capsys.readouterr()[0]
    )


def test_merge_takes_a_record_in(profile, records, tmp_path, toys, capsys):
    ask_missing(profile, "usage", records=records)
    elsewhere = tmp_path / "elsewhere" / "mine"
    elsewhere.mkdir(parents=True)
    for path in records.rglob("probe-*.json"):
        path.rename(elsewhere / path.name)
    for expected in ("4 taken in, 0 there already, 0 damaged\n", "0 taken in, 4 there already, 0 damaged\n"):
        assert here("merge", elsewhere.parent, "--records", records) == 0
        assert capsys.readouterr() == (expected, "")
    assert study.probe_missing(profile, "usage", RecordStore("mine", records)) == []


def test_a_chapter_makes_what_is_missing_after_the_networks_it_needs(tmp_path, tmp_results, toys):
    chapter = Chapter("06", str(write(tmp_path)))
    missing = chapter.missing("usage").data
    assert missing.startswith(
        "Study `usage`: 0 of 4 probes have a record. To make the rest: `python -m ssconv_lib probe"
    )
    table = chapter.probes("usage")
    assert len(table) == 12
    assert chapter.probes("usage")["error"].equals(table["error"])
    assert chapter.missing("usage").data == "Study `usage`: 4 of 4 probes have a record."
    assert len(study.frame(chapter.profile, "reach")) == 4, "the networks' study was trained"
    assert study.probe_frame(chapter.profile, "ablation").empty, "and no other study of probes was made"
    assert [len(frame) for frame in chapter.probe_evidence("usage")] == [12]
    assert chapter.probe_evidence("ablation") == []
    assert chapter.probe_evidence("no such study") == []
    assert chapter.probes("no such study").empty


def test_a_chapter_says_what_failed(tmp_path, tmp_results, trained, monkeypatch):
    for part in ("records", "weights"):
        shutil.copytree(trained / part, tmp_results / part)
    monkeypatch.setattr(probetask, "find_probe", lambda name: lambda subject: iter([]))
    with pytest.raises(RuntimeError, match="not all probes of usage were made.*of no images"):
        Chapter("06", str(write(tmp_path))).probes("usage")


def test_other_profiles_chapters_draw_what_is_stored(tmp_path, tmp_results, monkeypatch):
    monkeypatch.setattr(book, "ask_missing", lambda *_: pytest.fail("nothing is made"))
    chapter = Chapter("06", str(write(tmp_path, top="")))
    assert chapter.probes("usage").empty
    assert [*chapter.probes("usage").columns] == [*study.empty_probe_frame().columns]
