"""Where things are, whatever the working directory: Lab opens chapters in book/, the runner at the root."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN_VARIABLES = ("SSCONV_DATA", "SSCONV_RESULTS", "SSCONV_NATIVE")  # no image folder can be named by these


def data_dir() -> Path:
    """The folder of the data sets: `$SSCONV_DATA`, or data/ of the project."""
    return Path(os.environ.get("SSCONV_DATA") or _project() / "data").expanduser().resolve()


def results_dir() -> Path:
    """The folder of records, tables and figures: `$SSCONV_RESULTS`, or results/ of the project."""
    return Path(os.environ.get("SSCONV_RESULTS") or _project() / "results").expanduser().resolve()


def _project() -> Path:
    """The checkout; where the library is installed without one, the working directory: data don't go among packages."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else Path.cwd()


def folder_variable(name: str) -> str:
    """The environment variable that says where an image folder is: `SSCONV_IMAGENET` for "imagenet"."""
    return "SSCONV_" + re.sub("[^A-Z0-9]", "_", name.upper())


def image_folder(name: str, root: Path | None = None) -> Path:
    """The image folder of this name: where its variable says, or below `root`, by default `data_dir()`."""
    if there := os.environ.get(folder_variable(name)):
        return Path(there).expanduser().resolve()
    return (root or data_dir()) / name
