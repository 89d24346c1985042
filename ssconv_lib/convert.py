"""Turn the convolutions of a model into ss convolutions, as Sec. 4.1 of the paper does.

"We replace all regular convolutions with ss convolutions except for downsampling layers" leaves open which layers
those are; `READINGS` names the ways to read it.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from .controls import check_control
from .conv import SSConv2d
from .seeds import mixed_seed
from .shuffle import channel_slice, check_alpha, resolve_layout

Chooser = Callable[[str, nn.Conv2d], bool]


def _is_gate(name: str) -> bool:
    """Tell a squeeze-and-excitation gate by a component `se`: on its 1x1 map a shuffle would permute channels."""
    return "se" in name.split(".")


def _joins_stages(name: str) -> bool:
    return any(part.startswith(("downsample", "shortcut", "transition")) for part in name.split("."))


# which convolutions other than the stem are replaced, and whether the stem (the first one reached) may be
READINGS: dict[str, tuple[Chooser, bool]] = {
    "paper": (
        lambda name, conv: max(conv.stride) == 1 and not _joins_stages(name) and not _is_gate(name),
        False,
    ),
    "stride": (lambda name, conv: max(conv.stride) == 1 and not _is_gate(name), True),
    "all": (lambda name, conv: not _is_gate(name), True),
}


def convert_to_ssconv(
    model: nn.Module,
    alpha: float,
    *,
    input_size: tuple[int, int, int],
    layout: str = "auto",
    seed: int = 0,
    replace: str | Chooser = "paper",
    fast: bool = True,
    control: str = "none",
) -> nn.Module:
    """Replace a model's convolutions by ss convolutions, in place, and return the model.

    The sizes that the permutations need come from one forward of zeros in eval mode, which leaves batch norm
    statistics, generators and training flags as they were. Parameters stay the same objects, so an optimizer made
    before keeps working. π's seed is a stable hash of (seed, qualified name): no two layers share a π, and another
    machine draws the same.

    Args:
        model: Any module that takes one Tensor[N, C, H, W]. Exactly `nn.Conv2d` is replaced, subclasses are not.
        alpha: α in [0, 1], one for all layers as in the paper.
        input_size: (C, H, W) of the images that the model will see.
        layout: See `SSConv2d`.
        seed: Of all permutations together.
        replace: "paper" leaves plain the first convolution reached, those with stride > 1, those whose name has a
            component that begins with downsample, shortcut or transition, and squeeze-and-excitation gates (a
            component `se`); "stride" leaves plain those with stride > 1 and gates; "all" just gates. Or a function
            of (qualified name, convolution) that says whether to replace.
        fast: Of the layers, see `SSConv2d`.
        control: Of the layers, see `SSConv2d`.

    Raises:
        ValueError: the model holds ss convolutions already; a convolution that would shuffle is used at two sizes
            or is the model itself; α, layout, input_size or replace is impossible. The model is then unchanged.

    Warns:
        UserWarning: some convolutions were not reached by the forward, and stay plain.
    """
    check_alpha(alpha)
    resolve_layout(layout)
    check_control(control)
    wanted = _chooser(replace)
    if any(isinstance(module, SSConv2d) for module in model.modules()):
        raise ValueError("the model holds ss convolutions already; convert the plain model, and only once")
    names = _names_of_convolutions(model)
    sizes = _sizes_in_a_forward(model, list(names), input_size)
    if unreached := [own[0] for conv, own in names.items() if type(conv) is nn.Conv2d and conv not in sizes]:
        warnings.warn(f"not reached by a forward, so left plain: {', '.join(unreached)}", stacklevel=2)
    first = next(iter(sizes), None)  # of any kind: a stem of a subclass is the stem all the same
    options = {"alpha": alpha, "layout": layout, "fast": fast, "control": control}
    layers = {
        conv: _replacement(conv, names[conv], sizes[conv], seed, options)
        for conv in sizes
        if type(conv) is nn.Conv2d and all(wanted(name, conv, conv is first) for name in names[conv])
    }
    if model in layers:
        raise ValueError("the model is itself a convolution and can't be replaced in place: use SSConv2d.from_conv")
    for conv, layer in layers.items():
        for name in names[conv]:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer)
    return model


def shuffle_summary(model: nn.Module) -> dict[str, int]:
    """Count what is shuffled in a model.

    Returns:
        `convs` (all convolutions but gates), `converted` (ss convolutions), `active` (those that shuffle at least
        one channel), `channels` (Σ of shuffled channels) and `positions` (Σ m, the values moved an image).
    """
    convs = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and not _is_gate(name)]
    converted = [conv for conv in convs if isinstance(conv, SSConv2d)]
    return {
        "convs": len(convs),
        "converted": len(converted),
        "active": sum(conv.num_shuffled > 0 for conv in converted),
        "channels": sum(conv.num_shuffled for conv in converted),
        "positions": sum(conv.permutation.numel() for conv in converted),
    }


def _chooser(replace: str | Chooser) -> Callable[[str, nn.Conv2d, bool], bool]:
    if callable(replace):
        return lambda name, conv, is_first: replace(name, conv)
    if not isinstance(replace, str) or replace not in READINGS:
        raise ValueError(f"replace={replace!r}: expected one of {', '.join(map(repr, READINGS))}, or a function")
    choose, with_stem = READINGS[replace]
    return lambda name, conv, is_first: (with_stem or not is_first) and choose(name, conv)


def _names_of_convolutions(model: nn.Module) -> dict[nn.Conv2d, list[str]]:
    """All qualified names of each convolution, subclasses included: a shared module has several."""
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d):
            names[module].append(name)
    return names


def _sizes_in_a_forward(
    model: nn.Module, convs: list[nn.Conv2d], input_size: tuple[int, int, int]
) -> dict[nn.Conv2d, list[tuple[int, int]]]:
    """The input sizes that each convolution meets, in the order in which a forward reaches them."""
    three = isinstance(input_size, tuple | list) and len(input_size) == 3
    if not three or not all(isinstance(n, Integral) and n >= 1 for n in input_size):
        raise ValueError(f"input_size={input_size!r}: expected (channels, height, width) of one image")
    sizes: dict[nn.Conv2d, list[tuple[int, int]]] = defaultdict(list)

    def note(conv: nn.Conv2d, args: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        size = tuple((args[0] if args else named["input"]).shape[-2:])
        if size not in sizes[conv]:
            sizes[conv].append(size)

    like = next(model.parameters(), torch.empty(0))
    handles = [conv.register_forward_pre_hook(note, with_kwargs=True) for conv in convs]
    try:
        with _undisturbed(model):
            model(torch.zeros(1, *input_size, device=like.device, dtype=like.dtype))
    except Exception as error:
        raise ValueError(
            f"input_size={tuple(input_size)}: the model can't take one such image ({type(error).__name__}: {error});"
            " give the size that it is made for"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return sizes


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; training flags and generators are put back, also after an error."""
    training = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            yield model.eval()
    finally:
        for module, flag in training.items():
            module.training = flag


def _replacement(
    conv: nn.Conv2d, names: list[str], sizes: list[tuple[int, int]], seed: int, options: dict[str, Any]
) -> SSConv2d:
    chosen = channel_slice(conv.in_channels, options["alpha"], resolve_layout(options["layout"], conv.groups))
    if len(sizes) > 1 and range(conv.in_channels)[chosen]:
        raise ValueError(
            f"the convolution {names[0]!r} is used at two sizes, {sizes[0]} and {sizes[1]}, but a permutation is for"
            " one; exclude it by replace=, or give the model a convolution for each"
        )
    own_seed = mixed_seed(seed, names[0])
    return SSConv2d.from_conv(conv, spatial_size=sizes[0], seed=own_seed, name=names[0], **options)
