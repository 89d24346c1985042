import argparse
import json
import shutil
import time

import nbformat
import pytest

from ssconv_lib import reproduce, stamps
from ssconv_lib.paths import ROOT
from ssconv_lib.stamps import Chapter

HEAD = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
# %% [markdown]
# # A toy

# %% tags=["parameters"]
profile = "quick"

# %%
"""
WRITES = """import os
from pathlib import Path

results = Path(os.environ["SSCONV_RESULTS"])
for name in ("tables/01_t.csv", "figures/01_f.svg"):
    (results / "quick" / name).parent.mkdir(parents=True, exist_ok=True)
    (results / "quick" / name).write_text(profile)
print(profile, os.getcwd())
"""
TRAINS = """import os
from pathlib import Path

record = Path(os.environ["SSCONV_RESULTS"]) / "records/quick/trained.json"
record.parent.mkdir(parents=True, exist_ok=True)
record.write_text("{}")
"""


@pytest.fixture
def project(tmp_path, tmp_results, monkeypatch):
    """A project of one library file, one table of the paper and no chapter."""
    root = tmp_path / "a project"
    for name in ("ssconv_lib/conv.py", "ssconv_lib/profiles/quick.toml", "data/paper/table1.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x\n")
    (root / "book").mkdir()
    monkeypatch.setattr(reproduce, "ROOT", root)
    return root


def write_chapter(project, name, code):
    (project / "book" / f"{name}.py").write_text(HEAD + code)


def call(*arguments):
    parser = argparse.ArgumentParser()
    reproduce.add_arguments(parser)
    return reproduce.main(parser.parse_args(arguments))


def stamped(project, trains=True):
    """A chapter as if it had just run, without a kernel."""
    write_chapter(project, "01_toy", "1\n")
    chapter = Chapter(project / "book/01_toy.py", "quick", trains=trains, root=project)
    for path in (chapter.notebook, chapter.results / "tables/01_t.csv", chapter.results / "figures/01_f.svg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    stamps.write_stamp(chapter, stamps.inputs(chapter))
    assert stamps.why_stale(chapter) is None
    return chapter


def test_runs_in_order_and_skips_what_is_unchanged(project, tmp_results, capfd, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    write_chapter(project, "02_trains", TRAINS)
    write_chapter(project, "01_toy", WRITES + "\n# %%\nprint(os.environ.get('MPLBACKEND'))\n")
    (tmp_results / "quick/tables").mkdir(parents=True)
    old, another = (tmp_results / "quick/tables" / name for name in ("01_renamed_since.csv", "03_another.csv"))
    for path in (old, another):
        path.write_text("old")
    assert call() == 0
    assert (old.exists(), another.exists()) == (False, True), "a chapter's tables are those that it makes"
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert lines[0].startswith("01_toy")
    assert lines[0].endswith("wrote figures/01_f.svg, tables/01_t.csv, notebooks/01_toy.ipynb")
    assert lines[1].startswith("02_trains")
    assert "01_toy     running: not run yet\n" in err and "Executing" not in err

    notebook = tmp_results / "quick/notebooks/01_toy.ipynb"
    executed = nbformat.read(notebook, as_version=4)
    nbformat.validate(executed)
    said, backend = (cell.outputs[0].text for cell in executed.cells[-2:])
    assert said == f"quick {project}\n"
    assert "inline" in backend
    assert "papermill" not in notebook.read_text()
    first = notebook.read_bytes()

    assert call() == 0  # chapter 2's new record does not make chapter 1 stale
    assert capfd.readouterr().out.splitlines()[:2] == ["01_toy     unchanged", "02_trains  unchanged"]

    (tmp_results / "quick/figures/01_f.svg").unlink()
    assert call("--chapter", "1") == 0
    assert notebook.read_bytes() == first
    assert (tmp_results / "quick/figures/01_f.svg").read_text() == "quick"
    assert not list(notebook.parent.glob(".*"))


def test_a_profile_of_ones_own(project, tmp_results, capsys, monkeypatch):
    """Given relative to another folder than the kernel's; a chapter that only draws can't tell who added a record."""
    write_chapter(project, "01_toy", TRAINS.replace("quick", "mine") + "print(profile)\n")
    text = (ROOT / "ssconv_lib/profiles/quick.toml").read_text()
    (project / "mine.toml").write_text(text.replace("trains_in_chapter = true", "trains_in_chapter = false"))
    monkeypatch.chdir(project / "book")
    assert call("--profile", "../mine.toml") == 0
    executed = nbformat.read(tmp_results / "mine/notebooks/01_toy.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == f"{project / 'mine.toml'}\n"
    (chapter,), _ = reproduce.plan("../mine.toml")
    assert stamps.why_stale(chapter) == "records/mine/trained.json is new"

    shutil.copy(project / "mine.toml", project / "quick.toml")
    assert call("--profile", "../quick.toml") == 2
    assert "rename it" in capsys.readouterr().err


CHANGES = {
    "book/01_toy.py": "changed",
    "ssconv_lib/conv.py": "changed",
    "ssconv_lib/models/new.py": "new",
    "ssconv_lib/demo.html": "new",
    "ssconv_lib/profiles/quick.toml": "changed",
    "data/paper/table1.csv": "changed",
}


@pytest.mark.parametrize(("name", "change"), CHANGES.items())
def test_a_changed_source_makes_stale(project, name, change):
    chapter = stamped(project)
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text("changed")
    assert stamps.why_stale(chapter) == f"{name} is {change}"


@pytest.mark.parametrize("name", ["records/quick/a.json", "records/laptop/a.json"])
def test_records_make_stale(project, tmp_results, name):
    chapter = stamped(project)
    (tmp_results / name).parent.mkdir(parents=True)
    for content, change in (("{}", "new"), ("{1}", "changed"), (None, "gone")):
        (tmp_results / name).write_text(content) if content else (tmp_results / name).unlink()
        assert stamps.why_stale(chapter) == f"{name} is {change}"
        stamps.write_stamp(chapter, stamps.inputs(chapter))
        assert stamps.why_stale(chapter) is None


@pytest.mark.parametrize("name", ["tables/01_t.csv", "figures/01_f.svg", "notebooks/01_toy.ipynb"])
def test_a_lost_or_edited_result_makes_stale(project, tmp_results, name):
    chapter = stamped(project)
    (tmp_results / "quick" / name).write_text("edited")
    assert stamps.why_stale(chapter) == f"{name} is changed"
    (tmp_results / "quick" / name).unlink()
    assert stamps.why_stale(chapter) == f"{name} is gone"


@pytest.mark.parametrize("name", ["site/pages.py", "launch.py", "frontpage.py", "claims.py", "ideapicture.py"])
def test_what_reads_chapters_that_have_run_does_not_make_stale(project, name):
    chapter = stamped(project)
    path = project / "ssconv_lib" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("changed")
    assert stamps.why_stale(chapter) is None


def test_a_stamp_tells_when_how_long_and_where_and_nothing_is_compared_with_it(project):
    chapter = stamped(project)
    stamps.write_stamp(chapter, stamps.inputs(chapter), seconds=1.5, **reproduce._here_and_now())
    told = json.loads(chapter.stamp.read_text())
    assert told["seconds"] == 1.5
    assert abs(time.time() - time.mktime(time.strptime(told["finished"], "%Y-%m-%d %H:%M UTC")) + time.timezone) < 180
    assert " core" in told["machine"]
    assert stamps.why_stale(chapter) is None


def test_other_chapters_results_do_not_count(project, tmp_results):
    chapter = stamped(project)
    (tmp_results / "quick/tables/02_t.csv").write_text("another's")
    (tmp_results / "records").mkdir()
    (tmp_results / "records/.a.json").write_text("being written")
    assert stamps.why_stale(chapter) is None


def test_a_new_version_or_a_damaged_stamp_makes_stale(project, monkeypatch):
    chapter = stamped(project)
    with monkeypatch.context() as patch:
        patch.setattr(stamps.importlib.metadata, "version", lambda package: "0")
        assert stamps.why_stale(chapter) == "matplotlib is changed"
    chapter.stamp.write_text('{"inputs": [')
    assert stamps.why_stale(chapter) == "not run yet"


@pytest.mark.parametrize("trains", [True, False])
def test_what_changed_during_the_run_was_not_read(project, tmp_results, trains):
    chapter = stamped(project, trains)
    before = stamps.inputs(chapter)
    (tmp_results / "records/quick").mkdir(parents=True)
    (tmp_results / "records/quick/a.json").write_text("{}")
    stamps.write_stamp(chapter, before)
    assert stamps.why_stale(chapter) == (None if trains else "records/quick/a.json is new")
    (project / "ssconv_lib/conv.py").write_text("edited meanwhile")
    stamps.write_stamp(chapter, before)
    assert stamps.why_stale(chapter).startswith("records" if not trains else "ssconv_lib/conv.py is changed")


def test_hundreds_of_records_are_checked_in_a_second(project, tmp_results):
    chapter = stamped(project)
    (tmp_results / "records/gpu").mkdir(parents=True)
    for number in range(500):
        (tmp_results / f"records/gpu/{number}.json").write_text(json.dumps([number] * 5000))
    start = time.perf_counter()
    assert stamps.why_stale(chapter) == "records/gpu/0.json is new"
    assert time.perf_counter() - start < 1


FAILURES = {
    "error": ('lost = {}\nlost["α"]', "KeyError: 'α'"),
    "killed": ("import os\nos._exit(1)", "the kernel died"),
    "left": ("import sys\nsys.exit(0)", "left the notebook early"),
    "slow": ("import time\ntime.sleep(60)", "longer than 3 s"),
}


@pytest.mark.parametrize(("cell", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_failure_names_the_cell_and_keeps_the_old_notebook(project, capsys, cell, reason):
    chapter = stamped(project)
    write_chapter(project, "01_toy", f"print('so far')\n\n# %%\n{cell}\n\n# %%\nprint('never')\n")
    write_chapter(project, "02_never", "1\n")
    assert call("--cell-timeout", "3") == 1
    message = capsys.readouterr().err
    line = chapter.source.read_text().splitlines().index(cell.splitlines()[0]) + 1
    assert f"01_toy failed at {chapter.source}:{line}\n" in message
    assert all(text in message for text in (*cell.splitlines(), reason, str(chapter.failed)))
    assert "02_never" not in message

    kept = nbformat.read(chapter.failed, as_version=4).cells
    assert [cell.outputs[0].text for cell in kept if cell.source == "print('so far')"] == ["so far\n"]
    assert [cell.outputs for cell in kept if cell.source == "print('never')"] == [[]]
    assert chapter.notebook.read_text() == "old"
    assert stamps.why_stale(chapter) == "book/01_toy.py is changed"


def test_a_mended_chapter_takes_its_failed_notebook_away(project):
    chapter = stamped(project)
    chapter.failed.write_text("old")
    assert call("--force") == 0
    assert not chapter.failed.exists()
    assert stamps.why_stale(chapter) is None


@pytest.mark.parametrize("tags", ["", '# %% tags=["parameters"]\nprofile = "gpu"\n'])
def test_one_parameters_cell_is_required(project, capsys, tags):
    text = HEAD + tags if tags else HEAD.replace(' tags=["parameters"]', "")
    (project / "book/01_toy.py").write_text(text)
    assert call() == 1
    assert f'has {2 if tags else 0} cells tagged "parameters"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "quikc"], "'quikc'"),
        (["--profile", "nowhere/mine.toml"], "mine.toml"),
        (["--chapter", "03"], "unknown chapter '03'; expected one of 01_toy, 02_toy"),
    ],
)
def test_a_bad_call_is_refused_before_a_kernel_starts(project, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr(reproduce, "run_chapter", lambda *_, **__: pytest.fail("a kernel started"))
    write_chapter(project, "01_toy", "1\n")
    write_chapter(project, "02_toy", "1\n")
    assert call(*arguments) == 2
    assert message in capsys.readouterr().err


def test_chapters_of_one_number_are_refused(project, capsys):
    assert call() == 2
    assert "holds no chapter" in capsys.readouterr().err
    write_chapter(project, "01_toy", "1\n")
    write_chapter(project, "01_other", "1\n")
    assert call() == 2
    assert "the number 01" in capsys.readouterr().err


def test_chapters_are_chosen_by_number_or_name(project):
    for name in ("01_a", "02_b", "10_c"):
        write_chapter(project, name, "1\n")
    for wanted, names in ((["2"], ["02_b"]), (["10_c", "01"], ["01_a", "10_c"]), (None, ["01_a", "02_b", "10_c"])):
        assert [chapter.name for chapter in reproduce.plan("quick", wanted)[0]] == names
