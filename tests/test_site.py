"""The built site, as files and in a real browser."""

import os
import re
import subprocess
import sys
from pathlib import Path

import browser
import pytest
import yaml
from bs4 import BeautifulSoup

from ssconv_lib import claims
from ssconv_lib.paths import ROOT
from ssconv_lib.site.check import problems

TINY = Path(__file__).with_name("tiny.toml")
REPOSITORY = "https://github.com/someone/some-book"
TOC = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
pytestmark = pytest.mark.timeout(1800)  # the first test may have to run all chapters, on a busy machine
CHAPTERS, APPENDIX = ([page["file"] for page in part["chapters"]] for part in TOC["parts"])
PAGES = ["index", *CHAPTERS, *APPENDIX]
SHOTS = ROOT / "build" / "screenshots"  # to look at; git ignores them
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def site(tiny_book, book_environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "pages"
    command = [sys.executable, "-m", "ssconv_lib", "site", "--profile", str(TINY), "--output", str(folder)]
    environment = os.environ | book_environment
    command += ["--repository", REPOSITORY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"{len(list(folder.glob('*.html')))} pages" in done.stdout
    return folder


@pytest.fixture(scope="module")
def at(site):
    with browser.served(site) as address:
        yield address


def soup(site, page):
    return BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser")


def article(site, page):
    return soup(site, page).find("article")


def test_every_page_of_the_contents_is_there_and_every_chapter_is_in_the_contents(site):
    assert {path.stem for path in (ROOT / "book").glob("[0-9]*.py")} == set(CHAPTERS)
    assert {page for page in PAGES if not (site / f"{page}.html").exists()} == set()


def test_links_lead_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    assert problems(site) == []


def test_nothing_beside_the_site_is_left(site):
    assert [path.name for path in site.parent.iterdir()] == [site.name]


@pytest.mark.parametrize("page", CHAPTERS)
def test_pictures_have_words_and_everything_can_be_downloaded(site, tiny_book, page):
    found = article(site, page)
    pictures = found.select(".cell_output img")
    assert all(len(picture.get("alt", "")) > 20 and picture["alt"].startswith("Figure. ") for picture in pictures)
    figures = list((tiny_book / "figures").glob(f"{page[:2]}_*.svg"))
    assert len(pictures) == len(figures) > 0
    offered = {Path(link["href"]).name for link in found.select("a.download")}
    made = {path.name for kind in ("tables", "figures") for path in (tiny_book / kind).glob(f"{page[:2]}_*")}
    assert offered == made | {f"{page}.ipynb", f"{page}.py"}


@pytest.mark.parametrize("page", CHAPTERS)
def test_launch_buttons_lead_to_the_paired_notebook(site, page):
    links = [link["href"] for link in soup(site, page).find_all("a", href=True)]
    (colab,) = [link for link in links if "colab.research" in link]
    (binder,) = [link for link in links if "mybinder.org/v2" in link]
    assert colab.endswith(f"/github/someone/some-book/blob/launch/book/{page}.ipynb")
    assert "/gh/someone/some-book/launch" in binder
    assert f"book/{page}.ipynb" in binder
    assert (ROOT / "book" / f"{page}.ipynb").is_file()


def test_the_first_page_has_every_verdict_and_no_mark_is_left(site, tiny_book):
    found = claims.verdicts(tiny_book / "tables")
    assert set(found["chapter"]) == {name[:2] for name in CHAPTERS}
    for name, part in zip(CHAPTERS, article(site, "index").select(".verdicts tbody"), strict=True):
        expected = found[found["chapter"] == name[:2]]
        assert part.a["href"] == f"{name}.html"
        assert [row.get_text() for row in part.find_all("summary")] == list(dict.fromkeys(expected["claim"]))
        assert len(part.select("details p")) == len(expected)
        assert {row.get_text() for row in part.find_all("small")} == set(expected["where"])
    assert "made:" not in (site / "index.html").read_text(encoding="utf-8")


def test_code_is_folded_but_for_the_chapter_about_code(site):
    for page in CHAPTERS:
        cells = article(site, page).select("div.cell")
        assert cells, page
        is_open = [cell for cell in cells if "tag_hide-input" not in cell["class"] and cell.select(".cell_input")]
        assert bool(is_open) == (page == "01_method"), page


def readme_rows():
    """What the README's table says of each thing that the paper prints: {"Fig. 3": [(chapter's number, files)]}."""
    found = {}
    table = README.split("## From the paper to the files")[1].split("\n## ")[0]
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if name := re.match(r"(Fig\.|Table|Listing) (\d(?:, \d)*)", cells[0]):
            stems = re.findall(r"`(?:tables|figures)/(\w+)\.", cells[2])
            for number in name[2].split(", "):
                found.setdefault(f"{name[1]} {number}", []).append((cells[1][0], stems))
    return found


PRINTED = [*(f"Table {k}" for k in range(1, 6)), *(f"Fig. {k}" for k in range(1, 9)), "Listing 1"]


@pytest.mark.parametrize("name", PRINTED)
def test_what_the_paper_prints_is_in_the_readme_made_by_a_chapter_and_on_its_page(site, tiny_book, name):
    rows = readme_rows()[name]
    for number, stems in rows:
        (page,) = [page for page in CHAPTERS if page.startswith(f"0{number}")]
        assert stems
        offered = {Path(link["href"]).stem for link in article(site, page).select("a.download")}
        for stem in stems:
            if list(tiny_book.glob(f"*/{stem}.csv")):
                assert stem in offered
    assert any(list(tiny_book.glob(f"*/{stem}.csv")) for _, stems in rows for stem in stems), "no chapter makes it"
    kind, number = name.split(" ")
    said = article(site, page).get_text()
    assert re.search(rf"{re.escape(kind[:-1])}\w*\.? [\d,to and ]*{number}", said), "its page doesn't name it"


class TestInABrowser:
    @pytest.mark.parametrize("viewport", [browser.DESKTOP, browser.PHONE], ids=["desktop", "phone"])
    @pytest.mark.parametrize("page", PAGES)
    def test_pages_show_without_complaint_and_are_no_wider_than_the_window(self, chromium, at, page, viewport):
        with browser.opened(chromium, f"{at}/{page}.html", viewport=viewport) as (shown, complaints):
            shown.evaluate("window.MathJax?.startup?.promise")  # formulas may widen a page
            SHOTS.mkdir(parents=True, exist_ok=True)
            shown.screenshot(path=SHOTS / f"{page}-{viewport['width']}.png", full_page=viewport is browser.DESKTOP)
            assert shown.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
            assert shown.evaluate(broken) == []
        assert complaints == []

    def test_maths_is_set(self, chromium, at):
        with browser.opened(chromium, f"{at}/01_method.html") as (shown, _):
            shown.wait_for_selector("mjx-container svg")
            assert shown.locator(".bd-article [data-mml-node=merror]").count() == 0
            assert shown.locator(".bd-article mjx-container").count() >= 3

    def test_the_interactive_figure_answers_a_click_and_has_no_light_ground_in_the_dark(self, chromium, at):
        with browser.opened(chromium, f"{at}/01_method.html", dark=True) as (shown, complaints):
            before = shown.locator(".ssd-said").inner_text()
            shown.locator(".ssd-panel").first.locator(".ssd-cell").nth(3).click()
            assert shown.locator(".ssd-said").inner_text() not in ("", before)
            ground = shown.locator(".text_html:has(.ss-demo)").evaluate("box => getComputedStyle(box).backgroundColor")
            assert ground == "rgba(0, 0, 0, 0)"
        assert complaints == []

    def test_search_finds_a_word(self, chromium, at):
        with browser.opened(chromium, f"{at}/search.html?q=Pathfinder") as (shown, complaints):
            shown.wait_for_selector("#search-results li")
            assert shown.locator("#search-results a[href^='07_beyond.html']").count()
        assert complaints == []

    def test_evidence_unfolds(self, chromium, at):
        with browser.opened(chromium, f"{at}/index.html") as (shown, _):
            first = shown.locator(".verdicts details").first
            assert not first.locator("p").first.is_visible()
            first.locator("summary").click()
            assert first.locator("p").first.is_visible()

    def test_figures_stay_on_white_in_the_dark(self, chromium, at):
        with browser.opened(chromium, f"{at}/02_cifar.html", dark=True) as (shown, _):
            assert shown.evaluate("document.documentElement.dataset.theme") == "dark"
            page = shown.evaluate("getComputedStyle(document.body).backgroundColor")
            assert sum(map(int, re.findall(r"\d+", page)[:3])) < 150
            corner = """async image => {
                const canvas = document.createElement('canvas'), pen = canvas.getContext('2d');
                await image.decode(); pen.drawImage(image, 0, 0);
                return [...pen.getImageData(0, 0, 1, 1).data]; }"""
            assert shown.locator(".cell_output img").first.evaluate(corner) == [255, 255, 255, 255]
