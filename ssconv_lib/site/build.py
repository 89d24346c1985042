"""The site from executed chapters, by Jupyter Book: whole, or as it was before."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..files import sweep, temporary_name
from ..stamps import Chapter
from .check import problems
from .stage import stage

MARK = ".ssconv-site"  # a file in every site that was built here


def build(chapters: Sequence[Chapter], site: Path, repository: str = "") -> int:
    """Build the site; what was there before is replaced when the new one is whole and in order.

    Args:
        chapters: Chapters that have run, of one profile.
        site: The folder of the pages; see `check_place`.
        repository: The address of the repository, for launch buttons.

    Returns:
        The number of pages.

    Raises:
        ValueError: `site` holds something else.
        RuntimeError: a chapter is not up to date, Sphinx warned of something, or a page has a dead link, or loads from
            elsewhere.
    """
    check_place(site)
    site.parent.mkdir(parents=True, exist_ok=True)
    sweep(site.parent)
    work = temporary_name(site)
    try:
        stage(chapters, work / "source", repository)
        pages = _sphinx(work / "source", work)
        if found := problems(pages):
            raise RuntimeError("the pages are not in order:\n  " + "\n  ".join(found))
        (pages / MARK).write_text("made by python -m ssconv_lib site, which may replace this folder\n")
        _put(pages, site, work / "old")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len([*site.glob("*.html")])


def check_place(site: Path) -> None:
    """Raise ValueError if a site can't take this place: something is there that this program has not put there."""
    if site.is_dir() and (not any(site.iterdir()) or (site / MARK).is_file()):
        return
    if site.exists():
        raise ValueError(f"{site} holds something other than a site; expected an empty folder, or one to be made")


def _put(pages: Path, site: Path, old: Path) -> None:
    """Put pages in the place of a site; if that fails or is interrupted, the old one comes back.

    Killed between the two moves it leaves no site, and the next build makes it.
    """
    if site.exists():
        site.rename(old)
    try:
        pages.rename(site)
    except BaseException:
        if old.exists() and not site.exists():
            old.rename(site)
        raise


def _sphinx(source: Path, work: Path) -> Path:
    """Run Jupyter Book in a process of its own: it changes what a process has loaded."""
    run = "from jupyter_book.cli.main import main; main()"  # this Python's, wherever its scripts are
    command = [sys.executable, "-c", run, "build", str(source), "--path-output", str(work / "output")]
    command += ["-W", "-n", "--keep-going", "-q"]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if ran.returncode:
        said = [line.replace(str(source) + os.sep, "") for line in ran.stderr.splitlines() if line.strip()]
        raise RuntimeError("Jupyter Book ended with a fault:\n  " + "\n  ".join(said[-40:]))
    return work / "output" / "_build" / "html"
