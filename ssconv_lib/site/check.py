"""Read built pages as a browser would: does every link lead somewhere, and does nothing come from elsewhere?"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

# What a browser fetches to show a page; a link that a reader may follow is none of them.
LOADED = {
    "img": "src",
    "script": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
}
FETCHING = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "dns-prefetch", "preconnect", "manifest"}
CSS_URL = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([^"')]+)""")


def problems(site: Path) -> list[str]:
    """Return what is wrong with the pages of a folder, a line each: dead links and anchors, loads from elsewhere.

    Orphans, pages to which no other one leads, are among them.
    """
    pages = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]
    found, reached = [], {site / "index.html"}
    for page in pages:
        soup = _soup(page)
        name = page.relative_to(site).as_posix()
        found += [f"{name}: loads {address} from elsewhere" for address in _loads(soup) if _is_elsewhere(address)]
        targets = [*_loads(soup), *(link["href"] for link in soup.find_all("a", href=True))]
        for address in targets:
            if _is_elsewhere(address) or address.startswith(("data:", "mailto:", "javascript:")):
                continue
            target, trouble = _follow(page, address)
            reached |= {target} - {page}
            if trouble:
                found.append(f"{name}: {address} {trouble}")
    found += [f"{page.relative_to(site)}: no page leads here" for page in pages if _is_orphan(page, reached)]
    return sorted(set(found + _style_loads(site)))


def _is_orphan(page: Path, reached: set[Path]) -> bool:
    return page not in reached and page.name not in ("search.html", "genindex.html", "py-modindex.html", "404.html")


def _loads(soup: BeautifulSoup) -> Iterator[str]:
    for tag, attribute in LOADED.items():
        yield from (one[attribute] for one in soup.find_all(tag) if one.get(attribute))
    for link in soup.find_all("link", href=True):
        if FETCHING & set(link.get("rel", [])):
            yield link["href"]
    for style in soup.find_all("style"):
        yield from CSS_URL.findall(style.get_text())


def _style_loads(site: Path) -> list[str]:
    """Style sheets that load from elsewhere."""
    return [
        f"{path.relative_to(site)}: loads {address} from elsewhere"
        for path in sorted(site.rglob("*.css"))
        for address in CSS_URL.findall(path.read_text(encoding="utf-8", errors="replace"))
        if _is_elsewhere(address)
    ]


def _is_elsewhere(address: str) -> bool:
    return address.startswith("//") or urlsplit(address).scheme in ("http", "https")


def _follow(page: Path, address: str) -> tuple[Path, str]:
    """Where an address leads from a page, and what is wrong with it, or ""."""
    parts = urlsplit(address)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return target, "leads nowhere"
    anchor = unquote(parts.fragment)
    if anchor and target.suffix == ".html" and anchor not in _anchors(target):
        return target, f"has no anchor on {target.name}"
    return target, ""


@cache
def _soup(page: Path) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def _anchors(page: Path) -> frozenset[str]:
    tags = [tag for tag in _soup(page).find_all(True) if isinstance(tag, Tag)]
    return frozenset({str(tag[name]) for tag in tags for name in ("id", "name") if tag.get(name)} | {"top"})
