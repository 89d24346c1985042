"""The verdicts of all chapters come out of their tables whole, and as text on one line."""

import pandas as pd

from ssconv_lib import claims

ROWS = [["It is $\\alpha C$", "Table 1", "a\n\n# b", "reproduced"], ["It is slow", "Sec. 4", "NA", "cannot tell"]]


def write(folder, name, rows):
    pd.DataFrame(rows, columns=["claim", "where", "evidence", "verdict"]).to_csv(folder / name, index=False)


def test_every_row_is_there_with_its_chapter_in_order_and_without_latex_or_breaks(tmp_path):
    write(tmp_path, "04_verdicts.csv", ROWS[1:])
    write(tmp_path, "01_verdict.csv", ROWS[:1])
    write(tmp_path, "notes_verdicts.csv", ROWS)
    found = claims.verdicts(tmp_path)
    assert found["chapter"].tolist() == ["01", "04"]
    assert found["claim"].tolist() == ["It is αC", "It is slow"]
    assert found["evidence"].tolist() == ["a # b", "NA"]


def test_without_tables_the_columns_are_there(tmp_path):
    found = claims.verdicts(tmp_path)
    assert found.empty
    assert list(found) == claims.COLUMNS


def test_shares_are_told_only_where_measurements_differ():
    assert claims.shares(["reproduced"] * 3) == {"reproduced": ""}
    assert claims.shares(["a", "b", "a"]) == {"a": "2 of 3", "b": "1 of 3"}
