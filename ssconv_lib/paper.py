"""The paper's printed numbers and sentences, read from data/paper/*.csv. Nothing there is read off a picture."""

import csv
from pathlib import Path

import pandas as pd

from ssconv_lib.paths import ROOT

PAPER = ROOT / "data" / "paper"  # committed with the code, so not moved by $SSCONV_DATA
# kind of file: its columns; the numbers in every row; the numbers that may be blank
COLUMNS = {
    "result": (
        [
            *["table", "model", "key", "method", "printed_method", "layout"],
            *["metric", "value", "unit", "decimals", "n_runs", "alpha"],
        ],
        {"table": int, "value": float, "decimals": int, "n_runs": int},
        {"alpha": float},
    ),
    "structure": (
        ["table", "layer", "output_height", "output_width", "box_height", "box_width", "structure", "blocks"],
        {"table": int, "output_height": int, "output_width": int},
        {"box_height": int, "box_width": int, "blocks": int},
    ),
    "claims": (["id", "where", "quote", "predicts"], {}, {}),
}
KINDS = {1: "result", 2: "result", 3: "result", 4: "result", 5: "structure"}
ALPHA_TAKEN = {1: 0.06, 2: 0.06, 3: 0.04, 4: 0.04}  # Tables 1 and 2 print none; 4 prints 0.04, "same" as 3


class PrintedDifference(float):
    """A difference of two printed numbers, with what their rounding hides.

    Attributes:
        decimals: the decimals that both numbers are printed with.
        rounding: how far the difference before rounding can lie from this one. Each number hides half
            a unit of its last decimal, so 4.3 - 3.9 is 0.4 ± 0.1.
        unit: "points" (of error) or "ms".
    """

    def __new__(cls, value: float, decimals: int, unit: str) -> "PrintedDifference":
        """Rounds the value to the decimals that it was printed with."""
        difference = super().__new__(cls, round(value, decimals))
        difference.decimals, difference.unit = decimals, unit
        difference.rounding = 10.0**-decimals
        return difference

    def __getnewargs__(self) -> tuple[float, int, str]:
        """For copy and pickle, which otherwise pass the value alone."""
        return float(self), self.decimals, self.unit


def table(number: int) -> pd.DataFrame:
    """Returns table `number` (1 to 5) as printed; `layout` is blank and `alpha` NaN where the paper prints none.

    Raises:
        ValueError: for another number, or naming file and line of a damaged CSV.
        FileNotFoundError: if the file is not there.
    """
    if number not in KINDS:
        raise ValueError(f"table {number!r} is not in the paper: expected one of {list(KINDS)}")
    path = PAPER / f"table{number}.csv"
    rows = _read(path, KINDS[number])
    for line, row in rows:
        if row["table"] != number:
            raise ValueError(f"{path}, line {line}: table is {row['table']}, expected {number}")
    frame = pd.DataFrame([row for _, row in rows])
    optional = COLUMNS[KINDS[number]][2]
    return frame.astype({name: "Int64" if kind is int else float for name, kind in optional.items()})


def claims() -> pd.DataFrame:
    """Returns the sentences that chapters test: id (the index), where, quote (verbatim), predicts."""
    path = PAPER / "claims.csv"
    seen = set()
    for line, row in (rows := _read(path, "claims")):
        if blank := [name for name, text in row.items() if not text.strip()]:
            raise ValueError(f"{path}, line {line}: {blank[0]} is blank")
        if row["id"] in seen:
            raise ValueError(f"{path}, line {line}: the id {row['id']!r} is there twice")
        seen.add(row["id"])
    return pd.DataFrame([row for _, row in rows]).set_index("id")


def claim(name: str) -> pd.Series:
    """Returns one claim: its `where`, `quote` and `predicts`.

    Raises:
        ValueError: if no claim has this id; the message lists those that there are.
    """
    rows = claims()
    if name not in rows.index:
        raise ValueError(f"no claim {name!r} in {PAPER / 'claims.csv'}: expected one of {list(rows.index)}")
    return rows.loc[name]


def value(number: int, key: str, method: str, *, layout: str | None = None) -> float:
    """Returns one number of Tables 1 to 4, in its printed unit (% or ms).

    Args:
        number: the table.
        key: this project's name of the model, such as "wrn16_4".
        method: "conv" or "ss".
        layout: "leading" (Eq. 2) or "interleaved" (Eq. 3), where the table prints a row for each.

    Raises:
        ValueError: if no row fits, or several do.
    """
    return _row(number, key, method, layout)["value"]


def difference(number: int, key: str, *, layout: str | None = None) -> PrintedDifference:
    """Returns conv minus ss of Tables 1 to 4: positive where shuffling lowers the error (or the time).

    Table 4's difference is negative, in ms: shuffling costs time. Arguments and errors are as in `value`.
    """
    conv, ss = _row(number, key, "conv", None), _row(number, key, "ss", layout)
    unit = "points" if conv["unit"] == "%" else conv["unit"]
    return PrintedDifference(conv["value"] - ss["value"], int(min(conv["decimals"], ss["decimals"])), unit)


def _row(number: int, key: str, method: str, layout: str | None) -> pd.Series:
    if KINDS.get(number) == "structure":
        raise ValueError(f"table {number} holds a network's structure: expected a table of results, 1 to 4")
    rows = table(number)
    of_model = rows[rows.key == key]
    if of_model.empty:
        raise ValueError(f"no model {key!r} in table {number}: expected one of {list(rows.key.unique())}")
    fitting = of_model[of_model.method == method]
    if layout is not None:
        fitting = fitting[fitting.layout == layout]
    if len(fitting) == 1:
        return fitting.iloc[0]
    there = [" ".join(filter(None, pair)) for pair in zip(of_model.method, of_model.layout, strict=True)]
    problem = "no row" if fitting.empty else "several rows"
    remedy = "choose by method and layout among" if fitting.empty else "name a layout: there are"
    raise ValueError(f"{problem} in table {number} for {key!r}, method {method!r}, layout {layout!r}; {remedy} {there}")


def _read(path: Path, kind: str) -> list[tuple[int, dict]]:
    """The rows of a CSV with their line numbers, numbers parsed; a ValueError names file and line."""
    columns, required, optional = COLUMNS[kind]
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            if missing := [name for name in columns if name not in header]:
                raise ValueError(f"{path}, line 1: the column {missing[0]!r} is missing; restore the file")
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is damaged ({error}); restore the file") from error
    if not rows:
        raise ValueError(f"{path}, line 2: no rows after the header; restore the file")
    return [(line, _parse(path, line, row, required, optional)) for line, row in rows]


def _parse(path: Path, line: int, row: dict, required: dict, optional: dict) -> dict:
    if None in row or None in row.values():
        raise ValueError(f"{path}, line {line}: more or fewer fields than columns; restore the file")
    printed = row.get("value")
    row = dict(row)
    for name, kind in {**required, **optional}.items():
        text = row[name]
        if name in optional and text == "":
            row[name] = None
            continue
        try:
            row[name] = kind(text)
        except ValueError as error:
            expected = "a whole number" if kind is int else "a number"
            raise ValueError(f"{path}, line {line}: {name} is {text!r}, expected {expected}") from error
        if not 0 <= row[name] < float("inf"):
            raise ValueError(f"{path}, line {line}: {name} is {text!r}, expected a finite number from 0 up")
    if printed is not None and len(printed.partition(".")[2]) != row["decimals"]:
        raise ValueError(f"{path}, line {line}: value is {printed!r}, expected {row['decimals']} decimals, as printed")
    return row
