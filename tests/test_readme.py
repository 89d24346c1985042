"""The README keeps its word: its code runs, its commands parse, its files are those that the chapters write."""

import re
import shlex

import pytest
import torch

from ssconv_lib import __main__ as command_line
from ssconv_lib import study, verify
from ssconv_lib.paths import ROOT
from ssconv_lib.records import RecordStore

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"@[A-Z]+@|TODO|TBD", README)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


def test_the_ten_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names = {}
    exec(code, names)
    assert names["y"].shape == (8, 128, 56, 56)
    assert sum(name.endswith("permutation") for name in torch.load("model.pt", weights_only=True)) == 45


def test_the_profile_of_its_example_loads(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "mine.toml").write_text(text)
    profile = study.load_profile(tmp_path / "mine.toml")
    assert [(run.seed, run.pi_seed) for run in profile.runs()] == [(s, p) for s in (0, 1) for p in (10, 11, 12)]


@pytest.mark.parametrize("line", re.findall(r"python -m ssconv_lib ([^#`\n]+)", README))
def test_its_commands_parse(line):
    command_line._parser().parse_args(shlex.split(line))


def test_the_run_that_it_verifies_has_a_record():
    (digits,) = re.findall(r"verify --profile laptop (\w+)", README)
    assert verify.find(RecordStore("laptop", ROOT / "results" / "records"), digits)


def test_its_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?m)(?:`|^    )make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_its_profiles_are_those_that_there_are():
    section = README.split("## Profiles")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.M) == study.profile_names()


def test_its_links_and_pictures_are_there():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_the_files_of_its_table_are_written_by_the_chapters():
    section = README.split("## From the paper to the files")[1].split("\n## ")[0]
    chapters = "\n".join(path.read_text() for path in (ROOT / "book").glob("[0-9]*.py"))
    for name in re.findall(r"`(?:tables|figures)/\d\d_(\w+)\.", section):
        assert f'"{name}"' in chapters, name
