"""The chapters of the book through papermill, in order, skipping those that nothing has changed for."""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import stamps
from .files import check_writable, sweep, write_whole
from .notebooks import ChapterError, normalised, read_chapter
from .origin import device_name, processors
from .paths import ROOT
from .stamps import Chapter

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from .study import Profile

CELL_TIMEOUT = 3600  # seconds; no cell of quick takes a tenth of it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `python -m ssconv_lib reproduce`."""
    parser.add_argument("--profile", default="quick", help="name of a profile, or path to a .toml (%(default)s)")
    parser.add_argument("--chapter", action="append", metavar="NN", help="only this chapter; can be repeated")
    parser.add_argument("--force", action="store_true", help="run a chapter even if nothing has changed")
    parser.add_argument(
        "--cell-timeout", type=int, default=CELL_TIMEOUT, metavar="S", help="seconds a cell may take (%(default)s)"
    )


def main(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status: 0, 1 for a failed chapter, 2 for a bad call."""
    try:
        chapters, profile = plan(args.profile, args.chapter)
    except (ValueError, OSError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2
    try:
        reproduce(chapters, profile, force=args.force, cell_timeout=args.cell_timeout)
        _tell_missing(profile)
    except ChapterError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # else it may tell of the cell that the interrupt cut off
        print("reproduce: interrupted; finished chapters and runs are kept", file=sys.stderr)
        return 130
    return 0


def plan(
    profile: str | os.PathLike[str],
    wanted: Sequence[str] | None = None,
    *,
    book: Path | None = None,
    root: Path | None = None,
) -> tuple[list[Chapter], str]:
    """Checks the call before a kernel starts.

    Args:
        profile: name of a profile, or path to a TOML file, whose stem is then the name.
        wanted: numbers ("02", "2") or names ("02_cifar") of chapters; None takes all.
        book: the folder of the chapters; by default book/ of the root.
        root: the project that the chapters depend on, this one by default; their kernels run there.

    Returns:
        The chapters in order, and the value for their parameter `profile`: the name, or an absolute path.

    Raises:
        ValueError: an unknown profile or chapter, two chapters of one number, no chapters at all.
    """
    setting, file = _resolve_profile(str(profile))
    root = root or ROOT
    book = book or root / "book"
    sources = sorted(book.glob("[0-9][0-9]_*.py"))
    found = [Chapter(path, setting.name, file, setting.trains_in_chapter, root) for path in sources]
    numbers = [chapter.name[:2] for chapter in found]
    if not found:
        raise ValueError(f"{book} holds no chapter; expected files named like 01_method.py")
    for number in numbers:
        if numbers.count(number) > 1:
            raise ValueError(
                f"two chapters of {book} have the number {number}, which names their results; renumber one"
            )
    for text in wanted or ():
        if not any(_is_wanted(chapter, [text]) for chapter in found):
            raise ValueError(f"unknown chapter {text!r}; expected one of {', '.join(c.name for c in found)}")
    return [chapter for chapter in found if not wanted or _is_wanted(chapter, wanted)], setting.source


def reproduce(
    chapters: Sequence[Chapter], profile: str, *, force: bool = False, cell_timeout: int = CELL_TIMEOUT
) -> list[Chapter]:
    """Runs the chapters that something has changed for, in order, and prints a line for each.

    Args:
        chapters: the chapters and
        profile: the value of their parameter, both from `plan`.
        force: run them all.
        cell_timeout: seconds that a cell may take.

    Returns:
        The chapters that ran.

    Raises:
        ChapterError: a chapter failed; those before it are done, those after it are not started.
    """
    ran = []
    width = max(len(chapter.name) for chapter in chapters)
    for chapter in chapters:
        reason = "forced" if force else stamps.why_stale(chapter)
        if reason is None:
            print(f"{chapter.name:{width}}  unchanged", flush=True)
            continue
        print(f"{chapter.name:{width}}  running: {reason}", file=sys.stderr, flush=True)
        start, before = time.monotonic(), stamps.versions(chapter)
        run_chapter(chapter, profile, cell_timeout=cell_timeout)
        wrote = ", ".join([*_written(chapter, before), f"notebooks/{chapter.notebook.name}"])
        print(f"{chapter.name:{width}}  {time.monotonic() - start:.1f} s  wrote {wrote}", flush=True)
        ran.append(chapter)
    print(f"results in {chapters[0].results}" if ran else "nothing to do (--force runs it all the same)", flush=True)
    return ran


def _tell_missing(name: str) -> None:
    """Says what a profile lacks, and how to train it; a chapter of quick has just done that itself."""
    from .study import load_profile, missing

    profile = load_profile(name)
    if not profile.trains_in_chapter and (lacking := missing(profile)):
        print(f"{len(lacking)} runs of {profile.name} have no record; to train them: {profile.train_command()}")


def run_chapter(chapter: Chapter, profile: str, *, cell_timeout: int = CELL_TIMEOUT) -> None:
    """Executes one chapter and writes its notebook and stamp, or keeps the partial notebook and raises ChapterError."""
    import nbformat

    notebook = read_chapter(chapter.source)
    progress, start = _Progress(notebook), time.monotonic()
    before, there = stamps.inputs(chapter), stamps.versions(chapter)
    for folder in ("notebooks", "tables", "figures"):
        check_writable(chapter.results / folder)
        sweep(chapter.results / folder)
    try:
        executed = _execute(chapter, notebook, profile, cell_timeout, progress)
    except Exception as error:  # papermill's, nbclient's and jupyter_client's have no common base
        write_whole(chapter.failed, nbformat.writes(progress.notebook).encode())
        raise ChapterError(_explain(chapter, progress, error, cell_timeout)) from error
    finally:
        stamps.note_trained(chapter, before)
    write_whole(chapter.notebook, nbformat.writes(normalised(executed)).encode())
    for path, _ in there.items() & stamps.versions(chapter).items():
        path.unlink()  # not written again: an earlier form of the chapter made it
    stamps.write_stamp(chapter, before, seconds=round(time.monotonic() - start, 1), **_here_and_now())
    chapter.failed.unlink(missing_ok=True)


def _here_and_now() -> dict[str, str]:
    cores = f"{processors()} core{'s' if processors() > 1 else ''}"
    finished = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"finished": finished, "machine": f"{device_name('cpu')}, {cores}"}


@dataclass
class _Progress:
    """How far a notebook has come; what papermill saves claims after a timeout that every cell completed."""

    notebook: "NotebookNode"
    cell: "NotebookNode | None" = None

    def on_notebook_start(self, notebook: "NotebookNode") -> None:
        self.notebook = notebook

    def on_cell_start(self, cell: "NotebookNode", cell_index: int) -> None:
        self.cell = cell


def _execute(
    chapter: Chapter, notebook: "NotebookNode", profile: str, cell_timeout: int, progress: _Progress
) -> "NotebookNode":
    import papermill
    from traitlets.config import Config

    with _kernel_environment():
        executed = papermill.execute_notebook(
            notebook,
            None,
            parameters={"profile": profile},
            kernel_name="python3",
            language="python",
            cwd=chapter.root,
            progress_bar={"desc": chapter.name, "leave": False} if sys.stderr.isatty() else False,
            execution_timeout=cell_timeout,
            stderr_file=sys.stderr if sys.stderr.isatty() else None,  # the progress of what trains in a chapter
            record_timing=False,
            coalesce_streams=True,
            on_notebook_start=progress.on_notebook_start,
            on_cell_start=progress.on_cell_start,
            config=Config({"KernelManager": {"transport_encryption": "auto"}}),  # or each start prints a warning
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],  # or an interrupted one shows where it was
        )
    if executed.metadata.papermill.get("exception"):  # papermill takes sys.exit() for success
        raise RuntimeError("the cell left the notebook early, with sys.exit()")
    return executed


@contextlib.contextmanager
def _kernel_environment() -> Iterator[None]:
    """Hides a MPLBACKEND of the user's: with it, figures would not show in the notebook; finds matplotlib a place."""
    import matplotlib

    matplotlib.get_configdir()  # where home can't be written to, it takes another and says so: once, not in a chapter
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _explain(chapter: Chapter, progress: _Progress, error: Exception, cell_timeout: int) -> str:
    source = progress.cell.source if progress.cell is not None else ""
    text = chapter.source.read_text(encoding="utf-8")
    line = text[: text.find(source)].count("\n") + 1 if source in text else 1
    head = [f"    {code}" for code in source.splitlines()[:4]]
    where = (
        f"{chapter.name} failed at {chapter.source}:{line}"
        if source
        else f"{chapter.name} failed before its first cell"
    )
    return "\n".join([where, *head, _reason(error, cell_timeout), f"the notebook up to there: {chapter.failed}"])


def _reason(error: Any, cell_timeout: int) -> str:
    match type(error).__name__:
        case "PapermillExecutionError":
            return f"{error.ename}: {error.evalue}"
        case "CellTimeoutError":
            return f"the cell took longer than {cell_timeout} s; --cell-timeout gives it more"
        case "DeadKernelError":
            return "the kernel died (DeadKernelError); often the machine ran out of memory"
        case name:
            return f"{name}: {error}"


def _resolve_profile(profile: str) -> "tuple[Profile, Path | None]":
    """The profile, and its file if it is not one of the library's own."""
    from .study import load_profile  # late: it needs what the layer alone does not

    if not profile.endswith(".toml"):
        return load_profile(profile), None
    file = Path(profile).expanduser().resolve()  # the kernel runs elsewhere
    setting = load_profile(file)
    own = Path(__file__).with_name("profiles") / file.name
    if own.is_file() and not own.samefile(file):
        raise ValueError(f"{file} has the name of a profile of the library, and so its results folder; rename it")
    return setting, file


def _is_wanted(chapter: Chapter, wanted: Sequence[str]) -> bool:
    number = chapter.name.split("_")[0]
    return any(text.removesuffix(".py") == chapter.name or text.zfill(2) == number for text in wanted)


def _written(chapter: Chapter, before: dict[Path, tuple[int, int]]) -> list[str]:
    """The files made since then, those that differ only in their suffix together: figures/02_fig2.{csv,svg}."""
    suffixes: dict[str, list[str]] = {}
    for path, _ in sorted(stamps.versions(chapter).items() - before.items()):
        stem, _, suffix = path.relative_to(chapter.results).as_posix().rpartition(".")
        suffixes.setdefault(stem, []).append(suffix)
    return [f"{stem}.{s[0]}" if len(s) == 1 else f"{stem}.{{{','.join(s)}}}" for stem, s in suffixes.items()]
