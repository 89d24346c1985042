"""Several processes train one run: the same losses, weights and statistics as one process that does their forwards."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssconv_lib.data import LongRange, load
from ssconv_lib.group import SOLO, Group
from ssconv_lib.run import Run
from ssconv_lib.train import Machine, fit
from ssconv_lib.training import Training

# 100 images in steps of 24, in forwards of 4: the last step of an epoch is one forward, and all processes but one idle
RUN = Run(
    data=LongRange(size=12, distance=6, train=100, test=40),
    model="long_range_cnn",
    alpha=0.125,
    epochs=2,
    batch_size=24,
    bn_batch=4,
)

# Trains RUN in float64, where the order of sums can't hide a mistake; argv: a folder, the step to stop at on the last
# process ("never": -1). Writes what came out, from each process.
CHILD = """
import json, sys
from pathlib import Path
import torch
from ssconv_lib import train, training
from ssconv_lib.group import SOLO, joined, started_by_torchrun
import test_group

torch.set_num_threads(1)
build = training.build_model

def build_double(*args):
    model = build(*args).double()
    model.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    return model

training.build_model = build_double
folder, stop_at = Path(sys.argv[1]), int(sys.argv[2])

def main(group):
    steps = 0
    def should_stop():
        nonlocal steps
        steps += 1
        return group.rank == group.size - 1 and steps == stop_at
    trained = {}
    machine = train.Machine(group=group, should_stop=should_stop)
    checkpoint = folder / "run.pt"
    keep = lambda model, data: trained.update(model.state_dict())
    record = train.fit(test_group.RUN, machine, checkpoint=checkpoint, keep=keep)
    torch.save(trained, folder / f"weights-{group.size}-{group.rank}.pt")
    (folder / f"record-{group.size}-{group.rank}.json").write_text(json.dumps(record))

if started_by_torchrun():
    with joined("cpu") as (group, device):
        main(group)
    threads = {file.read_text() for file in Path("/proc/self/task").glob("*/comm")}
    assert not [name for name in threads if "gloo" in name], f"they may abort the process while Python ends: {threads}"
else:
    main(SOLO)
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def train_with(processes, folder, stop_at=-1):
    """Train RUN with so many processes; return each one's record and weights."""
    shared = {"PYTHONPATH": str(Path(__file__).parent), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    torchrun = {"WORLD_SIZE": str(processes), "TORCHELASTIC_RUN_ID": "test"} if processes > 1 else {}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), str(stop_at)],
            env={**os.environ, **shared, **torchrun, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(processes)
    ]
    try:
        assert [process.wait(120) for process in running] == [0] * processes
    finally:
        for process in running:
            process.kill()
    names = [f"{processes}-{rank}" for rank in range(processes)]
    records = [json.loads((folder / f"record-{name}.json").read_text()) for name in names]
    return records, [torch.load(folder / f"weights-{name}.pt", weights_only=True) for name in names]


def assert_same(one, other):
    """The same run in float64, but for the order of sums."""
    (record, weights), (there, expected) = one, other
    for entry, reference in zip(record["history"], there["history"], strict=True):
        assert entry == pytest.approx(reference, rel=1e-9)
    assert record["final"] == there["final"]
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    records, weights = train_with(1, tmp_path_factory.mktemp("alone"))
    return records[0], weights[0]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_equal_one_that_accumulates(alone, tmp_path, processes):
    records, weights = train_with(processes, tmp_path)
    for rank in range(processes):
        assert_same((records[rank], weights[rank]), alone)
        names = [name for name in weights[0] if not name.endswith("num_batches_tracked")]
        assert all(torch.equal(weights[rank][name], weights[0][name]) for name in names)
    assert records[0]["origin"]["processes"] == processes
    assert "processes" not in alone[0]["origin"]
    assert any(name.endswith("permutation") for name in weights[0])


def test_resuming_on_another_number_of_processes(alone, tmp_path):
    """One process says stop in the middle of an epoch: all do, and two go on where three were, then one."""
    records, _ = train_with(3, tmp_path, stop_at=3)
    assert records == [None] * 3
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert (state["epoch"], state["batch"]) == (0, 3)
    assert state["sums"][2] == 72, "what all processes have seen"
    assert train_with(2, tmp_path, stop_at=4)[0] == [None] * 2
    assert torch.load(tmp_path / "run.pt", weights_only=True)["epoch"] == 1
    # behind the last step of an epoch, which is short of forwards
    assert train_with(2, tmp_path, stop_at=3)[0] == [None] * 2
    assert torch.load(tmp_path / "run.pt", weights_only=True)["batch"] == 5
    records, weights = train_with(1, tmp_path)
    assert_same((records[0], weights[0]), alone)
    assert len(records[0]["earlier_origins"]) == 2


def test_statistics_are_the_mean_over_the_forwards_of_a_step():
    """Against batch norm's update written out: momentum .1, unbiased variance, each forward from the same start."""
    training = Training(RUN, load(RUN.data), Machine())
    norm = training.model.stem.norm
    inputs = []
    norm.register_forward_hook(lambda module, args, output: inputs.append(args[0].detach()))
    training.model.train()
    training.step(training.train_batches.epoch(0))
    assert [len(x) for x in inputs] == [4] * 6
    means = torch.stack([x.mean((0, 2, 3)) for x in inputs])
    variances = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in inputs])
    torch.testing.assert_close(norm.running_mean, 0.1 * means.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variances.mean(0))


def test_a_step_of_several_forwards_has_the_gradient_of_the_whole_batch_without_batch_norm():
    """Where batch norm plays no part, forwards of 5 give what one of 20 gives, a shorter last one included."""
    whole = dataclasses.replace(RUN, batch_size=24, bn_batch=24, epochs=1, precision="fp32")
    parts = dataclasses.replace(whole, bn_batch=8)
    assert whole.hash == dataclasses.replace(whole, bn_batch=None).hash != parts.hash
    gradients = []
    for run in (whole, parts):
        training = Training(run, load(run.data), Machine())
        training.model.eval()  # batch norm with its first statistics: a fixed affine map
        training.batch = 4  # 4 images: less than one forward
        training.step(training.train_batches.epoch(0, start=4 * run.forwards))
        training.batch = 1
        training.step(training.train_batches.epoch(0, start=run.forwards))
        gradients.append({name: p.grad for name, p in training.model.named_parameters()})
        assert training.sums[2] == 28
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


def test_what_can_not_be_shared_equally_is_refused():
    expected = r"24 images in forwards of 4 \(bn_batch\) can't be shared equally by 4.*divisor of 6"
    with pytest.raises(ValueError, match=expected):
        fit(RUN, Machine(group=Group(0, 4)))
    whole = dataclasses.replace(RUN, bn_batch=None)
    with pytest.raises(ValueError, match="can't be shared equally by 2"):
        fit(whole, Machine(group=Group(0, 2)))
    fresh = dataclasses.replace(RUN, alpha=0.25, control="fresh")
    with pytest.raises(ValueError, match="train it in one process"):
        fit(fresh, Machine(group=Group(0, 2)))


@pytest.mark.parametrize("bn_batch", [0, 5, 48])
def test_forwards_that_do_not_make_up_a_batch_are_refused(bn_batch):
    with pytest.raises(ValueError, match=f"bn_batch = {bn_batch} .*divisor of batch_size = 24"):
        dataclasses.replace(RUN, bn_batch=bn_batch)


def test_alone_a_group_is_its_trivial_case():
    assert SOLO.any(True) and not SOLO.any(False)
    assert SOLO.share(lambda: 3) == 3
    assert torch.equal(SOLO.sum_(torch.ones(2)), torch.ones(2))
    with pytest.raises(ValueError, match="mine"):
        SOLO.share(lambda: (_ for _ in ()).throw(ValueError("mine")))


PROFILE = """
title = "seconds"
hardware = "any"
[run]
data = {{ name = "longrange", size = 12, distance = 6, train = 96, test = 40 }}
batch_size = 32
bn_batch = 8
epochs = {epochs}
[[runs]]
study = "table3"
model = "long_range_cnn"
sweep = {{ alpha = [0, 0.125] }}
"""


@pytest.fixture
def torchrun(tmp_path):
    """Start `torchrun … -m ssconv_lib train` with so many processes; what is left of it is killed at the end."""
    started = []

    def start(processes, *options, epochs=2):
        profile = tmp_path / "small.toml"
        profile.write_text(PROFILE.format(epochs=epochs))
        run = ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(free_port())]
        train = ["-m", "ssconv_lib", "train", "--profile", str(profile), "--records", str(tmp_path / "records")]
        command = [sys.executable, "-m", *run, *train, "--device", "cpu", *options]
        # a session of its own, so that nothing of it outlives the test
        started.append(
            subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
        )
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for_epoch(process):
    """Read stderr until a first epoch is done."""
    for line in process.stderr:
        if "epoch 1/" in line:
            return
    raise AssertionError("no epoch was reported")


def ranks(process):
    """The processes that torchrun started, by rank."""
    found = {}
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        found |= {int(entry[5:]): int(child) for entry in environment if entry.startswith(b"RANK=")}
    return found


def test_torchrun_trains_what_is_missing(torchrun, tmp_path):
    process = torchrun(2)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == "2 trained, 0 left, 0 failed\n", "process 0 alone speaks"
    assert err.count("epoch 2/2") == 2
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "records" / "small").glob("*.json"))]
    assert [record["run"]["alpha"] for record in records] == [0, 0.125]
    assert all(record["origin"]["processes"] == 2 for record in records)
    alone = fit(Run.from_dict(records[1]["run"]))
    for entry, reference in zip(records[1]["history"], alone["history"], strict=True):
        assert entry["train_loss"] == pytest.approx(reference["train_loss"], rel=1e-3)


def test_a_wrong_call_under_torchrun_ends_with_one_message(torchrun):
    process = torchrun(3)  # 4 forwards a step
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "can't be shared equally by 3 processes; take a divisor of 4" in err
    process = torchrun(2, "--workers", "2")
    assert "--workers 2: torchrun's processes train one run after another" in process.communicate(timeout=120)[1]


def test_a_process_that_dies_ends_the_job(torchrun, tmp_path):
    process = torchrun(2, epochs=10_000)
    wait_for_epoch(process)
    os.kill(ranks(process)[1], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "SIGKILL" in err or "-9" in err, err
    assert not [*(tmp_path / "records").rglob("*.json")]


def test_told_to_stop_all_stop_with_a_checkpoint(torchrun, tmp_path):
    """Batch systems send SIGTERM; one process that hears it is enough."""
    process = torchrun(2, epochs=10_000)
    wait_for_epoch(process)
    os.kill(ranks(process)[1], signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "0 trained, 2 left, 0 failed\n"
    (checkpoint,) = (tmp_path / "records" / ".checkpoints" / "small").glob("*.pt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] >= 1
