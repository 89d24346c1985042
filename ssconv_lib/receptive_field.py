"""Which pixels can change an output at all: the receptive field, exactly."""

import copy
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def classical_size(layers: Iterable[tuple[int, int]]) -> int:
    """Return the side, in pixels, of the receptive field of a chain of layers (kernel, stride), first one first."""
    side, jump = 1, 1
    for kernel, stride in layers:
        side += (kernel - 1) * jump
        jump *= stride
    return side


def reach(model: nn.Module, layers: Sequence[str], input_size: tuple[int, int, int]) -> dict[str, Tensor]:
    """Find the pixels that the middle of each layer's output can depend on.

    It is where the gradient isn't zero in a copy of the model with positive weights, in which no two paths can
    cancel and every ReLU is open. So the answer is about the wiring alone, whatever the weights are.

    Args:
        model: Convolutions, ReLUs, batch norm, pooling and sums; max-pooling counts with its whole window.
        layers: Qualified names of modules that a forward reaches once.
        input_size: (C, H, W).

    Returns:
        For each layer a bool Tensor[H, W]. The output is taken at the position (h // 2, w // 2), in all channels.
    """
    model = _with_positive_weights(model)
    outputs: dict[str, Tensor] = {}
    for name in layers:
        model.get_submodule(name).register_forward_hook(
            lambda *args, name=name: outputs.update({name: args[2].clone()})
        )
    x = torch.ones(1, *input_size, dtype=torch.double, requires_grad=True)
    model(x)
    reached = {}
    for name in layers:
        y = outputs[name]  # (1, C, h, w)
        middle = y[..., y.shape[-2] // 2, y.shape[-1] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, x, retain_graph=True)
        reached[name] = gradient[0].ne(0).any(0)
    return reached


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
    seen: list[Tensor] = []
    model.get_submodule(layer).register_forward_hook(lambda *args: seen.append(args[2].clone()))
    image = image.double()
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    with torch.no_grad():
        for x in (image, torch.where(pixels, noise, image)):
            model(x.unsqueeze(0))
    before, after = (y[..., y.shape[-2] // 2, y.shape[-1] // 2] for y in seen)
    return (after - before).abs().max().item()


def box(reached: Tensor) -> tuple[int, int, int, int]:
    """Return the smallest box around the true pixels of a bool Tensor[H, W]: top, left, height, width."""
    rows, columns = (torch.nonzero(reached.any(dim)).flatten().tolist() for dim in (1, 0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def _with_positive_weights(model: nn.Module) -> nn.Module:
    """A copy in double precision and eval mode: each layer of weights averages, batch norm does nothing."""
    model = copy.deepcopy(model).double().eval()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MaxPool2d):
            mean = nn.AvgPool2d(module.kernel_size, module.stride, module.padding, module.ceil_mode)
            model.set_submodule(name, mean)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.reset_running_stats()
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.constant_(module.weight, 1 / math.prod(module.weight.shape[1:]))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
