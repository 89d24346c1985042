"""Killed, interrupted or out of disk at any moment: started again, it comes to the same, and nothing lies about.

The suite tries some moments, drawn with a seed; `SSCONV_FAULTS=all` tries every one, as `make soak` does.
"""

import http.server
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import test_train
from faults import HARMS, WORK, Train, as_anybody

from ssconv_lib import cifar10, task
from ssconv_lib.data import Cifar10, load

ROOT = Path(__file__).parent.parent

MOMENTS = {"train": 4, "merge": 4, "cache": 4, "book": 2, "site": 4}  # of each harm, in the suite
ENDS = {
    "kill": {"killed"},
    "interrupt": {"KeyboardInterrupt", "OSError"},
    "full": {"OSError", "done"},  # a cache that can't be written is no fault
}


@pytest.fixture(scope="module")
def do():
    """Does a piece of work in a folder, with a harm at an event; what came of it."""
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, str(here / "faults.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def run(work, root, at=0, harm="kill"):
        process.stdin.write(json.dumps([work, str(root), at, harm]) + "\n")
        process.stdin.flush()
        end, events, made, hidden = json.loads(process.stdout.readline())
        return {"end": end, "events": events, "made": made, "hidden": hidden}

    with process:
        yield run
        process.stdin.close()


def moments(work, harm, events):
    if os.environ.get("SSCONV_FAULTS") == "all":
        return range(1, events + 1)
    return sorted(random.Random(f"{work} {harm}").sample(range(1, events + 1), MOMENTS[work]))


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("work", WORK)
def test_after_any_fault_the_same_comes_out_and_nothing_lies_about(do, tmp_path, work, harm):
    whole = do(work, tmp_path / "undisturbed", 0, harm)
    assert (whole["end"], whole["hidden"]) == ("done", [])
    assert whole["events"] >= MOMENTS[work]
    for at in moments(work, harm, whole["events"]):
        root = tmp_path / str(at)
        hurt = do(work, root, at, harm)
        assert hurt["end"] in ENDS[harm], f"at event {at}"
        if work != "site":  # where an older one may still be there
            assert hurt["made"].items() <= whole["made"].items(), f"at event {at}: a file is half written"
        again = do(work, root)
        assert again["end"] == "done", f"at event {at}"
        assert again["made"] == whole["made"], f"at event {at}"
        assert again["hidden"] == [], f"at event {at}"


# ---- the disk

OVER = """
import resource, sys
from pathlib import Path
from ssconv_lib.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, resource.RLIM_INFINITY))
write_whole(Path(sys.argv[1]), bytes(2**20))
"""


def test_a_file_that_the_disk_has_no_room_for_leaves_the_old_one_and_no_other(tmp_path):
    """The system itself refuses in the midst of writing, as on a full disk."""
    file = tmp_path / "record.json"
    file.write_text("old")
    done = subprocess.run([sys.executable, "-c", OVER, str(file)], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


@pytest.fixture
def read_only(tmp_path):
    """A folder in which nothing can be made."""
    folder = tmp_path / "read only"
    folder.mkdir()
    folder.chmod(0o555)
    code = f"import pathlib; pathlib.Path({str(folder / 'x')!r}).touch()"
    tried = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False, preexec_fn=as_anybody)
    if tried.returncode == 0:
        (folder / "x").unlink()
        pytest.skip("this user can write everywhere")
    yield folder
    folder.chmod(0o755)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--profile", "tests/tiny.toml"),
        ("merge", "results"),
        ("bench", "--profile", "tests/tiny.toml"),
        ("probe", "--profile", "tests/tiny.toml"),
        ("fields", "--profile", "tests/tiny.toml"),
        ("reproduce", "--profile", "quick", "--chapter", "02"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_results_that_can_not_be_written_are_one_message_before_any_work(read_only, arguments):
    folder = read_only
    environment = {**os.environ, "SSCONV_RESULTS": str(folder), "HOME": str(folder), "SSCONV_NATIVE": "0"}
    command = [sys.executable, "-B", "-m", "ssconv_lib", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False, preexec_fn=as_anybody
    )
    assert done.returncode == 1, done.stderr
    assert f"nothing can be written in {folder}/" in done.stderr
    assert "make it writable, or name another place" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(folder.iterdir()) == []


# ---- the network


class Bad(http.server.BaseHTTPRequestHandler):
    """Serves what no archive is, in the way that the address asks for."""

    def do_GET(self):
        if self.path == "/gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(2**20))
        self.end_headers()
        self.wfile.write(bytes(2**19))
        if self.path == "/wrong":
            self.wfile.write(bytes(2**19))
        if self.path == "/stalls":
            self.wfile.flush()
            self.server.let_go.wait(30)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bad) as running:
        running.let_go = threading.Event()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.let_go.set()
        running.shutdown()


@pytest.mark.parametrize("way", ["gone", "cut", "wrong", "stalls"])
def test_a_download_that_fails_is_one_message_and_leaves_nothing(server, tmp_path, monkeypatch, way):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", f"{server}/{way}")
    monkeypatch.setattr(cifar10, "PATIENCE", 0.5)
    with pytest.raises(FileNotFoundError, match=rf"/{way} can't be had .*put that file there as .*make data"):
        load(Cifar10(), tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []
    assert socket.getdefaulttimeout() is None


# ---- the clock


def test_a_clock_that_jumps_changes_neither_what_is_trained_nor_when_it_stops(do, tmp_path, monkeypatch):
    """Dates are told and never compared; what is timed goes by a clock that can't be set."""
    run = test_train.RUN
    times = iter([2e9, 0.0, 4e9, 1.0] * 10_000)
    monkeypatch.setattr(time, "time", lambda: next(times))
    plan = task.Plan("tiny", tmp_path / "records", deadline=time.monotonic() + 600, checkpoint_every=600)
    assert task.train_here(run, plan)
    undisturbed = do("train", tmp_path / "undisturbed")["made"]
    made = {name: digest for name, digest in Train().made(tmp_path).items() if name.startswith("records")}
    assert made == {name: digest for name, digest in undisturbed.items() if name.startswith("records")}
