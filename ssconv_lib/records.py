"""The store of records: one JSON file a run, whole or absent, named by what determines the run.

There are four kinds: training runs, measurements of speed, whose records say `"kind": "speed"`, optimised receptive
fields, `"kind": "field"`, and what trained networks answer, `"kind": "probe"`.
"""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .fieldmap import check_field
from .fieldrun import FieldRun
from .files import check_writable, sweep, write_whole
from .history import check_history
from .origin import check_origins
from .paths import results_dir
from .proberecord import check_probe
from .proberun import ProbeRun
from .run import Run
from .speedrun import PREFIX, SpeedRun
from .timing import summary

SCHEMA = 1
AnyRun = Run | SpeedRun | FieldRun | ProbeRun
KINDS: dict[str, type[AnyRun]] = {"training": Run, "speed": SpeedRun, "field": FieldRun, "probe": ProbeRun}
# what "the same record" means, by kind; seconds, memory and origin may differ, and a speed is never the same twice
MEASURED = {
    "training": ("history", "final"),
    "speed": (),
    "field": ("map", "sizes"),
    "probe": ("weights", "n_images", "conditions"),
}


class RecordStore:
    """The records of one profile: `<root>/<profile>/<label>.json`.

    Each writer writes a file of its own and renames it, so several processes can share a store without locks. What
    they may do is train the same run twice; the first record stays.
    """

    def __init__(self, profile: str, root: Path | None = None) -> None:
        self.folder = (root or results_dir() / "records") / profile

    def path(self, run: AnyRun) -> Path:
        """Where the record of a run is, or will be."""
        return self.folder / f"{run.label}.json"

    def get(self, run: AnyRun) -> dict[str, Any] | None:
        """Return a run's record; None if there is none. A damaged one is reported by name and counts as missing."""
        path = self.path(run)
        return self._read(path) if path.exists() else None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All readable records, by file name."""
        yield from self._matching("[!.]*.json")

    def speeds(self) -> Iterator[dict[str, Any]]:
        """All readable records of speed, by file name."""
        yield from self._matching(f"{PREFIX}*.json")

    def add(self, record: dict[str, Any], *, replace: bool = False) -> list[str]:
        """Store a record; if its run is there already, keep the first and return which metrics differ.

        Args:
            record: As `make_record`, `speed.measure`, `fieldtask.make_field_record` or `probetask.ask` returns it.
            replace: Take it in place of the one that is there, which nobody then compares.
        """
        run = run_of(record)
        path = self.path(run)
        exists = path.exists()
        if not replace and (there := self.get(run)):
            return [part for part in MEASURED[_kind(record)] if there[part] != record[part]]
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        try:
            write_whole(path, text.encode(), replace=exists or replace)  # what was there is damaged, or to be replaced
        except FileExistsError:  # another writer was faster by a moment
            return self.add(record)
        return []

    def prepare(self) -> None:
        """See that records can be written, before any work, and remove what killed writers left.

        Raises:
            OSError: nothing can be written in the folder.
        """
        check_writable(self.folder)
        self.tidy()

    def tidy(self) -> None:
        """Remove temporary files that killed writers left."""
        sweep(self.folder)

    def _matching(self, pattern: str) -> Iterator[dict[str, Any]]:
        for path in sorted(self.folder.glob(pattern)):
            if record := self._read(path):
                yield record

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
        run = run_of(record)
        check_origins([record["origin"], *record.get("earlier_origins", [])])
        _CHECKS[type(run)](record, run)
        if record["hash"] != run.hash or path.stem != run.label:
            raise ValueError(f"the run inside is {run.label!r}")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"damaged record {path.name} in {path.parent}: {error!r}") from error
    return record


def run_of(record: dict[str, Any]) -> AnyRun:
    """Return what a record is of, a training run, a measurement of speed, an optimised receptive field or a probe.

    Raises:
        ValueError: the description is impossible, or the kind unknown.
    """
    return KINDS[_kind(record)].from_dict(record["run"])


def _kind(record: dict[str, Any]) -> str:
    kind = record.get("kind", "training")
    if kind not in MEASURED:
        raise ValueError(f"kind {kind!r}, expected one of {', '.join(MEASURED)}")
    return kind


def _check_timed(record: dict[str, Any], run: SpeedRun) -> None:
    """Hold the rounds of a measurement to the run, and what is said of them to the rounds."""
    if run.device is None:
        raise ValueError("the run inside is on no machine")
    arms = record["arms"]
    if [*arms] != [*run.arms]:
        raise ValueError(f"the arms are {', '.join(arms)}, expected {', '.join(run.arms)}")
    rounds = [one for arm in arms.values() for one in arm["seconds"]]
    if not all(isinstance(one, float) and 0 < one < float("inf") for one in rounds):
        raise ValueError("a round's seconds are not a positive number")
    for name, arm in arms.items():
        if len(arm["seconds"]) != run.rounds:
            raise ValueError(f"{name} has {len(arm['seconds'])} rounds, expected {run.rounds}")
        if {**arm, **summary(arm["seconds"], arms["conv"]["seconds"], run.batch)} != arm:
            raise ValueError(f"what is said of {name} does not follow from its rounds")
        saved = arm["saved_bytes"]  # for the backward, if there is one
        possible = _is_count(saved) if run.mode == "training" else saved is None
        if not (possible and _is_count(arm["peak_bytes"])):
            raise ValueError(f"a count of {name}'s bytes is not a whole number")
    if not isinstance(record["steps"], int) or record["steps"] < 1:
        raise ValueError(f"steps = {record['steps']!r}, expected a whole number from 1 on")
    record["origin"]["date"]


def _check_trained(record: dict[str, Any], run: Run) -> None:
    """Hold the measured part to what the tables read from it."""
    history, final = record["history"], record["final"]
    check_history(history, run.epochs)
    errors = final["error"], final["best_error"]
    if not all(isinstance(error, float) and 0 <= error <= 100 for error in errors):
        raise ValueError("an error is not a number from 0 to 100")
    if final["error"] != history[-1]["error"]:
        raise ValueError("the final error is not the last epoch's")
    seconds = record["seconds"]
    if {*seconds} < {"train", "evaluate"} or not all(_is_duration(one) for one in seconds.values()):
        raise ValueError("the seconds of training and evaluation are not numbers")
    if not all(_is_count(count) for count in (final["best_epoch"], final["n_images"], record.get("n_train", 0))):
        raise ValueError("the best epoch or a number of images is not a whole number")
    if type(final["evaluated_on"]) is not str:
        raise ValueError(f"evaluated_on = {final['evaluated_on']!r}, expected the name of a part")
    record["origin"]["device"]


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_duration(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e12


_CHECKS = {Run: _check_trained, SpeedRun: _check_timed, FieldRun: check_field, ProbeRun: check_probe}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def make_record(run: Run, measured: dict[str, Any]) -> dict[str, Any]:
    """Put together a record of what was run and of what `train.fit` returned."""
    return {"schema": SCHEMA, "hash": run.hash, "run": run.to_dict(), **measured}
