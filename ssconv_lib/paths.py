"""Where things are, whatever the working directory: Lab opens chapters in book/, the runner at the root."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def data_dir() -> Path:
    """The folder of the data sets: `$SSCONV_DATA`, or data/ of the project."""
    return Path(os.environ.get("SSCONV_DATA") or ROOT / "data").expanduser().resolve()


def results_dir() -> Path:
    """The folder of records, tables and figures: `$SSCONV_RESULTS`, or results/ of the project."""
    return Path(os.environ.get("SSCONV_RESULTS") or ROOT / "results").expanduser().resolve()
