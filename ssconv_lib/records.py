"""The store of records: one JSON file a run, whole or absent, named by what determines the run."""

import functools
import importlib.metadata
import json
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from .files import sweep, write_whole
from .paths import ROOT, results_dir
from .run import Run

SCHEMA = 1
MEASURED = ("history", "final")  # what "the same record" means; seconds, memory and origin may differ


class RecordStore:
    """The records of one profile: `<root>/<profile>/<label>.json`.

    Each writer writes a file of its own and renames it, so several processes can share a store without locks; at
    worst two of them train the same run.
    """

    def __init__(self, profile: str, root: Path | None = None) -> None:
        self.folder = (root or results_dir() / "records") / profile

    def path(self, run: Run) -> Path:
        """Where the record of a run is, or will be."""
        return self.folder / f"{run.label}.json"

    def get(self, run: Run) -> dict[str, Any] | None:
        """Return a run's record; None if there is none. A damaged one is reported by name and counts as missing."""
        path = self.path(run)
        return self._read(path) if path.exists() else None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All readable records, by file name."""
        for path in sorted(self.folder.glob("[!.]*.json")):
            if record := self._read(path):
                yield record

    def add(self, record: dict[str, Any]) -> list[str]:
        """Store a record; if its run is there already, keep the first and return which metrics differ."""
        run = Run.from_dict(record["run"])
        if there := self.get(run):
            return [part for part in MEASURED if there[part] != record[part]]
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
        write_whole(self.path(run), (text + "\n").encode())
        return []

    def tidy(self) -> None:
        """Remove temporary files that killed writers left."""
        sweep(self.folder)

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            return read_record(path)
        except ValueError as error:
            warnings.warn(f"{error}; it counts as missing", stacklevel=3)
            return None


def read_record(path: Path) -> dict[str, Any]:
    """Read and check one record.

    Raises:
        ValueError: the file is damaged, of another schema, or its name does not match the run inside.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']!r}, expected {SCHEMA}")
        run = Run.from_dict(record["run"])
        if len(record["history"]) != run.epochs or not isinstance(record["final"]["error"], float):
            raise ValueError("the run inside is not finished")
        if record["hash"] != run.hash or path.stem != run.label:
            raise ValueError(f"the run inside is {run.label!r}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"damaged record {path.name} in {path.parent}: {error!r}") from error
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def make_record(run: Run, measured: dict[str, Any], device: str) -> dict[str, Any]:
    """Put together a record: what was run, what came out, and where."""
    return {"schema": SCHEMA, "hash": run.hash, "run": run.to_dict(), **measured, "origin": origin(device)}


def origin(device: str) -> dict[str, Any]:
    """Where a measurement comes from: code, versions, device, threads, date."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else _cpu_name(),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


@functools.cache
def commit() -> str:
    """The commit of the code, with a plus if the library differs from it; "unknown" outside a checkout.

    Asked at a worker's start and kept, since the checkout may move on while the code that was loaded trains.
    """
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "ssconv_lib"], capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head[:12] + ("+" if changed.returncode else "")


def _cpu_name() -> str:
    """The processor's model, as Linux and macOS know it."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration, subprocess.CalledProcessError):
        return platform.machine()
