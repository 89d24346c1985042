"""Runs over executors: one record each, the same as here, whatever becomes of workers; dask's over real TCP."""

import _thread
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from types import SimpleNamespace

import pytest
import torch

from ssconv_lib import __main__ as command_line
from ssconv_lib import cluster, errand, remote
from ssconv_lib.data import Cifar10
from ssconv_lib.errand import Errand, train_away
from ssconv_lib.paths import ROOT
from ssconv_lib.plan import load_profile
from ssconv_lib.records import RecordStore
from ssconv_lib.task import Plan, train_here
from ssconv_lib.training import Training
from ssconv_lib.weights import load_weights
from ssconv_lib.workers import train_missing

PROFILE = """
title = "a test"
hardware = "any"
weights_of_study = "two"
weights_of_seed = 0
[run]
data = { name = "longrange", size = 12, distance = 6, train = 96, test = 40 }
model = "long_range_cnn"
epochs = 2
batch_size = 32
[[runs]]
study = "two"
sweep = { seed = [0, 1], alpha = [0, 0.25] }
[[runs]]
study = "slow"
data = { name = "longrange", size = 12, distance = 6, train = 1000, test = 40 }
epochs = 3
alpha = 0.25
sweep = { seed = [0, 1, 2, 3, 4] }
[[runs]]
study = "endless"
data = { name = "longrange", size = 12, distance = 6, train = 1000, test = 40 }
epochs = 1000
sweep = { seed = [0, 1, 2] }
"""
HOST = socket.gethostname()


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "away.toml"
    path.write_text(PROFILE)
    return load_profile(path)


@pytest.fixture(scope="module")
def here(profile, tmp_path_factory):
    """Trains runs in this process and returns their metrics by label."""
    root = tmp_path_factory.mktemp("here") / "records"
    plan = Plan(profile.name, root, kept=frozenset(run.label for run in profile.kept))

    def train(study):
        runs = profile.runs(study)
        assert all(train_here(run, plan) for run in runs)
        return {label: part for label, part in metrics(root).items() if label in {run.label for run in runs}}

    train.weights = plan.weights
    return train


@pytest.fixture
def records(tmp_path):
    return tmp_path / "caller" / "records"


def metrics(root):
    found = {path.stem: json.loads(path.read_text()) for path in (root / "away").glob("*.json")}
    return {label: (record["history"], record["final"]) for label, record in found.items()}


def labels(profile, study):
    return [run.label for run in profile.runs(study)]


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def make_errand(profile, **changes):
    where = {"profile": profile.name, "code": errand.code(), "device": "cpu", "compile": None, "loaders": 0}
    return Errand(**{**where, "kept": frozenset(), "seconds": None, "sent": time.time(), **changes})


class Scripted(Executor):
    """Answers each task as the test says: by a result, an error or nothing."""

    def __init__(self, answer):
        self.answer, self.futures, self.tasks = answer, [], []

    def submit(self, function, *arguments):
        future = Future()
        self.futures.append(future)
        self.tasks.append(arguments)
        self.answer(len(self.futures) - 1, future, lambda: function(*arguments))
        return future


# any executor


def test_records_and_networks_are_those_of_training_here_in_order_of_priority(profile, here, records, tmp_results):
    with ThreadPoolExecutor(1) as executor, (tmp_results / "log").open("w+") as log:
        outcome = train_missing(profile, "two", executor=executor, records=records, log=log)
        log.seek(0)
        lines = log.read().splitlines()
    assert (outcome.left, outcome.failed) == ([], {})
    assert outcome.trained == labels(profile, "two")
    assert [line.split(":")[0] for line in lines] == labels(profile, "two"), "one line a run"
    assert all(line.endswith(f"% error, trained on {HOST}") for line in lines)
    assert metrics(records) == here("two")
    for run in profile.kept:
        ours, theirs = (
            load_weights(run, "away", root).state_dict() for root in (records.parent / "weights", here.weights)
        )
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert files(records.parent) == sorted(
        [f"{label}.json" for label in labels(profile, "two")] + [f"{run.label}.pt" for run in profile.kept]
    )
    again = train_missing(
        profile, "two", executor=Scripted(lambda *_: pytest.fail("nothing is missing")), records=records
    )
    assert (again.trained, again.left, again.failed) == ([], [], {})


def test_a_task_returns_its_record_and_writes_nothing(profile, tmp_results):
    run, other = profile.runs("two")[:2]
    answer = train_away(run.to_dict(), make_errand(profile, kept=frozenset({run.label})))
    assert json.loads(json.dumps(answer["record"])) == answer["record"]
    assert answer["record"]["hash"] == run.hash
    assert (answer["host"], type(answer["weights"])) == (HOST, bytes)
    assert train_away(other.to_dict(), make_errand(profile))["weights"] is None, "not kept"
    assert files(tmp_results) == []


def test_two_runs_of_one_process_wait_for_each_other(profile, here, records, tmp_results):
    with ThreadPoolExecutor(2) as executor, pytest.warns(UserWarning, match="second run waits.*--nthreads 1"):
        outcome = train_missing(profile, "two", executor=executor, records=records)
    assert sorted(outcome.trained) == sorted(labels(profile, "two"))
    assert metrics(records) == here("two"), "torch's threads and generator are the process's"


def test_a_run_goes_on_from_its_checkpoint_on_the_workers_machine(profile, here, tmp_results, monkeypatch):
    run = profile.runs("two")[0]
    with monkeypatch.context() as patch:
        looks = iter([False] * 3)  # before the first step, and after two
        patch.setattr(errand, "_taken_back", lambda: lambda: next(looks, True))
        assert set(train_away(run.to_dict(), make_errand(profile))) == {"host"}, "taken back"
    assert [path.relative_to(tmp_results).as_posix() for path in tmp_results.rglob("*.pt")] == [
        f"records/.checkpoints/away/{run.label}.pt"
    ]
    steps = []
    step = Training.step
    monkeypatch.setattr(Training, "step", lambda *arguments: steps.append(1) or step(*arguments))
    answer = train_away(run.to_dict(), make_errand(profile))
    assert len(steps) == 3, "two epochs of three steps, of which three had been made"
    assert (answer["record"]["history"], answer["record"]["final"]) == here("two")[run.label]
    assert files(tmp_results) == []


def test_the_budget_counts_the_time_in_the_queue_and_leaves_what_is_not_done(profile, records, tmp_results):
    run = profile.runs("two")[0]
    late = make_errand(profile, seconds=60.0, sent=time.time() - 61)
    assert set(train_away(run.to_dict(), late)) == {"host"}
    with ThreadPoolExecutor(1) as executor:
        outcome = train_missing(profile, "endless", executor=executor, records=records, budget=1.0)
    assert (outcome.trained, outcome.left, outcome.failed) == ([], labels(profile, "endless"), {})
    assert files(tmp_results) == [f"{profile.runs('endless')[0].label}.pt"], "the first has begun, and can go on"


def test_at_the_end_of_the_budget_what_has_not_come_is_taken_back(profile, records, tmp_results):
    executor = Scripted(lambda number, future, train: None)
    outcome = train_missing(profile, "two", executor=executor, records=records, budget=0.1)
    assert (outcome.trained, outcome.left, outcome.failed) == ([], labels(profile, "two"), {})
    assert all(future.cancelled() for future in executor.futures)


def test_a_failing_run_is_named_with_its_machine_and_the_others_go_on(profile, records, tmp_results):
    first, *rest = labels(profile, "two")
    checkpoint = tmp_results / "records" / ".checkpoints" / "away" / f"{first}.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"torn")
    with ThreadPoolExecutor(1) as executor:
        outcome = train_missing(profile, "two", executor=executor, records=records)
    assert (outcome.trained, outcome.left) == (rest, [])
    assert [*outcome.failed] == [first]
    assert f"{first}.pt is damaged; delete it" in outcome.failed[first]
    assert outcome.failed[first].endswith(f"(on {HOST})")


def test_a_worker_with_other_code_or_without_the_images_says_so(profile, tmp_results):
    run = profile.runs("two")[0]
    answer = train_away(run.to_dict(), make_errand(profile, code="0123456789ab"))
    assert f"source {errand.code()}, expected the caller's source 0123456789ab" in answer["error"]
    with pytest.raises(ValueError, match="'cuda:99' is not there"):
        errand.check_here(errand.code(), "cuda:99", [])
    (tmp_results.parent / "datasets" / "cifar10").mkdir()
    with pytest.raises((ValueError, OSError), match="cifar10"):
        errand.check_here(errand.code(), "cpu", [Cifar10()])


def test_the_fingerprint_of_code_follows_names_and_contents(tmp_path):
    def made(folder, **texts):
        for name, text in texts.items():
            path = tmp_path / folder / "sub" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return errand.fingerprint(tmp_path / folder)

    first = made("one", a="x = 1", b="")
    assert made("two", b="", a="x = 1") == first
    (tmp_path / "two" / "sub" / "a.pyc").write_text("")
    assert errand.fingerprint(tmp_path / "two") == first
    assert len({first, made("three", a="x = 2", b=""), made("four", a="x = 1", c=""), made("five", a="x = 1")}) == 4
    assert errand.code() == errand.fingerprint(ROOT / "ssconv_lib")


def test_a_killed_pool_is_one_message_and_the_rest_is_left(profile, here, records, tmp_results):
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        assert train_missing(profile, "two", executor=executor, records=records).trained == labels(profile, "two")
        (pid,) = executor._processes
        threading.Timer(1, os.kill, (pid, signal.SIGKILL)).start()
        outcome = train_missing(profile, "endless", executor=executor, records=records)
    assert metrics(records) == here("two"), "from a process of its own"
    assert (outcome.trained, outcome.left) == ([], labels(profile, "endless"))
    assert [*outcome.failed] == ["a worker"]


def test_an_interrupt_stores_what_was_finished_and_takes_back_the_rest(profile, records, tmp_results):
    def answer(number, future, train):
        if number == 1:
            future.set_result(train())
        if number == 3:
            threading.Timer(0.3, _thread.interrupt_main).start()

    executor = Scripted(answer)
    outcome = train_missing(profile, "two", executor=executor, records=records)
    second = labels(profile, "two")[1]
    assert (outcome.trained, outcome.failed) == ([second], {})
    assert outcome.left == [label for label in labels(profile, "two") if label != second]
    assert [*metrics(records)] == [second]
    assert [future.cancelled() for future in executor.futures] == [True, False, True, True]


def test_what_comes_at_the_moment_of_the_interrupt_is_stored(profile, records, tmp_results, monkeypatch):
    monkeypatch.setattr(remote, "_as_completed", lambda *_: _thread.interrupt_main() or time.sleep(5))
    outcome = train_missing(
        profile, "two", executor=Scripted(lambda _, future, train: future.set_result(train())), records=records
    )
    assert (outcome.trained, outcome.left) == (labels(profile, "two"), [])
    assert sorted(metrics(records)) == sorted(labels(profile, "two"))


def test_what_the_cluster_gives_up_is_told_and_the_others_go_on(profile, records, tmp_results):
    class KilledWorker(Exception):
        """As dask has it."""

    def answer(number, future, train):
        if number == 0:
            future.set_exception(KilledWorker("a page"))
        elif number == 1:
            future.cancel()
            future.set_running_or_notify_cancel()
        elif number == 2:
            future.set_exception(RuntimeError("no such module"))
        else:
            future.set_result(train())

    outcome = train_missing(profile, "two", executor=Scripted(answer), records=records)
    first, second, third, last = labels(profile, "two")
    assert (outcome.trained, outcome.left) == ([last], [second])
    assert "the workers that had it died" in outcome.failed[first]
    assert outcome.failed[third] == "RuntimeError: no such module"
    assert "connection to its scheduler is lost" in outcome.failed["the cluster"]


def test_the_first_record_of_a_run_stays(profile, records, tmp_results):
    """Another caller was faster: no second record, and a warning that the metrics differ."""
    run = profile.runs("two")[0]
    store = RecordStore(profile.name, records)

    def answer(number, future, train):
        result = train()
        if number == 0:
            result["record"]["history"][0]["train_loss"] = 0.125
            store.add(result["record"])
            result = train()
        future.set_result(result)

    with pytest.warns(UserWarning, match="history differs from the record that came meanwhile"):
        outcome = train_missing(profile, "two", executor=Scripted(answer), records=records)
    assert outcome.trained == labels(profile, "two")
    assert len(metrics(records)) == 4
    assert store.get(run)["history"][0]["train_loss"] == 0.125


def test_no_two_tasks_are_equal_so_that_no_earlier_result_is_given_again(profile, records, tmp_results):
    """dask's own get_executor() takes equal tasks for one."""
    executor = Scripted(lambda number, future, train: future.set_exception(RuntimeError("later")))
    for _ in range(2):
        train_missing(profile, "two", executor=executor, records=records)
    assert len(executor.tasks) == 8
    assert not any(task in executor.tasks[:k] for k, task in enumerate(executor.tasks))


def test_an_executor_has_its_own_workers(profile, records):
    with pytest.raises(ValueError, match="workers = 2 with an executor"):
        train_missing(profile, "two", executor=Scripted(None), workers=2, records=records)


# dask


@pytest.mark.parametrize(
    "address", ["nowhere", "tcp://localhost", "tcp://localhost:port", "http://a:80", "tcp://:8786"]
)
def test_what_is_no_address_is_quoted(address):
    with pytest.raises(ValueError, match=f"cluster '{address}': .*tcp://HOST:8786"), cluster.connected(address):
        pass


def test_without_dask_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RuntimeError, match=r"pip install -e '\.\[cluster\]'"), cluster.connected("tcp://a:1"):
        pass


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"])
def test_what_does_not_answer_as_a_scheduler_is_given_up_soon(monkeypatch, answer):
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].sendall(answer) or time.sleep(3), daemon=True).start()
        start = time.monotonic()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with (
            pytest.raises(ConnectionError, match=f"no dask scheduler answers at {address}"),
            cluster.connected(address),
        ):
            pass
    assert time.monotonic() - start < 5


def test_unfit_workers_are_refused_before_they_empty_the_queue():
    threads = {"tcp://a:1": 1, "tcp://a:2": 1, "tcp://b:1": 4, "tcp://c:1": 1}
    answers = dict.fromkeys(threads) | {"tcp://a:1": "no images", "tcp://a:2": "no images"}
    client = SimpleNamespace(nthreads=lambda: threads, run=lambda *_, **__: answers)
    with pytest.raises(RuntimeError) as caught:
        cluster._check_workers(client, "tcp://s:1", [], "cpu")
    assert str(caught.value) == "tcp://a:1, tcp://a:2: no images; tcp://b:1: 4 threads, expected one: --nthreads 1"


def test_a_cluster_without_workers_is_told_how_to_get_them():
    client = SimpleNamespace(nthreads=dict, run=lambda *_, **__: {})
    with pytest.warns(UserWarning, match="no worker.*: dask worker tcp://s:1 --nthreads 1"):
        cluster._check_workers(client, "tcp://s:1", [], "cpu")


@contextmanager
def started(log, *command, **environment):
    """A process in a group of its own, killed with all that it started."""
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **environment},
            process_group=0,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        kill(process)


def kill(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    """A scheduler and two workers, each with a nanny, over TCP."""
    from distributed import Client

    root = tmp_path_factory.mktemp("dask")
    folder, found = root / "results", root / "scheduler.json"
    quiet = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(found))
    options = ("--nthreads", "1", "--memory-limit", "0", "--local-directory", str(root), *quiet)
    worker = ("distributed.cli.dask_worker", *options)
    with started(root / "log", "distributed.cli.dask_scheduler", "--port", "0", *quiet):
        until(lambda: found.exists() and found.read_text())
        address = json.loads(found.read_text())["address"]
        with (
            started(root / "log0", *worker, SSCONV_RESULTS=str(folder / "0")) as one,
            started(root / "log1", *worker, SSCONV_RESULTS=str(folder / "1")) as two,
            Client(address, set_as_default=False) as client,
        ):
            until(lambda: len(client.nthreads()) == 2)
            groups = client.run(os.getpgrp)
            processes = {worker: one if group == one.pid else two for worker, group in groups.items()}
            yield SimpleNamespace(address=address, client=client, processes=processes, folder=folder)


def training(client):
    """The addresses of the workers that train at this moment."""
    states = client.run(lambda dask_worker: dask_worker.state.executing_count)
    return [worker for worker, count in states.items() if count]


def test_an_interrupted_caller_leaves_checkpoints_on_the_workers(dask, profile, records, tmp_path):
    log = tmp_path / "log"
    arguments = ("train", "--profile", profile.source, "--study", "endless", "--records", str(records))
    with started(log, "ssconv_lib", *arguments, "--cluster", dask.address) as process:
        until(lambda: len(training(dask.client)) == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert log.read_text() == "0 trained, 3 left, 0 failed\nto go on, give the same command again\n"
    until(lambda: training(dask.client) == [])
    first, second, _ = labels(profile, "endless")
    assert files(dask.folder) == sorted([f"{first}.pt", f"{second}.pt"])
    assert files(records) == []


def test_unlike_code_on_a_real_worker_is_refused(dask, monkeypatch):
    monkeypatch.setattr(cluster, "code", lambda: "0123456789ab")
    with pytest.raises(RuntimeError) as caught, cluster.connected(dask.address):
        pass
    message = str(caught.value)
    assert "expected the caller's source 0123456789ab" in message
    assert all(worker in message for worker in dask.processes)


def test_a_worker_killed_in_the_middle_loses_no_record_and_doubles_none(dask, profile, here, records):
    """The last test of this cluster: one of its workers is gone, with its nanny."""
    killed = []

    def strike():
        killed.append(until(lambda: training(dask.client))[0])
        kill(dask.processes[killed[0]])

    striker = threading.Thread(target=strike)
    striker.start()
    outcome = train_missing(profile, "slow", executor=dask.client.get_executor(), records=records)
    striker.join()
    assert len(killed) == 1
    assert sorted(outcome.trained) == sorted(labels(profile, "slow")), "each once"
    assert (outcome.left, outcome.failed) == ([], {})
    assert files(records) == sorted(f"{label}.json" for label in labels(profile, "slow"))
    assert metrics(records) == here("slow")


# the command line


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--cluster", "nowhere"], 2, "error: cluster 'nowhere': expected"),
        (
            ["--cluster", "tcp://127.0.0.1:9"],
            1,
            "error: ConnectionError: no dask scheduler answers at tcp://127.0.0.1:9",
        ),
    ],
)
def test_the_command_fails_with_one_line(profile, tmp_path, monkeypatch, capsys, options, status, message):
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # what the command sets for good
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    assert command_line.main(["train", "--profile", profile.source, "--records", str(tmp_path), *options]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert files(tmp_path) == []


def test_workers_here_and_a_cluster_are_a_wrong_call(capsys):
    with pytest.raises(SystemExit) as exit:
        command_line.main(["train", "--profile", "quick", "--workers", "2", "--cluster", "tcp://127.0.0.1:9"])
    assert exit.value.code == 2
    assert "--cluster: not allowed with argument --workers" in capsys.readouterr().err
