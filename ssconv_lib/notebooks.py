"""The notebooks of chapters: read from their text, and the same bytes whenever nothing but the clock differs."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode


class ChapterError(RuntimeError):
    """A chapter that stopped halfway: the message names the cell, the error and the notebook that was kept."""


def read_chapter(source: Path) -> "NotebookNode":
    """The notebook of a text chapter, its cells numbered: jupytext would give them random ids.

    Raises:
        ChapterError: it has not exactly one cell tagged `parameters`; papermill would go on with the default.
    """
    import jupytext

    notebook = jupytext.read(source)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ChapterError(
            f'{source} has {len(tagged)} cells tagged "parameters"; expected one, with profile = "quick"'
        )
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:03d}"
    return notebook


def normalised(notebook: "NotebookNode") -> "NotebookNode":
    """Removes what differs from run to run though nothing else does: papermill's marks, progress bars on stderr."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    return notebook


def _is_progress(output: "NotebookNode") -> bool:
    """A bar that has cleared itself leaves blanks."""
    return output.output_type == "stream" and output.name == "stderr" and not output.text.strip()
