"""What an executed chapter was made from, as hashes: the reason why it can be skipped the next time."""

import functools
import hashlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path

from .files import write_whole
from .paths import ROOT, results_dir

PACKAGES = ("torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn")  # whose versions can change a picture
CODE = ("ssconv_lib/**/*.py", "ssconv_lib/*.html", "ssconv_lib/profiles/*.toml", "data/paper/**/*")
# what no chapter uses: it reads those that have run, or draws for the site
LATER = ("ssconv_lib/site/", *(f"ssconv_lib/{name}.py" for name in ("claims", "frontpage", "ideapicture", "launch")))


@dataclass(frozen=True)
class Chapter:
    """One chapter of the book at one profile.

    Attributes:
        source: the text notebook, book/NN_name.py.
        profile: the name of the profile, which is the folder of the results.
        profile_file: the profile's TOML, where it is not one of the library's own.
        trains: whether the chapter trains what is missing, so that its run may add to the profile's records.
        root: the project that the chapter depends on; its kernel runs there.
    """

    source: Path
    profile: str
    profile_file: Path | None = None
    trains: bool = False
    root: Path = ROOT

    @property
    def name(self) -> str:
        """The name without the suffix: 02_cifar."""
        return self.source.stem

    @property
    def results(self) -> Path:
        """Where the chapter's tables, figures and notebook land."""
        return results_dir() / self.profile

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.results / "notebooks" / f"{self.name}.ipynb"

    @property
    def failed(self) -> Path:
        """The notebook of a run that stopped halfway."""
        return self.notebook.with_suffix(".failed.ipynb")

    @property
    def stamp(self) -> Path:
        """The hashes of what the executed notebook was made from and what it made."""
        return self.notebook.with_suffix(".stamp.json")

    @property
    def ledger(self) -> Path:
        """Which chapter trained which of the profile's records."""
        return self.results / "notebooks" / "trained.json"


def inputs(chapter: Chapter) -> dict[str, str]:
    """Everything that the chapter depends on: {file or package: sha256 or version}.

    A record that a later chapter trained for itself is no input: otherwise each chapter that trains would
    make all those before it stale.
    """
    versions = {package: _version(package) for package in PACKAGES}
    code = {path.relative_to(chapter.root).as_posix(): path for path in _files(chapter.root, CODE)}
    code = {name: path for name, path in code.items() if not name.startswith(LATER)}
    files = code | {f"book/{chapter.source.name}": chapter.source}
    if chapter.profile_file is not None:
        files[str(chapter.profile_file)] = chapter.profile_file
    trained = _read_json(chapter.ledger)
    found = records()
    seen = {key: found[key] for key in found if trained.get(key, chapter.name) <= chapter.name}
    return {"python": platform.python_version()} | versions | _digests(files) | seen


def records() -> dict[str, str]:
    """The hash of every stored record, of all profiles: {records/<profile>/<run>.json: sha256}."""
    folder = results_dir()
    return _digests({path.relative_to(folder).as_posix(): path for path in _files(folder, ["records/**/*.json"])})


def outputs(chapter: Chapter) -> dict[str, str]:
    """What the chapter left in its results folder: {figures/02_fig2.svg: sha256}, by the number of the chapter."""
    files = [*_made(chapter), *([chapter.notebook] if chapter.notebook.is_file() else [])]
    return _digests({path.relative_to(chapter.results).as_posix(): path for path in files})


def versions(chapter: Chapter) -> dict[Path, tuple[int, int]]:
    """Its tables and figures, each with what changes when it is written again, be it with the same bytes."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in _made(chapter)}


def _made(chapter: Chapter) -> list[Path]:
    prefix = chapter.name.split("_")[0] + "_"
    return _files(chapter.results, [f"{folder}/{prefix}*" for folder in ("tables", "figures")])


def why_stale(chapter: Chapter) -> str | None:
    """The first reason to run the chapter, in words; None if nothing that it depends on changed."""
    stored = read_stamp(chapter)
    if not stored:
        return "not run yet"
    for before, now in ((stored.get("inputs"), inputs(chapter)), (stored.get("outputs"), outputs(chapter))):
        reason = _first_difference(before if isinstance(before, dict) else {}, now)
        if reason:
            return reason
    return None


def read_stamp(chapter: Chapter) -> dict:
    """What `write_stamp` wrote; empty if that is not there, or damaged."""
    return _read_json(chapter.stamp)


def write_stamp(chapter: Chapter, before: dict[str, str], **told: str | float) -> None:
    """Stamps a chapter that has just run.

    Args:
        chapter: the chapter.
        before: its inputs as they were when it started: an edit made meanwhile was not read. Only the records that
            the chapter itself may have trained count as they are now.
        told: what the site says of the run (when, how long, where); nothing is compared with it.
    """
    now = inputs(chapter)
    seen = {key: before[key] for key in before if not _may_train(chapter, key)}
    seen |= {key: now[key] for key in now if _may_train(chapter, key)}
    stamp = {"inputs": seen, "outputs": outputs(chapter), **told}
    _write_json(chapter.stamp, stamp)


def note_trained(chapter: Chapter, before: dict[str, str]) -> None:
    """Notes the records that the chapter added; `before` is its inputs when it started."""
    now = records()
    trained = {key: name for key, name in _read_json(chapter.ledger).items() if key in now}
    new = [key for key in now if _may_train(chapter, key) and key not in before and key not in trained]
    if new:
        trained |= dict.fromkeys(new, chapter.name)
        _write_json(chapter.ledger, trained)


def _may_train(chapter: Chapter, key: str) -> bool:
    return chapter.trains and key.startswith(f"records/{chapter.profile}/")


def _first_difference(before: dict[str, str], now: dict[str, str]) -> str | None:
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            return f"{key} is {'new' if key not in before else 'gone' if key not in now else 'changed'}"
    return None


def _files(folder: Path, patterns: tuple[str, ...] | list[str]) -> list[Path]:
    found = (path for pattern in patterns for path in folder.glob(pattern))
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _digests(files: dict[str, Path]) -> dict[str, str]:
    found = {}
    for key, path in files.items():
        try:
            status = path.stat()
            found[key] = _digest(path, status.st_mtime_ns, status.st_size)
        except FileNotFoundError:  # a run that trains beside us replaced or removed it
            continue
    return found


@functools.cache
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: dict) -> None:
    write_whole(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
