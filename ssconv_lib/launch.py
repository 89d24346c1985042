"""Chapters that install themselves on Colab: python -m ssconv_lib.launch --repository URL --commit SHA book/*.ipynb.

The site's workflow does it on a branch of its own; the notebooks beside the chapters stay as they are.
"""

import argparse
import copy
import re
import sys
import textwrap
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .files import write_whole
from .paths import ROOT

if TYPE_CHECKING:
    from nbformat import NotebookNode

TAG = "install"
# What shows, runs and publishes notebooks. Colab brings its own, and breaks when it is replaced under a running kernel.
NOTEBOOK = {
    *("ipykernel", "ipython", "jupyterlab", "jupytext", "nbclient", "nbconvert", "nbformat", "papermill", "traitlets"),
    *("jupyter-book", "sphinx-book-theme"),
}
CELL = """\
# On Colab this fetches the book as it is on this page, and installs what it needs; elsewhere it does nothing.
import os
import subprocess
import sys

if "google.colab" in sys.modules and not os.path.isdir("ssconv_lib"):
    needed = '''
{needed}
    '''.split()
    if not os.path.isdir("ssconv-book"):
        subprocess.run(["git", "clone", "-q", {repository!r}, "ssconv-book"], check=True)
    commit = {commit!r}
    subprocess.run(["git", "-C", "ssconv-book", "checkout", "-q", commit], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", "./ssconv-book", *needed], check=True)
    os.chdir("ssconv-book")  # last, so that the cell can be run again after an error
    sys.path.insert(0, os.getcwd())  # what pip installed is found without it only after a restart"""


def requirements(pyproject: Path | None = None) -> list[str]:
    """What the chapters import: the extra `book`, but for what shows and runs notebooks."""
    project = tomllib.loads((pyproject or ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["optional-dependencies"]["book"]
    return [text.replace(" ", "") for text in listed if re.match(r"[\w-]+", text).group() not in NOTEBOOK]


def with_install_cell(notebook: "NotebookNode", repository: str, commit: str) -> "NotebookNode":
    """A copy of the notebook whose first code cell, tagged `install`, brings the book onto Colab.

    Args:
        notebook: a chapter; an install cell that it has is replaced.
        repository: what `git clone` takes.
        commit: the commit to check out there.

    Raises:
        ValueError: there is no repository, or the commit is not a full hash, which alone stays what it is.
    """
    import nbformat

    if not repository:
        raise ValueError(f"repository {repository!r}: expected what git clone takes")
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise ValueError(f"commit {commit!r}: expected its 40 hexadecimal digits")
    made = copy.deepcopy(notebook)
    made.cells = [cell for cell in made.cells if TAG not in cell.metadata.get("tags", [])]
    needed = textwrap.fill(" ".join(requirements()), 100, initial_indent=" " * 8, subsequent_indent=" " * 8)
    source = CELL.format(repository=repository, commit=commit, needed=needed)
    cell = nbformat.v4.new_code_cell(source, id=TAG, metadata={"tags": [TAG]})
    first = next((i for i, cell in enumerate(made.cells) if cell.cell_type == "code"), len(made.cells))
    made.cells.insert(first, cell)
    nbformat.validate(made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrites notebooks in place; returns the exit status: 0, 2 for a bad call, 1 if a file can't be written."""
    import nbformat

    parser = argparse.ArgumentParser(prog="python -m ssconv_lib.launch", description=__doc__.splitlines()[0])
    parser.add_argument("--repository", required=True, metavar="URL", help="where Colab clones the book from")
    parser.add_argument("--commit", required=True, metavar="SHA", help="which commit of it, 40 digits")
    parser.add_argument("notebooks", nargs="+", type=Path, help="written anew in place")
    args = parser.parse_args(arguments)
    try:  # all of them, or none
        made = {path: with_install_cell(_read(path), args.repository, args.commit) for path in args.notebooks}
    except (ValueError, OSError) as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    try:
        for path, notebook in made.items():
            write_whole(path, (nbformat.writes(notebook) + "\n").encode())
    except OSError as error:
        print(f"launch: {error}", file=sys.stderr)
        return 1
    return 0


def _read(path: Path) -> "NotebookNode":
    """A notebook that is one.

    Raises:
        ValueError: the file is none.
    """
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.ValidationError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no notebook: {str(error).splitlines()[0]}") from error
    return notebook


if __name__ == "__main__":
    sys.exit(main())
