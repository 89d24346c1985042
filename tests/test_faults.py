"""Killed, interrupted or out of disk at any moment: started again, it comes to the same, and nothing lies about.

The suite tries some moments, drawn with a seed; `SSCONV_FAULTS=all` tries every one, as `make soak` does.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from faults import HARMS, WORK

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
