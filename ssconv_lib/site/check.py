"""Read built pages as a browser would: does every link lead somewhere, and does nothing come from elsewhere?"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

# What a browser fetches to show a page; a link that a reader may follow is none of them.
LOADED = ("src", "srcset", "poster", "data", "background")
FETCHING = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "dns-prefetch", "preconnect", "manifest"}
SVG = ["image", "use", "feimage"]
CSS_URL = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])([^"')]+)""")
OF_SPHINX = ("search.html", "genindex.html", "py-modindex.html", "404.html")  # not in the contents


def problems(site: Path) -> list[str]:
    """Return what is wrong with the pages of a folder, a line each: dead links and anchors, loads from elsewhere.

    Orphans, pages to which no other one leads, are among them.
    """
    site = site.resolve()
    paths = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]
    pages = {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in paths}
    anchors = {path: _anchors(page) for path, page in pages.items()}
    found, reached = [], {site / "index.html"}
    for path, page in pages.items():
        loaded = list(_loads(page))
        name = path.relative_to(site).as_posix()
        found += [f"{name}: loads {address} from elsewhere" for address in loaded if _is_elsewhere(address)]
        for address in [*loaded, *(link["href"] for link in page.find_all("a", href=True))]:
            if not urlsplit(address).scheme and not address.startswith("//"):
                target, trouble = _follow(site, path, address, anchors)
                reached |= {target} - {path}
                found += [f"{name}: {address} {trouble}"] if trouble else []
    orphans = [path for path in pages if path not in reached and path.name not in OF_SPHINX]
    found += [f"{path.relative_to(site).as_posix()}: no page leads here" for path in orphans]
    return sorted(set(found + _style_loads(site)))


def _loads(page: BeautifulSoup) -> Iterator[str]:
    """The addresses of all that a browser fetches for a page by itself."""
    for tag in page.find_all(lambda tag: tag.attrs.keys() & {*LOADED, "style"}):
        for name in tag.attrs.keys() & set(LOADED):
            parts = tag[name].split(",") if name == "srcset" and not tag[name].startswith("data:") else [tag[name]]
            yield from (part.split()[0] for part in parts if part.split())
        yield from CSS_URL.findall(tag.get("style", ""))
    for link in page.find_all("link", href=True):
        if FETCHING & set(link.get("rel", [])):
            yield link["href"]
    for picture in page.find_all(SVG):
        yield from (picture[name] for name in ("href", "xlink:href") if picture.get(name))
    for style in page.find_all("style"):
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


def _follow(site: Path, page: Path, address: str, anchors: dict[Path, set[str]]) -> tuple[Path, str]:
    """Where an address leads from a page, and what is wrong with it, or ""."""
    parts = urlsplit(address)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= "index.html"
    if parts.path.startswith("/") or not target.is_relative_to(site):
        return target, "leads out of the site, which may lie in a folder of another name"
    if not target.is_file():
        return target, "leads nowhere"
    if parts.fragment and unquote(parts.fragment) not in anchors.get(target, {unquote(parts.fragment)}):
        return target, f"has no anchor on {target.name}"
    return target, ""


def _anchors(page: BeautifulSoup) -> set[str]:
    return {str(tag[name]) for tag in page.find_all(True) for name in ("id", "name") if tag.get(name)} | {"top"}
