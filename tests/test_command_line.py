"""python -m ssconv_lib as a user calls it: what it does, what it prints, its exit status."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TINY = str(Path(__file__).with_name("tiny.toml"))


def start(*arguments, **options):
    command = [sys.executable, "-m", "ssconv_lib", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def call(*arguments, **options):
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained") / "records"
    code, out, err = call("train", "--profile", TINY, "--study", "alpha_sweep", "--workers", 2, "--records", root)
    assert (code, out) == (0, "8 trained, 0 left, 0 failed\n"), err
    return root


def records(root):
    return {path.name: json.loads(path.read_text()) for path in (root / "tiny").glob("*.json")}


def metrics(root):
    return {name: (record["history"], record["final"]) for name, record in records(root).items()}


def test_train_writes_a_record_a_run_and_nothing_else(trained):
    assert len(records(trained)) == 8
    assert {record["origin"]["threads"] for record in records(trained).values()} == {1}
    leftovers = [path for path in trained.parent.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert leftovers == []


def test_training_again_trains_nothing(trained):
    code, out, _ = call("train", "--profile", TINY, "--study", "alpha_sweep", "--records", trained)
    assert (code, out) == (0, "0 trained, 0 left, 0 failed\n")


def test_status_says_what_is_there_and_how_to_train_the_rest(trained):
    code, out, _ = call("status", "--profile", TINY, "--records", trained)
    assert code == 0
    rows = {line.split()[0]: line.split()[1:4] for line in out.splitlines() if line.strip()}
    assert rows["alpha_sweep"] == ["8", "8", "0"]
    assert rows["table1"] == ["10", "0", "10"]
    assert rows["scaling"] == ["4", "0", "4"]
    assert f"python -m ssconv_lib train --profile {TINY}" in out
    assert f"python -m ssconv_lib bench --profile {TINY}" in out


def test_a_budget_stops_cleanly_and_the_next_call_ends_with_the_same_records(trained, tmp_path):
    root = tmp_path / "records"
    code, out, err = call(
        "train", "--profile", TINY, "--study", "alpha_sweep", "--budget", 0.01, "--workers", 1, "--records", root
    )
    assert (code, out) == (0, "0 trained, 8 left, 0 failed\n")
    assert "same command again" in err
    assert call("train", "--profile", TINY, "--study", "alpha_sweep", "--records", root)[0] == 0
    assert metrics(root) == metrics(trained)


@pytest.mark.parametrize(
    ("sign", "send"),
    [(signal.SIGINT, os.kill), (signal.SIGTERM, os.kill), (signal.SIGTERM, os.killpg)],
    ids=["Ctrl-C", "kill", "kill of the group, as batch systems do"],
)
def test_an_interrupt_saves_and_the_next_call_goes_on(tmp_path, sign, send):
    """Stopped in the middle of an epoch of some seconds: a checkpoint is there, and the run ends from it."""
    one = Path(TINY).read_text().split("[[runs]]")[0].replace("size = 12, distance = 6, train = 96", "train = 2000")
    (tmp_path / "slow.toml").write_text(one + '[[runs]]\nstudy = "one"\nmodel = "long_range_cnn"\n')
    command = ("train", "--profile", tmp_path / "slow.toml", "--records", tmp_path / "records")
    process = start(*command, process_group=0)
    for line in process.stderr:
        if "epoch 1/2" in line:
            break
    send(process.pid, sign)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "0 trained, 1 left, 0 failed\n"), err
    assert "Traceback" not in err
    assert len([*tmp_path.rglob("*.pt")]) == 1, "a checkpoint"
    code, out, err = call(*command)
    assert (code, out) == (0, "1 trained, 0 left, 0 failed\n")
    assert "epoch 2/2" in err
    assert "epoch 1/2" not in err, "it went on, and did not start anew"


def test_workers_die_with_their_parent(tmp_path):
    process = start("train", "--profile", TINY, "--workers", 2, "--records", tmp_path / "records", process_group=0)
    for line in process.stderr:
        if "epoch 1/2" in line:
            break
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while time.monotonic() < end and _group_lives(process.pid):
        time.sleep(0.1)
    assert not _group_lives(process.pid), "workers outlive a killed parent"


def _group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_killed_worker_is_one_message_and_the_rest_is_left(tmp_path):
    process = start("train", "--profile", TINY, "--workers", 2, "--records", tmp_path / "records")
    for line in process.stderr:
        if "epoch 1/2" in line:
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    worker = next(pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text())
    os.kill(int(worker), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out.endswith(" left, 1 failed\n")
    assert err.count("was killed from outside") == 1


def test_what_a_killed_process_left_is_tidied_up(trained, tmp_path):
    """Killed between record and checkpoint: the next call removes the checkpoint, though nothing is to be trained."""
    root = tmp_path / "records"
    shutil.copytree(trained, root)
    checkpoint = root / ".checkpoints" / "tiny" / f"{next(iter(records(root)))[:-5]}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.touch()
    assert call("train", "--profile", TINY, "--study", "alpha_sweep", "--records", root)[0] == 0
    assert not checkpoint.exists()


def test_merging_the_folder_one_stands_in(trained, tmp_path):
    code, out, _ = call("merge", ".", "--records", tmp_path / "store", cwd=trained / "tiny")
    assert (code, out) == (0, "8 taken in, 0 there already, 0 damaged\n")
    assert metrics(tmp_path / "store") == metrics(trained)


def test_merge_takes_in_keeps_the_first_and_reports(trained, tmp_path):
    other, store = tmp_path / "other", tmp_path / "store"
    code, out, _ = call("merge", trained, "--records", store)
    assert (code, out) == (0, "8 taken in, 0 there already, 0 damaged\n")
    assert metrics(store) == metrics(trained)
    name, record = next(iter(records(trained).items()))
    record["history"][-1]["error"] = record["final"]["error"] = 12.5
    (other / "tiny").mkdir(parents=True)
    (other / "tiny" / name).write_text(json.dumps(record))
    (other / "tiny" / "broken.json").write_text("{")
    code, out, err = call("merge", other, "--records", store)
    assert (code, out) == (1, "0 taken in, 1 there already, 1 damaged\n")
    assert f"{name}: final differs" in err
    assert "damaged record broken.json" in err
    assert metrics(store) == metrics(trained)
    (other / "tiny").rename(other / "else")
    (other / "else" / name).unlink()
    assert call("merge", other, "--records", store)[0] == 1
    assert [path.name for path in store.iterdir()] == ["tiny"], "no folder for what could not be taken in"


def test_merge_takes_in_measurements_of_speed(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    code, out, err = call("bench", "--profile", TINY, "--study", "speed", "--records", there)
    assert (code, err) == (0, "")
    assert out.endswith("2 measured, 2 stored, 0 left, 0 failed\n")
    assert call("merge", there, "--records", here)[1] == "2 taken in, 0 there already, 0 damaged\n"
    assert records(here) == records(there)
    assert call("merge", there, "--records", here)[1:] == ("0 taken in, 2 there already, 0 damaged\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "--profile"),
        (["train", "--profile", "quick", "--study", "scaling"], "bench --profile quick --study scaling measures it"),
        (["train", "--profile", "fast"], "no profile 'fast'"),
        (["train", "--profile", "quick", "--study", "nine"], "no study 'nine'"),
        (["train", "--profile", "quick", "--budget", "-1"], "expected a positive number"),
        (["train", "--profile", "quick", "--workers", "two"], "invalid positive int value: 'two'"),
        (["merge", "nowhere"], "no records (*.json) below nowhere"),
        (["paint"], "invalid choice: 'paint'"),
        ([], "COMMAND"),
    ],
)
def test_wrong_calls_exit_with_2_and_one_clear_message(arguments, message, tmp_path):
    code, out, err = call(*arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_failing_run_is_named_and_the_others_go_on(tmp_path):
    """A checkpoint that is damaged fails its run alone."""
    root = tmp_path / "records"
    assert call("train", "--profile", TINY, "--study", "alpha_sweep", "--budget", 0.01, "--records", root)[0] == 0
    from ssconv_lib.study import load_profile

    run = load_profile(TINY).runs("alpha_sweep")[0]
    checkpoint = tmp_path / "records" / ".checkpoints" / "tiny" / f"{run.label}.pt"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write_bytes(b"torn")
    code, out, err = call("train", "--profile", TINY, "--study", "alpha_sweep", "--records", root)
    assert (code, out) == (1, "7 trained, 0 left, 1 failed\n")
    assert f"{run.label}.pt is damaged; delete it" in err


def test_verify_trains_a_run_again_and_compares(trained, tmp_path):
    """The stored record is neither used nor changed; one that was tampered with is found out."""
    shutil.copytree(trained, tmp_path / "records")
    name, record = sorted(records(tmp_path / "records").items())[0]
    arguments = ("verify", "--profile", TINY, "--records", tmp_path / "records", record["hash"][:8])
    code, out, err = call(*arguments)
    assert (code, out.splitlines()[-1]) == (0, "the same record, bit for bit"), err
    path = tmp_path / "records" / "tiny" / name
    record["history"][0]["train_loss"] += 1e-9
    path.write_text(json.dumps(record))
    code, out, _ = call(*arguments)
    assert code == 1
    assert "different: history" in out
    assert "on record: " in out
    assert json.loads(path.read_text()) == record
    left = [path for path in (tmp_path / "records").rglob("*") if path.is_file()]
    assert sorted(path.name for path in left) == sorted(records(trained)), "nothing stays behind"


@pytest.mark.parametrize(("digits", "found"), [("zz", 0), ("", 8)])
def test_verify_needs_one_record(trained, digits, found):
    code, _, err = call("verify", "--profile", TINY, "--records", trained, digits)
    assert code == 2
    assert f"{found} training records" in err
