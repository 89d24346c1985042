"""Chapters that install themselves on Colab: the cell that does it, and the command that puts it there."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import jupytext
import nbformat
import pytest
from packaging.requirements import Requirement
from test_environment import needed

from ssconv_lib import launch
from ssconv_lib.paths import ROOT

CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))
REPOSITORY, COMMIT, OTHER = "https://example.org/me/book", "a" * 40, "b" * 40
FRONT = {name.replace("-", "_") for name in launch.NOTEBOOK - {"ipython", "traitlets"}}  # chapters import IPython


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_first_code_cell_installs_and_nothing_else_changes(path):
    before = path.read_bytes()
    notebook = read(path)
    made = launch.with_install_cell(notebook, REPOSITORY, COMMIT)
    nbformat.validate(made)
    kinds = [cell.cell_type for cell in made.cells]
    first = made.cells.pop(kinds.index("code"))
    assert first.metadata.tags == ["install"]
    assert REPOSITORY in first.source
    assert COMMIT in first.source
    ast.parse(first.source)
    assert max(map(len, first.source.splitlines())) <= 120
    assert made == notebook == read(path)
    assert path.read_bytes() == before


def test_a_second_cell_takes_the_place_of_the_first():
    once = launch.with_install_cell(read(CHAPTERS[0]), REPOSITORY, COMMIT)
    assert launch.with_install_cell(once, REPOSITORY, COMMIT) == once
    again = launch.with_install_cell(once, REPOSITORY, OTHER)
    assert len(again.cells) == len(once.cells)
    text = nbformat.writes(again)
    assert OTHER in text
    assert COMMIT not in text


def test_a_notebook_without_code_gets_it_at_its_end():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title")])
    assert [cell.cell_type for cell in launch.with_install_cell(notebook, REPOSITORY, COMMIT).cells] == [
        "markdown",
        "code",
    ]


def test_it_installs_what_chapters_import_and_leaves_colabs_notebook_alone():
    book = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["book"]
    names = {re.match(r"[\w-]+", text).group() for text in book}
    installed = {re.match(r"[\w-]+", text).group() for text in launch.requirements()}
    assert names - installed == launch.NOTEBOOK
    assert {"matplotlib", "pandas", "torchvision"} <= installed
    assert not any(" " in text for text in launch.requirements())


def test_nothing_that_it_brings_along_replaces_what_colabs_kernel_runs_on():
    along = needed([Requirement(text) for text in launch.requirements()])
    assert {"torch", "numpy", "pillow"} <= along
    assert not {"ipykernel", "ipython", "jupyter-client", "prompt-toolkit", "pyzmq", "tornado", "traitlets"} & along


def test_chapters_import_nothing_that_it_leaves_out():
    """All that a chapter imports, with what shows and runs notebooks blocked."""
    cells = [cell.source for path in CHAPTERS for cell in read(path).cells if cell.cell_type == "code"]
    nodes = [node for source in cells for node in ast.parse(re.sub(r"(?m)^[%!].*$", "", source)).body]
    imports = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "from ssconv_lib.book import Chapter" in imports
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {FRONT}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Block())
""" + "\n".join(imports)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def git(folder, *arguments):
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository of two commits, and the hash of the first."""
    folder = tmp_path / "origin"
    (folder / "ssconv_lib").mkdir(parents=True)
    git(folder, "init", "--quiet")
    for text in ("old", "new"):
        (folder / "ssconv_lib" / "__init__.py").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", text)
    return folder, git(folder, "rev-parse", "HEAD~1")


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """Colab's working directory, as the current one, and the arguments of every call of pip, which does nothing."""
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    calls, run = [], subprocess.run

    def without_pip(command, **options):
        return calls.append(command[3:]) if "pip" in command else run(command, **options)

    monkeypatch.setattr(subprocess, "run", without_pip)
    return calls


def source_for(repository, commit):
    made = launch.with_install_cell(read(CHAPTERS[0]), str(repository), commit)
    return next(cell.source for cell in made.cells if cell.cell_type == "code")


def test_on_colab_the_cell_fetches_the_commit_and_goes_there(tmp_path, repository, colab):
    source = source_for(*repository)
    exec(source, {})
    there = tmp_path / "content" / "ssconv-book"
    assert Path.cwd() == Path(sys.path[0]) == there
    assert (there / "ssconv_lib" / "__init__.py").read_text() == "old"
    assert colab == [["install", "-q", "-e", "./ssconv-book", *launch.requirements()]]
    exec(source, {})
    assert len(colab) == 1, "run twice, it does nothing"
    os.chdir(tmp_path / "content")  # as after a restart
    exec(source, {})
    assert Path.cwd() == there


def test_on_colab_an_error_is_one_and_the_cell_can_be_run_again(tmp_path, repository, colab):
    folder, commit = repository
    with pytest.raises(subprocess.CalledProcessError):
        exec(source_for(folder, OTHER), {})
    assert Path.cwd() == tmp_path / "content"
    exec(source_for(folder, commit), {})
    assert Path.cwd() == tmp_path / "content" / "ssconv-book"


def test_elsewhere_the_cell_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it called something"))
    exec(source_for(REPOSITORY, COMMIT), {})
    assert Path.cwd() == tmp_path
    assert not any(tmp_path.iterdir())


def test_the_command_rewrites_copies_in_place(tmp_path):
    copies = [tmp_path / path.name for path in CHAPTERS[:2]]
    for path, chapter in zip(copies, CHAPTERS, strict=False):
        path.write_bytes(chapter.read_bytes())
    assert launch.main(["--repository", REPOSITORY, "--commit", COMMIT, *map(str, copies)]) == 0
    for path, chapter in zip(copies, CHAPTERS, strict=False):
        assert read(path) == launch.with_install_cell(read(chapter), REPOSITORY, COMMIT)
        assert path.read_text().endswith("\n}\n")
        assert jupytext.read(path).metadata.kernelspec.name == "python3"
    assert sorted(tmp_path.iterdir()) == copies, "nothing else is left"


@pytest.mark.parametrize("commit", ["main", "abc1234", "A" * 40, "a" * 41, ""])
def test_a_commit_that_may_move_is_refused_and_nothing_is_written(tmp_path, commit, capsys):
    path = tmp_path / "chapter.ipynb"
    path.write_bytes(CHAPTERS[0].read_bytes())
    assert launch.main(["--repository", REPOSITORY, "--commit", commit, str(path)]) == 2
    assert f"commit {commit!r}: expected its 40 hexadecimal digits" in capsys.readouterr().err
    assert path.read_bytes() == CHAPTERS[0].read_bytes()


@pytest.mark.parametrize("content", ["no notebook", "{}", "[]", '{"nbformat": 4, "nbformat_minor": 5, "cells": [{}]}'])
def test_one_bad_notebook_leaves_all_as_they_are(tmp_path, capsys, content):
    good, bad = tmp_path / "good.ipynb", tmp_path / "bad.ipynb"
    good.write_bytes(CHAPTERS[0].read_bytes())
    bad.write_text(content)
    assert launch.main(["--repository", REPOSITORY, "--commit", COMMIT, str(good), str(bad)]) == 2
    assert f"launch: {bad} is no notebook" in capsys.readouterr().err
    assert good.read_bytes() == CHAPTERS[0].read_bytes()


def test_an_address_with_quotes_stays_a_text():
    address = "https://example.org/'\"+builtins.exit()+\"'"
    tree = ast.parse(source_for(address, COMMIT))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert address in texts


def test_without_a_repository_nothing_is_written(tmp_path, capsys):
    path = tmp_path / "chapter.ipynb"
    path.write_bytes(CHAPTERS[0].read_bytes())
    assert launch.main(["--repository", "", "--commit", COMMIT, str(path)]) == 2
    assert "expected what git clone takes" in capsys.readouterr().err
    assert path.read_bytes() == CHAPTERS[0].read_bytes()
