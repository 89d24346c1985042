"""python -m ssconv_lib fields: optimise the receptive fields (Eq. 4) that have no record, network by network."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .fieldtask import make_missing
from .plan import load_profile
from .task import LookOutcome
from .workers import log_unless_terminal


def add_arguments(
    parser: argparse.ArgumentParser, positive: Callable[[type], Callable], what: str = "receptive fields"
) -> None:
    """Add the options of the command but for --profile and --records; those of `probe` are the same."""
    parser.add_argument("--study", help=f"only this study of {what}")
    parser.add_argument("--budget", type=positive(float), metavar="SECONDS", help="stop cleanly after this time")
    parser.add_argument("--device", help="cpu or cuda (default: the profile's)")


def main(args: argparse.Namespace) -> int:
    """Run the command and return its exit status; weights that are missing are a failure, which names the remedy."""
    profile = load_profile(args.profile)
    if not profile.fielded:
        raise ValueError(f"profile {profile.name!r} plans no receptive fields: it has no block [[fields]]")
    options = {name: getattr(args, name) for name in ("budget", "records", "device")}
    with told_to_stop() as told:
        outcome = make_missing(profile, args.study, is_stopped=told, log=log_unless_terminal(), **options)
    return report(outcome, "receptive fields")


def report(outcome: LookOutcome, what: str) -> int:
    """Print what became of them, errors to stderr, and return the exit status."""
    waiting = sum(map(len, outcome.waiting.values()))
    print(f"{len(outcome.made)} made, {len(outcome.left)} left, {waiting} waiting, {len(outcome.failed)} failed")
    for label, error in outcome.failed.items():
        print(f"error: {label}: {error}", file=sys.stderr)
    for how, labels in outcome.waiting.items():
        print(f"error: {len(labels)} {what} wait for weights: {how}", file=sys.stderr)
    if outcome.left:
        print("to go on, give the same command again", file=sys.stderr)
    return 1 if outcome.failed or outcome.waiting else 0


@contextmanager
def told_to_stop() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM only be noted, so that no iteration is cut in two; a second one ends at once."""
    told: list[int] = []

    def note(number: int, frame: Any) -> None:
        told.append(number)
        for each in before:
            signal.signal(each, signal.default_int_handler)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(told)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
