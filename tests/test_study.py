"""From a profile to its runs, and from records to tables."""

import json

import pandas as pd
import pytest
from test_records import MEASURED

from ssconv_lib.records import RecordStore, make_record
from ssconv_lib.study import frame, histories, load_profile, missing, profile_names, status

PROFILE = """
title = "a test"
hardware = "any"
[run]
data = { name = "longrange" }
epochs = 2
[[runs]]
study = "one"
model = "long_range_cnn"
sweep = { seed = [0, 1], alpha = [0, 0.125] }
[[runs]]
study = "two"
model = "long_range_cnn"
alpha = 0.125
sweep = { seed = [1, 2], layout = ["auto", "listing"] }
[speed]
batch = 4
[[speeds]]
study = "fast"
network = "conv1x1"
channels = 8
sweep = { pixels = [6, 12] }
[[speeds]]
study = "faster"
network = "wrn16_4"
pixels = 32
"""


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE)
    return load_profile(path)


@pytest.fixture
def store(tmp_path):
    return RecordStore("mine", tmp_path / "records")


def add(store, runs, error=10.0):
    for k, run in enumerate(runs):
        measured = json.loads(json.dumps(MEASURED))
        measured["final"]["error"] = measured["history"][-1]["error"] = error + k
        store.add(make_record(run, measured))


def test_runs_come_in_order_of_priority_each_once(profile):
    assert [(run.seed, run.alpha, run.layout) for run in profile.runs()] == [
        (0, 0.0, "auto"),
        (0, 0.125, "auto"),
        (1, 0.0, "auto"),
        (1, 0.125, "auto"),  # asked for by both studies
        (1, 0.125, "listing"),
        (2, 0.125, "auto"),
        (2, 0.125, "listing"),
    ]
    assert len(profile.runs("two")) == 4
    assert profile.studies == ["one", "two"]
    assert profile.name == "mine"


def test_measurements_of_speed_are_planned_beside_the_runs(profile):
    assert profile.speed_studies == ["fast", "faster"]
    assert [(run.network, run.batch, run.pixels) for run in profile.speed_runs()] == [
        ("conv1x1", 4, 6),
        ("conv1x1", 4, 12),
        ("wrn16_4", 4, 32),
    ]
    assert [run.pixels for run in profile.speed_runs("fast")] == [6, 12]
    assert profile.bench_command("fast") == f"python -m ssconv_lib bench --profile {profile.source} --study fast"
    with pytest.raises(ValueError, match="'fast' trains nothing: .*bench.*--study fast"):
        profile.runs("fast")
    with pytest.raises(ValueError, match="'one' is not of speed: .*train.*--study one"):
        profile.speed_runs("one")
    with pytest.raises(ValueError, match="no study 'nine'.*fast, faster"):
        profile.speed_runs("nine")


def test_missing_is_what_has_no_record(profile, store):
    add(store, profile.runs()[:3])
    assert missing(profile, store=store) == profile.runs()[3:]
    assert missing(profile, "two", store) == profile.runs("two")


def test_a_frame_has_a_row_a_record(profile, store):
    assert frame(profile, "one", store).empty
    assert {"error", "alpha", "seed", "model"} <= set(frame(profile, "one", store).columns)
    add(store, profile.runs("one"))
    table = frame(profile, "one", store)
    assert table["error"].tolist() == [10.0, 11.0, 12.0, 13.0]
    assert table["alpha"].tolist() == [0, 0.125, 0, 0.125]
    assert table["seconds"].tolist() == [1.5] * 4
    assert set(table["profile"]) == {"mine"}
    assert set(table["data"]) == {"longrange"}
    assert len(frame(profile, "two", store)) == 1, "a run that both ask for is there for both"


def test_histories_have_a_row_an_epoch(profile, store):
    add(store, profile.runs("one")[:2])
    curves = histories(profile, "one", store)
    assert curves.groupby("alpha")["error"].apply(list).tolist() == [[49.0, 10.0], [49.0, 11.0]]
    assert histories(profile, "two", store).empty


def test_status_counts(profile, store):
    add(store, profile.runs("one")[:3])
    table = status(profile, store).set_index("study")
    assert table.loc["one", ["planned", "there", "missing", "seconds a run"]].tolist() == [4, 3, 1, 1.5]
    assert table.loc["two", "missing"] == 4
    assert pd.isna(table.loc["two", "seconds a run"])


@pytest.mark.parametrize("name", [name for name in profile_names() if name != "pilot"])
def test_every_profile_of_the_project_is_whole(name):
    profile = load_profile(name)
    runs = profile.runs()
    assert {"alpha_sweep", "table1"} <= set(profile.studies)
    assert len({run.hash for run in runs}) == len(runs)
    assert profile.trains_in_chapter == (name == "quick")
    assert profile.train_command("table1") == f"python -m ssconv_lib train --profile {name} --study table1"


def test_the_pilot_shares_no_run_with_what_it_prepares():
    pilot, laptop = load_profile("pilot").runs(), load_profile("laptop").runs()
    assert not {run.seed for run in pilot} & {run.seed for run in laptop}


@pytest.mark.parametrize("name", ["quick", "laptop", "gpu"])
def test_speed_is_planned_where_it_can_be_measured(name):
    profile = load_profile(name)
    assert {"speed", "table4", "scaling"} <= set(profile.speed_studies)
    (table4,) = profile.speed_runs("table4")
    assert table4.arms == ("conv", "listing", "ss", "se", "se_listing", "se_ss")
    assert all(run.rounds >= 6 for run in profile.speed_runs()), "fewer have no 95 % interval, and no verdict"
    if name != "quick":
        kinds = pd.DataFrame([run.to_dict() for run in profile.speed_runs("speed")])
        whole = kinds.groupby("network")[["mode", "precision", "memory_format"]].apply(
            lambda t: len(t.drop_duplicates())
        )
        assert whole[["resnet50", "densenet121", "resnext50_32x4d"]].tolist() == [6, 6, 6]


def test_profiles_come_cheapest_first():
    assert profile_names() == ["quick", "pilot", "laptop", "gpu", "paper"]


def test_quick_is_what_the_issue_asks():
    profile = load_profile("quick")
    sweep = pd.DataFrame([(run.alpha, run.seed) for run in profile.runs("alpha_sweep")], columns=["alpha", "seed"])
    assert sorted(sweep["alpha"].unique()) == [0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]
    assert sweep.groupby("alpha")["seed"].nunique().min() >= 3
    assert {run.data.name for run in profile.runs()} == {"longrange"}, "no download"


def test_the_paper_profile_is_as_printed():
    for run in load_profile("paper").runs("table2"):
        assert (run.epochs, run.batch_size, run.lr, run.momentum, run.weight_decay) == (300, 64, 0.1, 0.9, 1e-4)
        assert (run.precision, run.nesterov, run.milestones) == ("fp32", False, ("1/2", "5/6"))
    models = pd.Series([run.model for run in load_profile("paper").runs("table2")])
    assert models.value_counts().to_dict() == {"wrn16_4": 10, "densenet_bc_100_12": 10, "resnext29_2x64d": 10}


@pytest.mark.parametrize("name", ["laptop", "gpu"])
def test_complete_pairs_come_first(name):
    """The first runs are conv and ss of one seed, then of the next."""
    first = load_profile(name).runs()[:10]
    assert [run.alpha for run in first] == [0, 0.06] * 5
    assert [run.seed for run in first] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert {run.model for run in first} == {"wrn10_2" if name == "laptop" else "wrn16_4"}


def test_selection_never_reads_the_test_set():
    for name in ("laptop", "gpu", "paper"):
        assert {run.data.evaluate for run in load_profile(name).runs("alpha_selection")} == {"validation"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 2", "epoch = 2", "no field 'epoch'"),
        ("epochs = 2", 'epochs = "2"', "epochs is '2'"),
        ('model = "long_range_cnn"', 'model = "long_range_cmm"', "long_range_cmm"),
        ('study = "one"', "", "study = None"),
        ('study = "one"', "study = 1", "study = 1"),
        ("sweep = { seed = [0, 1], alpha = [0, 0.125] }", "sweep = { seed = 0 }", r"sweep = \{'seed': 0\}"),
        ("sweep = { seed = [0, 1], alpha = [0, 0.125] }", "sweep = { seed = [] }", "table of lists"),
        ("sweep = { seed = [0, 1]", 'sweep = { model = ["a"]', "'model' is both fixed and swept"),
        ('title = "a test"', 'subtitle = "a test"', "no field 'subtitle'"),
        ('title = "a test"', "title = ", "mine.toml"),
        ('title = "a test"', 'title = "a test"\nname = "laptop"', "'name' is not for a profile"),
        ('title = "a test"', "", "needs the field 'title'"),
        ('data = { name = "longrange" }', 'data = "cifar10"', "the data set is 'cifar10'"),
        ("epochs = 2", "lr = 1" + "0" * 400, "lr is 10+"),
        ("[run]", "[runner]", "'runner'|needs the field 'data'"),
        ("batch = 4", "batches = 4", "no field 'batches'"),
        ("batch = 4", 'batch = "4"', "batch is '4'"),
        ("batch = 4", 'batch = 4\ndevice = "abacus"\ntorch = "2"\nthreads = 1', "the machine that measures"),
        ('study = "fast"', "", r"study = None in a block \[\[speeds\]\]"),
        ('study = "fast"', 'study = "two"', "'two' is in a block .*runs.* and in a block .*speeds"),
        ("pixels = [6, 12]", "pixels = 6", r"sweep = \{'pixels': 6\}"),
        ("[speed]", "[[speed]]", r"a table \[speed\] .* blocks \[\[speeds\]\]"),
    ],
)
def test_mistakes_in_a_profile_are_quoted(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"(?s)profile .*mine.toml: .*({message})|{message}"):
        load_profile(path)


@pytest.mark.parametrize("name", ["fast", "fast.toml", ""])
def test_an_unknown_profile_is_quoted_with_the_known_ones(name):
    with pytest.raises(ValueError, match=f"no profile '{name}'.*quick, pilot, laptop, gpu, paper"):
        load_profile(name)


def test_an_unknown_study_is_quoted(profile):
    with pytest.raises(ValueError, match="no study 'three'.*one, two"):
        profile.runs("three")
