"""A real browser for the tests of what readers see: Debian's Chromium, or the one that SSCONV_BROWSER names."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "no Chromium here, so what only a browser shows is not tested: "
    "apt-get install chromium, or name one by SSCONV_BROWSER=..."
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
HARMLESS = ("THEBE_JS_URL", "invalid theme mode")  # what the theme itself says on the console


def path() -> str | None:
    """The browser's program, None where there is none."""
    return os.environ.get("SSCONV_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def started() -> Iterator:
    """A browser of playwright's API; each test opens pages of its own in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=path(), headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which this machine alone finds the folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def opened(browser, url: str, *, viewport: dict = DESKTOP, dark: bool = False) -> Iterator:
    """A page of its own: (page, what it complained of). Errors and warnings on the console, requests to elsewhere."""
    host = url.split("/")[2]
    context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
    context.set_default_timeout(120_000)  # a busy machine is no fault of a page
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: _say("error", str(error), complaints))
    page.on("console", lambda said: _say(said.type, said.text, complaints))
    page.on("request", lambda asked: _note(asked.url, host, complaints))
    page.on("response", lambda got: complaints.append(f"{got.status}: {got.url}") if got.status >= 400 else None)
    try:
        page.goto(url, wait_until="load")
        yield page, complaints
    finally:
        context.close()


def _say(kind: str, text: str, complaints: list[str]) -> None:
    if kind in ("error", "warning") and not any(known in text for known in HARMLESS):
        complaints.append(f"{kind}: {text}")


def _note(url: str, host: str, complaints: list[str]) -> None:
    if not url.startswith(("data:", "blob:", "about:")) and url.split("/")[2] != host:
        complaints.append(f"request to elsewhere: {url}")
