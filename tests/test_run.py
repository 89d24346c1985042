"""The description of a run, and the hash that its record is found by."""

import dataclasses
import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssconv_lib.data import Cifar10, LongRange
from ssconv_lib.paths import ROOT
from ssconv_lib.records import read_record
from ssconv_lib.run import Run

RUN = Run(data=Cifar10(), model="wrn10_2", alpha=0.06, epochs=12, precision="bf16")

runs = st.builds(
    Run,
    data=st.one_of(
        st.builds(LongRange, distance=st.integers(3, 21), noise=st.floats(0, 2)),
        st.builds(Cifar10, evaluate=st.sampled_from(["test", "validation"]), augment=st.booleans()),
    ),
    model=st.sampled_from(["wrn10_2", "wrn16_4", "resnext29_2x64d"]),
    alpha=st.floats(0, 1),
    layout=st.sampled_from(["auto", "leading", "interleaved", "listing", "matched"]),
    seed=st.integers(0, 2**63 - 1),
    pi_seed=st.none() | st.integers(0, 2**63 - 1),
    epochs=st.integers(1, 500),
    milestones=st.sampled_from([(), ("1/2",), ("3/10", "3/5", "9/10")]),
    precision=st.sampled_from(["fp32", "bf16"]),
)


@given(runs)
def test_a_run_survives_json(run):
    again = Run.from_dict(json.loads(json.dumps(run.to_dict(), allow_nan=False)))
    assert again == run
    assert again.hash == run.hash
    assert Run.from_dict(run.identity()).hash == run.hash, "the identity alone describes the run"


@given(runs, runs)
def test_the_hash_is_the_identity(one, other):
    assert (one.hash == other.hash) == (one.identity() == other.identity())


def test_golden_hashes():
    """Committed records are found by these: if this fails, a default has changed, and must not."""
    assert RUN.hash == "c4be6f62a496"
    assert Run(data=LongRange(test=1000), model="long_range_cnn", epochs=8, alpha=1 / 32).hash == "6074bf2f3afe"
    assert RUN.label == f"wrn10_2-a0.06-s0-{RUN.hash}"


def test_every_committed_record_hashes_to_its_name():
    paths = [*(ROOT / "results" / "records").rglob("*.json")]
    for path in paths:
        assert read_record(path)["hash"] in path.name


def test_identity_is_what_differs_from_the_defaults():
    assert RUN.identity() == {
        "data": {"name": "cifar10"},
        "model": "wrn10_2",
        "alpha": 0.06,
        "epochs": 12,
        "precision": "bf16",
    }


def test_without_shuffling_the_fields_on_it_mean_nothing():
    plain = dataclasses.replace(RUN, alpha=0.0)
    for change in ({"layout": "listing"}, {"replace": "all"}, {"pi_seed": 7}):
        assert dataclasses.replace(plain, **change).hash == plain.hash
        assert dataclasses.replace(RUN, **change).hash != RUN.hash
    assert dataclasses.replace(RUN, pi_seed=RUN.seed).hash == RUN.hash


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"epochs": 13},
        {"protocol": 2},
        {"precision": "fp32"},
        {"data": Cifar10(evaluate="validation")},
        {"milestones": ("1/2",)},
        {"lr": 0.05},
    ],
)
def test_a_changed_description_is_another_record(change):
    assert dataclasses.replace(RUN, **change).hash != RUN.hash


def test_one_number_written_in_two_ways_is_one_run():
    assert dataclasses.replace(RUN, milestones=("2/4", "10/12")).hash == RUN.hash
    assert dataclasses.replace(RUN, alpha=-0.0).label == dataclasses.replace(RUN, alpha=0.0).label


def test_whole_numbers_are_one_run_with_floats():
    fields = {"data": {"name": "cifar10"}, "model": "wrn10_2"}
    assert Run.from_dict({**fields, "alpha": 1}).hash == Run.from_dict({**fields, "alpha": 1.0}).hash


def test_the_paper_drops_the_learning_rate_at_150_and_250_of_300():
    run = Run(data=Cifar10(), model="wrn16_4")
    rates = [run.lr_at(Fraction(epoch, run.epochs)) for epoch in (0, 149, 150, 249, 250, 299)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    shorter = dataclasses.replace(run, epochs=12)
    assert [shorter.lr_at(Fraction(epoch, 12)) for epoch in (5, 6, 9, 10)] == pytest.approx([0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 1.5}, "alpha=1.5"),
        ({"alpha": "0.1"}, "alpha is '0.1'"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"model": "wrn17_4"}, "model = 'wrn17_4'.*wrn16_4"),
        ({"layout": "diagonal"}, "layout = 'diagonal'"),
        ({"replace": "none"}, "replace = 'none'"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": True}, "batch_size is True"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed = 9223372036854775808"),
        ({"pi_seed": "a"}, "pi_seed is 'a'"),
        ({"lr": 0}, "lr = 0"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"momentum": 1}, "momentum = 1"),
        ({"weight_decay": -1}, "weight_decay is -1"),
        ({"nesterov": True, "momentum": 0}, "nesterov = True"),
        ({"milestones": ["5/6", "1/2"]}, "milestones"),
        ({"milestones": ["1"]}, "milestones"),
        ({"milestones": [0.5]}, "milestones"),
        ({"milestones": ["x"]}, "milestones"),
        ({"epoch": 3}, "no field 'epoch'.*epochs"),
        ({"data": {"name": "cifar100"}}, "cifar100"),
        ({"data": {"name": "cifar10", "evaluate": "train"}}, "'train'"),
    ],
)
def test_what_cannot_be_trained_is_quoted(change, message):
    fields = {"data": {"name": "cifar10"}, "model": "wrn10_2", **change}
    with pytest.raises(ValueError, match=message):
        Run.from_dict(fields)


@pytest.mark.parametrize("missing", ["data", "model"])
def test_data_and_model_are_needed(missing):
    fields = {"data": {"name": "cifar10"}, "model": "wrn10_2"}
    del fields[missing]
    with pytest.raises(ValueError, match=f"needs the field {missing!r}"):
        Run.from_dict(fields)
