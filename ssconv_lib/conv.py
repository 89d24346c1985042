"""SSConv2d: a convolution that first shuffles some of its input channels over all positions (Eq. 1 to 3)."""

import copy
import itertools
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from .buffers import accept_state, keep_own, look_at
from .controls import FORMS, check_control, controlled, draw_control, drawn_now
from .fastpath import in_graph, in_place
from .seeds import mixed_seed
from .shuffle import (
    LONGEST,
    channel_slice,
    check_alpha,
    check_seed,
    check_size,
    listing_order,
    resolve_layout,
    spatial_shuffle,
)

_drawn = itertools.count()  # so that layers without a seed differ within a process


class SSConv2d(nn.Conv2d):
    """Spatially shuffled convolution: `nn.Conv2d` behind a fixed random permutation of ⌊αC⌋ input channels.

    y = conv(P(x)), where P permutes the values of the shuffled channels jointly over all positions and channels
    (Sec. 3.1; Eq. 2, or Eq. 3 in a grouped convolution). It has no parameters beyond the convolution's, whose state
    dict therefore loads; π is the persistent buffer `permutation`, int64, of length m = H·W·(shuffled channels):
    out[k] = in[permutation[k]] over the shuffled channels flattened in (c, h, w) order. Listing 1's state dict
    loads too (of a grouped layer only with layout="listing", since its other channels are in another order).

    Where nobody can see it, P(x) is made by writing the values that move into the input itself, which is as it was,
    values and version, when the call ends or raises; see `inplace.can_write`. Two things can't be known, and need
    `fast=False`: that another thread, process or CUDA stream reads or writes the memory of the same input at the same
    time, in a forward or a backward, which may leave the input wrong for good (threads with inputs of their own don't
    disturb each other); and that this memory is mapped read-only, as by `np.memmap(mode="r")`, where the write ends
    the process.

    `torch.compile`, `torch.export`, ONNX and `torch.jit.trace` take the layer, and `torch.fx` as one node;
    `torch.jit.script` doesn't. Tools that rebuild whatever is an `nn.Conv2d` lose P without a word, as
    `torch.utils.mkldnn.to_mkldnn` does. Eager quantization isn't supported.

    Args:
        in_channels: C, channels of the input.
        out_channels: As all up to `padding_mode` as in `nn.Conv2d`.
        kernel_size: As in `nn.Conv2d`.
        stride: As in `nn.Conv2d`.
        padding: As in `nn.Conv2d`; the shuffle comes before it, so padding is never moved inside.
        dilation: As in `nn.Conv2d`.
        groups: As in `nn.Conv2d`.
        bias: As in `nn.Conv2d`.
        padding_mode: As in `nn.Conv2d`.
        alpha: α in [0, 1], the fraction of channels to shuffle. Where no channel is shuffled, as for α < 1/C, the
            layer is the plain convolution, at any input size.
        spatial_size: (H, W) of the input, or one integer for a square; needed only if a channel is shuffled,
            because π is drawn for this size and no other.
        layout: "leading" (Eq. 2), "interleaved" (Eq. 3), "listing" (Listing 1 as written), "auto" (Eq. 3 for
            groups > 1, else Eq. 2) or "matched" (a control: Eq. 2's places, Eq. 3's count).
        seed: Determines π. None takes the next of a counter, mixed with `torch.initial_seed()`: then only a new
            process draws the same again, and processes differ. DistributedDataParallel broadcasts the buffers of
            process 0; FSDP (`fully_shard`) doesn't, and would train a π of its own in each: there give a seed, or
            broadcast the buffers and then call `train()`. The attribute `seed` is that of π, and None once another π
            was loaded; with it `reset_parameters` draws π again, and so does `to_empty` from the meta device. To keep
            a π that you wrote yourself, set it to None. The global generators are left as `nn.Conv2d` leaves them.
        fast: Shuffle inside the input where that is safe; False always copies it. The results are the same. The
            attribute of this name can be set at any time.
        control: "none", or an experiment's control in place of P, one of `controls.CONTROLS`; fixed at construction.
            "fresh", another π in each forward, can't be under `torch.utils.checkpoint`, which runs forwards twice.
        device: As in `nn.Conv2d`; π is drawn on the CPU and then sent there.
        dtype: As in `nn.Conv2d`.

    Shape:
        - Input: Tensor[N, C, H, W] or Tensor[C, H, W]
        - Output: as of `nn.Conv2d`

    Raises:
        ValueError: α, layout, spatial_size or seed is impossible; the input is not of the size that π was drawn for;
            the buffer holds something that is not a permutation, as an average over buffers does. It is looked at
            when a state dict is loaded, in the first forward after something wrote to it in place or replaced it, and
            in the first one after `train()` or `eval()`, which finds what leaves no trace: writes through `.data`,
            NumPy or torch.distributed. Even a right π that came so may be used by half, beside the old one, until
            then. A compiled or exported graph does not look.
        RuntimeError: control="fresh" under `torch.utils.checkpoint`, in the backward.

    Warns:
        UserWarning: a state dict without π was loaded into a layer without a seed, which keeps a π that nobody knows.
    """

    _is_ours = True  # the shuffle and the convolution are this class's
    name = ""  # the qualified name in the model, for messages; set by convert_to_ssconv
    seed: int | None = None  # that drew π; None where it isn't known: another π was loaded, or an old pickle
    _is_seeded = False  # whether the seed was given

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        alpha: float = 0.04,
        spatial_size: int | tuple[int, int] | None = None,
        layout: str = "auto",
        seed: int | None = None,
        fast: bool = True,
        control: str = "none",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_alpha(alpha)
        resolve_layout(layout)
        size = check_size(spatial_size)
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device=device,
            dtype=dtype,
        )
        self._set_shuffle(alpha, size, layout, seed, fast, control)

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        *,
        alpha: float = 0.04,
        spatial_size: int | tuple[int, int] | None = None,
        layout: str = "auto",
        seed: int | None = None,
        fast: bool = True,
        control: str = "none",
        name: str = "",
    ) -> "SSConv2d":
        """Return the ss convolution that shares a plain one's parameters (the same objects), hooks and flags."""
        if "forward" in conv.__dict__:
            raise ValueError(f"the convolution {name!r} has a forward of its own, which would stay unshuffled")
        layer = cls.__new__(cls)
        state = conv.__getstate__()  # without what torch.compile left on it
        layer.__dict__.update({key: copy.copy(v) if isinstance(v, dict | set) else v for key, v in state.items()})
        for key, hook in layer._load_state_dict_pre_hooks.items():
            if getattr(hook, "with_module", False):  # it is called with the module that it knows
                layer._load_state_dict_pre_hooks[key] = hook = copy.copy(hook)
                hook.module = weakref.ref(layer)
        layer.name = name
        layer._set_shuffle(alpha, check_size(spatial_size), layout, seed, fast, control)
        return layer

    def _set_shuffle(
        self, alpha: float, size: tuple[int, int] | None, layout: str, seed: int | None, fast: bool, control: str
    ) -> None:
        self.alpha = alpha
        self.control = check_control(control)
        self.fast = fast
        self.layout = resolve_layout(layout, self.groups)
        self.shuffled = channel_slice(self.in_channels, alpha, self.layout)
        self.num_shuffled = len(range(self.in_channels)[self.shuffled])
        if self.num_shuffled and size is None:
            raise ValueError(
                f"spatial_size=None: {self.num_shuffled} of {self.in_channels} channels are shuffled at"
                f" alpha={alpha}, so the permutation needs the input's (height, width)"
            )
        if self.num_shuffled and (m := self.num_shuffled * size[0] * size[1]) >= LONGEST:
            raise ValueError(
                f"spatial_size={size}: the {self.num_shuffled} shuffled channels have {m} positions; expected fewer"
                f" than {LONGEST}, whose permutation takes 16 GiB"
            )
        self.spatial_size = size
        self.seed, self._is_seeded = check_seed(seed), seed is not None
        if seed is None:
            self.seed = mixed_seed(torch.initial_seed(), next(_drawn))
        self.register_buffer("permutation", self._draw().to(self.weight.device))
        if control == "fresh":
            self.register_buffer("draws", torch.zeros((), dtype=torch.int64, device=self.weight.device))
        self._checked, self._evaluated, self._fresh_seed = None, 0, self.seed
        rest = (self.in_channels - self.num_shuffled) % max(self.num_shuffled, 1)
        reorders = self.layout == "listing" and rest != 0
        self._has_fast_path = self._is_ours and self.num_shuffled > 0 and not reorders and control not in FORMS

    def _draw(self) -> Tensor:
        return draw_control(self.control, self.num_shuffled, self.spatial_size or (0, 0), self.seed)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew, and π again from the layer's seed: as it was made, also behind `to_empty`."""
        super().reset_parameters()
        if self.seed is not None:  # before there is a π, too: when nn.Conv2d is made
            self.reset_permutation()

    def reset_permutation(self) -> None:
        """Put back the π that the layer's seed draws.

        Raises:
            ValueError: the layer knows no seed, since another π was loaded.
        """
        if self.seed is None:
            raise ValueError(f"{self._label()}: no seed is known of its permutation, so load one, or set `seed`")
        self._checked, self._evaluated, self._fresh_seed = None, 0, self.seed
        for name, values in (("permutation", self._draw()), ("draws", torch.tensor(0, device="cpu"))):
            own = getattr(self, name, None)
            if own is not None and own.is_meta:
                setattr(self, name, values.to(self.weight.device))
            elif own is not None:
                (own.to_local() if hasattr(own, "to_local") else own).copy_(values)  # each process has all of it

    def __init_subclass__(cls, **options: Any) -> None:
        """Note whether a subclass has another shuffle or convolution, which the fast path would pass by."""
        super().__init_subclass__(**options)
        cls._is_ours = all(getattr(cls, name) is getattr(SSConv2d, name) for name in ("shuffle", "_conv_forward"))

    def forward(self, input: Tensor) -> Tensor:
        """Shuffle, then convolve (Eq. 1), by the fastest way that is safe for this input."""
        if isinstance(input, Proxy):  # of torch.fx, which has no values
            return self._as_node(input)
        if self.fast and self._has_fast_path and input.is_floating_point():  # torch makes three of a complex one
            output = in_graph(self, input) if torch.compiler.is_compiling() else in_place(self, input)
            if output is not None:
                return output
        return self._conv_forward(self.shuffle(input), self.weight, self.bias)

    def train(self, mode: bool = True) -> "SSConv2d":
        """Switch between training and evaluation, and look at π again at the next forward."""
        self._checked = None
        self._evaluated = 0
        return super().train(mode)

    def _apply(self, *arguments: Any, **options: Any) -> "SSConv2d":
        """Move or cast, and let go of what was derived from the π that is left behind; from meta it is drawn."""
        self._checked = None
        was_meta = self.permutation.is_meta
        super()._apply(*arguments, **options)
        if was_meta and not self.permutation.is_meta and self.seed is not None:
            self.reset_permutation()
        return self

    def shuffle(self, input: Tensor) -> Tensor:
        """Return P(input) of Eq. 2, Eq. 3 or Listing 1: a new Tensor[..., C, H, W] like the input.

        Raises:
            ValueError: the number of channels or the size is not what the layer was made for.
        """
        self._check_input(input)
        if not self.num_shuffled:
            return input
        if self.control in FORMS:
            shuffled = controlled(self.control, input, self.shuffled, drawn_now(self))
        else:
            look_at(self)
            shuffled = spatial_shuffle(input, self.permutation, self.shuffled)
        return listing_order(shuffled, self.num_shuffled) if self.layout == "listing" else shuffled

    def _check_input(self, input: Tensor) -> None:
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels:
            raise ValueError(
                f"{self._label()}: input of shape {tuple(input.shape)}; expected (N, C, H, W) or (C, H, W) with"
                f" C = {self.in_channels} channels"
            )
        if self.num_shuffled and tuple(input.shape[-2:]) != self.spatial_size:
            raise ValueError(
                f"{self._label()}: input of size {tuple(input.shape[-2:])}, but its permutation was drawn for"
                f" {self.spatial_size}; resize the input, or build the layer (convert the model) for that size"
            )
        if self.num_shuffled and self.permutation.is_meta and not input.is_meta:
            raise ValueError(
                f"{self._label()}: its permutation is on the meta device, without values; call reset_permutation(), or"
                " load a checkpoint that holds it"
            )

    def _label(self) -> str:
        """For messages, in words that torch.compile can trace."""
        if self.name:
            return f"SSConv2d {self.name!r}"
        sizes = f"{self.in_channels}, {self.out_channels}, {self.kernel_size}"
        return f"SSConv2d({sizes}, alpha={self.alpha}, spatial_size={self.spatial_size})"

    def _as_node(self, input: Proxy) -> Proxy:
        """One node of the graph that torch.fx.symbolic_trace makes, as an nn.Conv2d is."""
        path = input.tracer.path_of_module(self)
        if not path:
            raise ValueError(f"{self._label()} is one node for torch.fx: trace a module that holds it")
        return input.tracer.create_proxy("call_module", path, (input,), {})

    def _load_from_state_dict(
        self,
        state_dict: dict,
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Accept a plain convolution's keys (π stays) and Listing 1's; refuse what is no permutation."""
        self._checked = None
        is_another = accept_state(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        keep_own(self, state_dict, prefix, missing)
        if is_another and not self.permutation.is_meta:
            self.seed = None

    def __getstate__(self) -> dict:
        """Leave out which buffer was checked, and what was derived from it: a copy has another."""
        return {**super().__getstate__(), "_checked": None}

    def extra_repr(self) -> str:
        """Return what `nn.Conv2d` prints, and the shuffle."""
        size = "any" if self.spatial_size is None else "x".join(map(str, self.spatial_size))
        return (
            f"{super().extra_repr()}, alpha={self.alpha}, layout={self.layout},"
            f" shuffled={self.num_shuffled}/{self.in_channels}, spatial_size={size}"
            + (f", seed={self.seed}" if self._is_seeded and self.seed is not None else "")
            + ("" if self.fast else ", fast=False")
            + ("" if self.control == "none" else f", control={self.control}")
        )
