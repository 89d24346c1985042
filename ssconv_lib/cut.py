"""A forward that ends behind the layers that are asked for, and the part of a layer's output in a box of the image."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

Box = tuple[int, int]


class _Reached(BaseException):
    """Ends a forward; no `except Exception` of a model may take it for an error."""


def features(
    model: nn.Module,
    layers: Iterable[str],
    x: Tensor,
    keep: Callable[[str, Tensor], Tensor] = lambda name, y: y.clone(),
) -> dict[str, Tensor]:
    """Return what layers put out, φ_l(x); nothing behind the last of them is computed.

    Args:
        model: Any module; it is called as it is, in its mode, with or without gradients.
        layers: Qualified names of modules that a forward reaches once.
        x: Tensor[N, C, H, W].
        keep: What to keep of a layer's output, given its name and Tensor[N, c, h, w]. It must be a new tensor, since
            the next layer may write into the output; a copy, by default.

    Raises:
        ValueError: a layer that the model doesn't have, that a forward doesn't reach, or reaches twice.
    """
    wanted = list(dict.fromkeys(layers))
    found: dict[str, Tensor] = {}
    modules = {name: _module(model, name) for name in wanted}
    handles = [modules[name].register_forward_hook(_note(name, wanted, found, keep)) for name in wanted]
    try:
        model(x)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    if unreached := [name for name in wanted if name not in found]:
        raise ValueError(f"layer {unreached[0]!r}: a forward of the model does not reach it; name one that it does")
    return found


def in_features(box: Box, pixels: int, features: int) -> slice:
    """Return a box [low, high) of pixels as a slice of a layer's rows or columns: [low/s, high/s) at stride s.

    The paper gives M in pixels, 96 to 128, and applies it to feature maps; Table 5's box sizes follow from this
    reading.

    Args:
        box: low and high, the same for rows and columns.
        pixels: Height (or width) of the image.
        features: Height (or width) of the layer's output.

    Raises:
        ValueError: the box is not in the image, or covers no whole number of the layer's units.
    """
    low, high = box
    if not 0 <= low < high <= pixels:
        raise ValueError(f"box = {box}: expected 0 <= low < high <= {pixels}, in pixels of the image")
    if (low * features) % pixels or (high * features) % pixels:
        stride = f"{pixels}/{features}"
        raise ValueError(f"box = {box}: its ends are no multiples of the layer's stride {stride}; take ends that are")
    return slice(low * features // pixels, high * features // pixels)


def in_box(y: Tensor, box: Box, size: tuple[int, int], channel: int | None = None) -> Tensor:
    """Return a copy of a layer's output Tensor[N, c, h, w] in a box of an image; all its channels or one.

    Args:
        y: The output.
        box: In pixels of the image, see `in_features`.
        size: (H, W) of the image.
        channel: Counted from 0; None takes all.

    Raises:
        ValueError: the output is no feature map, the box doesn't fit (see `in_features`), or there is no such channel.
    """
    if y.dim() != 4:
        raise ValueError(f"the layer puts out shape {tuple(y.shape)}; expected a feature map (N, C, H, W)")
    if channel is not None and not 0 <= channel < y.shape[1]:
        raise ValueError(f"channel = {channel}: the layer has {y.shape[1]}, counted from 0")
    rows, columns = (in_features(box, *ends) for ends in zip(size, y.shape[2:], strict=True))
    chosen = slice(None) if channel is None else slice(channel, channel + 1)
    return y[:, chosen, rows, columns].clone()


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        known = ", ".join(child for child, _ in model.named_children())
        raise ValueError(f"layer {name!r}: the model has none of that name; its parts are {known}") from error


def _note(name: str, wanted: list[str], found: dict[str, Tensor], keep: Callable[[str, Tensor], Tensor]) -> Callable:
    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        if name in found:
            raise ValueError(f"layer {name!r}: a forward reaches it twice; name one that it reaches once")
        found[name] = keep(name, output)
        if len(found) == len(wanted):
            raise _Reached

    return hook
