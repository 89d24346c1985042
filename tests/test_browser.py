"""The tests' own browser sees what a reader's would complain of."""

import browser


def test_it_reports_errors_missing_files_and_requests_to_elsewhere(chromium, tmp_path):
    (tmp_path / "index.html").write_text(
        '<h1>Hi</h1><img src="gone.png"><script src="http://127.0.0.2:1/x.js"></script>'
    )
    (tmp_path / "favicon.ico").write_bytes(b"")
    with browser.served(tmp_path) as at, browser.opened(chromium, f"{at}/index.html") as (page, complaints):
        assert page.inner_text("h1") == "Hi"
        page.wait_for_timeout(100)
    assert any("request to elsewhere: http://127.0.0.2:1/x.js" in text for text in complaints)
    assert any(text.startswith("404") and text.endswith("gone.png") for text in complaints)


def test_a_page_in_order_gives_no_complaint(chromium, tmp_path):
    (tmp_path / "index.html").write_text("<!doctype html><link rel=icon href='data:,'><h1>Hi</h1>")
    with browser.served(tmp_path) as at, browser.opened(chromium, f"{at}/index.html", dark=True) as (page, complaints):
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert complaints == []
