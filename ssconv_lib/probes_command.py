"""python -m ssconv_lib probe: ask trained networks what has no record, one probe after another."""

import argparse

from .fields_command import report, told_to_stop
from .plan import load_profile
from .probetask import ask_missing
from .workers import log_unless_terminal


def main(args: argparse.Namespace) -> int:
    """Run the command and return its exit status; weights that are missing are a failure, which names the remedy."""
    profile = load_profile(args.profile)
    if not profile.probed:
        raise ValueError(f"profile {profile.name!r} plans no probes: it has no block [[probes]]")
    options = {name: getattr(args, name) for name in ("budget", "records", "device")}
    with told_to_stop() as told:
        outcome = ask_missing(profile, args.study, is_stopped=told, log=log_unless_terminal(), **options)
    return report(outcome, "probes")
