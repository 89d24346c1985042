"""The folder that the site is built from: pages of book/, executed chapters, and what these made, for download."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .. import frontpage, stamps
from ..claims import verdicts
from ..notebooks import read_chapter
from ..paths import results_dir
from ..stamps import Chapter
from . import pages

if TYPE_CHECKING:
    from nbformat import NotebookNode

OPEN = ("01_method",)  # chapters whose code is what the reader came for; in all others it is folded
LAUNCH_BRANCH = "launch"  # holds the paired notebooks with a cell that installs the library, see ssconv_lib.launch
COPIED = ("*.md", "*.bib", "_toc.yml", "_static/**/*", "images/*", "vendor/**/*")


def stage(chapters: Sequence[Chapter], folder: Path, repository: str = "") -> None:
    """Fill an empty folder with all that Sphinx needs.

    Args:
        chapters: Chapters that have run, of one profile.
        folder: Is made.
        repository: The address of the repository; none gives no launch buttons, which would lead nowhere.

    Raises:
        RuntimeError: a chapter has not run, or not since something that it depends on changed.
    """
    for chapter in chapters:
        if reason := stamps.why_stale(chapter):
            raise RuntimeError(
                f"{chapter.name} is not up to date ({reason}); if a training adds records meanwhile, build again when "
                "it has ended"
            )
    book = chapters[0].source.parent
    for path in (path for pattern in COPIED for path in sorted(book.glob(pattern)) if path.is_file()):
        _copy(path, folder / path.relative_to(book))
    titles = {chapter.name: _title(chapter) for chapter in chapters}
    for chapter in chapters:
        _stage_chapter(chapter, folder)
    index = folder / "index.md"
    found = verdicts(chapters[0].results / "tables")
    made = {"verdicts": pages.verdict_table(found, titles), "counts": pages.counts(found)}
    made["results"] = "\n".join(f"- {line}" for line in frontpage.lines(results_dir() / "laptop" / "tables"))
    made |= {"profile": chapters[0].profile, "today": pages.today()}
    index.write_text(filled(index.read_text(encoding="utf-8"), made), encoding="utf-8")
    (folder / "status.md").write_text(pages.status(chapters, titles), encoding="utf-8")
    (folder / "_config.yml").write_text(yaml.safe_dump(config(book / "_config.yml", repository)), encoding="utf-8")


def filled(text: str, made: dict[str, str]) -> str:
    """Return a page with what is made put in at its marks, `<!-- made: NAME -->`.

    Raises:
        ValueError: a mark has no such part, or a part no mark.
    """
    marks = re.findall(r"<!-- made: (\w+) -->", text)
    if sorted(set(marks)) != sorted(made):
        raise ValueError(f"index.md has the marks {sorted(set(marks))}; expected {sorted(made)}")
    return re.sub(r"<!-- made: (\w+) -->", lambda mark: made[mark[1]], text)


def config(path: Path, repository: str) -> dict[str, Any]:
    """Return Jupyter Book's settings, with launch buttons where there is a repository to launch from."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if repository:
        settings["repository"] = {"url": repository, "path_to_book": "book", "branch": LAUNCH_BRANCH}
        settings["launch_buttons"] = {
            "colab_url": "https://colab.research.google.com",
            "binderhub_url": "https://mybinder.org",
            "notebook_interface": "jupyterlab",
        }
        settings["html"] = settings.get("html", {}) | {"use_repository_button": True}
    return settings


def _title(chapter: Chapter) -> str:
    first = next(cell.source for cell in read_chapter(chapter.source).cells if cell.cell_type == "markdown")
    return first.splitlines()[0].removeprefix("# ")


def _stage_chapter(chapter: Chapter, folder: Path) -> None:
    import nbformat

    made = [name for name in stamps.outputs(chapter) if not name.startswith("notebooks/")]
    for name in made:
        _copy(chapter.results / name, folder / "downloads" / name)
    _copy(chapter.notebook, folder / "downloads" / "notebooks" / chapter.notebook.name)
    _copy(chapter.source, folder / "downloads" / chapter.source.name)
    notebook = nbformat.read(chapter.notebook, as_version=4)
    for cell in notebook.cells:
        _dress(cell, folded=chapter.name not in OPEN)
    end = nbformat.v4.new_markdown_cell(pages.downloads(chapter, made), id="downloads")
    notebook.cells.append(end)
    nbformat.write(notebook, folder / chapter.notebook.name)


def _dress(cell: "NotebookNode", *, folded: bool) -> None:
    """Fold code, leave out the parameters, which the heading says in words, and give pictures their text."""
    if cell.cell_type != "code":
        return
    tags = set(cell.metadata.get("tags", []))
    if tags & {"parameters", "injected-parameters"}:
        tags.add("remove-cell")
    elif folded or _is_only_imports(cell.source):
        tags.add("hide-input")
    cell.metadata["tags"] = sorted(tags)
    texts = [output.get("metadata", {}).get("image/png", {}).get("alt") for output in cell.outputs]
    if alt := next(filter(None, texts), None):
        cell.metadata["mystnb"] = {"image": {"alt": alt}}


def _is_only_imports(source: str) -> bool:
    return source.startswith(("import ", "from ")) and "Chapter(" in source


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
