"""What is wrong with pages is found: dead links and anchors, orphans, loads from another host."""

import pytest

from ssconv_lib.site.check import problems

GOOD = """<!doctype html><html><head><link rel="stylesheet" href="_static/a.css"></head><body id="top">
<h1 id="one">One</h1><a href="#one">here</a> <a href="two.html#there">there</a> <a href="https://example.org">away</a>
<img src="_static/a.svg"><a href="mailto:a@example.org">mail</a> <a href="tel:1">call</a>
<img src="data:,"></body></html>"""

OUT = "leads out of the site, which may lie in a folder of another name"


@pytest.fixture
def site(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "a.css").write_text("body { background: url(a.svg) }")
    (tmp_path / "_static" / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "index.html").write_text(GOOD)
    (tmp_path / "two.html").write_text("<h2 id='there'>There</h2><a href='index.html'>back</a>")
    return tmp_path


def test_pages_in_order_have_no_problem_and_links_to_elsewhere_are_none(site):
    assert problems(site) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('<a href="gone.html">', "gone.html leads nowhere"),
        ('<a href="two.html#nowhere">', "two.html#nowhere has no anchor on two.html"),
        ('<a href="#nowhere">', "#nowhere has no anchor on index.html"),
        ('<img src="_static/gone.png">', "_static/gone.png leads nowhere"),
        ('<a href="downloads/a.csv" download>', "downloads/a.csv leads nowhere"),
        ('<script src="https://example.org/x.js"></script>', "loads https://example.org/x.js from elsewhere"),
        ('<script src="//example.org/x.js"></script>', "loads //example.org/x.js from elsewhere"),
        ('<img src="http://example.org/x.png">', "loads http://example.org/x.png from elsewhere"),
        ('<link rel="stylesheet" href="https://example.org/x.css">', "loads https://example.org/x.css from elsewhere"),
        ('<a href="../secret.html">', f"../secret.html {OUT}"),
        ('<a href="/two.html">', f"/two.html {OUT}"),
        (
            '<img srcset="_static/a.svg 1x, https://example.org/x.png 2x">',
            "loads https://example.org/x.png from elsewhere",
        ),
        ('<p style="background: url(https://example.org/x.png)">', "loads https://example.org/x.png from elsewhere"),
        ('<video poster="https://example.org/x.png"></video>', "loads https://example.org/x.png from elsewhere"),
        ('<object data="https://example.org/x.svg"></object>', "loads https://example.org/x.svg from elsewhere"),
        ('<svg><image href="https://example.org/x.png"/></svg>', "loads https://example.org/x.png from elsewhere"),
        ('<link rel="preconnect" href="https://example.org">', "loads https://example.org from elsewhere"),
        ("<style>@import 'https://example.org/x.css';</style>", "loads https://example.org/x.css from elsewhere"),
    ],
)
def test_what_is_wrong_on_a_page_is_told_with_the_page(site, text, problem):
    page = site / "index.html"
    page.write_text(GOOD.replace("</body>", f"{text}</body>"))
    assert problems(site) == [f"index.html: {problem}"]


def test_a_style_sheet_that_loads_from_elsewhere_is_told(site):
    (site / "_static" / "a.css").write_text("@font-face { src: url('https://example.org/f.woff2') }")
    assert problems(site) == ["_static/a.css: loads https://example.org/f.woff2 from elsewhere"]


def test_what_has_been_mended_is_not_told_again_and_a_link_to_the_folder_will_do(site, tmp_path_factory):
    page = site / "index.html"
    page.write_text(GOOD + "<a href=gone.html>gone</a>")
    assert len(problems(site)) == 1
    page.write_text(GOOD)
    link = tmp_path_factory.mktemp("links") / "site"
    link.symlink_to(site)
    assert problems(link) == []


def test_a_page_to_which_none_leads_is_told(site):
    (site / "three.html").write_text("<a href='three.html'>myself</a>")
    assert problems(site) == ["three.html: no page leads here"]
