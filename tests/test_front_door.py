"""What a visitor of the repository meets first keeps its word: contributing, changes, citation, workflows, .ci/run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib

import pytest
import yaml

from ssconv_lib import __main__ as command_line
from ssconv_lib import launch, verify
from ssconv_lib.paths import ROOT
from ssconv_lib.plan import load_profile
from ssconv_lib.records import RecordStore
from ssconv_lib.site.command import SITE

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = {path.stem: path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
PAGES = {"CONTRIBUTING": CONTRIBUTING, "CHANGELOG": CHANGELOG}
MADE = {"build/", "build/site", "book/NN_name.py", "ssconv_lib/profiles/NAME.toml"}  # not there in a fresh clone


def targets(text):
    """The targets of `make`, at a line's start or behind a backtick, a colon or variables."""
    return re.findall(r"(?m)(?:`|^ {4}(?:\w+=\S+ )*|run: )make ([a-z]+)", text)


def paths(text):
    """What stands alone between backticks and looks like a file or folder of the repository."""
    return re.findall(r"`((?:[\w.-]+/)+[\w.-]*|\w[\w-]*\.(?:cff|md|py|toml|txt|yml))`", text)


@pytest.mark.parametrize("name", [*PAGES, *WORKFLOWS])
def test_every_make_target_that_is_named_exists(name):
    for target in targets({**PAGES, **WORKFLOWS}[name]):
        assert re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE), f"make {target}"


def test_the_targets_are_found():
    assert {"test", "lint", "format", "notebooks", "reproduce", "picture", "constraints"} <= set(targets(CONTRIBUTING))
    assert targets("    A=b/c make one X=y\n    - run: make two\n`make three` make four") == [
        "one",
        "two",
        "three",
    ]


@pytest.mark.parametrize("line", re.findall(r"python -m ssconv_lib ([^#`\n]+)", CONTRIBUTING + CHANGELOG))
def test_its_commands_parse(line):
    args = command_line._parser().parse_args(shlex.split(line))
    if profile := getattr(args, "profile", None):
        load_profile(profile).runs(getattr(args, "study", None))


def test_the_run_that_it_verifies_has_a_record():
    (digits,) = re.findall(r"verify --profile laptop (\w+)", CONTRIBUTING)
    assert verify.find(RecordStore("laptop", ROOT / "results" / "records"), digits)


@pytest.mark.parametrize("name", sorted({*paths(CONTRIBUTING), *paths(CHANGELOG)} - MADE))
def test_its_files_are_there(name):
    assert (ROOT / name).exists()


def test_its_files_are_found():
    assert {"CHANGELOG.md", "tests/tiny.toml", "ssconv_lib/run.py", "results/records/", ".ci/run"} <= {
        *paths(CONTRIBUTING)
    }
    assert "build/site" in paths(CONTRIBUTING)


@pytest.mark.parametrize("name", ["profile_names", "NAMES", "MODELS", "SIZES", "protocol"])
def test_a_name_stands_in_the_file_where_it_is_said_to_be(name):
    """In the lines that follow a name, up to the end of the item, each file of the library or the tests has it."""
    places = [item for item in re.split(r"\n(?=\d\. |- )", CONTRIBUTING) if f"`{name}`" in item]
    assert places
    files = re.findall(r"`((?:ssconv_lib|tests)/[\w/]+\.py)`", places[0])
    assert files
    for file in files:
        assert re.search(rf"^\s*(def )?{name}\b", (ROOT / file).read_text(), flags=re.MULTILINE), file


def test_a_test_that_it_names_is_there():
    text = "\n".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", CONTRIBUTING)
    assert named
    for name in named:
        assert f"def {name}(" in text


def test_lines_are_no_longer_than_those_of_code():
    for name, text in {**PAGES, **WORKFLOWS}.items():
        assert [line for line in text.splitlines() if len(line) > 120] == [], name


def test_the_pythons_are_those_of_pyproject_and_the_conda_file():
    tested = yaml.safe_load(WORKFLOWS["tests"])["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert tested == ["3.11", "3.12", "3.13"]
    assert f"with Python {', '.join(tested[:-1])} and {tested[-1]}" in " ".join(CONTRIBUTING.split())
    assert "python>=3.11.5,<3.14" in (ROOT / "environment.yml").read_text()


def test_the_changelog_has_the_form_of_keep_a_changelog():
    assert (
        re.findall(r"^## \[(.+?)\] - (unreleased|\d{4}-\d\d-\d\d)$", CHANGELOG, flags=re.MULTILINE)[0][0]
        == (PROJECT["version"])
    )
    kinds = re.findall(r"^### (.+)$", CHANGELOG, flags=re.MULTILINE)
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known limits"}
    assert "Added" in kinds


def committed_records():
    """Those that git has: somebody's own runs, on a GPU too, say nothing about the book. All, where there is no git."""
    command = ["git", "-C", str(ROOT), "ls-files", "results/records"]
    listed = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return [ROOT / name for name in listed] or sorted((ROOT / "results" / "records").glob("*/*.json"))


def test_the_changelog_says_that_no_gpu_has_been_used_as_long_as_no_record_comes_from_one():
    records = [json.loads(path.read_text()) for path in committed_records() if path.exists()]
    devices = {record["run"].get("device") or record["origin"]["device"] for record in records}
    assert devices and all(devices)
    on_gpu = {device for device in devices if re.search("NVIDIA|GeForce|Tesla|Radeon", device)}
    assert ("Nothing has been run on a GPU" in CHANGELOG) == (not on_gpu)


def test_the_citation_has_what_its_format_requires():
    """Required keys and the types of those that are there, by the schema of version 1.2.0."""
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert set(CITATION) <= {
        *("cff-version", "message", "type", "title", "abstract", "keywords", "version", "license", "authors"),
        *("references", "date-released", "repository-code", "url", "doi", "preferred-citation"),
    }
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert CITATION["authors"] and all(set(author) == {"name"} for author in CITATION["authors"])
    assert len(set(CITATION["keywords"])) == len(CITATION["keywords"]) > 0
    for reference in CITATION["references"]:
        assert {"authors", "title", "type"} <= set(reference)
        assert reference["authors"] and all(author["name"] for author in reference["authors"])


def test_the_citation_is_of_this_version_and_the_paper():
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"] == "MIT"
    assert CITATION["authors"][0]["name"] in (ROOT / "LICENSE").read_text()
    assert f"*{CITATION['references'][0]['title']}*" in (ROOT / "README.md").read_text()


def steps(name):
    return [step for job in yaml.safe_load(WORKFLOWS[name])["jobs"].values() for step in job["steps"]]


def test_there_are_the_two_workflows():
    assert set(WORKFLOWS) == {"site", "tests"}
    for name, text in WORKFLOWS.items():
        workflow = yaml.safe_load(text)
        assert workflow["name"] == name
        assert workflow["permissions"] == {"contents": "read"}, "a job that needs more says so"
        assert workflow["concurrency"]["group"]
        assert all(job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_githubs_own_at_a_major_version(name):
    used = [step["uses"] for step in steps(name) if "uses" in step]
    assert used[0].startswith("actions/checkout@")
    assert [one for one in used if not re.fullmatch(r"actions/[\w-]+@v\d+", one)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_address_of_an_index_is_in_a_workflow(name):
    assert set(re.findall(r"https?://([\w.]+)", WORKFLOWS[name])) <= {"github.com"}
    assert "${{ vars.TORCH_INDEX_URL }}" in WORKFLOWS[name]


def test_every_push_and_pull_request_is_linted_and_tested():
    asked = yaml.safe_load(WORKFLOWS["tests"])[True]  # YAML's "on"
    assert asked == {"push": {"branches-ignore": ["launch"]}, "pull_request": None}
    assert [step["run"] for step in steps("tests") if step.get("run", "").startswith("make")] == [
        "make lint",
        "make test",
    ]


def test_the_site_is_published_from_main_with_no_more_rights_than_it_needs():
    workflow = yaml.safe_load(WORKFLOWS["site"])
    jobs = workflow["jobs"]
    assert workflow[True] == {"push": {"branches": ["main"]}, "workflow_dispatch": None}
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "build": None,
        "deploy": {"pages": "write", "id-token": "write"},
        "launch": {"contents": "write"},
    }
    for name in ("deploy", "launch"):
        assert jobs[name]["needs"] == "build"
        assert jobs[name]["if"] == "github.ref == 'refs/heads/main'"
    (upload,) = [step for step in jobs["build"]["steps"] if "upload-pages-artifact" in step.get("uses", "")]
    assert upload["with"] == {"path": SITE.relative_to(ROOT).as_posix()}


def test_the_branch_launch_is_what_the_command_makes(monkeypatch, tmp_path):
    """The workflow's own command line, on a copy of a notebook."""
    (line,) = [step["run"] for step in steps("site") if "ssconv_lib.launch" in step.get("run", "")]
    given = {"REPOSITORY": "https://example.org/me/book", "GITHUB_SHA": "a" * 40}
    words = shlex.split(re.sub(r"\$(\w+)", lambda match: given[match[1]], line))
    assert words[:3] == [".venv/bin/python", "-m", "ssconv_lib.launch"]
    assert words[-1] == "book/*.ipynb"
    copy = shutil.copy(ROOT / "book" / "01_method.ipynb", tmp_path)
    assert launch.main([*words[3:-1], str(copy)]) == 0
    assert given["REPOSITORY"] in (tmp_path / "01_method.ipynb").read_text()
    assert any("origin HEAD:refs/heads/launch" in step.get("run", "") for step in steps("site"))


@pytest.fixture
def ci(tmp_path):
    """Runs a copy of .ci/run where only the given programs are; what they were called with, and what was said."""
    (tmp_path / "clone" / ".ci").mkdir(parents=True)
    script, programs = tmp_path / "clone" / ".ci" / "run", tmp_path / "programs"
    shutil.copy(ROOT / ".ci" / "run", script)
    programs.mkdir()
    for name in ("bash", "dirname"):
        (programs / name).symlink_to(shutil.which(name))

    def run(variables=None, **given):
        log = tmp_path / "log"
        log.write_text("")
        for name, status in {"make": 0, **given}.items():
            program = programs / name.replace("_", "-")
            then = 'shift; "$@"' if name == "timeout" else f"exit {status}"
            program.write_text(f'#!{shutil.which("bash")}\necho {program.name} "$@" >>{log}\n{then}\n')
            program.chmod(0o755)
        done = subprocess.run(
            [str(programs / "bash"), str(script)],
            env={"PATH": str(programs), **(variables or {})},
            capture_output=True,
            text=True,
        )
        called = [line for line in log.read_text().splitlines() if not line.startswith("timeout")]
        return done.returncode, called, done.stdout

    return run


@pytest.mark.parametrize("name", ["chromium", "chromium_browser", "google_chrome"])
def test_ci_installs_no_browser_where_there_is_one(ci, name):
    assert ci(timeout=0, apt_get=0, **{name: 0}) == (0, ["make test"], "")


def test_ci_installs_no_browser_where_one_is_named(ci):
    assert ci({"SSCONV_BROWSER": "mine"}, timeout=0, apt_get=0) == (0, ["make test"], "")


def test_ci_installs_a_browser_where_there_is_none(ci):
    status, called, said = ci(timeout=0, apt_get=0)
    assert (status, called) == (0, ["apt-get install -y -q chromium", "make test"])
    assert said == "No Chromium here; trying to install it.\n"


def test_ci_asks_for_the_lists_and_goes_on_where_nothing_can_be_installed(ci):
    install = "apt-get install -y -q chromium"
    status, called, said = ci(timeout=0, apt_get=100)
    assert (status, called) == (0, [install, "apt-get update -q", "make test"])
    assert "could not be installed" in said


def test_ci_goes_on_where_there_is_no_apt(ci):
    assert ci()[:2] == (0, ["make test"])


def test_ci_fails_if_the_tests_do(ci):
    assert ci(make=2, chromium=0)[:2] == (2, ["make test"])


def test_ci_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
