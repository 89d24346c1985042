"""The command line, python -m ssconv_lib: train, status, merge, verify, fields, probe, data, bench, reproduce, site.

Exit status: 0, done (a budget that ran out is done too); 2, the call is wrong; 1, something failed. Messages go to
stderr, results to stdout.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

from . import bench, fields_command, native, probes_command, reproduce, study, train_command, verify
from .data import Cifar10, Images, load
from .group import ToldByRankZero, started_by_torchrun
from .paths import data_dir, results_dir
from .readers import unreadable
from .records import RecordStore, read_record, run_of
from .site import command as site_command


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = _parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
    try:
        return args.command(args)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except ToldByRankZero:
        return 1
    except (OSError, RuntimeError, MemoryError) as error:
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ssconv_lib", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = _with_profile(commands.add_parser("train", help="train the runs that have no record, in order of priority"))
    train_command.add_arguments(train, _positive)
    train.set_defaults(command=train_command.main)

    status = _with_profile(commands.add_parser("status", help="say which records are there and which are missing"))
    status.set_defaults(command=_status)

    merge = commands.add_parser("merge", help="take in records that were made elsewhere")
    merge.set_defaults(command=_merge)
    merge.add_argument("folder", type=Path, help="a folder of records, as train --records wrote it")
    _add_records(merge)

    again = _with_profile(commands.add_parser("verify", help="train a run with a record again: is it the same?"))
    verify.add_arguments(again)
    again.set_defaults(command=verify.main)

    fields = _with_profile(commands.add_parser("fields", help="optimise the receptive fields that have no record"))
    fields_command.add_arguments(fields, _positive)
    fields.set_defaults(command=fields_command.main)

    probe = _with_profile(commands.add_parser("probe", help="ask trained networks what has no record"))
    fields_command.add_arguments(probe, _positive, "probes")
    probe.set_defaults(command=probes_command.main)

    data = commands.add_parser("data", help="fetch CIFAR-10, or check what is there; with --folder, check images")
    data.add_argument("--folder", metavar="NAME", help="decode every image of this folder, such as imagenet, instead")
    data.set_defaults(command=_data)

    speed = commands.add_parser("bench", help="measure speed and memory: plain convolution, Listing 1, SSConv2d")
    bench.add_arguments(speed, _positive)
    _add_records(speed)
    speed.set_defaults(command=bench.main)

    build = commands.add_parser("build", help="compile the layer's fast path for this machine's processor")
    build.set_defaults(command=_build)

    chapters = commands.add_parser("reproduce", help="run the chapters, and regenerate every table and figure")
    reproduce.add_arguments(chapters)
    chapters.set_defaults(command=reproduce.main)

    pages = commands.add_parser("site", help="build the book as a site, after the chapters that changed; or show it")
    site_command.add_arguments(pages)
    pages.set_defaults(command=site_command.main)
    return parser


def _with_profile(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--profile", required=True, help=f"{', '.join(study.profile_names())}, or a .toml file")
    _add_records(parser)
    return parser


def _add_records(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--records", type=Path, default=results_dir() / "records", metavar="DIR", help="default: results/records"
    )


def _positive(kind: type) -> type:
    def parse(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text}: expected a positive number")
        return value

    parse.__name__ = f"positive {kind.__name__}"
    return parse


def _status(args: argparse.Namespace) -> int:
    profile = study.load_profile(args.profile)
    store = RecordStore(profile.name, args.records)
    table = study.status(profile, store)
    print(f"{profile.name}: {profile.title}\n{table.to_string(index=False, na_rep='-')}")
    lacking = table[table["missing"] > 0]["made by"].unique()
    if "train" in lacking:
        print(f"\nto train what is missing: {profile.train_command()}")
    if "bench" in lacking:
        print(f"\nto measure speed on this machine: {profile.bench_command()}")
    if "fields" in lacking:
        print(f"\nto optimise the receptive fields: {profile.fields_command()}")
    if "probe" in lacking:
        print(f"\nto ask the trained networks: {profile.probe_command()}")
    return 0


def _merge(args: argparse.Namespace) -> int:
    paths = sorted(path for path in args.folder.resolve().rglob("[!.]*.json") if path.is_file())
    if not paths:
        raise ValueError(f"no records (*.json) below {args.folder}; expected what train --records wrote")
    stores: dict[str, RecordStore] = {}
    counts = {"taken in": 0, "there already": 0, "damaged": 0}
    for path in paths:
        try:
            record = read_record(path)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            counts["damaged"] += 1
            continue
        if (profile := path.parent.name) not in stores:  # only now: a folder of damaged files makes none here
            stores[profile] = RecordStore(profile, args.records)
            stores[profile].prepare()
        store = stores[profile]
        there = store.get(run_of(record)) is not None
        for part in store.add(record):
            print(f"{path.name}: {part} differs from the record that is there, which stays", file=sys.stderr)
        counts["there already" if there else "taken in"] += 1
    print(", ".join(f"{number} {what}" for what, number in counts.items()))
    return 1 if counts["damaged"] else 0


def _build(args: argparse.Namespace) -> int:
    if not native.path().exists():
        print(f"compiling {native.SOURCE.name}, up to a minute", file=sys.stderr)
    native.build()
    print(f"the compiled form of the fast path is there; what starts now uses it, unless {native.SWITCH}=0 is set")
    return 0


def _data(args: argparse.Namespace) -> int:
    if args.folder is not None:
        return _check_folder(Images(folder=args.folder))
    data = load(Cifar10())
    print(f"CIFAR-10: {len(data.train.labels)} training and {len(data.test.labels)} test images at {data_dir()}")
    return 0


def _check_folder(spec: Images) -> int:
    data = load(spec)
    numbers = f"{len(data.train)} training and {len(data.test)} validation images of {data.num_classes} classes"
    print(f"{spec.folder}: {numbers} at {data.train.root}")
    damaged = unreadable(data)
    for name, reason in damaged:
        print(f"error: {data.train.root}/{name}: {reason}", file=sys.stderr)
    print(f"{len(damaged)} can't be read" if damaged else "all can be read")
    return 1 if damaged else 0


if __name__ == "__main__":
    status = main()
    if status and started_by_torchrun():
        sys.stdout.flush()
        os._exit(status)  # what ends at exit may wait for processes that wait for this one
    sys.exit(status)
