"""Tables on a page: what is said once stands above, sources head their rows, and no cell is markup."""

import re

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from ssconv_lib.pagetable import as_html


def rows(html: str) -> list[list[str]]:
    """The text of all cells, head first, row by row."""
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]


def wide(**columns) -> pd.DataFrame:
    """A table that is too wide for care not to be taken."""
    return pd.DataFrame({**columns, **{f"x{i}": [f"{i}.{row}" for row in range(4)] for i in range(4)}})


def test_cells_are_text_to_three_digits_and_empty_where_nothing_is():
    html = as_html(pd.DataFrame({"x": [1.23456, None, 2.0], "n": [1, 2, 30000], "t": ["a", None, pd.NA]})).data
    assert rows(html) == [["x", "n", "t"], ["1.23", "1", "a"], ["", "2", ""], ["2", "30000", ""]]


def test_a_table_with_sentences_is_wordy_and_any_other_lined():
    assert 'class="dataframe lined"' in as_html(pd.DataFrame({"x": [1.0], "name": ["short"]})).data
    assert 'class="dataframe wordy"' in as_html(pd.DataFrame({"x": ["long " * 20]})).data


def test_what_all_rows_share_stands_above_a_wide_table_once():
    html = as_html(wide(model=["WRN"] * 4, note=[None] * 4)).data
    assert "<caption>model: WRN</caption>" in html
    assert rows(html)[0] == ["x0", "x1", "x2", "x3"], "neither what is the same nor what is empty has a column"
    assert html.count("WRN") == 1


def test_a_narrow_table_keeps_all_its_columns():
    html = as_html(pd.DataFrame({"model": ["WRN"] * 2, "x": [1, 2]})).data
    assert rows(html)[0] == ["model", "x"]
    assert "<caption>" not in html


def test_sources_head_their_rows_if_these_stand_together():
    html = as_html(wide(source=["here", "here", "there", "there"], n=[1, 2, 3, 4])).data
    assert rows(html)[1:] == [
        ["here"],
        ["1", "0.0", "1.0", "2.0", "3.0"],
        ["2", "0.1", "1.1", "2.1", "3.1"],
        ["there"],
        ["3", "0.2", "1.2", "2.2", "3.2"],
        ["4", "0.3", "1.3", "2.3", "3.3"],
    ]
    assert html.count('<th colspan="5" scope="rowgroup">') == 2
    with_seeds = as_html(wide(source=["here", "here", "there", "there"], seed=[0, 0, 1, 1])).data
    assert rows(with_seeds)[:2] == [["x0", "x1", "x2", "x3"], ["here; seed: 0"]], "what a source shares is said with it"
    mixed = as_html(wide(source=["here", "there", "here", "there"], n=[1, 2, 3, 4])).data
    assert rows(mixed)[0][0] == "source"
    assert "rowgroup" not in mixed


@given(st.lists(st.text(max_size=20), min_size=4, max_size=4), st.text(max_size=10))
def test_no_text_is_ever_markup(cells, name):
    html = as_html(wide(source=cells, **{f"<{name}>": ["<b>&"] * 4})).data
    tags = set(re.findall(r"</?(\w+)", html))
    assert tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_long_texts_may_break_and_intervals_may_not():
    html = as_html(pd.DataFrame({"interval": ["1.037 (1.008 to 1.065)"], "note": ["too few pairs to judge by"]})).data
    assert "<td>1.037 (1.008 to 1.065)</td>" in html
    assert "<td class=long>too few pairs to judge by</td>" in html


def test_an_empty_table_has_its_head():
    assert rows(as_html(pd.DataFrame(columns=["a", "b"])).data)[0] == ["a", "b"]
