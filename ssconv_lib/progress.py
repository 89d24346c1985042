"""One progress bar for everything that takes more than a few seconds: on a terminal and in a notebook, else none."""

import sys
from typing import Any

from tqdm import tqdm


def bar(*, hidden: bool = False, **options: Any) -> tqdm:
    """Return a plain text bar on stderr (no widget: it would be stored in the notebook), or nothing if `hidden`."""
    shown = (sys.stderr.isatty() or in_notebook()) and not hidden
    return tqdm(file=sys.stderr, disable=not shown, leave=False, **options)


def in_notebook() -> bool:
    """Tell whether a Jupyter kernel runs this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")
