"""The effective receptive field (Luo et al. 2016): how much each pixel changes a part of a layer's output."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from .cut import Box, features, in_box
from .fieldstep import held
from .seeds import stream


def effective_field(
    model: nn.Module,
    layers: Sequence[str],
    images: Tensor,
    *,
    box: Box,
    channel: int | None = None,
    seed: int = 0,
    at_once: int = 4,
) -> dict[str, Tensor]:
    """Square the gradient of every unit in the box, and sum it over the units and the image's channels.

    One backward gives the sum over all units without their products: the gradient of Σ ±φ_u, with a random sign for
    each unit and image, squared, has that sum as its mean. A mean over images therefore needs no further draws.

    Args:
        model: Taken as in evaluation, with the weights that it has; it is left as it was.
        layers: Qualified names of modules that a forward reaches once.
        images: Tensor[N, C, H, W].
        box: Of the image, low and high in pixels for rows and columns: the units that lie in it, as M in Eq. 4.
        channel: Of the output, counted from 0; None is all of them.
        seed: Of the signs.
        at_once: Images a forward.

    Returns:
        For each layer a Tensor[N, H, W] ≥ 0, one map an image.

    Raises:
        ValueError: the model has no such layer, box or channel.
    """
    signs = stream(seed, "signs")
    fields: dict[str, list[Tensor]] = {name: [] for name in layers}
    with held(model):
        for batch in images.split(at_once):
            x = batch.detach().clone().requires_grad_()
            parts = features(model, layers, x, lambda name, y: in_box(y, box, tuple(images.shape[2:]), channel))
            for name in layers:
                sign = torch.randint(2, parts[name].shape, generator=signs).to(parts[name]) * 2 - 1
                (gradient,) = torch.autograd.grad((sign * parts[name]).sum(), x, retain_graph=True)
                fields[name].append(gradient.square().sum(1))
    return {name: torch.cat(maps) for name, maps in fields.items()}


def absolute_gradient(
    model: nn.Module,
    layers: Sequence[str],
    images: Tensor,
    *,
    box: Box,
    units: int = 8,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Return the absolute gradient of single units of a box, in the mean over the units, summed over image channels.

    Squares weigh what is spread thinly over N positions by 1/N, absolute values don't: the two bracket how much far
    pixels count.

    Args:
        model: As in `effective_field`, and so are layers, images and box.
        layers: Qualified names.
        images: Tensor[N, C, H, W].
        box: Of the image.
        units: So many are drawn from the box, any channel; a unit whose gradient is 0 in all images is drawn anew.
        seed: Of the draw.

    Returns:
        For each layer a Tensor[N, H, W] ≥ 0.
    """
    draw = stream(seed, "units")
    found = {}
    with held(model):
        x = images.detach().clone().requires_grad_()
        parts = features(model, layers, x, lambda name, y: in_box(y, box, tuple(images.shape[2:])))
        for name in layers:
            of_units = parts[name].flatten(1)  # (N, units in the box)
            order = torch.randperm(of_units.shape[1], generator=draw).tolist()
            maps: list[Tensor] = []
            for unit in order:
                (gradient,) = torch.autograd.grad(of_units[:, unit].sum(), x, retain_graph=True)
                if gradient.any():
                    maps.append(gradient.abs().sum(1))
                if len(maps) == units:
                    break
            found[name] = torch.stack(maps).mean(0)
    return found


def share_outside(field: Tensor, region: Tensor) -> Tensor:
    """Return the part of each map's mass that lies outside a region: Tensor[N] in [0, 1], less maps without mass.

    Args:
        field: Tensor[N, H, W] ≥ 0, of `effective_field`.
        region: bool Tensor[H, W], such as the plain network's `reach`.
    """
    field = field[field.sum((1, 2)) > 0]  # where all units are shut, nothing counts, inside or out
    return field[:, ~region].sum(1) / field.sum((1, 2))


@torch.no_grad()
def settle(model: nn.Module, batches: Sequence[Tensor]) -> nn.Module:
    """Give an untrained network the batch norm statistics of some images, and return it in evaluation mode.

    Without them batch norm does nothing there, and features grow from block to block as they never do in training.

    Args:
        model: Untrained; its statistics are replaced by the mean over the batches.
        batches: Of images, Tensor[N, C, H, W].
    """
    update_bn(batches, model)
    return model.eval()
