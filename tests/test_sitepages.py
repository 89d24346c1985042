"""What is made from tables and records says what is in them, and shows markup as text."""

import json

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from ssconv_lib.site import pages, stage
from ssconv_lib.site.command import _checked
from ssconv_lib.stamps import Chapter

CLAIMS = pd.DataFrame(
    [
        ["01_method", "It sees <script>alert(1)</script> all", "Fig. 1", "a & b", "reproduced"],
        ["01_method", "It is free", "Sec. 2", "no cost", "not reproduced"],
        ["02_cifar", "It helps", "Table 2", "too few runs", "cannot tell"],
        ["02_cifar", "It is slower", "Table 4", "timed", "slower: reproduced; 1.15 times: smaller here"],
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


def test_verdicts_of_a_chapter_are_those_of_its_table_with_its_name(chapter):
    CLAIMS[["claim", "where", "evidence", "verdict"]].to_csv(chapter.results / "tables/02_verdicts.csv", index=False)
    found = pages.verdicts([chapter])
    assert found["claim"].tolist() == CLAIMS["claim"].tolist()
    assert set(found["chapter"]) == {"02_cifar"}
    assert pages.verdicts([Chapter(chapter.source.with_name("03_imagenet.py"), "quick")]).empty


def test_the_table_of_verdicts_has_a_row_a_claim_under_its_chapter_and_markup_is_text():
    soup = BeautifulSoup(pages.verdict_table(CLAIMS, TITLES), "html.parser")
    assert soup.script is None
    assert [row.get_text() for row in soup.select("tr.chapter")] == ["Method", "CIFAR-10 & more"]
    assert [link["href"] for link in soup.find_all("a")] == ["01_method.html", "02_cifar.html"]
    assert [one.get_text() for one in soup.find_all("summary")] == CLAIMS["claim"].tolist()
    said = [row.find_all("td")[1].get_text() for row in soup.select("tbody tr") if row.find("td")]
    assert said == [f"{mark} {verdict}" for mark, verdict in zip("✓✗?◐", CLAIMS["verdict"], strict=True)]


def test_measurements_of_one_claim_share_a_row_that_counts_and_unfolds_to_each():
    same = CLAIMS.assign(
        chapter="04_speed", claim="It is fast", verdict=["reproduced", "cannot tell"] + ["reproduced"] * 2
    )
    soup = BeautifulSoup(pages.verdict_table(same, {"04_speed": "Speed"}), "html.parser")
    (row,) = [row for row in soup.select("tbody tr") if row.find("td")]
    verdicts = [part.get_text() for part in row.find_all("td")[1].find_all("p")]
    assert verdicts == ["✓ reproduced (3 of 4)", "? cannot tell (1 of 4)"]
    said = [part.get_text() for part in row.select("details p")]
    assert said[:2] == ["reproduced. a & bFig. 1", "cannot tell. no costSec. 2"]
    assert len(said) == 4


def test_the_count_names_every_kind_of_verdict():
    said = pages.counts(CLAIMS)
    assert said.startswith("4 claims and controls")
    assert said.endswith("1 reproduced, 1 not reproduced, 1 cannot tell, 1 of several parts.")
    assert pages.counts(CLAIMS[:0]) == "No claim has a verdict yet."


def test_downloads_list_each_file_once_and_put_the_forms_of_a_figure_together(chapter):
    text = pages.downloads(chapter, ["figures/02_fig2.csv", "figures/02_fig2.svg", "tables/02_table2.csv"])
    assert "- Figure `02_fig2`: {download}`CSV <downloads/figures/02_fig2.csv>`, {download}`SVG" in text
    assert "- Table `02_table2`: {download}`CSV <downloads/tables/02_table2.csv>`" in text
    assert "<downloads/notebooks/02_cifar.ipynb>" in text
    assert "<downloads/02_cifar.py>" in text


def test_status_says_when_where_how_long_and_with_which_versions(chapter):
    told = {"finished": "2026-01-02 03:04 UTC", "seconds": 71.6, "machine": "a processor, 2 cores"}
    chapter.stamp.write_text(json.dumps({"inputs": {"python": "3.12.1", "torch": "2.14.1"}, **told}))
    text = pages.status([chapter], TITLES)
    row = "| [CIFAR-10 & more](02_cifar.ipynb) | 2026-01-02 03:04 UTC | 72\N{NO-BREAK SPACE}s | a processor, 2 cores |"
    assert row in text
    assert "Versions: python 3.12.1, torch 2.14.1." in text
    assert "*Nothing yet.*" in text  # there are no records


def test_marks_of_a_page_and_what_is_made_have_to_agree():
    assert stage.filled("a <!-- made: x --> b", {"x": "1 \\d"}) == "a 1 \\d b"
    for text in ("no mark", "<!-- made: y -->", "<!-- made: x --> <!-- made: y -->"):
        with pytest.raises(ValueError, match="marks"):
            stage.filled(text, {"x": "1"})


@pytest.mark.parametrize("address", ["http://github.com/a/b", "https://github.com/a", "https://example.org/a/b", "x"])
def test_an_address_from_which_nothing_can_be_launched_is_refused(address):
    with pytest.raises(ValueError, match="expected https://github.com/OWNER/NAME"):
        _checked(address)


def test_a_chapter_that_has_not_run_is_named(chapter, tmp_path):
    chapter.source.parent.mkdir()
    chapter.source.write_text("")
    with pytest.raises(ValueError, match=r"02_cifar is not up to date \(not run yet\)"):
        stage.stage([chapter], tmp_path / "source")
