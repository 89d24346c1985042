"""Which pixels can change an output at all: the receptive field, exactly, by the wiring alone."""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from .cut import Box, features, in_box
from .wiring import Wiring


def classical_size(layers: Iterable[tuple[int, int]]) -> int:
    """Return the side, in pixels, of the receptive field of a chain of layers (kernel, stride), first one first."""
    side, jump = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * jump
        jump *= stride
    return side


def reach(
    model: nn.Module,
    layers: Sequence[str],
    input_size: tuple[int, int, int],
    *,
    box: Box | None = None,
    channel: int | None = None,
) -> dict[str, Tensor]:
    """Find the pixels that a part of each layer's output can depend on.

    The answer is about the wiring, whatever the weights are: it is where a gradient isn't zero in a forward in which
    no two paths can cancel (see `wiring`). Behind each step the gradient is made 0 or 1 again, so that products over
    many layers neither vanish nor overflow.

    Args:
        model: In any mode; it is taken as in evaluation, where images of a batch don't meet.
        layers: Qualified names of modules that a forward reaches once.
        input_size: (C, H, W).
        box: Of the image, low and high in pixels for rows and columns; the units that lie in it, as M in Eq. 4. None
            is one unit, at (h // 2, w // 2).
        channel: Of the output, counted from 0; None is all of them.

    Returns:
        For each layer a bool Tensor[H, W].

    Raises:
        ValueError: a layer, box or channel that the model doesn't have, or a function without a rule.
    """

    def as_bits(y: Tensor) -> None:
        y.register_hook(lambda gradient: gradient.gt(0).to(gradient.dtype))

    gradients = _gradients(model, layers, input_size, box, channel, Wiring(as_bits))
    return {name: gradient.gt(0).any(0) for name, gradient in gradients.items()}


def path_mass(
    model: nn.Module, layers: Sequence[str], input_size: tuple[int, int, int], *, box: Box | None = None
) -> dict[str, Tensor]:
    """Weigh the pixels of `reach` by the paths from them, as though all weights of a layer were equal and positive.

    Returns:
        For each layer a Tensor[H, W] of float64 that sums to 1.
    """
    gradients = _gradients(model, layers, input_size, box, None, Wiring())
    return {name: gradient.sum(0) / gradient.sum() for name, gradient in gradients.items()}


def _gradients(
    model: nn.Module,
    layers: Sequence[str],
    input_size: tuple[int, int, int],
    box: Box | None,
    channel: int | None,
    wiring: Wiring,
) -> dict[str, Tensor]:
    """Gradients (C, H, W) of each layer's part, in one forward of the wiring and a backward a layer."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if getattr(module, "fast", False):
            module.fast = False  # shuffle by functions of torch, whose wiring is known
    image = torch.ones(1, *input_size, dtype=torch.double, requires_grad=True)  # doubles add ones exactly

    def part(name: str, y: Tensor) -> Tensor:
        if box is None:
            middle = slice(y.shape[-2] // 2, y.shape[-2] // 2 + 1), slice(y.shape[-1] // 2, y.shape[-1] // 2 + 1)
            y = y[(..., *middle)]
            return y if channel is None else y[:, channel]
        return in_box(y, box, input_size[1:], channel)

    with wiring:
        parts = features(model, layers, image.clone(), part)
    return {name: torch.autograd.grad(parts[name].sum(), image, retain_graph=True)[0][0] for name in layers}


def change(model: nn.Module, layer: str, image: Tensor, pixels: Tensor, seed: int = 0) -> float:
    """Redraw some pixels from N(0, 1); return the largest change of the middle of a layer's output, in eval mode.

    Args:
        model: With its own weights; computed in double precision, so that 0 means that nothing changed.
        layer: Qualified name of a module.
        image: Tensor[C, H, W].
        pixels: bool Tensor[H, W], the pixels to redraw.
        seed: Of the new values.
    """
    model = copy.deepcopy(model).double().eval()
    image = image.double()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    with torch.no_grad():
        before, after = (
            features(model, [layer], x.unsqueeze(0))[layer] for x in (image, torch.where(pixels, noise, image))
        )
    middle = (..., before.shape[-2] // 2, before.shape[-1] // 2)
    return (after[middle] - before[middle]).abs().max().item()


def box(reached: Tensor) -> tuple[int, int, int, int]:
    """Return the smallest box around the true pixels of a bool Tensor[H, W]: top, left, height, width."""
    rows, columns = (torch.nonzero(reached.any(dim)).flatten().tolist() for dim in (1, 0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def share(seen: Tensor, threshold: float = 0.5) -> float:
    """Return the share of a map's values that are at least the threshold; in a bool map, that are true."""
    return (seen >= threshold).float().mean().item()


def iou(first: Tensor, second: Tensor) -> float:
    """Return how far two maps agree: Σ min / Σ max, of bool maps intersection over union; of two empty ones 1.

    Args:
        first: Tensor[H, W], bool or ≥ 0.
        second: The same; maps of amounts, such as effective fields, are scaled to a sum of 1 by the caller.
    """
    first, second = first.double(), second.double()
    union = torch.maximum(first, second).sum().item()
    return torch.minimum(first, second).sum().item() / union if union else 1.0
