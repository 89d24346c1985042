"""The fast path for torch.compile: conv(P(x)) as one operator that the compiler keeps whole.

Traced, the functional form becomes kernels that copy the input, as Listing 1 does. As the operator `ssconv::conv2d`
the same write, convolution and restoration run in a compiled graph as in eager mode; its gradient is an operator too.
An export gets neither: its file could not run without this library.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import native
from .inplace import (
    Geometry,
    Places,
    can_write,
    convolution_backward,
    functional_backward,
    memory_order,
    where,
    while_shuffled,
)

_GEOMETRY = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"
_SHUFFLE = "Tensor permutation, SymInt start, SymInt step"
torch.library.define(
    "ssconv::conv2d",
    f"(Tensor x, Tensor weight, Tensor? bias, {_SHUFFLE}, {_GEOMETRY}) -> Tensor",
)
torch.library.define(
    "ssconv::conv2d_backward",
    f"(Tensor grad, Tensor x, Tensor weight, bool has_bias, {_SHUFFLE}, {_GEOMETRY}, bool[3] needed)"
    " -> (Tensor, Tensor, Tensor)",
)


def compiled_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    permutation: Tensor,
    chosen: slice,
    geometry: Geometry,
) -> Tensor | None:
    """Return conv(P(x)) as one operator of the graph, or None where a traced copy is the better way.

    The compiler turns the convolutions that it knows to channels_last: on the CPU always, and for it our operator too
    (`teach_compiler`); on a GPU when it thinks fit. So there, and where it can't be taught, an input in NCHW takes the
    functional form, with a convolution that the compiler sees.
    """
    taught = x.is_cpu and teach_compiler()
    if not is_dense(x) or (x.is_contiguous() and not taught):
        return None
    return torch.ops.ssconv.conv2d(x, weight, bias, permutation, chosen.start, chosen.step, *geometry)


def teach_compiler() -> bool:
    """Have the compiler give our operators feature maps in channels_last on the CPU; False where that can't be done.

    What does it is no public part of torch. The compiler keeps its code on disk, by the graph and its operators: a
    change of what is done here needs another name or signature of theirs.
    """
    return _taught()


# what torch.compiler.assume_constant_result sets; that imports the compiler, and so would a first `import ssconv_lib`
teach_compiler._dynamo_marked_constant = True


@functools.cache
def _taught() -> bool:
    operators = torch.ops.ssconv
    try:
        from torch._inductor import lowering  # slow to import, and there whenever it is of use

        for operator, maps in ((operators.conv2d.default, 2), (operators.conv2d_backward.default, 3)):
            lowering.make_fallback(operator, functools.partial(_turn, maps), warn=False)
    except (ImportError, AttributeError, TypeError):
        return False
    return True


def _turn(maps: int, node: torch.fx.Node, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """Ask for the first `maps` arguments in channels_last on the CPU; on a GPU for all as they were traced."""
    from torch._inductor import ir, lowering

    if arguments[0].get_device().type != "cpu":
        return lowering.constrain_to_fx_strides(node, *arguments, **options)
    turned = [ir.ExternKernel.require_channels_last(one) for one in arguments[:maps]]
    return (*turned, *arguments[maps:]), options


def is_dense(x: Tensor) -> bool:
    """Tell whether x is contiguous in one of the two memory formats of images, so that no two elements share memory."""
    return x.dim() == 4 and (x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last))


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *shuffle_and_geometry: Any) -> Tensor:
    *shuffle, stride, padding, dilation, groups = shuffle_and_geometry
    geometry = stride, padding, dilation, groups
    x, found = _find(x, (weight, bias), *shuffle)
    return while_shuffled(found, lambda: torch.conv2d(x, weight, bias, *geometry))


def _conv2d_backward(
    grad: Tensor, x: Tensor, weight: Tensor, has_bias: bool, *shuffle_and_geometry: Any
) -> tuple[Tensor, ...]:
    *shuffle, stride, padding, dilation, groups, needed = shuffle_and_geometry
    x, found = _find(x, (weight, grad), *shuffle)
    geometry = stride, padding, dilation, groups
    dx, *rest = while_shuffled(found, lambda: convolution_backward(grad, x, weight, has_bias, geometry, needed))
    if needed[0]:
        like = dx
        dx, found = _find(dx, (weight, grad), *shuffle)
        found.unshuffle_()
        dx = dx if dx is like else torch.empty_like(like).copy_(dx)
    return _filled(grad, (dx, *rest), needed)


# on the CPU the compiled form, where it was built, brings its own
_DEVICES = ("cpu", "cuda") if native.load() is None else "cuda"
torch.library.impl("ssconv::conv2d", _DEVICES, _conv2d)
torch.library.impl("ssconv::conv2d_backward", _DEVICES, _conv2d_backward)


def _find(
    x: Tensor, others: Sequence[Tensor | None], permutation: Tensor, start: int, step: int
) -> tuple[Tensor, Places]:
    """Return x as it can be written while the others are read, a copy if need be, and the values that move in it."""
    if not is_dense(x) or not can_write(x, *others):
        channels_last = x.is_contiguous(memory_format=torch.channels_last)
        x = x.clone(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    contiguous, size = x.is_contiguous(), x.shape[-2:]
    order = permutation if contiguous else memory_order(permutation, size)
    places = where(x.shape, _chosen(x, permutation, start, step), contiguous)
    return x, Places(x, *places, order.expand(len(x), -1))


def _chosen(x: Tensor, permutation: Tensor, start: int, step: int) -> slice:
    s = permutation.shape[0] // x.shape[-2:].numel()
    return slice(start, start + (s - 1) * step + 1, step)


def _filled(grad: Tensor, grads: Sequence[Tensor | None], needed: Sequence[bool]) -> tuple[Tensor, ...]:
    """Put an empty tensor where a gradient isn't needed, since an operator returns tensors."""
    return tuple(one if need else grad.new_empty(0) for one, need in zip(grads, needed, strict=True))


@torch.library.register_fake("ssconv::conv2d")
def _fake_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *shuffle_and_geometry: Any) -> Tensor:
    return torch.conv2d(x, weight, bias, *shuffle_and_geometry[3:])


@torch.library.register_fake("ssconv::conv2d_backward")
def _fake_conv2d_backward(
    grad: Tensor, x: Tensor, weight: Tensor, has_bias: bool, *shuffle_and_geometry: Any
) -> tuple[Tensor, ...]:
    *geometry, needed = shuffle_and_geometry[3:]
    return _filled(grad, convolution_backward(grad, x, weight, has_bias, tuple(geometry), needed), needed)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, permutation, *ctx.rest = inputs
    ctx.save_for_backward(x, weight, permutation)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, permutation = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:3])
    if torch.is_grad_enabled():  # to be differentiated again: in the functional form
        start, step, *geometry = ctx.rest
        chosen = _chosen(x, permutation, start, step)
        rest = ctx.has_bias, tuple(geometry), needed
        return (*functional_backward(grad, x, weight, permutation, chosen, *rest), *[None] * 7)
    grads = torch.ops.ssconv.conv2d_backward(grad, x, weight, ctx.has_bias, permutation, *ctx.rest, needed)
    return (*(one if need else None for one, need in zip(grads, needed, strict=True)), *[None] * 7)


torch.library.register_autograd("ssconv::conv2d", _backward, setup_context=_save)
