"""torch.hub finds the paper's networks in this folder, offline, with torch alone for the small ones."""

import importlib.util
import shutil
import subprocess
import sys

import pytest
import torch

from ssconv_lib import SSConv2d
from ssconv_lib.models import create_model
from ssconv_lib.paths import ROOT
from ssconv_lib.study import load_profile

# parameters as published, with the classes of the network's data set; convolutions that the paper converts
NETWORKS = {
    "wrn16_4": (10, 2_748_890, 10),
    "densenet_bc_100_12": (10, 769_162, 96),
    "resnext29_2x64d": (10, 9_130_314, 25),
    "resnet50": (1000, 25_557_032, 45),
    "resnet50_abn": (1000, 43_584_866, 57),
    "seresnet50": (1000, 28_088_024, 45),
    "densenet121": (1000, 7_978_856, 116),
    "resnext50_32x4d": (1000, 25_028_904, 45),
}
SPEC = importlib.util.spec_from_file_location("hubconf", ROOT / "hubconf.py")
HUB = importlib.util.module_from_spec(SPEC)  # torch.hub lists and explains what is on GitHub only
SPEC.loader.exec_module(HUB)


def hub(name, **options):
    with torch.device("meta"):  # no values, so no time
        return torch.hub.load(str(ROOT), name, source="local", **options)


def counts(model):
    converted = sum(isinstance(module, SSConv2d) for module in model.modules())
    return sum(parameter.numel() for parameter in model.parameters()), converted


def test_it_lists_the_papers_networks_and_nothing_else():
    assert {name for name in vars(HUB) if callable(getattr(HUB, name)) and not name.startswith("_")} == set(NETWORKS)
    assert HUB.dependencies == ["torch"]
    assert set(NETWORKS) == {run.model for study in ("table2", "table3") for run in load_profile("paper").runs(study)}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_that_of_create_model_with_the_classes_of_its_data(name):
    _, parameters, converted = NETWORKS[name]
    assert counts(hub(name)) == (parameters, 0)
    assert counts(hub(name, alpha=0.06)) == (parameters, converted)
    with torch.device("meta"):
        expected = create_model(name, num_classes=7, alpha=0.06)
    found = hub(name, num_classes=7, alpha=0.06)
    assert [(key, value.shape) for key, value in found.state_dict().items()] == [
        (key, value.shape) for key, value in expected.state_dict().items()
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_its_help_says_what_it_is_for(name):
    text = getattr(HUB, name).__doc__
    assert "Table" in text
    assert "arguments as of `wrn16_4`" in text or "alpha" in text


def test_options_reach_the_layer():
    assert counts(hub("wrn16_4", alpha=0.06, replace="all")) == (2_748_890, 16)
    with pytest.raises(TypeError, match="pretrained"):
        hub("wrn16_4", pretrained=True)


def test_a_folder_elsewhere_serves_itself_with_torch_alone(tmp_path):
    """The folder's own library is taken, not the installed one, and nothing else but torch is imported for it."""
    shutil.copytree(ROOT / "ssconv_lib", tmp_path / "book" / "ssconv_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "hubconf.py", tmp_path / "book")
    code = """
import sys
BLOCKED = {"torchvision", "timm", "pandas", "scipy", "matplotlib", "tqdm", "PIL", "IPython", "papermill"}
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Block())
import torch
model = torch.hub.load("book", "wrn16_4", source="local", num_classes=3, alpha=0.06)
import ssconv_lib
print(ssconv_lib.__file__, tuple(model.eval()(torch.zeros(1, 3, 32, 32)).shape))
try:
    torch.hub.load("book", "resnet50", source="local")
except RuntimeError as error:
    print(error)
"""
    command = [sys.executable, "-B", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"{tmp_path / 'book' / 'ssconv_lib' / '__init__.py'} (1, 3)"
    assert second.startswith("resnet50 comes from torchvision, which can't be imported")
