"""What holds for every chapter as a text: its pair, its shape, its measure of prose."""

import ast
import re

import jupytext
import nbformat
import pytest

from ssconv_lib.paths import ROOT

CHAPTERS = sorted((ROOT / "book").glob("*.py"))
WORDS_A_LINE = (6, 10)  # of prose for a line of code, over a chapter
CELL_LINES = 15  # anything as long moves into the library
PATH = re.compile(r"""(?:^|[\s`"'(=])((?:~|[A-Za-z]:)?[/\\](?:[\w.-]+[/\\])+[\w.-]*|~/[\w.-]+)""")


def sources(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def code_lines(source):
    return [line for line in source.splitlines() if line.strip()]


def words_a_line(notebook):
    prose = [re.sub(r"\{cite:p\}`[^`]*`", "", source) for source in sources(notebook, "markdown")]  # a mark, no word
    words = sum(len(re.findall(r"\w[\w'’.-]*", source)) for source in prose)
    return words / sum(len(code_lines(source)) for source in sources(notebook, "code"))


def parameter_cells(notebook):
    return [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


def long_cells(notebook):
    return [source for source in sources(notebook, "code") if len(source.splitlines()) >= CELL_LINES]


def absolute_paths(notebook):
    """In prose anything that looks like one; in code a text that starts like one."""
    found = [path for source in sources(notebook, "markdown") for path in PATH.findall(source)]
    for source in sources(notebook, "code"):
        python = "\n".join("pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
        nodes = list(ast.walk(ast.parse(python)))
        inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values[1:]}
        texts = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in inner]
        found += [text for text in texts if isinstance(text, str) and re.match(r"/\w|~|[A-Za-z]:[/\\]", text)]
    return found


def last_section(notebook):
    """From the last heading of level 2 to the end, prose and code."""
    text = "\n".join(cell.source for cell in notebook.cells)
    return re.split(r"^## ", text, flags=re.MULTILINE)[-1].lower()


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def chapter(request):
    return jupytext.read(request.param)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_pair_is_the_same_and_holds_no_output(path):
    text, pair = jupytext.read(path), nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    assert [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in pair.cells] == [
        (c.cell_type, c.source, c.metadata.get("tags", [])) for c in text.cells
    ], "make notebooks"
    for cell in pair.cells:
        assert not cell.get("outputs"), "make notebooks"
        assert cell.get("execution_count") is None, "make notebooks"
    assert text.metadata.kernelspec.name == pair.metadata.kernelspec.name == "python3"


def test_every_notebook_has_its_text():
    assert sorted(path.stem for path in (ROOT / "book").glob("*.ipynb")) == [path.stem for path in CHAPTERS]


def test_one_parameter(chapter):
    assert parameter_cells(chapter) == ['profile = "quick"']


def test_opens_with_a_title(chapter):
    assert chapter.cells[0].cell_type == "markdown"
    assert re.match(r"# \S", chapter.cells[0].source)


def test_ends_with_claim_evidence_verdict(chapter):
    section = last_section(chapter)
    assert [word for word in ("claim", "evidence", "verdict") if word not in section] == []


def test_cells_are_short(chapter):
    assert long_cells(chapter) == []


def test_prose_goes_with_the_code(chapter):
    low, high = WORDS_A_LINE
    assert low <= words_a_line(chapter) <= high, f"{words_a_line(chapter):.1f} words a line of code"


def test_no_absolute_paths(chapter):
    assert absolute_paths(chapter) == []


GOOD = """# %% [markdown]
# # A title
# Six words and two more make eight; see results/quick/tables and/or 1/32 of https://example.org/a/b.

# %% tags=["parameters"]
profile = "quick"

# %% [markdown]
# ## Verdict
# The claim, the evidence.

# %%
%matplotlib inline
ratio = f"{1}/2/{3}" + "a/b"
"""


def test_the_checks_find_what_they_look_for():
    good = jupytext.reads(GOOD, fmt="py:percent")
    assert parameter_cells(good) == ['profile = "quick"']
    assert absolute_paths(good) == long_cells(good) == []
    assert "claim" in last_section(good) and "title" not in last_section(good)
    assert words_a_line(jupytext.reads("# %% [markdown]\n# one two, three\n\n# %%\na\n\nb", fmt="py:percent")) == 1.5

    for path in ("/home/me/data", "~/data/x", "C:/data/x"):
        bad = jupytext.reads(GOOD + f'open("{path}")\n\n# %% [markdown]\n# in `{path}`\n', fmt="py:percent")
        assert len(absolute_paths(bad)) == 2, path
    assert len(long_cells(jupytext.reads(GOOD + "a\n" * 13, fmt="py:percent"))) == 1
