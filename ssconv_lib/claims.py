"""The verdicts of all chapters, read from their tables, for the site's first page and the README."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from .readable import plain

COLUMNS = ["chapter", "claim", "where", "evidence", "verdict"]
OWN = ("Not in the paper", "Control of")  # how `where` begins of a question that the paper did not ask


def verdicts(tables: Path) -> pd.DataFrame:
    """Read the verdicts that chapters left in a folder of tables, a measurement a row, in the chapters' order.

    Returns:
        chapter (its two digits), claim, where, evidence, verdict; texts on one line each, without LaTeX.
    """
    found = [
        pd.read_csv(path, dtype=str, keep_default_na=False).assign(chapter=path.name[:2])
        for path in sorted(tables.glob("[0-9][0-9]_verdict*.csv"))
    ]
    table = pd.concat([pd.DataFrame(columns=COLUMNS), *found], ignore_index=True)[COLUMNS]
    return table.map(lambda text: " ".join(plain(text).split()))


def shares(said: Iterable[str]) -> dict[str, str]:
    """What several measurements say of one claim: how many of them, where they differ, by verdict."""
    counted = Counter(said)
    return {verdict: f"{n} of {counted.total()}" if len(counted) > 1 else "" for verdict, n in counted.items()}
