"""Odd machines: one core, little memory, no place to write at home, a path with blanks and umlauts, LANG=C, no git.

The suite has them all at once. `SSCONV_MACHINES=all` tries each alone, which tells one that hurts from the others.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults import as_anybody, hidden
from soak import made

ROOT = Path(__file__).parent.parent
NEEDED = ("ssconv_lib", "book", "tests/tiny.toml", "pyproject.toml", "data/paper")
ODD = ("core", "memory", "home", "path", "language", "git")
MACHINES = [(kind,) for kind in ODD] if os.environ.get("SSCONV_MACHINES") == "all" else []
GIGABYTES = 4

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is taken away is Linux's to give")


def project(folder):
    """A copy of what a chapter needs, without git's folder."""
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def surroundings(odd, folder, home):
    """The environment of such a machine, and what has to be done in a process before it becomes a command."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SSCONV_", "LC_", "XDG_"))}
    environment |= {"PYTHONPATH": str(folder), "SSCONV_NATIVE": "0"}
    if "home" in odd:
        environment |= {"HOME": str(home)}
    if "language" in odd:
        environment |= {"LANG": "C", "LC_ALL": "C"}
    if "git" in odd:
        environment |= {"PATH": str(Path(sys.executable).parent)}

    def limit():
        as_anybody()
        if "core" in odd:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        if "memory" in odd:
            resource.setrlimit(resource.RLIMIT_DATA, (GIGABYTES * 2**30,) * 2)

    return environment, limit


def work(odd, folder, home):
    """Train a run and execute a chapter there; the tables' bytes, the notebook's, what the record measured."""
    environment, limit = surroundings(odd, project(folder), home)
    for arguments in (
        ["train", "--profile", "tests/tiny.toml", "--study", "gates", "--workers", "1"],
        ["reproduce", "--profile", "tests/tiny.toml", "--chapter", "03"],
    ):
        command = [sys.executable, "-m", "ssconv_lib", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, preexec_fn=limit, capture_output=True, timeout=300)
        said = done.stderr.decode("utf-8", "replace")
        assert done.returncode == 0, said
        assert "Traceback" not in said
    results = folder / "results"
    assert hidden(results) == []
    notebook = json.loads((results / "tiny" / "notebooks" / "03_imagenet.ipynb").read_bytes())
    outputs = [cell.get("outputs") for cell in notebook["cells"]]
    return made(results / "records" / "tiny"), made(results / "tiny" / "tables"), outputs


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    return work((), tmp_path_factory.mktemp("ordinary"), None)


@pytest.mark.parametrize("odd", [*MACHINES, ODD], ids="-".join)
def test_an_odd_machine_makes_what_an_ordinary_one_makes(ordinary, odd, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o555)
    folder = tmp_path / ("Größe & Maß 1" if "path" in odd else "project")
    folder.mkdir()
    records, tables, outputs = work(odd, folder, home)
    assert (records, tables) == ordinary[:2]
    assert outputs == ordinary[2]
    assert len(records) == 5
    assert len(tables) > 2
    assert list(home.iterdir()) == []


def test_less_memory_than_a_process_needs_is_noticed():
    """Else the limit above could be none."""
    code = "import resource, torch; resource.setrlimit(resource.RLIMIT_DATA, (2**30,) * 2); torch.ones(2**29)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "can't allocate memory" in done.stderr
