"""python -m ssconv_lib bench: measure what a profile plans on this machine, print the table, store what is new."""

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from .data import Cifar10
from .loopcost import loop_cost
from .paths import data_dir
from .records import RecordStore
from .speed import here, measure
from .speedrun import SpeedRun
from .study import Profile, load_profile
from .task import check_device

TITLE_WIDTH = 66


def add_arguments(parser: argparse.ArgumentParser, positive: Callable[[type], type]) -> None:
    """Add the options of the command but for --records; `positive` makes argparse's type of a positive number."""
    parser.add_argument("--profile", default="laptop", help="(default: %(default)s)")
    parser.add_argument("--study", help="only this study of speed")
    parser.add_argument("--network", help="only this network or layer")
    parser.add_argument("--rounds", type=positive(int), metavar="N", help="in place of the profile's")
    parser.add_argument("--device", help="cpu or cuda (default: the profile's)")
    parser.add_argument("--threads", type=positive(int), metavar="N", help="of torch on the CPU (default: torch's)")
    parser.add_argument("--replace", action="store_true", help="store the new record also where there is one")
    parser.add_argument("--budget", type=positive(float), metavar="SECONDS", help="begin nothing new after this time")
    parser.add_argument("--loop", action="store_true", help="measure the training loop around the step instead")


def main(args: argparse.Namespace) -> int:
    """Run the command and return its exit status.

    Every planned case is measured anew. It is stored if this machine has no record of it, or with --replace; with
    fewer rounds than planned only with --replace.
    """
    profile = load_profile(args.profile)
    cases = [] if args.loop else _cases(profile, args.study, args.network)
    device = check_device(args.device or profile.device)
    if args.loop:
        return _loop(args.rounds or 9, device)
    if args.threads:
        torch.set_num_threads(args.threads)
    end = time.monotonic() + (args.budget or math.inf)
    store, shown = RecordStore(profile.name, args.records), None
    store.prepare()
    counts = dict.fromkeys(("measured", "stored", "left", "failed"), 0)
    for study, run in cases:
        if time.monotonic() >= end:
            counts["left"] += 1
            continue
        if study != shown:
            print(f"{study} (time over plain convolution: median and quartiles of n rounds)", flush=True)
            shown = study
        try:
            record = measure(dataclasses.replace(run, rounds=args.rounds or run.rounds), device)
        except Exception as error:  # whatever one network does, the others go on
            print(f"error: {study}: {run.title}: {type(error).__name__}: {error}", file=sys.stderr)
            counts["failed"] += 1
            continue
        print(line(record), flush=True)
        counts["measured"] += 1
        counts["stored"] += _store(store, record, run, here(run, device), args.replace)
    print(", ".join(f"{number} {what}" for what, number in counts.items()))
    return 1 if counts["failed"] else 0


def line(record: dict[str, Any]) -> str:
    """Return a measurement as a line: the plain convolution's milliseconds, and the ratios with their quartiles."""
    run, arms = SpeedRun.from_dict(record["run"]), record["arms"]
    conv = arms["conv"]
    words = [f"{run.title:<{TITLE_WIDTH}} conv {1000 * conv['median']:9.2f} ms"]
    for name in run.arms:
        if name != "conv":
            low, high = arms[name]["ratio_quartiles"]
            words.append(f"{name} {arms[name]['ratio']:.3f} ({low:.3f}-{high:.3f})")
            if run.mode == "training":
                words.append(f"saves {arms[name]['saved_bytes'] / conv['saved_bytes']:.3f}")
    return "  ".join([*words, f"n = {conv['n']}"])


def _cases(profile: Profile, study: str | None, network: str | None) -> list[tuple[str, SpeedRun]]:
    """Return each planned case once, with the first study that asks for it.

    Raises:
        ValueError: nothing is planned, or not of this study or network.
    """
    if not profile.timed:
        raise ValueError(f"profile {profile.name!r} plans no measurement of speed: it has no block [[speeds]]")
    wanted = [study] if study else profile.speed_studies
    planned = [(name, run) for name in wanted for run in profile.speed_runs(name)]
    cases: dict[str, tuple[str, SpeedRun]] = {}
    for name, run in planned:
        if network in (None, run.network):
            cases.setdefault(run.hash, (name, run))
    if not cases:
        networks = ", ".join(dict.fromkeys(run.network for _, run in planned))
        raise ValueError(f"--network {network}: profile {profile.name!r} measures {networks} here")
    return [*cases.values()]


def _store(store: RecordStore, record: dict[str, Any], planned: SpeedRun, here: SpeedRun, replace: bool) -> bool:
    rounds = record["run"]["rounds"]
    if not replace and (rounds < planned.rounds or store.get(here) is not None):
        return False
    store.add(record, replace=replace)
    return True


def _loop(rounds: int, device: str) -> int:
    """What the training loop costs: one run of each kind of data, on one thread as in training."""
    torch.set_num_threads(1)
    for name in ("quick", "laptop"):
        run = load_profile(name).runs()[1]
        if isinstance(run.data, Cifar10) and not any((data_dir() / part).exists() for part in ("cache", "cifar10")):
            print(f"{name}: skipped, since CIFAR-10 is not there; make data fetches it")
            continue
        cost = loop_cost(run, rounds=rounds, device=device)
        print(
            f"{name}: {run.model}, batch {run.batch_size}, {run.precision}: {cost.loop:.0f} images/s,"
            f" {100 * cost.ratio:.1f} % (rounds: {100 * cost.low:.1f} to {100 * cost.high:.1f} %)"
            f" of the {cost.step:.0f} on one ready-made batch; n = {rounds}"
        )
    return 0
