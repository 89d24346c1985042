"""The ways to shuffle and convolve that are faster than a copy, and which of them a call may take."""

from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from . import native
from .buffers import look_at
from .compiled import compiled_conv
from .inplace import Geometry, ShuffledConv, as_autocast, can_write, while_shuffled

if TYPE_CHECKING:
    from .conv import SSConv2d


def in_place(layer: "SSConv2d", input: Tensor) -> Tensor | None:
    """Shuffle inside the input, convolve, restore; None where that could be seen, or the input is wrong."""
    weight, bias = layer.weight, layer.bias
    if (kernel := native.load()) is not None and (output := _native(layer, kernel, input, weight, bias)) is not None:
        return output
    if not can_write(input, weight, bias):
        return None
    moves = look_at(layer)
    found = moves and moves.find(input)
    if found is None:
        return None
    if not torch.is_grad_enabled() or not (input.requires_grad or _requires_grad(weight, bias)):
        return while_shuffled(found, lambda: layer._conv_forward(input, weight, bias))
    geometry = _geometry(layer)
    if geometry is None:
        return None
    x, weight, bias = as_autocast(input, weight, bias)
    found = found if x is input else moves.find(x)
    return found and ShuffledConv.apply(x, weight, bias, moves, found, geometry)


def _native(layer: "SSConv2d", kernel: ModuleType, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """The same in one call of the compiled form, which looks for itself whether it may; None if it may not."""
    moves = layer._checked
    known = moves and moves.permutation is layer._buffers.get("permutation")
    plain = type(input) is Tensor and type(weight) is nn.Parameter and layer.padding_mode == "zeros"
    if not (known and plain) or forward_ad._current_level >= 0 or torch._C._len_torch_function_stack():
        return None
    if torch._C._len_torch_dispatch_stack():  # it would see, or keep, what `moves.native` makes
        return None
    geometry = layer.stride, layer.padding, layer.dilation, layer.groups
    if type(layer.padding) is str and (geometry := _geometry(layer)) is None:
        return None
    return kernel.conv2d(input, weight, bias, *moves.native, *geometry)


def in_graph(layer: "SSConv2d", input: Tensor) -> Tensor | None:
    """The same for torch.compile, as one operator that it keeps whole; None in an export and inside torch.func."""
    geometry = _geometry(layer)
    # the flag, since in torch 2.11 is_exporting() is true in every graph that torch.compile traces
    if geometry is None or torch.compiler._is_exporting_flag or _is_transformed():
        return None
    layer._check_input(input)
    tensors = as_autocast(input, layer.weight, layer.bias)
    return compiled_conv(*tensors, layer.permutation, layer.shuffled, geometry)


def _is_transformed() -> bool:
    """Tell, while a graph is traced, whether it is inside grad, jvp or vmap, for which our operator has no rules."""
    return torch._C._functorch.peek_interpreter_stack() is not None


# asked when it is traced, as in compiled.teach_compiler; the compiler can't trace it
_is_transformed._dynamo_marked_constant = True


def _geometry(layer: "SSConv2d") -> Geometry | None:
    """Stride, padding, dilation and groups in numbers; None where `nn.Conv2d` pads in a step of its own."""
    padding = layer.padding
    if layer.padding_mode != "zeros":
        return None
    if isinstance(padding, str):
        total = [
            d * (k - 1) if padding == "same" else 0 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)
        ]
        if any(n % 2 for n in total):
            return None
        padding = tuple(n // 2 for n in total)
    return layer.stride, padding, layer.dilation, layer.groups


def _requires_grad(weight: Tensor, bias: Tensor | None) -> bool:
    return weight.requires_grad or (bias is not None and bias.requires_grad)
