"""Turn the convolutions of a model into ss convolutions, as Sec. 4.1 of the paper does.

"We replace all regular convolutions with ss convolutions except for downsampling layers" leaves open which layers
those are; `READINGS` names the ways to read it.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .controls import check_control
from .conv import SSConv2d
from .seeds import mixed_seed
from .shuffle import channel_slice, check_alpha, resolve_layout

Chooser = Callable[[str, nn.Conv2d], bool]
Sizes = dict[nn.Conv2d, list[tuple[int, int]]]  # in the order in which a forward reaches the convolutions


def _joins_stages(name: str) -> bool:
    return any(part.startswith(("downsample", "shortcut", "transition")) for part in name.split("."))


# which convolutions other than gates and the stem are replaced, and whether the stem (the first one reached) may be
READINGS: dict[str, tuple[Chooser, bool]] = {
    "paper": (lambda name, conv: max(conv.stride) == 1 and not _joins_stages(name), False),
    "stride": (lambda name, conv: max(conv.stride) == 1, True),
    "all": (lambda name, conv: True, True),
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
    statistics, generators and training flags as they were (lazy layers draw their weights in it, as in any forward).
    Parameters and hooks stay the same objects, so an optimizer made before keeps working, and a hook's handle. π's
    seed is a stable hash of (seed, qualified name): no two layers share a π, and another machine draws the same.

    Args:
        model: Any module that takes one Tensor[N, C, H, W]. Exactly `nn.Conv2d` is replaced, subclasses are not, nor
            what a parametrization (`weight_norm`) made of one: convert first, then parametrize.
        alpha: α in [0, 1], one for all layers as in the paper.
        input_size: (C, H, W) of the images that the model will see.
        layout: See `SSConv2d`.
        seed: Of all permutations together.
        replace: "paper" leaves plain the first convolution reached, those with stride > 1, those whose name has a
            component that begins with downsample, shortcut or transition, and squeeze-and-excitation gates;
            "stride" leaves plain those with stride > 1 and gates; "all" just gates. A gate has a component `se` in
            its name, is in a `SqueezeExcitation`, or meets maps of one position with larger ones behind it: there a
            shuffle would move channels only. Or a function of (qualified name, convolution) that says whether to
            replace.
        fast: Of the layers, see `SSConv2d`.
        control: Of the layers, see `SSConv2d`.

    Raises:
        ValueError: the model holds ss convolutions already; a convolution that would shuffle is used at two sizes
            or is the model itself; α, layout, input_size or replace is impossible. The model is then unchanged.

    Warns:
        UserWarning: some convolutions were not reached by the forward, or are of a subclass, and stay as they are;
            α is above 0, and no channel is shuffled.
    """
    check_alpha(alpha)
    resolve_layout(layout)
    check_control(control)
    choose = _chooser(replace)
    if any(isinstance(module, SSConv2d) for module in model.modules()):
        raise ValueError("the model holds ss convolutions already; convert the plain model, and only once")
    names = _names_of_convolutions(model)
    sizes = _sizes_in_a_forward(model, list(names), input_size)
    if unreached := [own[0] for conv, own in names.items() if type(conv) is nn.Conv2d and conv not in sizes]:
        warnings.warn(f"not reached by a forward, so left plain: {', '.join(unreached)}", stacklevel=2)
    first = next(iter(sizes), None)  # of any kind: a stem of a subclass is the stem all the same
    gates = _gates(model, names, sizes)
    wanted = [conv for conv in sizes if all(choose(name, conv, conv is first, conv in gates) for name in names[conv])]
    options = {"alpha": alpha, "layout": layout, "fast": fast, "control": control}
    layers = {
        conv: _replacement(conv, names[conv], sizes[conv], seed, options) for conv in wanted if type(conv) is nn.Conv2d
    }
    if model in layers:
        raise ValueError("the model is itself a convolution and can't be replaced in place: use SSConv2d.from_conv")
    if others := [conv for conv in wanted if conv not in layers]:
        warnings.warn(f"subclasses of nn.Conv2d, so left as they are: {_by_class(others, names)}", stacklevel=2)
    if alpha and not any(layer.num_shuffled for layer in layers.values()):
        warnings.warn(f"alpha={alpha}: no channel is shuffled in the {len(layers)} layers replaced", stacklevel=2)
    for conv, layer in layers.items():
        _hand_over_hooks(conv, layer)
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
    convs = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and not _is_gate(model, name)]
    converted = [conv for conv in convs if isinstance(conv, SSConv2d)]
    return {
        "convs": len(convs),
        "converted": len(converted),
        "active": sum(conv.num_shuffled > 0 for conv in converted),
        "channels": sum(conv.num_shuffled for conv in converted),
        "positions": sum(conv.permutation.numel() for conv in converted),
    }


def _chooser(replace: str | Chooser) -> Callable[[str, nn.Conv2d, bool, bool], bool]:
    if callable(replace):
        return lambda name, conv, is_first, is_gate: replace(name, conv)
    if not isinstance(replace, str) or replace not in READINGS:
        raise ValueError(f"replace={replace!r}: expected one of {', '.join(map(repr, READINGS))}, or a function")
    choose, with_stem = READINGS[replace]
    return lambda name, conv, is_first, is_gate: (with_stem or not is_first) and not is_gate and choose(name, conv)


def _is_gate(model: nn.Module, name: str) -> bool:
    """Tell a squeeze-and-excitation gate by a component `se`, or by the class that it belongs to."""
    parent = model.get_submodule(name.rpartition(".")[0])
    return "se" in name.split(".") or type(parent).__name__ == "SqueezeExcitation"


def _gates(model: nn.Module, names: dict[nn.Conv2d, list[str]], sizes: Sizes) -> set[nn.Conv2d]:
    """The gates, also by their maps: of one position, where a shuffle would permute channels, and larger ones behind.

    The last maps of a network may be as small, and are no gates; but a gate there is named as those before it.
    """

    def kind(conv: nn.Conv2d) -> tuple[type, str]:
        parent, _, child = names[conv][0].rpartition(".")
        return type(model.get_submodule(parent)), child

    found, larger = {conv for conv in sizes if any(_is_gate(model, name) for name in names[conv])}, False
    single = [conv for conv in sizes if sizes[conv] == [(1, 1)]]
    for conv in reversed(sizes):
        if conv in single and larger:
            found.add(conv)
        larger = larger or (conv not in single and max(conv.stride) == 1)  # a stride: a stage's shortcut, beside it
    kinds = {kind(conv) for conv in found}
    return found | {conv for conv in single if kind(conv) in kinds}


def _by_class(convs: list[nn.Conv2d], names: dict[nn.Conv2d, list[str]]) -> str:
    """The names of some convolutions for a message, three of each class."""
    kinds = defaultdict(list)
    for conv in convs:
        kinds[type(conv).__name__].append(names[conv][0])
    shown = {kind: ", ".join(own[:3]) + f" and {len(own) - 3} more" * (len(own) > 3) for kind, own in kinds.items()}
    return "; ".join(f"{own} ({kind})" for kind, own in shown.items())


def _names_of_convolutions(model: nn.Module) -> dict[nn.Conv2d, list[str]]:
    """All qualified names of each convolution, subclasses included: a shared module has several."""
    names = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d):
            names[module].append(name)
    return names


def _sizes_in_a_forward(model: nn.Module, convs: list[nn.Conv2d], input_size: tuple[int, int, int]) -> Sizes:
    """The input sizes that each convolution meets, in the order in which a forward reaches them."""
    three = isinstance(input_size, tuple | list) and len(input_size) == 3
    if not three or not all(isinstance(n, Integral) and n >= 1 for n in input_size):
        raise ValueError(f"input_size={input_size!r}: expected (channels, height, width) of one image")
    sizes: Sizes = defaultdict(list)

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
    """Eval mode without gradients; training flags and generators are put back, also after an error.

    But not the generators where the forward draws the weights of lazy layers, or the next model would draw the same.
    """
    training = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    lazy = any(is_lazy(p) for p in model.parameters())
    try:
        with torch.no_grad(), nullcontext() if lazy else torch.random.fork_rng(devices=list(devices)):
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


def _hand_over_hooks(conv: nn.Conv2d, layer: SSConv2d) -> None:
    """Give the layer the very dicts of hooks that the convolution had: handles taken before remove from these."""
    for name, hooks in vars(conv).items():
        if name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
            hooks.update(vars(layer)[name])
            vars(layer)[name] = hooks
