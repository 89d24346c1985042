"""The short forms of what `make soak` does for hours: nothing grows, and several at once do each other no harm."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import test_reproduce
import test_train
from faults import hidden
from soak import made, used

from ssconv_lib import files, task

TESTS = Path(__file__).parent
ROOT = TESTS.parent
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")


@needs_proc
def test_run_after_run_memory_files_and_threads_stay(tmp_path):
    plan = task.Plan("tiny", tmp_path / "records", checkpoint_every=0)

    def train(seeds):
        for seed in seeds:
            assert task.train_here(dataclasses.replace(test_train.RUN, seed=seed), plan)

    train(range(4))
    before = used(os.getpid())
    train(range(4, 16))
    after = used(os.getpid())
    assert after[1:] == before[1:], "open files, threads, processes"
    assert after[0] - before[0] < 10, "megabytes; a run's network, data and optimizer are less than one"


def test_the_same_record_whatever_threads_and_hashes_a_process_is_told_to_have(tmp_path):
    """Training takes one thread: the numbers don't depend on how many the surroundings offer."""
    command = [sys.executable, "-m", "ssconv_lib", "train", "--profile", TESTS / "tiny.toml", "--study", "gates"]
    command += ["--workers", "1"]
    for threads in ("1", "3"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        done = subprocess.run(
            [*map(str, command), "--records", tmp_path / threads],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert made(tmp_path / "1") == made(tmp_path / "3")
    assert len(made(tmp_path / "1")) == 1


def start(arguments, root, **variables):
    environment = {
        **os.environ,
        "SSCONV_RESULTS": str(root / "results"),
        "SSCONV_DATA": str(root / "data"),
        **variables,
    }
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )


@pytest.fixture
def elsewhere(tmp_path):
    """What makes a process, and those that it starts, take themselves for ones of another machine."""
    (tmp_path / "elsewhere").mkdir()
    code = "import socket; socket.gethostname = lambda: 'elsewhere'"
    (tmp_path / "elsewhere" / "sitecustomize.py").write_text(code)
    variables = {"PYTHONPATH": str(tmp_path / "elsewhere")}
    said = subprocess.run(
        [sys.executable, "-c", "from ssconv_lib import files; print(files.HERE)"],
        env=os.environ | variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() != files.HERE
    return variables


def test_three_that_train_on_one_store_lose_double_and_mix_nothing(tmp_path, elsewhere):
    """One of them is killed in the middle; one is of another machine, which shares the folder and no locks."""
    records = tmp_path / "records"
    command = ["-m", "ssconv_lib", "train", "--profile", TESTS / "tiny.toml", "--study", "alpha_sweep"]
    command += ["--workers", 1, "--records"]
    three = [start([*command, records], tmp_path, **variables) for variables in ({}, {}, elsewhere)]
    end = time.monotonic() + 120
    while not [*records.rglob("[!.]*.json")]:
        assert time.monotonic() < end
        time.sleep(0.05)
    three[0].kill()
    for process in three[1:]:
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
        assert "differs" not in said
    three[0].communicate()
    alone = start([*command, tmp_path / "alone"], tmp_path)
    said = alone.communicate(timeout=300)[1]
    assert alone.returncode == 0, said
    assert made(records) == made(tmp_path / "alone")
    assert len(made(records)) == 8
    time.sleep(1)  # a killed one's worker ends by itself
    again = start([*command, records], tmp_path)
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert hidden(tmp_path) == []


REPRODUCE = """
import sys
from pathlib import Path
from ssconv_lib import reproduce
root = Path(sys.argv[1])
chapters, profile = reproduce.plan("quick", book=root / "book", root=root)
print(len(reproduce.reproduce(chapters, profile)), file=sys.stderr)
"""


def test_two_that_execute_the_same_chapters_give_what_one_gives(tmp_path):
    book = tmp_path / "project" / "book"
    book.mkdir(parents=True)
    code = test_reproduce.WRITES.replace("print(profile, os.getcwd())", "print(profile)")
    for number in ("01", "02"):
        (book / f"{number}_toy.py").write_text(test_reproduce.HEAD + code.replace("/01_", f"/{number}_"))

    def reproduce(root):
        return start(["-c", REPRODUCE, tmp_path / "project"], root)

    for process in [reproduce(tmp_path / name) for name in ("two", "two", "one")]:
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
    found = [
        {
            path.relative_to(root).as_posix(): path.read_bytes()
            for path in (root / "results").rglob("*")
            if path.is_file() and not path.name.endswith(".stamp.json")
        }
        for root in (tmp_path / "one", tmp_path / "two")
    ]
    assert found[0] == found[1]
    assert len(found[0]) == 6
    assert json.loads((tmp_path / "two/results/quick/notebooks/01_toy.stamp.json").read_text())
    again = reproduce(tmp_path / "two")
    assert again.communicate(timeout=120)[1].splitlines()[-1] == "0", "both stamps are of what is there"
    assert hidden(tmp_path) == []


INTERRUPTED = """
import sys
from argparse import Namespace
from pathlib import Path
from ssconv_lib import reproduce
root, plan = Path(sys.argv[1]), reproduce.plan
reproduce.plan = lambda profile, wanted: plan(profile, wanted, book=root / "book", root=root)
sys.exit(reproduce.main(Namespace(profile="quick", chapter=None, force=False, cell_timeout=600)))
"""
WAITS = """import os
import time
from pathlib import Path

Path(os.environ["SSCONV_RESULTS"]).with_name("begun").touch()
time.sleep(60)
"""


def test_an_interrupted_chapter_is_one_line_whatever_its_kernel_was_doing(tmp_path):
    """The kernel is interrupted too, and loses whom to tell: neither it nor asyncio shows where it was."""
    book = tmp_path / "project" / "book"
    book.mkdir(parents=True)
    (book / "01_toy.py").write_text(test_reproduce.HEAD + WAITS)
    process = start(["-c", INTERRUPTED, tmp_path / "project"], tmp_path)
    end = time.monotonic() + 120
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.splitlines()[1:] == ["reproduce: interrupted; finished chapters and runs are kept"]
