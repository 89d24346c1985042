"""One run: the same record every time, however often it was killed; the paper's schedule; honest evaluation."""

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ssconv_lib.data import Batches, LongRange, load
from ssconv_lib.evaluation import evaluate
from ssconv_lib.run import Run
from ssconv_lib.train import Machine, fit
from ssconv_lib.training import Training, build_model
from ssconv_lib.weights import load_weights

RUN = Run(
    data=LongRange(size=12, distance=6, train=96, test=40),
    model="long_range_cnn",
    alpha=0.125,
    epochs=3,
    batch_size=32,
)
PAIRED = dataclasses.replace(RUN, alpha=0.0)


def same(one, other):
    return one["history"] == other["history"] and one["final"] == other["final"]


@pytest.fixture(scope="module")
def measured():
    torch.set_num_threads(1)
    return fit(RUN)


def test_the_same_run_gives_the_same_record(measured):
    assert same(fit(RUN), measured)
    assert not same(fit(dataclasses.replace(RUN, seed=1)), measured)
    assert not same(fit(dataclasses.replace(RUN, pi_seed=1)), measured)


def test_golden_metrics(measured):
    """One small run, to a tolerance that other processors keep: the protocol has not changed unnoticed."""
    history = measured["history"]
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert history[0]["train_loss"] == pytest.approx(0.7256790, rel=2e-3)
    assert history[-1]["train_loss"] == pytest.approx(0.6604147, rel=2e-2)
    assert measured["final"]["n_images"] == 40
    assert measured["final"]["error"] == history[-1]["error"]


def test_the_best_epoch_is_the_first_of_the_lowest_error(measured):
    errors = [entry["error"] for entry in measured["history"]]
    assert measured["final"]["best_error"] == min(errors)
    assert measured["final"]["best_epoch"] == errors.index(min(errors)) + 1
    assert measured["final"]["evaluated_on"] == "test"


def test_the_record_is_json(measured):
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured


def test_training_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    fit(dataclasses.replace(RUN, epochs=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_conv_and_ss_runs_of_one_seed_are_paired():
    """Same initial weights, same batches; only the shuffle differs."""
    data = load(RUN.data)
    ss, conv = (build_model(run, data.num_classes, data.input_size) for run in (RUN, PAIRED))
    weights = dict(ss.named_parameters())
    assert all(torch.equal(weights[name], parameter) for name, parameter in conv.named_parameters())
    other_pi = build_model(dataclasses.replace(RUN, pi_seed=8), data.num_classes, data.input_size)
    assert torch.equal(other_pi.stem.conv.weight, ss.stem.conv.weight)
    assert not torch.equal(other_pi.layers[0].conv.permutation, ss.layers[0].conv.permutation)
    other_seed = build_model(dataclasses.replace(RUN, seed=1), data.num_classes, data.input_size)
    assert not torch.equal(other_seed.stem.conv.weight, ss.stem.conv.weight)


def test_a_step_is_sgd_as_the_paper_says():
    """Momentum .9, weight decay 1e-4 on everything, lr .1: against the update written out."""
    data = load(RUN.data)
    training = Training(PAIRED, data, Machine())
    images, labels = next(iter(training.train_batches.epoch(0)))
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in before.items()}
    for step in range(2):
        training.batch = step
        training.model.train()
        reference = {name: p.detach().clone() for name, p in training.model.named_parameters()}
        training.step(iter([(images, labels)]))
        for name, p in training.model.named_parameters():
            velocity[name] = 0.9 * velocity[name] + p.grad + 1e-4 * reference[name]
            torch.testing.assert_close(p.detach(), reference[name] - 0.1 * velocity[name])
    assert not torch.equal(before["stem.conv.weight"], training.model.stem.conv.weight)


def test_the_learning_rate_follows_the_schedule():
    run = dataclasses.replace(RUN, epochs=6)
    training = Training(run, load(run.data), Machine())
    images, labels = next(iter(training.train_batches.epoch(0)))
    rates = []
    for training.epoch in range(6):
        training.step(iter([(images, labels)]))
        rates.append(training.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001])


class Recorder(nn.Module):
    """Answers class 1 always, and notes how it was called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x):
        self.calls.append((x.dtype, self.training, torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        return torch.tensor([[0.0, 2.0]]).expand(len(x), 2)


def test_evaluation_counts_every_image_once_in_fp32_and_eval_mode():
    data = load(RUN.data)
    model = Recorder()
    loss, wrong, _, images = evaluate(model, Batches(data, "test", 16, train=False))
    labels = data.test.labels
    assert (wrong, images) == (int((labels == 0).sum()), len(labels))
    logits = torch.tensor([[0.0, 2.0]]).expand(len(labels), 2)
    assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels, reduction="sum")), rel=1e-6)
    assert set(model.calls) == {(torch.float32, False, False, False)}
    with torch.autocast("cpu", torch.bfloat16):
        assert evaluate(Recorder(), Batches(data, "test", 16, train=False)).wrong == wrong
    assert len(model.calls) == 3


def test_bf16_trains_in_bf16_and_evaluates_in_fp32():
    run = dataclasses.replace(RUN, precision="bf16")
    training = Training(run, load(run.data), Machine())
    kinds = []
    training.model.head.register_forward_hook(lambda module, args, out: kinds.append(out.dtype))
    training.train_epoch(lambda: False)
    training.end_epoch()
    assert kinds == [torch.bfloat16] * 3 + [torch.float32]
    assert all(p.dtype == torch.float32 for p in training.model.parameters())


def test_fp16_scales_its_loss_and_resumes_with_the_scale(tmp_path):
    run = dataclasses.replace(RUN, precision="fp16")
    whole = fit(run)
    assert whole["history"][-1]["train_loss"] == pytest.approx(fit(RUN)["history"][-1]["train_loss"], rel=0.05)
    training = Training(run, load(run.data), Machine())
    kinds = []
    training.model.head.register_forward_hook(lambda module, args, out: kinds.append(out.dtype))
    training.train_epoch(lambda: False)
    assert kinds == [torch.float16] * 3
    assert training.scaler.get_scale() > 1 and not Training(RUN, load(RUN.data), Machine()).scaler.is_enabled()
    checkpoint = tmp_path / "run.pt"
    while (result := fit(run, Machine(should_stop=lambda: True), checkpoint=checkpoint)) is None:
        pass
    assert same(result, whole)
    assert torch.load(checkpoint, weights_only=True)["scaler"]["_growth_tracker"] > 0


def test_stopping_at_every_step_and_going_on_gives_the_same_record(measured, tmp_path):
    checkpoint = tmp_path / "run.pt"
    steps = 0
    while (result := fit(RUN, Machine(should_stop=lambda: True), checkpoint=checkpoint)) is None:
        steps += 1
    assert steps == 9, "a step at a time, three epochs of three batches"
    assert same(result, measured)


def test_a_new_permutation_each_forward_goes_on_where_it_was(tmp_path):
    run = dataclasses.replace(RUN, alpha=0.25, control="fresh")
    checkpoint = tmp_path / "run.pt"
    while (result := fit(run, Machine(should_stop=lambda: True), checkpoint=checkpoint)) is None:
        pass
    assert same(result, fit(run))
    assert not same(result, fit(dataclasses.replace(run, control="none")))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    checkpoint = tmp_path / "run.pt"
    fit(RUN, Machine(should_stop=lambda: True), checkpoint=checkpoint)
    with pytest.raises(ValueError, match=r"run\.pt.*belongs to run .*, not to long_range_cnn-a0-s0.*delete it"):
        fit(PAIRED, checkpoint=checkpoint)


def test_no_memory_is_not_taken_for_damage(tmp_path, monkeypatch):
    checkpoint = tmp_path / "run.pt"
    fit(RUN, Machine(should_stop=lambda: True), checkpoint=checkpoint)

    def full(*args, **options):
        raise torch.OutOfMemoryError("the GPU is full")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        fit(RUN, checkpoint=checkpoint)


def test_a_record_names_every_origin_it_has(tmp_path, monkeypatch):
    from ssconv_lib import training

    checkpoint = tmp_path / "run.pt"
    fit(RUN, Machine(should_stop=lambda: True), checkpoint=checkpoint)
    assert "earlier_origins" not in fit(RUN, checkpoint=checkpoint)
    monkeypatch.setattr(training, "origin", lambda *_: {"commit": "another", "date": "later"})
    record = fit(RUN, checkpoint=checkpoint)
    assert record["origin"]["commit"] == "another"
    assert len(record["earlier_origins"]) == 1
    assert record["earlier_origins"][0]["torch"]


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PK" + b[5:]])
def test_a_damaged_checkpoint_is_named(tmp_path, damage):
    checkpoint = tmp_path / "run.pt"
    fit(RUN, Machine(should_stop=lambda: True), checkpoint=checkpoint)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(ValueError, match=r"checkpoint .*run\.pt is damaged; delete it"):
        fit(RUN, checkpoint=checkpoint)


def test_a_diverged_run_ends_with_a_record():
    record = fit(dataclasses.replace(RUN, lr=1e30, epochs=1))
    assert record["history"][0]["train_loss"] is None
    json.dumps(record, allow_nan=False)


# Trains in forked processes, each of which kills itself with SIGKILL at its n-th event: a step of the optimizer, or
# any file operation of a checkpoint or a record (open, fsync, rename, unlink). A process that imports torch once
# and forks is much faster than one a moment.
KILLED = """
import os, pathlib, signal, sys
import torch
torch.set_num_threads(1)
from ssconv_lib import task
import test_train

at = events = 0

def counted(function):
    def wrapper(*args, **options):
        global events
        events += 1
        if events == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return wrapper

torch.optim.SGD.step = counted(torch.optim.SGD.step)
for name in ("open", "replace", "unlink"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
os.fsync = counted(os.fsync)

test_train.Training(test_train.RUN, test_train.load(test_train.RUN.data), test_train.Machine())  # import all it needs
kept = frozenset({test_train.RUN.label})
for line in sys.stdin:
    at, root = int(line.split()[0]), pathlib.Path(line.split()[1])
    child = os.fork()
    if not child:
        events = 0
        plan = task.Plan("tiny", root / "records", kept=kept, checkpoint_every=0)
        done = task.train_here(test_train.RUN, plan)
        print(f"done {events}" if done else "stopped", flush=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status:
        print("killed" if os.WTERMSIG(status) == signal.SIGKILL else f"failed {status}", flush=True)
"""


@pytest.fixture
def train_and_kill_at():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )

    def run(at, root):
        process.stdin.write(f"{at} {root}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    with process:
        yield run
        process.stdin.close()


def test_killed_at_ten_moments_it_resumes_to_the_same_record(measured, tmp_path, train_and_kill_at):
    """From the first step to the last file operation; after each kill it is started again until it is done."""
    done, total = train_and_kill_at(0, tmp_path / "undisturbed").split()
    assert done == "done"
    assert int(total) > 50, "nine steps and ten files, each of several operations"
    for at in [1, int(total), *random.Random(2026).sample(range(2, int(total)), 8)]:
        root = tmp_path / str(at)
        assert train_and_kill_at(at, root) == "killed"
        for path in (root / "records").rglob("[!.]*.json"):
            assert same(json.loads(path.read_text()), measured), "a record is whole or absent"
            assert load_weights(RUN, "tiny", root / "weights"), "and its network is there before it"
        assert train_and_kill_at(0, root).startswith("done")
        (record,) = (root / "records" / "tiny").iterdir()
        assert same(json.loads(record.read_text()), measured)
        assert [*(root / "records" / ".checkpoints" / "tiny").iterdir()] == [], "nothing stays behind"
        assert [path.name for path in (root / "weights" / "tiny").iterdir()] == [f"{RUN.label}.pt"]
