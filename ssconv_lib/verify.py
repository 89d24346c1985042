"""python -m ssconv_lib verify: train a run that has a record once more, and say whether it gives the same record."""

import argparse
from pathlib import Path
from typing import Any

from .progress import bar
from .records import MEASURED, RecordStore, run_of
from .run import Run
from .study import load_profile
from .task import Plan, check_device, prepare_torch, train_here


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command but for --profile and --records."""
    parser.add_argument("hash", help="of the record, the end of its file's name; its first digits do")
    parser.add_argument("--device", help="cpu or cuda (default: the profile's)")


def main(args: argparse.Namespace) -> int:
    """Run the command; 0 if the record came out again, 1 if not. Interrupted, it goes on from its last checkpoint."""
    profile = load_profile(args.profile)
    store = RecordStore(profile.name, args.records)
    run = find(store, args.hash)
    prepare_torch()
    with bar(total=run.epochs, unit="epoch", desc=run.label) as progress:
        again = train_again(run, profile.name, args.records, check_device(args.device or profile.device), progress)
    there = store.get(run)
    print(f"{run.label}: error {there['final']['error']:g} % on record, {again['final']['error']:g} % here")
    differing = [part for part in MEASURED["training"] if there[part] != again[part]]
    if not differing:
        print("the same record, bit for bit")
        return 0
    print(f"different: {', '.join(differing)}")
    print(f"on record: {_machine(there)}\nhere: {_machine(again)}")
    print("bits are the same on processors of one kind with one version of torch, in one process; else they may differ")
    return 1


def find(store: RecordStore, digits: str) -> Run:
    """Return the training run of the record whose hash begins with these digits.

    Raises:
        ValueError: there is none, or more than one.
    """
    runs = [run for run in map(run_of, store) if isinstance(run, Run)]
    found = [run for run in runs if run.hash.startswith(digits)]
    if len(found) != 1:
        raise ValueError(f"hash {digits!r}: {len(found)} training records in {store.folder} begin so, expected one")
    return found[0]


def train_again(run: Run, profile: str, records: Path, device: str, progress: Any = None) -> dict[str, Any]:
    """Return a new record of a run; the stored one is not looked at. What going on needs lies in a hidden folder."""
    plan = Plan(profile, records / ".checkpoints" / "verify", device)
    train_here(run, plan, report=lambda entry: progress is None or progress.update())
    store = RecordStore(profile, plan.records)
    again = store.get(run)
    store.path(run).unlink()
    return again


def _machine(record: dict[str, Any]) -> str:
    origin = record["origin"]
    return ", ".join(f"{name} {origin[name]}" for name in ("device", "processes", "torch", "commit") if name in origin)
