"""`python -m ssconv_lib site`: the chapters where something changed, then the site; `--serve` shows it."""

import argparse
import functools
import http.server
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from .. import reproduce
from ..paths import ROOT

SITE = ROOT / "build" / "site"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m ssconv_lib site`."""
    parser.add_argument("--profile", default="quick", help="the profile whose chapters are shown (%(default)s)")
    parser.add_argument("--output", type=Path, default=SITE, metavar="DIR", help="default: build/site")
    parser.add_argument("--repository", metavar="URL", help="for launch buttons; default: origin, if that is on GitHub")
    parser.add_argument("--serve", action="store_true", help="show the site that is there, on this machine alone")
    parser.add_argument("--port", type=int, default=8000, help="of --serve (%(default)s)")


def main(args: argparse.Namespace) -> int:
    """Run the command; 0, 1 for a fault, 2 for a bad call."""
    if args.serve:
        return serve(args.output, args.port)
    from .build import build, check_place  # late: training needs none of what it needs

    site = args.output.expanduser().resolve()
    repository = _checked(args.repository) if args.repository is not None else _origin()
    check_place(site)
    chapters, profile = reproduce.plan(args.profile)
    try:
        reproduce.reproduce(chapters, profile)
    except reproduce.ChapterError as error:
        print(f"site: {error}", file=sys.stderr)
        return 1
    start = time.monotonic()
    print("building the site, up to a minute", file=sys.stderr, flush=True)
    pages = build(chapters, site, repository)
    print(f"{pages} pages in {time.monotonic() - start:.0f} s: {args.output / 'index.html'}; make serve shows them")
    if not repository:
        print("no launch buttons: origin is not on GitHub; REPOSITORY=https://github.com/… names the address")
    return 0


def serve(site: Path, port: int) -> int:
    """Show a site at http://localhost, to this machine alone, until it is stopped.

    Raises:
        ValueError: it has not been built.
    """
    if not (site / "index.html").is_file():
        raise ValueError(f"there is no site at {site}; make book builds it")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"the book is at http://localhost:{server.server_port}, until Ctrl-C", flush=True)
        server.serve_forever()
    return 0


def _checked(address: str) -> str:
    """Raise ValueError for an address from which nothing can be launched."""
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        raise ValueError(f"repository {address!r}: expected https://github.com/OWNER/NAME, or none")
    return address


def _origin() -> str:
    """The address of this checkout's origin on GitHub, or ""."""
    try:
        ask = ["git", "-C", os.fspath(ROOT), "remote", "get-url", "origin"]
        told = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    found = re.fullmatch(r"(?:https://github\.com/|git@github\.com:)([\w.-]+/[\w.-]+?)(?:\.git)?/?", told)
    return f"https://github.com/{found[1]}" if found else ""
