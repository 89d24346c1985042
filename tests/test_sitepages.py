"""What is made from tables and records says what is in them, and shows markup as text."""

import json

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from ssconv_lib.paths import ROOT
from ssconv_lib.records import RecordStore
from ssconv_lib.site import pages, stage
from ssconv_lib.stamps import Chapter

CLAIMS = pd.DataFrame(
    [
        ["01", "It sees <script>alert(1)</script> all", "Fig. 1", "a & b", "reproduced"],
        ["01", "It is free", "Sec. 2", "no cost", "not reproduced"],
        ["02", "It helps", "Table 2", "too few runs", "cannot tell"],
        ["02", "It is slower", "Table 4", "timed", "slower: reproduced; 1.15 times: smaller here"],
    ],
    columns=["chapter", "claim", "where", "evidence", "verdict"],
)
TITLES = {"01_method": "Method", "02_cifar": "CIFAR-10 & more"}


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    monkeypatch.setenv("SSCONV_RESULTS", str(tmp_path / "results"))
    chapter = Chapter(tmp_path / "book" / "02_cifar.py", "quick")
    (chapter.results / "tables").mkdir(parents=True)
    chapter.stamp.parent.mkdir()
    return chapter


def test_the_table_of_verdicts_has_a_row_a_claim_under_its_chapter_and_markup_is_text():
    soup = BeautifulSoup(pages.verdict_table(CLAIMS, TITLES), "html.parser")
    assert soup.script is None
    assert [row.get_text() for row in soup.select("tr.chapter")] == ["Method", "CIFAR-10 & more"]
    assert [link["href"] for link in soup.find_all("a")] == ["01_method.html", "02_cifar.html"]
    assert [one.get_text() for one in soup.find_all("summary")] == CLAIMS["claim"].tolist()
    assert all(part.find("th")["scope"] == "rowgroup" for part in soup.find_all("tbody"))
    said = [row.td.get_text() for row in soup.select("tbody tr") if row.td]
    assert said == [f"{mark} {verdict}" for mark, verdict in zip("✓✗?◐", CLAIMS["verdict"], strict=True)]


def test_measurements_of_one_claim_share_a_row_that_counts_and_unfolds_to_each():
    same = CLAIMS.assign(chapter="04", claim="It is fast", verdict=["reproduced", "cannot tell"] + ["reproduced"] * 2)
    soup = BeautifulSoup(pages.verdict_table(same, {"04_speed": "Speed"}), "html.parser")
    (row,) = [row for row in soup.select("tbody tr") if row.td]
    verdicts = [part.get_text() for part in row.td.find_all("p")]
    assert verdicts == ["✓ reproduced (3 of 4)", "? cannot tell (1 of 4)"]
    said = [part.get_text() for part in row.select("details p")]
    assert said[:2] == ["reproduced. a & bFig. 1", "cannot tell. no costSec. 2"]
    assert len(said) == 4


def test_the_count_names_every_kind_of_verdict():
    said = pages.counts(CLAIMS)
    assert said.startswith("4 claims and controls have 4 verdicts")
    assert said.endswith("1 reproduced, 1 not reproduced, 1 cannot tell, 1 of several parts.")
    untested = CLAIMS[:1].assign(claim="another", verdict="no runs yet")
    said = pages.counts(pd.concat([CLAIMS, untested]))
    assert said.startswith("4 claims and controls have 4 verdicts"), "no runs are no verdict"
    assert said.endswith("1 of several parts. Without runs so far: 1.")
    assert pages.counts(CLAIMS[:0]) == "No claim has a verdict yet."


def test_downloads_list_each_file_once_and_put_the_forms_of_a_figure_together(chapter):
    made = ["figures/02_fig2.csv", "figures/02_fig2.svg", "tables/02_table2.csv", "tables/02_notes", "tables/02_a.txt"]
    text = pages.downloads(chapter, made)
    assert "02_notes" not in text and "02_a" not in text, "nothing of ours"
    assert "- Figure `02_fig2`: {download}`CSV <downloads/figures/02_fig2.csv>`, {download}`SVG" in text
    assert "- Table `02_table2`: {download}`CSV <downloads/tables/02_table2.csv>`" in text
    assert "<downloads/notebooks/02_cifar.ipynb>" in text
    assert "<downloads/02_cifar.py>" in text


def test_status_says_when_where_how_long_and_with_which_versions(chapter):
    told = {"finished": "2026-01-02 03:04 UTC", "seconds": 71.6, "machine": "a processor, 2 cores"}
    chapter.stamp.write_text(json.dumps({"inputs": {"python": "3.12.1", "torch": "2.14.1"}, **told}))
    text = pages.status([chapter], TITLES)
    soup = BeautifulSoup(text, "html.parser")
    (row,) = soup.select("table tbody tr")
    assert [cell.get_text() for cell in row.find_all("td")][1:] == [
        "2026-01-02 03:04 UTC",
        "72 s",
        "a processor, 2 cores",
    ]
    assert (row.a["href"], row.a.get_text()) == ("02_cifar.html", "CIFAR-10 & more")
    assert "Versions: python 3.12.1, torch 2.14.1." in text
    assert "*Nothing yet.*" in text  # there are no records


def test_marks_of_a_page_and_what_is_made_have_to_agree():
    assert stage.filled("a <!-- made: x --> b", {"x": "1 \\d"}) == "a 1 \\d b"
    for text in ("no mark", "<!-- made: y -->", "<!-- made: x --> <!-- made: y -->"):
        with pytest.raises(ValueError, match="marks"):
            stage.filled(text, {"x": "1"})


def test_what_a_record_says_of_its_machine_is_text_and_may_be_missing(chapter, tmp_path):
    record = json.loads(next((ROOT / "results" / "records" / "laptop").glob("wrn10_2-a0-s0-*.json")).read_text())
    record["origin"] |= {"device": "<img src=x onerror=alert(1)>\n\n# {{ 7 * 7 }} | a"}
    del record["origin"]["torch"]
    store = RecordStore("mine", tmp_path / "results" / "records")
    store.add(record)
    mine = Chapter(chapter.source, "mine")
    text = pages.status([mine], TITLES)
    (line,) = [line for line in text.splitlines() if "onerror" in line]
    assert line.startswith("<table") and line.endswith("</table>"), "all on one line, so it is HTML to its end"
    soup = BeautifulSoup(line, "html.parser")
    assert soup.img is None
    cells = dict(zip([th.get_text() for th in soup.select("thead th")], soup.select("tbody td"), strict=False))
    assert cells["profile"].get_text() == "mine"
    assert cells["runs"].get_text() == "1"
    assert cells["machines"].get_text() == "<img src=x onerror=alert(1)> # {{ 7 * 7 }} | a"
    assert cells["torch"].get_text() == "unknown"


def test_no_text_is_run_while_the_site_is_built():
    enabled = stage.config(ROOT / "book" / "_config.yml", "")["parse"]["myst_enable_extensions"]
    assert "substitution" not in enabled


def test_a_chapter_that_has_not_run_is_named(chapter, tmp_path):
    chapter.source.parent.mkdir()
    chapter.source.write_text("")
    with pytest.raises(RuntimeError, match=r"02_cifar is not up to date \(not run yet\)"):
        stage.stage([chapter], tmp_path / "source")
