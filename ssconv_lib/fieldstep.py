"""One iteration of Eq. 4: R and Adam's state, the images behind σ(R), and the network held still meanwhile."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .cut import Box, features, in_box
from .data import Data
from .fieldmap import field_sizes
from .fieldrun import FieldRun
from .imagefolder import FolderData
from .loader import MEAN, STD

BETAS = (0.9, 0.99)  # Adam's, Sec. 5.1
POINTS = 50  # of the stored loss curve

Part = tuple[str, Box, int | None]  # layer, box, channel: what M leaves of φ_l


@dataclass
class Optimised:
    """What a run has found.

    Attributes:
        map: σ(R), Tensor[C, H, W] on the CPU.
        sizes: See `fieldmap.field_sizes`.
        loss: `iteration`, counted from 1, with the `perceptual` and the `penalty` part before that iteration's step,
            each of that iteration's batch; None is a number that is not finite.
        cost: Seconds of an iteration in turn, `naive` and `fast`, see `iteration_cost`; empty if it wasn't measured.
        seconds: Of all iterations; what several runs share is shared out equally.
    """

    map: Tensor
    sizes: dict[str, float]
    loss: dict[str, list]
    cost: dict[str, list[float]]
    seconds: float


class OptimisedField:
    """R of one run, and the state of its optimisation between two iterations.

    Args:
        network: In eval mode; none of its parameters should require a gradient, see `held`.
        run: What to optimise.
        black: Tensor[C] of a normalised black pixel, for `fill = "black"`; see `black_of`.

    Raises:
        ValueError: the fill is black, and black is not given.
    """

    def __init__(self, network: nn.Module, run: FieldRun, black: Tensor | None = None) -> None:
        if run.fill == "black" and black is None:
            raise ValueError('fill = "black": expected black, the normalised value of a black pixel; see black_of')
        like = next(network.parameters())
        start = torch.full((1, *run.input_size), run.start, device=like.device, dtype=like.dtype)
        self.network, self.run = network, run
        self.field = start.to(memory_format=torch.channels_last).requires_grad_()  # R as (1, C, H, W), like the images
        self.black = None if run.fill == "mean" else black.to(like).view(1, -1, 1, 1)
        self.optimizer = torch.optim.Adam([self.field], lr=run.lr, betas=BETAS, eps=run.eps, foreach=False)
        self.part: Part = (run.layer, run.box, run.channel)
        self.iteration = 0
        self.seconds = 0.0
        self.cost: dict[str, list[float]] = {}
        self._marks = frozenset(_marks(run.iterations))
        self._losses: list[Tensor] = []

    @property
    def done(self) -> bool:
        """Whether all iterations are behind it."""
        return self.iteration >= self.run.iterations

    def step(self, x: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
        """One iteration; nothing in it waits for a GPU.

        Args:
            x: Normalised images, Tensor[N, C, H, W].
            clean: φ_l(x) in the box, as `clean_parts` gives it.

        Returns:
            The perceptual part and the penalty before the step, two numbers as tensors.
        """
        self.optimizer.zero_grad(set_to_none=True)
        sigma = self.field.sigmoid()
        masked = self._features(hide(x, sigma, self.black), x.shape)
        perceptual = (masked - clean).square().sum() / len(x)
        penalty = self.run.beta * sigma.sum()
        (perceptual + penalty).backward()
        self.optimizer.step()
        self.iteration += 1
        perceptual, penalty = perceptual.detach(), penalty.detach()
        if self.iteration in self._marks:
            self._losses.append(torch.stack((perceptual, penalty)))
        return perceptual, penalty

    def _features(self, images: Tensor, size: Sequence[int]) -> Tensor:
        layer, box, channel = self.part
        return features(self.network, [layer], images, lambda _, y: in_box(y, box, tuple(size[2:]), channel))[layer]

    def result(self) -> Optimised:
        """Return what was found so far."""
        sigma = self.field.detach().sigmoid()[0].contiguous().cpu()
        marks = [mark for mark in _marks(self.run.iterations) if mark <= self.iteration]
        loss = {"iteration": marks, **self._parts_of_loss()}
        return Optimised(sigma, field_sizes(sigma), loss, self.cost, self.seconds)

    def _parts_of_loss(self) -> dict[str, list[float | None]]:
        rows = torch.stack(self._losses).tolist() if self._losses else []
        finite = [[one if math.isfinite(one) else None for one in row] for row in rows]  # JSON has no NaN
        return {name: [row[place] for row in finite] for place, name in enumerate(("perceptual", "penalty"))}

    def state_dict(self) -> dict[str, Any]:
        """All that going on with the same bits needs."""
        return {
            "run": self.run.hash,
            "iteration": self.iteration,
            "field": self.field.detach(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self._losses,
            "cost": self.cost,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            ValueError: it is of another run.
        """
        if state["run"] != self.run.hash:
            raise ValueError(f"the state belongs to run {state['run']}, expected {self.run.label}")
        with torch.no_grad():
            self.field.copy_(state["field"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration, self.seconds, self.cost = state["iteration"], state["seconds"], state["cost"]
        self._losses = [one.to(self.field.device) for one in state["losses"]]


def hide(x: Tensor, sigma: Tensor, black: Tensor | None = None) -> Tensor:
    """Return σ(R) · x, or with a normalised black pixel, Tensor[1, C, 1, 1], the same as before normalisation."""
    return sigma * x if black is None else black + sigma * (x - black)


def black_of(data: Data | FolderData) -> Tensor | None:
    """Return what a black pixel is after normalisation, Tensor[C]; None where that differs between images, or is 0."""
    mean, std = (MEAN, STD) if isinstance(data, FolderData) else (data.mean, data.std)
    if not isinstance(data, FolderData) and data.normalise != "dataset":
        return None
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    return -mean / std


@torch.no_grad()
def clean_parts(network: nn.Module, parts: Sequence[Part], x: Tensor) -> dict[Part, Tensor]:
    """Return φ_l(x) of several layers, each in its box and channel, from one forward.

    Raises:
        ValueError: a layer, box or channel that the network doesn't have, see `cut`.
    """
    found: dict[Part, Tensor] = {}

    def keep(name: str, y: Tensor) -> Tensor:
        for part in parts:
            if part[0] == name and part not in found:
                found[part] = in_box(y, part[1], tuple(x.shape[2:]), part[2])
        return x  # the boxes are enough, the whole output is not kept

    features(network, [layer for layer, _, _ in parts], x, keep)
    return found


@contextmanager
def held(network: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Put a network into eval mode, its parameters without (or with) gradients; then all back as it was."""
    modes = [(module, module.training) for module in network.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in network.parameters()]
    try:
        network.eval()
        for parameter, _, _ in parameters:
            parameter.grad = None
            parameter.requires_grad_(gradients)
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, required, gradient in parameters:
            parameter.requires_grad_(required)
            parameter.grad = gradient


def _marks(iterations: int) -> list[int]:
    """The iterations whose loss is kept: the first, the last, and what lies evenly between."""
    return sorted({1, *(-(-number * iterations // POINTS) for number in range(1, POINTS + 1))})
