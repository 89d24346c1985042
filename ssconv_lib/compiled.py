"""The fast path for torch.compile: conv(P(x)) as one operator that the compiler keeps whole.

Traced, the functional form becomes kernels that copy the input, as Listing 1 does. As the operator `ssconv::conv2d`
the same write, convolution and restoration run in a compiled graph as in eager mode; its gradient is an operator too.
An export gets neither: its file could not run without this library.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import native
from .inplace import Geometry, Places, can_write, convolution_backward, memory_order, where, while_shuffled

_GEOMETRY = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"
_SHUFFLE = "Tensor order, bool channels_last, SymInt start, SymInt step"  # π in the order of x's memory
torch.library.define(
    "ssconv::conv2d",
    f"(Tensor x, Tensor weight, Tensor? bias, {_SHUFFLE}, {_GEOMETRY}) -> Tensor",
    tags=(torch.Tag.needs_fixed_stride_order,),
)
torch.library.define(
    "ssconv::conv2d_backward",
    f"(Tensor grad, Tensor x, Tensor weight, bool has_bias, {_SHUFFLE}, {_GEOMETRY}, bool[3] needed)"
    " -> (Tensor, Tensor, Tensor)",
    tags=(torch.Tag.needs_fixed_stride_order,),
)


def compiled_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    permutation: Tensor,
    chosen: slice,
    geometry: Geometry,
) -> Tensor | None:
    """Return conv(P(x)) as one operator of the graph; None unless x, Tensor[N, C, H, W], is channels_last.

    The compiler turns a convolution of another layout to channels_last by itself, but not an operator that it doesn't
    know; there the functional form, with a convolution that it sees, was measured to be the faster one.
    """
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    order = memory_order(permutation, x.shape[-2:])  # m values, whatever N is
    return torch.ops.ssconv.conv2d(x, weight, bias, order, True, chosen.start, chosen.step, *geometry)


def is_dense(x: Tensor) -> bool:
    """Tell whether x is contiguous in one of the two memory formats, so that no two elements share memory."""
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *shuffle_and_geometry: Any) -> Tensor:
    order, channels_last, start, step, *geometry = shuffle_and_geometry
    x, found = _find(x, weight, order, channels_last, start, step)
    return while_shuffled(found, lambda: torch.conv2d(x, weight, bias, *geometry))


# on the CPU the compiled form, where it was built, brings its own
torch.library.impl("ssconv::conv2d", ("cpu", "cuda") if native.load() is None else "cuda", _conv2d)


@torch.library.impl("ssconv::conv2d_backward", ("cpu", "cuda"))
def _conv2d_backward(
    grad: Tensor, x: Tensor, weight: Tensor, has_bias: bool, *shuffle_and_geometry: Any
) -> tuple[Tensor, ...]:
    *shuffle, stride, padding, dilation, groups, needed = shuffle_and_geometry
    x, found = _find(x, weight, *shuffle)
    geometry = stride, padding, dilation, groups
    dx, *rest = while_shuffled(found, lambda: convolution_backward(grad, x, weight, has_bias, geometry, needed))
    if needed[0]:
        like = dx
        dx, found = _find(dx, weight, *shuffle)
        found.unshuffle_()
        dx = dx if dx is like else torch.empty_like(like).copy_(dx)
    return _filled(grad, (dx, *rest), needed)


def _find(
    x: Tensor, weight: Tensor, order: Tensor, channels_last: bool, start: int, step: int
) -> tuple[Tensor, Places]:
    """Return x as it can be written, a copy if need be, and the values that move in it."""
    if channels_last == x.is_contiguous() or not is_dense(x) or not can_write(x, weight):
        x = x.clone(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    s = order.shape[0] // (x.shape[2] * x.shape[3])
    size, stride, offset = where(x.shape, slice(start, start + (s - 1) * step + 1, step), not channels_last)
    return x, Places(x, size, stride, offset, order.expand(len(x), -1))


def _filled(grad: Tensor, grads: Sequence[Tensor | None], needed: Sequence[bool]) -> tuple[Tensor, ...]:
    """Put an empty tensor where a gradient isn't needed, since an operator returns tensors."""
    return tuple(one if need else grad.new_empty(0) for one, need in zip(grads, needed, strict=True))


@torch.library.register_fake("ssconv::conv2d")
def _fake_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *shuffle_and_geometry: Any) -> Tensor:
    return torch.conv2d(x, weight, bias, *shuffle_and_geometry[4:])


@torch.library.register_fake("ssconv::conv2d_backward")
def _fake_conv2d_backward(
    grad: Tensor, x: Tensor, weight: Tensor, has_bias: bool, *shuffle_and_geometry: Any
) -> tuple[Tensor, ...]:
    *geometry, needed = shuffle_and_geometry[4:]
    return _filled(grad, convolution_backward(grad, x, weight, has_bias, tuple(geometry), needed), needed)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, bias, order, *ctx.rest = inputs
    ctx.save_for_backward(x, weight, order)
    ctx.has_bias = bias is not None


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, order = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:3])
    grads = torch.ops.ssconv.conv2d_backward(grad, x, weight, ctx.has_bias, order, *ctx.rest, needed)
    return (*(one if need else None for one, need in zip(grads, needed, strict=True)), *[None] * 8)


torch.library.register_autograd("ssconv::conv2d", _backward, setup_context=_save)
