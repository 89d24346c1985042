"""Eq. 5 and its controls: what is done to P of the ss convolutions of a trained network, and undone again.

P itself stays, and so does its fast path. A hook in front of each layer hands it another input x', such that P(x') is
what is wanted; as x' is new, the other readers of x see nothing of it. Listing 1's order of the unshuffled channels,
for which the weights were trained, stays too.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .controls import FORMS, controlled
from .conv import SSConv2d
from .data import Batches
from .fieldstep import held
from .loader import FolderBatches
from .seeds import mixed_seed, stream
from .shuffle import spatial_shuffle

TREATMENTS = ("intact", "zeroed", "others_zeroed", "unshuffled", "mean", "other_pi", "fresh")
TREATMENT_TEXT = {  # as readers know them
    "intact": "intact",
    "zeroed": "zeroed (Eq. 5)",
    "others_zeroed": "as many others zeroed",
    "unshuffled": "un-shuffled",
    "mean": "channel mean",
    "other_pi": "another π",
    "fresh": "fresh π each forward",
}
DRAWN = ("others_zeroed", "other_pi")  # that a draw decides
RE_ESTIMATED = ("intact", "zeroed", "others_zeroed", "unshuffled")  # also with new batch norm statistics
ALL, NONE = "all", "none"  # every block at once, and no block, where a block's name stands
KEPT, NEW = "kept", "re-estimated"  # batch norm statistics

Read = Batches | FolderBatches | Sequence[tuple[Tensor, Tensor]]  # images and labels that can be read many times
Condition = dict[str, str | int]
Change = Callable[[Tensor, int], Tensor]  # of a batch, Tensor[N, C, H, W], and its first image's number


def blocks(model: nn.Module, images: Tensor | None = None) -> dict[str, list[str]]:
    """Return the blocks of a network, each with the qualified names of its ss convolutions that shuffle a channel.

    A block is what a stage repeats: a residual block (the paper's conv4_4 is layer3.3), a dense layer, a layer of the
    toy networks. By the names: up to the first component that is a number, as stage1.0 of stage1.0.conv2 and layers.0
    of layers.0.unit.conv; where no component is one, the module that holds the convolution, as
    features.denseblock1.denselayer2; the convolution itself if that is the whole network.

    Args:
        model: Any network.
        images: Tensor[N, C, H, W]; if given, the order is that of a forward, else that in which modules are defined.
            Of this book's networks, these differ in those with an attention branch alone.
    """
    modules = {name: module for name, module in model.named_modules() if _is_active(module)}
    names = [*modules] if images is None else _reached(model, modules, images)
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_block_of(name), []).append(name)
    return found


@contextmanager
def treated(model: nn.Module, layers: Iterable[str], how: str, draw: int = 0) -> Iterator[None]:
    """Do something to P of some ss convolutions as long as the context lasts.

    - "intact": nothing.
    - "zeroed": P(x) is 0 in the shuffled channels (Eq. 5), those that the layer's layout really shuffles.
    - "others_zeroed": instead, as many unshuffled channels are 0, drawn at random for each layer.
    - "unshuffled": P(x) = x.
    - "mean": each shuffled channel of P(x) is the mean over positions of the same channel of x.
    - "other_pi": another π, drawn over all values of the shuffled channels, for each layer.
    - "fresh": the same with a new π at each forward.

    Args:
        model: In any mode, on any device.
        layers: Qualified names of ss convolutions.
        how: One of `TREATMENTS`.
        draw: Number of the draw, where something is drawn.

    Raises:
        ValueError: no such treatment; a layer that is not there or shuffles nothing, whose P is a control that is no
            permutation, or that has fewer unshuffled than shuffled channels, for "others_zeroed".
    """
    if how not in TREATMENTS:
        raise ValueError(f"how={how!r}: expected one of {', '.join(map(repr, TREATMENTS))}")
    names = {_layer(model, name): name for name in layers}  # a layer of two names is treated once
    changes = {} if how == "intact" else {layer: _change(layer, name, how, draw) for layer, name in names.items()}
    handles = []
    try:
        for layer, change in changes.items():
            handles.append(layer.register_forward_pre_hook(lambda _, inputs, change=change: change(inputs[0])))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def re_estimated(model: nn.Module, batches: Read) -> Iterator[None]:
    """Give batch norm the statistics of some images as long as the context lasts, then the old buffers again.

    They are the mean over the batches, each weighed alike, and nothing but batch norm is in training mode meanwhile.

    Raises:
        ValueError: there are no batches.
    """
    norms = [one for one in model.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]
    before = [(norm, dict(norm._buffers), norm.momentum) for norm in norms]
    try:
        for norm, buffers, _ in before:
            norm._buffers.update({name: buffer.clone() for name, buffer in buffers.items()})
            norm.reset_running_stats()
            norm.momentum = None  # of a plain average
        with held(model), torch.no_grad():
            for norm in norms:
                norm.training = True
            for images, _ in _read(batches):
                _logits(model, images)
        yield
    finally:
        for norm, buffers, momentum in before:
            norm._buffers.update(buffers)
            norm.momentum = momentum


@torch.no_grad()
def ask(model: nn.Module, batches: Read, change: Change | None = None) -> tuple[Tensor, Tensor]:
    """Ask a network about images, in fp32 and evaluation mode.

    Args:
        model: Left as it was.
        batches: Read once, on the network's device.
        change: What is done to each batch before.

    Returns:
        The first answers, int64 Tensor[N], and which of them are wrong, bool Tensor[N], on the CPU, in the order of the
        batches.

    Raises:
        ValueError: there are no batches.
    """
    answers, wrong, first = [], [], 0
    with held(model):
        for images, labels in _read(batches):
            answer = _logits(model, images if change is None else change(images, first)).argmax(1)
            answers.append(answer.cpu())
            wrong.append((answer != labels).cpu())
            first += len(labels)
    return torch.cat(answers), torch.cat(wrong)


def ablate(
    model: nn.Module, batches: Read, train_batches: Read | None = None, *, draws: int = 3, seed: int = 0
) -> Iterator[tuple[Condition, Tensor]]:
    """Treat block after block of a trained network (Fig. 5 b) in every way; no context is open when it yields.

    Args:
        model: Left as it was, also if the iterator is left before its end.
        batches: The test images, read once for each condition.
        train_batches: What batch norm statistics are estimated on anew; None leaves these conditions out.
        draws: How often what is drawn is drawn.
        seed: Of what is drawn; with another one, all draws are others.

    Yields:
        The condition, and which answers are wrong, as `ask` has it. A condition is {block, treatment, draw, bn}: a name
        of `blocks`, or "all", or "none" of the intact network, which comes first; one of `TREATMENTS`; the number of
        the draw, 0 where none decides; "kept" or "re-estimated", the latter for `RE_ESTIMATED`.

    Raises:
        ValueError: a treatment is impossible, see `treated`, or the network has no ss convolution that shuffles.
    """
    if draws < 1:
        raise ValueError(f"draws={draws}: expected at least 1")
    found = blocks(model, next(iter(_read(batches)))[0][:1])
    if not found:
        raise ValueError("no channel of the network is shuffled, so there is nothing to ablate: expected alpha > 0")
    every = [name for layers in found.values() for name in layers]
    for how in TREATMENTS:
        with treated(model, every, how):
            pass  # what is impossible shall fail now, and not after an hour
    plan = [(NONE, [], "intact"), *((b, names, how) for (b, names), how in product(found.items(), TREATMENTS[1:]))]
    if len(found) > 1:
        plan += [(ALL, every, how) for how in TREATMENTS[1:]]
    for block, layers, how in plan:
        statistics = [KEPT] if train_batches is None or how not in RE_ESTIMATED else [KEPT, NEW]
        for draw, bn in product(range(draws if how in DRAWN else 1), statistics):
            number = mixed_seed(seed, "draw", draw) if seed else draw  # of seed 0 as the first records have it
            estimated = nullcontext() if bn == KEPT else re_estimated(model, train_batches)
            with treated(model, layers, how, number), estimated:
                _, wrong = ask(model, batches)
            yield {"block": block, "treatment": how, "draw": draw, "bn": bn}, wrong


def _change(layer: SSConv2d, name: str, how: str, draw: int) -> Callable[[Tensor], Tensor]:
    """Return what makes x' of x, Tensor[..., C, H, W]."""
    chosen, device = layer.shuffled, layer.permutation.device
    if how in ("zeroed", "others_zeroed"):
        channels = _channels(layer) if how == "zeroed" else _others(layer, name, draw)
        channels = channels.to(device)
        return lambda x: x.index_fill(-3, channels, 0)
    inverse = layer.permutation.argsort()
    if how == "unshuffled":
        return lambda x: spatial_shuffle(x, inverse, chosen)
    if how == "mean":
        return lambda x: spatial_shuffle(controlled("mean", x, chosen, inverse), inverse, chosen)
    generator = stream(draw, how, name)

    def other() -> Tensor:
        return torch.randperm(len(inverse), generator=generator).to(device)[inverse]  # P⁻¹ P' is one shuffle too

    if how == "other_pi":
        fixed = other()
        return lambda x: spatial_shuffle(x, fixed, chosen)
    return lambda x: spatial_shuffle(x, other(), chosen)


def _others(layer: SSConv2d, name: str, draw: int) -> Tensor:
    """Draw as many of the unshuffled channels as are shuffled."""
    is_shuffled = torch.zeros(layer.in_channels, dtype=torch.bool)
    is_shuffled[_channels(layer)] = True
    others = (~is_shuffled).nonzero().flatten()
    if len(others) < layer.num_shuffled:
        raise ValueError(
            f"{name}: {layer.num_shuffled} of {layer.in_channels} channels are shuffled, so there are not as many"
            " others to be zeroed; others_zeroed needs alpha up to 1/2"
        )
    return others[torch.randperm(len(others), generator=stream(draw, "others", name))[: layer.num_shuffled]]


def _channels(layer: SSConv2d) -> Tensor:
    return torch.arange(layer.in_channels)[layer.shuffled]


def _layer(model: nn.Module, name: str) -> SSConv2d:
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        layer = None
    if not _is_active(layer):
        raise ValueError(f"layer {name!r}: expected the name of an ss convolution that shuffles; see ablation.blocks")
    if layer.control in FORMS:
        raise ValueError(
            f"layer {name!r} has the control {layer.control!r}, which is no permutation that could be replaced; ablate"
            " networks with control='none', or one that is a permutation"
        )
    return layer


def _is_active(module: nn.Module | None) -> bool:
    return isinstance(module, SSConv2d) and module.num_shuffled > 0


def _block_of(name: str) -> str:
    parts = name.split(".")
    place = next((number for number, part in enumerate(parts) if part.isdigit()), len(parts) - 2)
    return ".".join(parts[: place + 1]) or name


@torch.no_grad()
def _reached(model: nn.Module, modules: dict[str, nn.Module], images: Tensor) -> list[str]:
    """The names in the order in which a forward reaches them first."""
    order: dict[str, None] = {}
    handles = [
        one.register_forward_pre_hook(lambda *_, name=name: order.setdefault(name)) for name, one in modules.items()
    ]
    try:
        with held(model):
            _logits(model, images)
    finally:
        for handle in handles:
            handle.remove()
    return [*order]


def _read(batches: Read) -> Iterator[tuple[Tensor, Tensor]]:
    empty = True
    for batch in batches.epoch(0) if isinstance(batches, Batches | FolderBatches) else batches:
        empty = False
        yield batch
    if empty:
        raise ValueError(
            "there are no images: expected batches that can be read many times, such as a list, not an iterator"
        )


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    """Answer in fp32 whatever is around; a network with an attention branch has other logits beside, in training."""
    with torch.autocast(images.device.type, enabled=False):
        return model(images)
