"""The places that list what the project needs, held to pyproject.toml without installing anything."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import conftest
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from ssconv_lib.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BASE = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()}
BOOK = BASE + EXTRAS["book"]
EVERYTHING = BOOK + EXTRAS["cluster"] + EXTRAS["test"]
MAKEFILE = (ROOT / "Makefile").read_text()
UNPINNED = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*|setuptools|pip|wheel)$")


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all([s.operator for s in r.specifier] == ["=="] for r in requirements)
    here = [r for r in requirements if not r.marker or r.marker.evaluate()]
    return {canonicalize_name(r.name): Version(next(iter(r.specifier)).version) for r in here}


def needed(requirements):
    """The canonical names of the requirements and of all that they bring along here, by the installed metadata."""
    found, waiting = set(), [(requirement, {""}) for requirement in requirements]
    while waiting:
        requirement, extras = waiting.pop()
        wanted = {(canonicalize_name(requirement.name), extra) for extra in {"", *requirement.extras}} - found
        if not wanted or (requirement.marker and not any(requirement.marker.evaluate({"extra": e}) for e in extras)):
            continue
        found |= wanted
        waiting += [(Requirement(text), {"", *requirement.extras}) for text in requires(requirement.name) or ()]
    return {name for name, _ in found}


def imported(*patterns):
    """The top names of the modules that the files import, with the file that does."""
    found = {}
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            found |= {name.split(".")[0]: path.relative_to(ROOT).as_posix() for name in names}
    own = {"ssconv_lib", "conftest", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    return {name: path for name, path in found.items() if name not in own | sys.stdlib_module_names}


def test_conda_file_names_python_pip_and_the_extras_of_the_makefile():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    python, pip, nested = listed
    (extras,) = re.findall(r"^extras := (\S+)$", MAKEFILE, re.MULTILINE)
    assert "-e '.[$(extras)]'" in MAKEFILE
    assert pip == "pip"
    assert nested == {"pip": [f"-e .[{extras}]"]}
    assert set(extras.split(",")) == set(EXTRAS)

    python = Requirement(python)
    assert python.name == "python"
    allowed = SpecifierSet(PROJECT["requires-python"])
    versions = [Version(f"3.{minor}.{patch}") for minor in range(9, 20) for patch in range(20)]
    offered = [version for version in versions if version in python.specifier]
    assert {version.minor for version in offered} == {11, 12, 13}
    assert all(version in allowed for version in offered)


def test_makefile_checks_the_python_that_pyproject_requires():
    (checked,) = re.findall(r"sys\.version_info < \((.*?)\)", MAKEFILE)
    assert PROJECT["requires-python"] == ">=" + checked.replace(", ", ".")


@pytest.mark.parametrize("requirement", EVERYTHING, ids=lambda r: r.name)
def test_requirement_is_pinned_inside_its_range(requirement):
    name = canonicalize_name(requirement.name)
    if UNPINNED.match(name):
        assert name not in pins(), "which build fits depends on the machine"
    else:
        assert pins()[name] in requirement.specifier


def test_all_that_comes_along_is_pinned_and_nothing_else():
    try:
        expected = {name for name in needed(EVERYTHING) if not UNPINNED.match(name)}
    except PackageNotFoundError as error:
        pytest.fail(f"{error.name} is required but not installed; run make test, which installs it")
    pinned = {name for name in pins() if not UNPINNED.match(name)}
    assert pinned == set(pins()), "torch and what comes with its CUDA builds are not pinned"
    assert not expected - pinned, "make constraints"
    if sys.version_info[:2] == (3, 11):  # where the pins were made; others need less, 3.12 more
        assert not pinned - expected, "in .venv, but not required: remove it, then make constraints"


def test_every_import_is_declared():
    distributions = packages_distributions()
    for requirements, patterns in (
        (BOOK, ["book/*.py"]),
        (BOOK + EXTRAS["cluster"], ["ssconv_lib/**/*.py"]),
        (EVERYTHING, ["tests/**/*.py"]),
    ):
        declared = {canonicalize_name(requirement.name) for requirement in requirements}
        for name, path in imported(*patterns).items():
            providers = {canonicalize_name(provider) for provider in distributions.get(name, [name])}
            assert providers & declared, f"{path} imports {name}, which pyproject.toml does not list"


def test_the_search_for_imports_finds_them():
    found = imported("ssconv_lib/**/*.py", "tests/**/*.py")
    assert {"torch", "papermill", "yaml", "packaging"} <= set(found)
    assert not {"ssconv_lib", "conftest", "sys"} & set(found)


def test_ci_runs_the_tests_and_can_be_executed():
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "make test"


def test_what_runs_the_chapters_stays_on_one_process():
    """Or each of the processes of `make test` would run them, which takes minutes."""
    files = [path for path in (ROOT / "tests").glob("test_*.py") if path.stem != "test_environment"]
    using = {path.stem for path in files if re.search(r"\b(tiny_book|book_environment)\b", path.read_text())}
    assert using == set(conftest.BOOK)
