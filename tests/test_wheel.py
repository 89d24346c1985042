"""The wheel: what is in it, and that the layer works from an installation beside which there is torch alone."""

import email
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from ssconv_lib.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What an installation is asked to do, outside the checkout, with all but torch and what torch itself needs blocked.
ALONE = """
import sys
import json
import re
import importlib.metadata as metadata
from pathlib import Path
sys.path.insert(0, sys.argv[1])

def needed_by(name):
    found, waiting = set(), [name]
    while waiting:
        one = re.sub("[-_.]+", "-", waiting.pop()).lower()
        if one not in found:
            try:
                listed = metadata.requires(one) or ()
            except metadata.PackageNotFoundError:  # of another platform
                continue
            found.add(one)
            waiting += [re.match(r"[\\w.-]+", text).group() for text in listed if "extra ==" not in text]
    return found

torchs = needed_by("torch")
allowed = {"ssconv_lib"} | set(sys.stdlib_module_names)
of = metadata.packages_distributions()
blocked = {top for top, names in of.items()
           if top not in allowed and not torchs & {re.sub("[-_.]+", "-", name).lower() for name in names}}

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
import torch
import ssconv_lib
from ssconv_lib import SSConv2d, convert_to_ssconv
from ssconv_lib.models import create_model
from ssconv_lib.paths import data_dir, results_dir

torch.set_num_threads(1)
layer = SSConv2d(8, 4, 3, padding=1, alpha=0.5, spatial_size=6)
image = torch.zeros(1, 8, 6, 6)
image[0, :4, 0, 0] = 1
plain = torch.nn.functional.conv2d(image, layer.weight, layer.bias, padding=1)
model = convert_to_ssconv(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3)), 0.5,
                          input_size=(3, 8, 8))
print(json.dumps({
    "from": ssconv_lib.__file__,
    "shape": layer(image).shape,
    "shuffles": not torch.equal(layer(image), plain),
    "converted": [type(one).__name__ for one in model],
    "network": create_model("wrn10_1", num_classes=3, alpha=0.06).eval()(torch.zeros(1, 3, 32, 32)).shape,
    "folders": [str(data_dir()), str(results_dir())],
    "blocked": sorted(blocked),
}))
"""
# With all packages there: what the command line does without a checkout
COMMANDS = """
import sys
sys.path.insert(0, sys.argv[1])
from ssconv_lib.__main__ import main
print([main(line.split()) for line in ("status --profile quick", "status --profile paper", "reproduce")])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: a build leaves folders behind, and takes what an earlier one left."""
    (builder,) = map(Requirement, PROJECT["build-system"]["requires"])
    assert version(builder.name) in builder.specifier, f"to build without a network: pip install '{builder}'"
    folder = tmp_path_factory.mktemp("source")
    for name in ("ssconv_lib", "tests", "book", "data/paper"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "hubconf.py", "CITATION.cff"):
        shutil.copy(ROOT / name, folder)
    made = tmp_path_factory.mktemp("wheel")
    pip("wheel", folder, "--no-build-isolation", "--wheel-dir", made)
    (path,) = made.iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder of packages with this one alone."""
    folder = tmp_path_factory.mktemp("packages")
    pip("install", wheel, "--no-compile", "--target", folder)
    return folder


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    done = subprocess.run([*command, arguments[0], "--no-deps", "--no-index", *map(str, arguments[1:])])
    assert done.returncode == 0


def ask(folder, where, code):
    """Run code with the installation first on the path, in another working directory; isolated from the caller's."""
    command = [sys.executable, "-I", "-B", "-c", code, str(folder)]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=300, env={"HOME": str(where)})


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_it_holds_the_library_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licence = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        assert [archive.read(name) for name in licence] == [(ROOT / "LICENSE").read_bytes()]
    library = ROOT / "ssconv_lib"
    expected = {path.relative_to(ROOT).as_posix() for path in library.rglob("*") if path.suffix in (".py", ".toml")}
    assert expected <= names
    assert "ssconv_lib/native.cpp" in names
    assert "ssconv_lib/profiles/quick.toml" in names
    assert {name.split("/")[0] for name in names} == {"ssconv_lib"}
    assert not [name for name in names if name.endswith((".pyc", ".so", ".csv", ".ipynb", ".json"))]


def test_every_file_of_the_library_that_is_not_code_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    others = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ssconv_lib").rglob("*") if path.is_file()}
    others = {name for name in others if "__pycache__" not in name and not name.endswith((".py", ".tmp"))}
    assert others - names == set(), "missing in package-data of pyproject.toml"


def test_without_an_extra_it_requires_torch_alone(wheel):
    found = metadata(wheel)
    requirements = [Requirement(text) for text in found.get_all("Requires-Dist")]
    assert [str(one) for one in requirements if one.marker is None] == PROJECT["project"]["dependencies"]
    assert [one.name for one in requirements if one.marker is None] == ["torch"]
    assert set(found.get_all("Provides-Extra")) == set(PROJECT["project"]["optional-dependencies"])
    assert found["Version"] == PROJECT["project"]["version"]
    assert found["License-Expression"] == "MIT"
    assert found["Requires-Python"] == PROJECT["project"]["requires-python"]


def test_the_layer_works_with_torch_alone_and_writes_nothing(installed, tmp_path):
    before = sorted(installed.rglob("*"))
    done = ask(installed, tmp_path, ALONE)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"numpy", "pandas", "torchvision", "tqdm", "scipy", "matplotlib", "timm", "IPython"} <= {*found["blocked"]}
    assert not {"torch", "sympy", "typing_extensions", "filelock"} & {*found["blocked"]}
    assert found["from"] == str(installed / "ssconv_lib" / "__init__.py")
    assert found["shape"] == [1, 4, 6, 6]
    assert found["shuffles"]
    assert found["converted"] == ["Conv2d", "SSConv2d"]
    assert found["network"] == [1, 3]
    assert found["folders"] == [str(tmp_path / "data"), str(tmp_path / "results")], "not among the packages"
    assert sorted(installed.rglob("*")) == before
    assert not any(tmp_path.iterdir())


def test_profiles_load_and_without_chapters_reproduce_says_so(installed, tmp_path):
    before = sorted(installed.rglob("*"))
    done = ask(installed, tmp_path, COMMANDS)
    assert done.stdout.splitlines()[-1] == "[0, 0, 2]", done.stderr
    assert re.findall(r"^(\w+): ", done.stdout, flags=re.MULTILINE)[0] == "quick"
    assert "\npaper: " in done.stdout
    assert f"{installed / 'book'} holds no chapter" in done.stderr
    assert sorted(installed.rglob("*")) == before
    assert not any(tmp_path.iterdir())
