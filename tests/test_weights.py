"""Trained networks that a profile keeps: they give the record's error, and nothing wrong is loaded."""

import dataclasses

import pytest
import torch

from ssconv_lib import task
from ssconv_lib.data import Batches, LongRange, load
from ssconv_lib.evaluation import evaluate
from ssconv_lib.plan import load_profile
from ssconv_lib.records import RecordStore
from ssconv_lib.run import Run
from ssconv_lib.training import EVALUATION_BATCH
from ssconv_lib.weights import load_weights, weights_path

DATA = LongRange(size=12, distance=6, train=96, test=40)
RUN = Run(data=DATA, model="long_range_cnn", alpha=0.125, epochs=1, batch_size=32)
OTHER = dataclasses.replace(RUN, seed=1)
PROFILE = """
title = "one kept"
hardware = "any"
{which}
[run]
data = {{ name = "longrange", size = 12, distance = 6, train = 96, test = 40 }}
[[runs]]
study = "table2"
model = "long_range_cnn"
sweep = {{ seed = [0, 1], alpha = [0, 0.125] }}
"""


@pytest.fixture
def trained(tmp_path):
    """A run whose network is kept and one whose network is not."""
    plan = task.Plan("tiny", tmp_path / "records", kept=frozenset({RUN.label}))
    assert all(task.train_here(run, plan) for run in (RUN, OTHER))
    return tmp_path


def test_a_kept_network_has_the_error_of_its_record(trained):
    model = load_weights(RUN, "tiny", trained / "weights")
    assert not model.training
    wrong = evaluate(model, Batches(load(DATA), "test", EVALUATION_BATCH, train=False)).wrong
    record = RecordStore("tiny", trained / "records").get(RUN)
    assert 100 * wrong / record["final"]["n_images"] == record["final"]["error"]
    assert [path.name for path in (trained / "weights").rglob("*.*")] == [f"{RUN.label}.pt"]


def test_what_is_not_kept_or_of_another_run_is_refused(trained):
    root = trained / "weights"
    with pytest.raises(FileNotFoundError, match=OTHER.label):
        load_weights(OTHER, "tiny", root)
    weights_path(RUN, "tiny", root).rename(weights_path(OTHER, "tiny", root))
    with pytest.raises(ValueError, match=f"of run {RUN.hash}, expected {OTHER.hash}"):
        load_weights(OTHER, "tiny", root)


def test_a_damaged_file_is_named(trained):
    path = weights_path(RUN, "tiny", trained / "weights")
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"not a checkpoint"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{RUN.label}.pt is damaged"):
            load_weights(RUN, "tiny", trained / "weights")
    torch.save([1], path)
    with pytest.raises(ValueError, match="holds a list"):
        load_weights(RUN, "tiny", trained / "weights")
    torch.save({"hash": RUN.hash, "num_classes": 2, "input_size": [3, 12, 12], "model": {}}, path)
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(RUN, "tiny", trained / "weights")


def test_a_profile_names_the_networks_to_keep(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PROFILE.format(which='weights_of_study = "table2"\nweights_of_seed = 1'))
    assert [(run.seed, run.alpha) for run in load_profile(path).kept] == [(1, 0), (1, 0.125)]
    path.write_text(PROFILE.format(which=""))
    assert load_profile(path).kept == []
    for wrong in ('weights_of_study = "table2"\nweights_of_seed = 2', "weights_of_seed = 0"):
        path.write_text(PROFILE.format(which=wrong))
        with pytest.raises(ValueError, match="there is no such run"):
            load_profile(path)


def test_the_laptop_profile_keeps_both_arms_of_each_model():
    kept = load_profile("laptop").kept
    assert sorted((run.model, run.alpha) for run in kept) == [
        (model, alpha) for model in ("densenet_bc_40_12", "resnext29_2x16d", "wrn10_2") for alpha in (0, 0.06)
    ]
