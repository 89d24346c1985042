"""Tables for a page: as narrow as they can be, so that the answer, most often at the right, stays in sight."""

from html import escape

import pandas as pd
from IPython.display import HTML

SENTENCE = 60  # characters of a cell that is a sentence
GROUP = "source"  # the column whose values head groups of rows
LONG = 24  # characters of a cell that may break; an interval is shorter
MANY = 5  # columns that fit without any care


def as_html(data: pd.DataFrame) -> HTML:
    """A table without index, empty where nothing is there, all text escaped.

    Of class "wordy" is one with sentences in it, which are to break; any other is "lined", keeps a row to a line but
    for "long" cells, and scrolls where it must. So that it seldom must, of a table of more than `MANY` columns what is
    the same in all rows stands above it, once. If the rows of a `source` stand together, it heads them, with all that
    is the same in the rows of each source.
    """
    text = data.apply(lambda column: column.map(_cell)).astype(object)
    wordy = bool(text.map(len).gt(SENTENCE).any(axis=None))
    wide = not wordy and len(text.columns) > MANY
    text, same = _without_repeats(text) if wide else (text, {})
    grouped = wide and GROUP in text and _stay_together(text[GROUP])
    parts = [f'<table class="dataframe {"wordy" if wordy else "lined"}">']
    if same:
        parts.append("<caption>" + "; ".join(f"{escape(k)}: {escape(v)}" for k, v in same.items()) + "</caption>")
    runs = (text[GROUP] != text[GROUP].shift()).cumsum() if grouped else pd.Series(0, text.index)
    held = [name for name in text.columns if grouped and text.groupby(runs)[name].nunique().eq(1).all()]
    names = [name for name in text.columns if name not in held]
    parts.append(f"<thead><tr>{''.join(f'<th>{escape(str(name))}</th>' for name in names)}</tr></thead>")
    for _, rows in text.groupby(runs, sort=False):
        said = [value if name == GROUP else f"{name}: {value}" for name, value in rows[held].iloc[0].items() if value]
        head = f'<tr><th colspan="{len(names)}" scope="rowgroup">{escape("; ".join(said))}</th></tr>'
        parts.append(_body(rows[names], head if grouped else ""))
    return HTML("\n".join([*parts, "</table>"]))


def _cell(value: object) -> str:
    """A value as text: three significant digits, nothing where there is none."""
    if value is None or (not isinstance(value, list | tuple | dict) and pd.isna(value)):
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _without_repeats(text: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Take out the columns that say the same in every row, and those that say nothing; the former with their value."""
    if len(text) < 2:
        return text, {}
    constant = [name for name in text.columns if text[name].nunique() == 1]
    return text.drop(columns=constant), {str(name): text[name].iloc[0] for name in constant if text[name].iloc[0]}


def _stay_together(of_rows: pd.Series) -> bool:
    """Whether headings would be few: rows of one source stand together, two at least on average."""
    return 2 * int((of_rows != of_rows.shift()).sum()) <= len(of_rows)


def _body(rows: pd.DataFrame, head: str = "") -> str:
    cells = [
        [f"<td{' class=long' if len(cell) > LONG else ''}>{escape(cell)}</td>" for cell in row]
        for row in rows.to_numpy()
    ]
    lines = [f"<tr>{''.join(row)}</tr>" for row in cells]
    return "<tbody>" + "\n".join([head, *lines] if head else lines) + "</tbody>"
