"""The trained networks that a profile keeps, for the chapters that look inside them: final weights, named as records.

A profile names one study and one seed, whose networks are small enough for git.
"""

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .files import write_whole
from .paths import results_dir
from .run import Run
from .training import build_model


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
    content = _read(path)
    if content.get("hash") != run.hash:
        raise ValueError(f"{path} holds the weights of run {content.get('hash')}, expected {run.hash}")
    model = build_model(run, content["num_classes"], tuple(content["input_size"]))
    try:
        model.load_state_dict(content["model"])
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path} does not fit {run.label}: {error}") from error
    return model.eval()


def _read(path: Path) -> dict[str, Any]:
    file = io.BytesIO(path.read_bytes())
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a torn file fails in many ways, all meaning the same
        raise ValueError(f"{path} is damaged; restore it from git, or train the run again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected what save_weights writes")
    return content
