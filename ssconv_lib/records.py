"""The store of records: one JSON file a run, whole or absent, named by what determines the run."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .files import sweep, write_whole
from .paths import results_dir
from .run import Run

SCHEMA = 1
MEASURED = ("history", "final")  # what "the same record" means; seconds, memory and origin may differ


class RecordStore:
    """The records of one profile: `<root>/<profile>/<label>.json`.

    Each writer writes a file of its own and renames it, so several processes can share a store without locks. What
    they may do is train the same run twice; the first record stays.
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
        path = self.path(run)
        exists = path.exists()
        if there := self.get(run):
            return [part for part in MEASURED if there[part] != record[part]]
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        try:
            write_whole(path, text.encode(), replace=exists)  # what was there is damaged
        except FileExistsError:  # another writer was faster by a moment
            return self.add(record)
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
        _check_measured(record, run)
        if record["hash"] != run.hash or path.stem != run.label:
            raise ValueError(f"the run inside is {run.label!r}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"damaged record {path.name} in {path.parent}: {error!r}") from error
    return record


def _check_measured(record: dict[str, Any], run: Run) -> None:
    """Hold the measured part to what the tables read from it."""
    history, final = record["history"], record["final"]
    if [entry["epoch"] for entry in history] != [*range(1, run.epochs + 1)]:
        raise ValueError("the run inside is not finished")
    errors = [*(entry["error"] for entry in history), final["error"], final["best_error"]]
    if not all(isinstance(error, float) and 0 <= error <= 100 for error in errors):
        raise ValueError("an error is not a number from 0 to 100")
    if final["error"] != history[-1]["error"]:
        raise ValueError("the final error is not the last epoch's")
    sum(record["seconds"].values()), record["origin"]["device"]
    final["best_epoch"], final["evaluated_on"], final["n_images"]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def make_record(run: Run, measured: dict[str, Any]) -> dict[str, Any]:
    """Put together a record of what was run and of what `train.fit` returned."""
    return {"schema": SCHEMA, "hash": run.hash, "run": run.to_dict(), **measured}
