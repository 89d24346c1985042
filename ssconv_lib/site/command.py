"""`python -m ssconv_lib site`: the chapters where something changed, then the site; `--serve` shows it."""

import argparse
import contextlib
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
    parser.add_argument("--port", type=_port, default=8000, help="of --serve (%(default)s)")


def main(args: argparse.Namespace) -> int:
    """Run the command; 0, 1 for a fault, 2 for a bad call."""
    site = args.output.expanduser().resolve()
    if args.serve:
        return serve(site, args.port)
    from .build import build, check_place  # late: training needs none of what it needs

    repository = _origin() if args.repository is None else _address(args.repository)
    if args.repository and not repository:
        raise ValueError(f"repository {args.repository!r}: expected https://github.com/OWNER/NAME, or none")
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
        print("no launch buttons: no repository on GitHub is known; REPOSITORY=https://github.com/… names it")
    return 0


def serve(site: Path, port: int) -> int:
    """Show a site at http://localhost, to this machine alone, until Ctrl-C.

    Raises:
        ValueError: it has not been built, or the port is taken.
    """
    if not (site / "index.html").is_file():
        raise ValueError(f"there is no site at {site}; make book builds it")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise ValueError(f"port {port}: {error.strerror}; another one: make serve PORT={port + 1}") from error
    with server, contextlib.suppress(KeyboardInterrupt):
        print(f"the book is at http://localhost:{server.server_port}, until Ctrl-C", flush=True)
        server.serve_forever()
    return 0


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text}: expected a port, 0 to {2**16 - 1}")
    return int(text)


def _address(text: str) -> str:
    """The address of a repository on GitHub as browsers take it, or "" for any other text."""
    found = re.fullmatch(r"(?:https://github\.com/|git@github\.com:)(\w[\w.-]*/\w[\w.-]*?)(?:\.git)?/?", text.strip())
    return f"https://github.com/{found[1]}" if found else ""


def _origin() -> str:
    """The address of this checkout's origin, if that is on GitHub, or ""."""
    git = ["git", "-C", os.fspath(ROOT)]
    try:
        told = [
            subprocess.run([*git, *ask], capture_output=True, text=True, check=True).stdout.strip()
            for ask in (["rev-parse", "--show-toplevel"], ["remote", "get-url", "origin"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return ""
    return _address(told[1]) if Path(told[0]).resolve() == ROOT else ""  # a checkout around it is another project's
