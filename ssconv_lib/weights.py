"""The trained networks that a profile keeps, for the chapters that look inside them: final weights, named as records.

A profile names one study and one seed, whose networks are small enough for git.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from .files import write_whole
from .paths import results_dir
from .run import Run
from .torchfile import load_checked
from .training import build_model

LARGEST = 4096  # pixels of a side that a kept network can be for


def weights_path(run: Run, profile: str, root: Path | None = None) -> Path:
    """Where the weights of a run are, or will be: `<root>/<profile>/<label>.pt`, in results/weights by default."""
    return (root or results_dir() / "weights") / profile / f"{run.label}.pt"


def save_weights(path: Path, run: Run, model: nn.Module, num_classes: int, input_size: tuple[int, int, int]) -> None:
    """Write a trained network, whole or not at all, with all that `load_weights` needs to build it without images."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    content = {"hash": run.hash, "num_classes": num_classes, "input_size": list(input_size), "model": state}
    write_whole(path, lambda file: torch.save(content, file))


def load_weights(run: Run, profile: str, root: Path | None = None) -> nn.Module:
    """Return the trained network of a run, in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: its weights are not kept.
        ValueError: the file is damaged, or of another run.
    """
    path = weights_path(run, profile, root)
    if not path.exists():
        raise FileNotFoundError(f"no weights of {run.label}: {path} is not there; a profile keeps those of one seed")
    try:
        content = load_checked(path)
    except ValueError as error:
        raise ValueError(f"{error}; restore it from git, or train the run again") from error
    if content.get("hash") != run.hash:
        raise ValueError(f"{path} holds the weights of run {content.get('hash')}, expected {run.hash}")
    try:
        return _rebuilt(run, content)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{path} does not fit {run.label}: {error}") from error


def _rebuilt(run: Run, content: dict[str, Any]) -> nn.Module:
    classes, size, state = content["num_classes"], content["input_size"], content["model"]
    if type(classes) is not int or not any(classes in tensor.shape[:1] for tensor in state.values()):
        raise ValueError(f"num_classes is {classes!r}, expected as many as the last layer has")
    if [type(n) for n in size] != [int] * 3 or not all(1 <= n <= LARGEST for n in size):
        raise ValueError(f"input_size is {size!r}, expected channels, height and width, each at most {LARGEST}")
    model = build_model(run, classes, tuple(size))
    model.load_state_dict(state)
    return model.eval()
