"""From a profile's [[fields]] to records, tables and maps, by the command and in a chapter."""

import os
import shutil
import signal
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import torch
from test_command_line import call, start

from ssconv_lib import __main__ as command_line
from ssconv_lib import fieldtask, study
from ssconv_lib.book import Chapter
from ssconv_lib.data import load
from ssconv_lib.effective import settle
from ssconv_lib.fieldmap import field_sizes
from ssconv_lib.fieldtask import make_field_record, make_missing
from ssconv_lib.loader import make_batches
from ssconv_lib.optimised_field import optimise
from ssconv_lib.plan import load_profile
from ssconv_lib.records import RecordStore, read_record
from ssconv_lib.task import Plan, train_here
from ssconv_lib.training import build_model
from ssconv_lib.weights import load_weights, weights_path

PROFILE = """
title = "a test"
hardware = "any"
{top}
[run]
data = {{ name = "longrange", size = 12, distance = 6, train = 96, test = 40 }}
epochs = 1
batch_size = 32
[[runs]]
study = "reach"
model = "long_range_cnn"
sweep = {{ seed = [0, 1], alpha = [0, 0.0625] }}
[[runs]]
study = "longer"
model = "long_range_cnn"
epochs = 2
[field]
iterations = 12
batch = 8
[[fields]]
study = "layerwise"
box = [4, 8]
networks = {networks}
sweep = {sweep}
"""
NETWORKS = '{ study = "reach", seed = 0 }'
SWEEP = '{ trained = [true, false], layer = ["stem", "layers.0"] }'


def write(tmp_path, networks=NETWORKS, sweep=SWEEP, top="trains_in_chapter = true", more=""):
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE.format(networks=networks, sweep=sweep, top=top) + more)
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
    """Train what is missing of the study `reach`, in this process, and return it."""
    runs = study.missing(profile, "reach", RecordStore(profile.name, records))
    plan = Plan(profile.name, records, kept=frozenset(run.label for run in profile.kept))
    assert all(train_here(run, plan) for run in runs)
    return runs


@pytest.fixture
def records(trained, tmp_path):
    for part in ("records", "weights"):
        shutil.copytree(trained / part, tmp_path / part)
    return tmp_path / "records"


def here(*arguments):
    """A command in this process, which starts in no time."""
    args = command_line._parser().parse_args([*map(str, arguments)])
    return args.command(args)


def test_the_sweep_is_slowest_and_the_networks_are_fastest(profile):
    runs = profile.field_runs("layerwise")
    assert [(run.trained, run.layer, run.network.alpha) for run in runs] == [
        (trained, layer, alpha) for trained in (True, False) for layer in ("stem", "layers.0") for alpha in (0, 0.0625)
    ]
    assert {(run.iterations, run.batch, run.box, run.network.seed) for run in runs} == {(12, 8, (4, 8), 0)}
    assert profile.field_studies == ["layerwise"]
    assert profile.fields_command("layerwise").endswith("mine.toml --study layerwise")
    assert profile.studies == ["reach", "longer"]


def test_a_list_of_values_means_any_and_two_blocks_share_an_untrained_network(tmp_path):
    more = """
[[fields]]
study = "again"
box = [4, 8]
layer = "stem"
trained = false
networks = { study = "longer" }
"""
    path = write(tmp_path, '{ study = "reach", seed = [1, 0], alpha = 0, data = "longrange" }', SWEEP, more=more)
    runs = load_profile(path).field_runs()
    assert [run.network.seed for run in runs[:2]] == [0, 1], "in order of the plan"
    assert len(runs) == 8, "the one of `again` differs in epochs only, which are nothing to an untrained network"
    assert load_profile(path).field_runs("again")[0].hash == runs[4].hash


def test_trained_networks_that_fields_look_at_are_kept(tmp_path):
    alphas = [(run.seed, run.alpha) for run in load_profile(write(tmp_path)).kept]
    assert alphas == [(0, 0), (0, 0.0625)], "once each"
    untrained = '{ trained = [false], layer = ["stem"] }'
    assert load_profile(write(tmp_path, sweep=untrained)).kept == []
    both = write(tmp_path, '{ study = "reach", alpha = 0 }', top='weights_of_study = "reach"\nweights_of_seed = 0')
    assert [(run.seed, run.alpha) for run in load_profile(both).kept] == [(0, 0), (0, 0.0625), (1, 0)]


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ('{ study = "nine" }', "study = 'nine', expected one that trains: reach, longer"),
        ("{ seed = 0 }", "study = None"),
        ('{ study = "reach", seed = 7 }', "has seed = 7; they have 0, 1"),
        ('{ study = "reach", alpha = [0, 0.5] }', "has alpha = 0.5; they have 0.0, 0.0625"),
        ('{ study = "reach", depth = 7 }', "no field 'depth' to choose by; choose by data, model, alpha"),
        ('{ study = "reach", seed = [] }', "chooses none"),
        ('"reach"', r"networks = 'reach' in a block \[\[fields\]\] of study 'layerwise'"),
    ],
)
def test_networks_that_are_not_there_are_quoted(tmp_path, networks, message):
    with pytest.raises(ValueError, match=message):
        load_profile(write(tmp_path, networks))


def test_a_study_is_of_one_kind(tmp_path, profile):
    more = '\n[[fields]]\nstudy = "reach"\nbox = [4, 8]\nlayer = "stem"\nnetworks = { study = "reach" }\n'
    with pytest.raises(ValueError, match=r"'reach' is in a block \[\[runs\]\] and in a block \[\[fields\]\]"):
        load_profile(write(tmp_path, more=more))
    with pytest.raises(ValueError, match=r"'layerwise' trains nothing: python -m ssconv_lib fields"):
        profile.runs("layerwise")
    with pytest.raises(ValueError, match=r"not of speed: python -m ssconv_lib fields"):
        profile.speed_runs("layerwise")
    with pytest.raises(ValueError, match=r"not of receptive fields: python -m ssconv_lib train"):
        profile.field_runs("reach")
    with pytest.raises(ValueError, match="no study 'nine': it has layerwise"):
        profile.field_runs("nine")


def test_what_is_made_is_what_the_engine_finds(profile, records):
    outcome = make_missing(profile, records=records)
    assert len(outcome.made) == 8
    assert (outcome.left, outcome.waiting, outcome.failed) == ([], {}, {})
    assert outcome.made == [
        run.label
        for trained in (True, False)
        for alpha in (0, 0.0625)
        for run in profile.field_runs()
        if (run.trained, run.network.alpha) == (trained, alpha)
    ], "network by network, the trained ones first"
    store, data = RecordStore(profile.name, records), load(profile.runs()[0].data)
    maps = study.field_maps(profile, "layerwise", store)
    for run in profile.field_runs()[1::2]:
        batches = make_batches(data, "train", 8, seed=0, train=True)
        if run.trained:
            network = load_weights(run.network, profile.name, records.parent / "weights")
        else:  # with the batch norm statistics of the first eight batches
            network = build_model(run.network, 2, data.input_size)
            settle(network, [images for images, _ in islice(batches.epoch(0), 8)])
        (found,) = optimise(network, batches, [run], compare=False).values()
        assert torch.equal((256 * found.map).floor().clamp(max=255) / 256, maps[run.hash])
        record = store.get(run)
        assert record["sizes"] == found.sizes
        assert record["loss"] == found.loss
        assert record["origin"]["threads"] == 1
    assert not torch.equal(maps[profile.field_runs()[2].hash], maps[profile.field_runs()[6].hash]), "training counts"
    assert [path.name for path in records.rglob("*.pt")] == []


def test_made_once_and_status_and_frame_know_it(profile, records, monkeypatch):
    store = RecordStore(profile.name, records)
    assert study.field_frame(profile, "layerwise", store).empty
    assert [*study.field_frame(profile, "layerwise", store).columns] == [*study.empty_field_frame().columns]
    assert len(study.field_missing(profile, "layerwise", store)) == 8
    make_missing(profile, records=records)
    monkeypatch.setattr(fieldtask, "optimise", lambda *_, **__: pytest.fail("it is there"))
    assert make_missing(profile, records=records).made == []
    assert study.field_missing(profile, "layerwise", store) == []
    status = study.status(profile, store).set_index("study")
    assert status.loc["layerwise", ["planned", "there", "missing", "made by"]].tolist() == [8, 8, 0, "fields"]
    table = study.field_frame(profile, "layerwise", store)
    runs = profile.field_runs("layerwise")
    assert table["hash"].tolist() == [run.hash for run in runs]
    assert table["alpha"].tolist() == [0, 0.0625] * 4
    assert table["trained"].tolist() == [True] * 4 + [False] * 4
    assert set(table["box_low"]) == {4}
    assert set(table["box_high"]) == {8}
    assert set(table["data"]) == {"longrange"}
    record = store.get(runs[1])
    first = table.iloc[1]
    assert first["size"] == record["sizes"]["at_least_half"]
    assert first["size_strict"] == record["sizes"]["above_half"]
    assert (first["perceptual"], first["penalty"]) == tuple(
        record["loss"][name][-1] for name in ("perceptual", "penalty")
    )
    rounds = sorted(naive / fast for naive, fast in zip(*record["cost"].values(), strict=True))
    assert first["ratio"] == rounds[3]
    assert first["naive_seconds"] == sorted(record["cost"]["naive"])[3]


def test_what_was_stopped_goes_on_and_gives_the_same_maps(profile, records, tmp_path):
    asked = []
    first = make_missing(profile, records=records, is_stopped=lambda: asked.append(1) or len(asked) > 10)
    assert first.made == []
    assert len(first.left) == 8
    assert len([*records.rglob("field-*.pt")]) == 2, "of the one network that was begun"
    second = make_missing(profile, records=records)
    assert len(second.made) == 8
    assert [*records.rglob("field-*.pt")] == []
    shutil.copytree(records.parent / "weights", tmp_path / "other" / "weights")
    make_missing(profile, records=tmp_path / "other" / "records")
    stores = [RecordStore(profile.name, folder) for folder in (records, tmp_path / "other" / "records")]
    for run in profile.field_runs():
        one, other = (store.get(run) for store in stores)
        assert (one["map"], one["loss"]) == (other["map"], other["loss"])


def test_a_budget_that_is_spent_leaves_all_and_trained_networks_come_first(tmp_path, records):
    profile = load_profile(write(tmp_path, sweep=SWEEP.replace("[true, false]", "[false, true]")))
    outcome = make_missing(profile, records=records, budget=1e-9)
    assert (outcome.made, outcome.failed) == ([], {})
    assert ["untrained" in label for label in outcome.left] == [False] * 4 + [True] * 4


def test_one_thread_is_used_and_given_back(profile, records, monkeypatch):
    seen = []
    monkeypatch.setattr(fieldtask, "optimise", lambda *_, **__: seen.append(torch.get_num_threads()) or {})
    torch.set_num_threads(2)
    try:
        make_missing(profile, records=records)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == [1] * 4


def test_weights_that_are_missing_are_waited_for_and_the_rest_is_made(tmp_path, profile, records, capsys):
    plain, shuffled = profile.kept
    weights_path(plain, profile.name, records.parent / "weights").unlink()
    weights_path(shuffled, profile.name, records.parent / "weights").unlink()
    RecordStore(profile.name, records).path(shuffled).unlink()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    code = here("fields", "--profile", tmp_path / "mine.toml", "--records", records)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    out, err = capsys.readouterr()
    assert (code, out) == (1, "4 made, 0 left, 4 waiting, 0 failed\n")
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    command = f"python -m ssconv_lib train --profile {tmp_path / 'mine.toml'} --study reach"
    assert f"2 receptive fields wait for weights: {plain.label} has a record" in lines[0]
    assert f"without {plain.label}.json" in lines[0]
    assert f"{command} --records NEW/records" in lines[0]
    assert f"{shuffled.label} is not trained yet: {command} trains it" in lines[1]


def test_following_the_advice_gives_the_weights(tmp_path, profile, records, trained):
    """The record without weights: train beside the other records, which trains nothing but that run."""
    plain = profile.kept[0]
    path = weights_path(plain, profile.name, records.parent / "weights")
    path.unlink()
    new = tmp_path / "new" / "records"
    shutil.copytree(records, new)
    RecordStore(profile.name, new).path(plain).unlink()
    assert train(profile, new) == [plain]
    weights_path(plain, profile.name, new.parent / "weights").rename(path)
    assert make_missing(profile, records=records).waiting == {}
    before, now = (load_weights(plain, profile.name, folder / "weights") for folder in (trained, tmp_path))
    assert all(torch.equal(value, now.state_dict()[name]) for name, value in before.state_dict().items())


def test_a_layer_or_box_that_is_not_there_fails_alone(tmp_path, records, capsys):
    sweep = '{ trained = [false], layer = ["stem", "nowhere"], box = [[4, 8], [3, 5]] }'
    path = write(tmp_path, sweep=sweep.replace('"stem"', '"layers.0"'))
    path.write_text(path.read_text().replace("box = [4, 8]\n", ""))
    code = here("fields", "--profile", path, "--records", records)
    out, err = capsys.readouterr()
    assert (code, out) == (1, "2 made, 0 left, 0 waiting, 6 failed\n")
    assert err.count("ValueError: layer 'nowhere': the model has none of that name") == 4
    assert err.count("ValueError: box = (3, 5): its ends are no multiples") == 2


def test_images_that_are_missing_fail_alone(tmp_path, records, monkeypatch):
    more = """
[[runs]]
study = "real"
model = "wrn10_1"
data = { name = "images", folder = "nothing here", pixels = 32 }
[[fields]]
study = "of_real"
box = [8, 16]
layer = "stem"
trained = false
networks = { study = "real" }
"""
    monkeypatch.setenv("SSCONV_DATA", str(tmp_path / "empty"))
    outcome = make_missing(load_profile(write(tmp_path, more=more)), records=records)
    assert len(outcome.made) == 8
    ((label, error),) = outcome.failed.items()
    assert label.startswith("field-wrn10_1-")
    assert "nothing here" in error


def test_a_call_that_is_wrong_is_refused(tmp_path, records):
    path = write(tmp_path)
    code, _, err = call("fields", "--profile", path, "--study", "reach", "--records", records)
    assert code == 2
    assert "not of receptive fields" in err
    path.write_text(path.read_text().partition("[field]")[0])
    with pytest.raises(ValueError, match=r"plans no receptive fields: it has no block \[\[fields\]\]"):
        here("fields", "--profile", path, "--records", records)


@pytest.mark.skipif(sys.platform != "linux", reason="when to send the signal is read in /proc")
def test_a_signal_checkpoints_and_the_same_command_goes_on(tmp_path, records):
    path = write(tmp_path, '{ study = "reach", seed = 0, alpha = 0 }', '{ layer = ["stem"], iterations = [1500] }')
    profile = load_profile(path)
    process = start("fields", "--profile", path, "--records", records)
    checkpoints, end = records / ".checkpoints" / "mine", time.monotonic() + 60
    while not _begun(process) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "0 made, 1 left" in out
    assert "to go on, give the same command again" in err
    begun = {path.stem for path in checkpoints.glob("*.pt")}
    assert begun
    assert begun <= {run.label for run in profile.field_runs()}
    assert here("fields", "--profile", path, "--records", records) == 0
    assert not [*checkpoints.glob("*.pt")]
    assert study.field_missing(profile, store=RecordStore("mine", records)) == []


def test_the_first_interrupt_is_only_noted_and_the_second_one_ends(tmp_path, records, monkeypatch):
    seen = []

    def optimise(*_, should_stop, **__):
        os.kill(os.getpid(), signal.SIGINT)
        seen.append(should_stop())
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(fieldtask, "optimise", optimise)
    with pytest.raises(KeyboardInterrupt):
        here("fields", "--profile", write(tmp_path), "--records", records)
    assert seen == [True]


def _begun(process):
    """Whether the command is past its imports: it has changed what a signal does."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1


def test_a_chapter_makes_what_is_missing_after_the_networks_it_needs(tmp_path, tmp_results, monkeypatch):
    path = write(tmp_path)
    chapter = Chapter("05", str(path))
    assert "0 of 8 receptive fields have a record" in chapter.missing("layerwise").data
    assert "fields --profile" in chapter.missing("layerwise").data
    table = chapter.fields("layerwise")
    assert len(table) == 8
    assert len(chapter.fields("layerwise")) == 8
    assert chapter.missing("layerwise").data == "Study `layerwise`: 8 of 8 receptive fields have a record."
    assert len(study.frame(chapter.profile, "reach")) == 4, "the networks' study was trained"
    assert study.frame(chapter.profile, "longer").empty, "and no other"
    assert chapter.fields("no such study").empty


def test_a_chapter_trains_once_more_what_has_a_record_but_no_weights(tmp_path, tmp_results, trained):
    """As a newcomer has it whose records are from before this study."""
    shutil.copytree(trained / "records", tmp_results / "records")
    chapter = Chapter("05", str(write(tmp_path)))
    before = {path: path.read_bytes() for path in (tmp_results / "records").rglob("*.json")}
    assert len(chapter.fields("layerwise")) == 8
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not [*(tmp_results / "records" / ".checkpoints").rglob("*.*")]


def test_other_profiles_chapters_draw_what_is_stored(tmp_path, tmp_results):
    chapter = Chapter("05", str(write(tmp_path, top="")))
    assert chapter.fields("layerwise").empty


def test_merge_takes_a_record_in(tmp_path, profile, records, capsys):
    run = profile.field_runs()[-1]
    data = load(run.network.data)
    network = build_model(run.network, 2, data.input_size)
    found = optimise(network, make_batches(data, "train", 8, train=True), [run])[run.hash]
    made = RecordStore("mine", tmp_path / "elsewhere")
    made.add(make_field_record(run, found, "cpu"))
    for expected in ("1 taken in, 0 there already, 0 damaged\n", "0 taken in, 1 there already, 0 damaged\n"):
        assert here("merge", tmp_path / "elsewhere", "--records", records) == 0
        assert capsys.readouterr() == (expected, "")
    assert read_record(RecordStore("mine", records).path(run))["sizes"] == field_sizes(found.map)
