import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

os.environ["SSCONV_NATIVE"] = "0"  # the tests are of what every machine has; test_native builds the other

import browser
import matplotlib
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "tests" / "tiny.toml"
BOOK = ("test_chapters", "test_site")  # what uses book_environment

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: commands would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

matplotlib.use("Agg")  # here, not in the environment: kernels would inherit it and show no figure


def pytest_collection_modifyitems(items):
    """Put what needs the executed chapters first, as it takes longest, and test_native last.

    What test_native loads takes the place of the operators' Python form for good.
    """
    items.sort(key=lambda item: (item.path.stem == "test_native", item.path.stem not in BOOK))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep a file's tests on one process, and all that need the executed chapters, so that these run once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = Path(nodeid.split("::", 1)[0]).stem
            return "book" if file in BOOK else file

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """One thread, as every run has: with two the last bits differ."""
    torch.set_num_threads(1)


@pytest.fixture
def tmp_results(tmp_path, monkeypatch):
    """Results and data sets in empty folders of their own; the folder of the results."""
    results, data = tmp_path / "results", tmp_path / "datasets"
    for name, folder in (("SSCONV_RESULTS", results), ("SSCONV_DATA", data)):
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    return results


@pytest.fixture(scope="session")
def book_environment(tmp_path_factory):
    """An environment with results that hold the committed records of laptop, and data sets that stay absent."""
    root = tmp_path_factory.mktemp("book")
    results, data = root / "results", root / "data"
    data.mkdir()
    if (ROOT / "results" / "records" / "laptop").exists():
        for kind in ("records", "weights"):
            shutil.copytree(ROOT / "results" / kind / "laptop", results / kind / "laptop")
    return {"SSCONV_RESULTS": str(results), "SSCONV_DATA": str(data), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def tiny_book(book_environment):
    """All chapters, executed at the profile of the tests: its folder of results."""
    command = [sys.executable, "-m", "ssconv_lib", "reproduce", "--profile", str(TINY)]
    environment = os.environ | book_environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    return Path(book_environment["SSCONV_RESULTS"]) / "tiny"


@pytest.fixture(scope="module")
def chromium():
    """A browser, see `browser.opened`; where there is none, what needs it is skipped, and the last lines say so.

    For a module only: while it is open an event loop runs, beside which papermill could start none.
    """
    if browser.path() is None:
        pytest.skip(browser.MISSING)
    with browser.started() as running:
        yield running


def pytest_terminal_summary(terminalreporter):
    """Say it where it is read when the browser tests could not run."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if browser.MISSING in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests skipped: {browser.MISSING}", yellow=True)
