"""What a network's output depends on by its wiring alone: a forward in which no weight can cancel another.

Inside `Wiring` a forward computes other values than the network's: convolutions and linear layers average what they
read, as though all weights were equal and positive; nonlinearities and batch norm pass their input on; max-pooling
averages its window; a product is a sum, since it depends on both factors (as the features behind a gate depend on the
gate); and so is a difference, which could cancel. All of that is linear, so its gradient is the wiring.
"""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# by name, since torch has each as a function, as one that writes in place, as a method and as an operator
_PASSED_ON = """
    relu relu6 leaky_relu elu celu selu gelu silu mish prelu rrelu hardtanh sigmoid tanh hardsigmoid hardswish
    logsigmoid softplus softsign clamp exp abs neg square sqrt rsqrt batch_norm dropout dropout2d feature_dropout
"""
_LINEAR = """
    sum mean cat concat stack avg_pool2d adaptive_avg_pool2d pad interpolate pixel_shuffle pixel_unshuffle
    channel_shuffle view reshape flatten unflatten squeeze unsqueeze permute transpose movedim t contiguous clone to
    float double unfold expand expand_as view_as type_as repeat repeat_interleave split chunk unbind narrow getitem get
    select gather index_select take_along_dim slice_scatter index_copy roll flip
"""
PASSED_ON, LINEAR = frozenset(_PASSED_ON.split()), frozenset(_LINEAR.split())
ARITHMETIC = {"add", "radd", "iadd", "mul", "rmul", "imul", "multiply", "div", "truediv", "rtruediv", "itruediv"}
ARITHMETIC |= {"sub", "rsub", "isub"}
SHAPED = {"expand_as", "view_as", "type_as"}  # of the second argument nothing but shape or type is taken
CONSTANT = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"}


class Wiring(TorchFunctionMode):
    """Replaces what a forward computes by its wiring.

    Args:
        on_result: Called with each tensor that depends on the input, such as to register a hook on it.

    Raises:
        ValueError: in the forward, of a function that there is no rule for; it is named.
    """

    def __init__(self, on_result: Callable[[Tensor], Any] = lambda y: None) -> None:
        super().__init__()
        self.on_result = on_result

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Compute the wiring of one function of torch, which Python calls by any of its names."""
        written = getattr(function, "__name__", "")
        name = written.strip("_").removesuffix("_")
        kwargs = kwargs or {}
        of = args[:1] if name in SHAPED else (*args, *kwargs.values())
        if not any(isinstance(x, Tensor) and x.requires_grad for x in _flat(of)):
            return function(*args, **kwargs)  # of weights, indices and sizes
        if name in ARITHMETIC:
            in_place = written.endswith("_") and not written.endswith("__")  # an operator binds its result anew
            result = _arithmetic(args[0], args[1] if len(args) > 1 else kwargs.get("other"), in_place)
        elif rule := RULES.get(name):
            result = rule(*args, **kwargs)
        elif name in PASSED_ON:
            result = args[0] if args else kwargs["input"]
        else:
            result = function(*args, **kwargs)
        for y in _flat((result,)):
            if isinstance(y, Tensor) and name not in CONSTANT:
                if name not in KNOWN or not y.requires_grad or kwargs.get("mode") == "bicubic":
                    raise ValueError(
                        f"the model computes {written}, for which there is no rule of what its output depends on; the"
                        " rules are in ssconv_lib.wiring"
                    )
                self.on_result(y)
        return result


def _flat(values: tuple) -> list:
    return [x for value in values for x in (value if isinstance(value, tuple | list) else (value,))]


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """The mean over each output's window and its group's channels: those of a group have the same window."""
    batched = input if input.dim() == 4 else input.unsqueeze(0)
    mean = batched.unflatten(1, (groups, -1)).mean(2)  # (N, G, H, W)
    height, width = weight.shape[2:]
    window = mean.new_full((groups, 1, height, width), 1 / (height * width))
    mean = F.conv2d(mean, window, None, stride, padding, dilation, groups)
    result = mean.repeat_interleave(weight.shape[0] // groups, 1)  # (N, out_channels, h, w)
    return result if input.dim() == 4 else result.squeeze(0)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return input.mean(-1, keepdim=True).expand(*input.shape[:-1], weight.shape[0])


def _max_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if return_indices or {dilation} - {1, (1, 1)}:
        raise ValueError(
            f"max-pooling with dilation = {dilation}, return_indices = {return_indices}: expected 1, False"
        )
    return F.avg_pool2d(input, kernel_size, stride, padding, ceil_mode)


def _arithmetic(x: Any, y: Any, in_place: bool) -> Tensor:
    """Of a sum, difference, product or quotient: what depends on both; a number changes nothing."""
    if not (isinstance(x, Tensor) and isinstance(y, Tensor)):
        return x if isinstance(x, Tensor) else y
    return x.add_(y.to(x.dtype)) if in_place else x + y.to(x.dtype)


RULES: dict[str, Callable[..., Any]] = {
    "conv2d": _convolution,
    "linear": _linear,
    "max_pool2d": _max_pool,
    "adaptive_max_pool2d": lambda input, output_size, return_indices=False: F.adaptive_avg_pool2d(input, output_size),
}
KNOWN = PASSED_ON | LINEAR | ARITHMETIC | RULES.keys()
