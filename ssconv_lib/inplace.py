"""The fast path: shuffle a few channels inside the input, convolve, and put them back.

Listing 1 copies the whole input to change a small part of it. Here only the values that move are saved, written in
the order of π, and restored behind the convolution. Nobody may see that: the write goes through `Tensor.data`, whose
version counter is not the input's; the values are restored even when the convolution raises; and `can_write` tells
where it is safe. Elsewhere the layer takes the functional form, `shuffle.spatial_shuffle`, whose results are the same
bit for bit.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import FunctionCtx

from .shuffle import spatial_shuffle

Geometry = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]  # stride, padding, dilation, groups


class Moves:
    """π of a layer, and where in memory it takes effect; what is derived from it is kept.

    Behind a convolution Python itself is slow, since the caches hold other things: a call that checks an input costs
    microseconds, not nanoseconds. So what depends on the shape alone is looked up, not computed again.

    Args:
        permutation: π, LongTensor of shape (m,), over (c, h, w) of the chosen channels.
        chosen: The shuffled channels, from `channel_slice`.
        channels: C.
        size: (H, W).
    """

    def __init__(self, permutation: Tensor, chosen: slice, channels: int, size: tuple[int, int]) -> None:
        self.permutation, self.chosen = permutation, chosen
        self.version = None if permutation.is_inference() else permutation._version
        self._channels, self._size = channels, size
        self._orders = {True: permutation}  # by whether x is contiguous; threads may both fill it, with the same
        self._known: dict[bool, tuple] = {}  # of the last shape

    @functools.cached_property
    def native(self) -> tuple:
        """The arguments of the compiled form, `native.conv2d`, that say what moves."""
        order = self._order(contiguous=False)
        start, step = self.chosen.start, self.chosen.step
        return self.permutation, self.version, order, self._channels, *self._size, start, step

    def find(self, x: Tensor) -> "Places | None":
        """Find the values that move in x, Tensor[N, C, H, W], strided.

        Returns:
            Where they are. None if x is of another size or contiguous in neither memory format, or if a CUDA graph is
            being captured and π is not known in the order of x's memory.
        """
        contiguous = x.is_contiguous()
        if not contiguous and not x.is_contiguous(memory_format=torch.channels_last):
            return None
        known = self._known.get(contiguous)
        if known is None or known[0] != x.shape:
            known = self._derive(x, contiguous)
            if known is None:
                return None
            self._known[contiguous] = known
        _, size, stride, start, rows = known
        return Places(x, size, stride, start, rows)

    def _derive(self, x: Tensor, contiguous: bool) -> tuple | None:
        if x.dim() != 4 or x.shape[1:] != (self._channels, *self._size):
            return None
        if contiguous not in self._orders and x.is_cuda and torch.cuda.is_current_stream_capturing():
            return None  # what is computed now has no values before the graph is replayed
        order = self._order(contiguous)
        with torch.inference_mode(False):
            return (x.shape, *where(x.shape, self.chosen, contiguous), order.expand(len(x), -1))

    def _order(self, contiguous: bool) -> Tensor:
        """π in the order of memory, computed once."""
        if contiguous not in self._orders:
            with torch.inference_mode(False), torch.no_grad():
                self._orders[contiguous] = memory_order(self.permutation, self._size)
            if self.permutation.is_cuda:
                torch.cuda.synchronize(self.permutation.device)  # the next call may come from another stream
        return self._orders[contiguous]


def where(shape: torch.Size, chosen: slice, contiguous: bool) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Return size, stride and offset of the chosen channels in a tensor of this shape, in either memory format."""
    n, channels, height, width = shape
    area, step, s = height * width, chosen.step, len(range(channels)[chosen])
    if not contiguous:
        return (n, area, s), (channels * area, channels, step), chosen.start
    if step == 1:
        return (n, s * area), (channels * area, 1), chosen.start * area
    return (n, s, area), (channels * area, step * area, 1), chosen.start * area


def memory_order(permutation: Tensor, size: tuple[int, int]) -> Tensor:
    """Return π, which counts in (c, h, w) order, for values in the order (h, w, c), that of channels_last."""
    area = size[0] * size[1]
    s = permutation.shape[0] // area
    return (permutation % area * s + permutation // area).view(s, area).t().reshape(-1)


def while_shuffled(places: "Places", do: Callable[[], Any]) -> Any:
    """Return what `do` returns while the values at `places` are in the order of π; then put them back, in any case."""
    saved = places.save()
    try:  # the write too: an interrupt may come while it goes on
        places.shuffle_(saved)
        return do()
    finally:
        places.restore_(saved)


class Places:
    """The values that move in a tensor x: a view, (N, m) or (N, s, HW), of channels_last (N, HW, s).

    Args:
        x: Tensor[N, C, H, W]. What is written to it here does not raise its version.
        size: Of the view, from `where`.
        stride: Its strides.
        start: Its offset in x.
        rows: π in the order of x's memory, once for each image: (N, m).
    """

    __slots__ = ("rows", "values")

    def __init__(self, x: Tensor, size: tuple[int, ...], stride: tuple[int, ...], start: int, rows: Tensor) -> None:
        data = x if x.is_inference() else x.data  # inference tensors have no version
        offset = (x.storage_offset() + start,) if start else ()
        self.values, self.rows = data.as_strided(size, stride, *offset), rows

    def save(self) -> Tensor:
        """Return what is there."""
        return self.values.clone(memory_format=torch.contiguous_format)

    def shuffle_(self, saved: Tensor) -> None:
        """Write what was saved in the order of π, out[k] = in[π[k]]."""
        values, rows = self.values, self.rows
        if values.dim() == 2:
            torch.gather(saved, 1, rows, out=values)
        else:
            values.copy_(saved.view(rows.shape).gather(1, rows).view(values.shape))

    def restore_(self, saved: Tensor) -> None:
        """Write back what was there."""
        self.values.copy_(saved)

    def unshuffle_(self) -> None:
        """Undo π, which is Pᵀ, the gradient of P: the value at k goes back to π[k]."""
        moved = self.values.clone(memory_format=torch.contiguous_format).view(self.rows.shape)
        self.values.copy_(torch.empty_like(moved).scatter_(1, self.rows, moved).view(self.values.shape))


def as_autocast(x: Tensor, *parameters: Tensor | None) -> list[Tensor | None]:
    """Cast as autocast casts for a convolution: it knows `torch.conv2d`, but nothing that is not in its list.

    But for its cache of casts: where a layer is used several times in one region, the weight's gradients of the uses
    are added up in fp32 here, and in the lower precision by autocast.
    """
    device = x.device.type
    if not torch.is_autocast_enabled(device):
        return [x, *parameters]
    dtype = torch.get_autocast_dtype(device)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in (x, *parameters)]


def can_write(x: Tensor, *others: Tensor | None) -> bool:
    """Tell whether a transient write to x goes unseen, as far as can be known (and `Moves.find` finds where).

    Not: a subclass; a sparse tensor; a leaf that requires grad; a tensor made in inference mode, outside it; one that
    shares memory with the others, which are read meanwhile; and anything while a transform, a trace, forward-mode
    differentiation or a dispatch mode looks on. What can't be known is whether another thread, stream or process uses
    the same memory meanwhile, and whether it is mapped read-only.
    """
    return (
        type(x) is Tensor
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._get_tracing_state() is None
        and forward_ad._current_level < 0
        and x.layout is torch.strided
        and (x.is_cpu or x.is_cuda)
        and not (x.requires_grad and x.is_leaf)
        and (not x.is_inference() or torch.is_inference_mode_enabled())
        and all(_is_apart(x, other) for other in others if other is not None)
    )


def _is_apart(x: Tensor, other: Tensor) -> bool:
    """Tell whether the other is a plain tensor with memory of its own; what is batched or zero has none."""
    plain = type(other) in (nn.Parameter, Tensor) and torch._C._has_storage(other)
    return plain and not torch._C._is_alias_of(x, other)


class ShuffledConv(torch.autograd.Function):
    """conv(P(x)) for training: it saves what the plain convolution saves, x and the weight, and P(x) nowhere.

    The backward shuffles x again, in place, and calls the plain convolution's backward, so gradients are those of the
    functional form, bit for bit. To be differentiated again, it is computed in the functional form.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        moves: Moves,
        found: Places,
        geometry: Geometry,
    ) -> Tensor:
        """Return y = conv(P(x)), Tensor[N, O, H', W']."""
        ctx.save_for_backward(x, weight, moves.permutation)  # π too, so that its version is looked at
        ctx.moves, ctx.geometry, ctx.has_bias = moves, geometry, bias is not None
        return while_shuffled(found, lambda: torch.conv2d(x, weight, bias, *geometry))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias, for the gradient of y."""
        x, weight, permutation = ctx.saved_tensors
        moves = ctx.moves
        rest = ctx.has_bias, ctx.geometry, ctx.needs_input_grad[:3]
        found = not torch.is_grad_enabled() and can_write(x, weight, grad) and moves.find(x)
        if not found:
            return (*functional_backward(grad, x, weight, permutation, moves.chosen, *rest), None, None, None)
        dx, dw, db = while_shuffled(found, lambda: convolution_backward(grad, x, weight, *rest))
        if dx is not None and can_write(dx, grad) and (found := moves.find(dx)):
            found.unshuffle_()
        elif dx is not None:
            dx = spatial_shuffle(dx, permutation.argsort(), moves.chosen)
        return dx, dw, db, None, None, None


def functional_backward(
    grad: Tensor, x: Tensor, weight: Tensor, permutation: Tensor, chosen: slice, *rest: Any
) -> tuple[Tensor | None, ...]:
    """Return the gradients of conv(P(x)) by operations that can be differentiated again; `rest` as below."""
    dx, dw, db = convolution_backward(grad, spatial_shuffle(x, permutation, chosen), weight, *rest)
    return None if dx is None else spatial_shuffle(dx, permutation.argsort(), chosen), dw, db


def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, has_bias: bool, geometry: Geometry, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the plain convolution's gradients of x, weight and bias, where needed."""
    stride, padding, dilation, groups = geometry
    bias_sizes = [weight.shape[0]] if has_bias else None
    return torch.ops.aten.convolution_backward(
        grad, x, weight, bias_sizes, stride, padding, dilation, False, [0, 0], groups, needed
    )
