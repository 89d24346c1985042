"""python -m ssconv_lib train: train what has no record, in processes here, over a cluster, or under torchrun."""

import argparse
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from . import cluster, study
from .group import started_by_torchrun
from .records import RecordStore
from .task import Outcome
from .together import train_together
from .workers import log_unless_terminal, train_missing


def add_arguments(parser: argparse.ArgumentParser, positive: Callable[[type], Callable]) -> None:
    """Add the options of the command but for --profile and --records."""
    parser.add_argument("--study", help="only the runs of this study")
    parser.add_argument("--budget", type=positive(float), metavar="SECONDS", help="stop cleanly after this time")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive(int), metavar="N", help="runs at once (default: one a processor)")
    where.add_argument("--cluster", metavar="ADDRESS", help="of a dask scheduler, tcp://HOST:8786: its workers train")
    parser.add_argument("--device", help="cpu or cuda (default: the profile's; cuda has not been tried on a GPU yet)")
    parser.add_argument(
        "--loaders",
        type=_count,
        metavar="N",
        help="processes that decode images, for each run (default: none on a CPU; on a GPU the processors there are)",
    )
    parser.add_argument(
        "--compile",
        choices=["default", "reduce-overhead", "max-autotune"],
        help="torch.compile with this mode; not tried on a GPU yet, so off by default",
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 0 on")
    return value


def main(args: argparse.Namespace) -> int:
    """Run the command; in every process, if torchrun started it."""
    profile = study.load_profile(args.profile)
    outcome = _train(profile, args)
    if outcome is None:
        return 0
    print(f"{len(outcome.trained)} trained, {len(outcome.left)} left, {len(outcome.failed)} failed")
    for label, error in outcome.failed.items():
        print(f"error: {label}: {error}", file=sys.stderr)
    if outcome.left:
        print("to go on, give the same command again", file=sys.stderr)
    return 1 if outcome.failed else 0


def _train(profile: study.Profile, args: argparse.Namespace) -> Outcome | None:
    """Return what became of the runs; None in the processes of a group that leave the talking to another."""
    options = {name: getattr(args, name) for name in ("budget", "records", "device", "compile", "loaders")}
    options["log"] = log_unless_terminal()
    if started_by_torchrun():
        for name in ("workers", "cluster"):
            if given := getattr(args, name):
                raise ValueError(f"--{name} {given}: torchrun's processes train one run after another; leave it out")
        return train_together(profile, args.study, **options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: checkpoint, then stop
    with _executor(args, profile) as executor:
        return train_missing(profile, args.study, workers=args.workers, executor=executor, **options)


def _executor(args: argparse.Namespace, profile: study.Profile) -> AbstractContextManager:
    """The cluster's executor, or None; its workers must have the images of what is missing."""
    if not args.cluster:
        return nullcontext()
    runs = study.missing(profile, args.study, RecordStore(profile.name, args.records))
    return cluster.connected(args.cluster, dict.fromkeys(run.data for run in runs), args.device or profile.device)
