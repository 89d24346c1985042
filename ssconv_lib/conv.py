"""SSConv2d: a convolution that first shuffles some of its input channels over all positions (Eq. 1 to 3)."""

import copy
import itertools
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from .controls import FORMS, check_control, controlled, draw_control
from .fastpath import in_graph, in_place
from .inplace import Moves
from .seeds import mixed_seed
from .shuffle import (
    channel_slice,
    check_alpha,
    draw_permutation,
    is_permutation,
    listing_order,
    resolve_layout,
    spatial_shuffle,
)

LONGEST = 2**31  # positions that a permutation can't have: a typing error in a size, and not a layer
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
        seed: Determines π. None takes the next of a counter, mixed with `torch.initial_seed()`. Either way the
            global generators are left as `nn.Conv2d` leaves them.
        fast: Shuffle inside the input where that is safe; False always copies it. The results are the same. The
            attribute of this name can be set at any time.
        control: "none", or an experiment's control in place of P, one of `controls.CONTROLS`; fixed at construction.
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
            NumPy or torch.distributed. A compiled or exported graph does not look.
    """

    _is_ours = True  # the shuffle and the convolution are this class's
    name = ""  # the qualified name in the model, for messages; set by convert_to_ssconv

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
        size = _pair(spatial_size)
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
        layer.name = name
        layer._set_shuffle(alpha, _pair(spatial_size), layout, seed, fast, control)
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
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**63):
            raise ValueError(f"seed={seed!r}: expected an integer from 0 to 2**63 - 1, or None")
        if seed is None:
            seed = mixed_seed(torch.initial_seed(), next(_drawn))
        drawn = draw_control(control, self.num_shuffled, size or (0, 0), int(seed))
        self.register_buffer("permutation", drawn.to(self.weight.device))
        if control == "fresh":
            self._fresh_seed, self._evaluated = int(seed), 0
            self.register_buffer("draws", torch.zeros((), dtype=torch.int64, device=self.weight.device))
        self._checked = None
        rest = (self.in_channels - self.num_shuffled) % max(self.num_shuffled, 1)
        reorders = self.layout == "listing" and rest != 0
        self._has_fast_path = self._is_ours and self.num_shuffled > 0 and not reorders and control not in FORMS

    def __init_subclass__(cls, **options: Any) -> None:
        """Note whether a subclass has another shuffle or convolution, which the fast path would pass by."""
        super().__init_subclass__(**options)
        cls._is_ours = all(getattr(cls, name) is getattr(SSConv2d, name) for name in ("shuffle", "_conv_forward"))

    def forward(self, input: Tensor) -> Tensor:
        """Shuffle, then convolve (Eq. 1), by the fastest way that is safe for this input."""
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
        """Move or cast, and let go of what was derived from the π that is left behind."""
        self._checked = None
        return super()._apply(*arguments, **options)

    def shuffle(self, input: Tensor) -> Tensor:
        """Return P(input) of Eq. 2, Eq. 3 or Listing 1: a new Tensor[..., C, H, W] like the input.

        Raises:
            ValueError: the number of channels or the size is not what the layer was made for.
        """
        self._check_input(input)
        if not self.num_shuffled:
            return input
        if self.control in FORMS:
            shuffled = controlled(self.control, input, self.shuffled, self._drawn_now())
        else:
            self._check_permutation()
            shuffled = spatial_shuffle(input, self.permutation, self.shuffled)
        return listing_order(shuffled, self.num_shuffled) if self.layout == "listing" else shuffled

    def _drawn_now(self) -> Tensor:
        """π, or with control="fresh" that of this forward.

        That is a function of the seed and of how many forwards there have been in training, and, in evaluation, since
        that began; so that evaluating changes nothing of a network.
        """
        if self.control != "fresh":
            return self.permutation
        key = (self._fresh_seed, int(self.draws))
        if self.training:
            self.draws.add_(1)
        else:
            self._evaluated += 1
            key += ("evaluation", self._evaluated)
        return draw_permutation(len(self.permutation), mixed_seed(*key)).to(self.draws.device)

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

    def _label(self) -> str:
        return f"SSConv2d {self.name!r}" if self.name else f"SSConv2d({self.extra_repr()})"

    def _check_permutation(self) -> Moves | None:
        """Return π, looked at; refuse one that something wrote to and that is none any more; None if nobody can look.

        It costs two comparisons if nothing was written. What writes in place raises the buffer's version, what
        replaces it makes it another object. Tensors made in inference mode have no version, so they are always looked
        at; in a traced graph nobody can look.
        """
        if torch.compiler.is_compiling():
            return None
        index, checked = self.permutation, self._checked  # one read: another thread may set it
        if checked and checked.permutation is index and checked.version == index._version:
            return checked
        if torch.jit.is_tracing() or _is_symbolic(index):
            return None
        self._refuse_unless_permutation(index, self._label())
        moves = Moves(index, self.shuffled, self.in_channels, self.spatial_size)
        if moves.version is not None:
            self._checked = moves
        return moves

    def _refuse_unless_permutation(self, index: Tensor, label: str) -> None:
        m = self.num_shuffled * self.spatial_size[0] * self.spatial_size[1] if self.num_shuffled else 0
        if not is_permutation(index, m):
            raise ValueError(
                f"{label}: the buffer of shape {tuple(index.shape)} and type {index.dtype} is not a permutation of"
                f" {m} positions ({self.num_shuffled} channels of size {self.spatial_size}); load one from a"
                " checkpoint of this alpha, layout and input size, and keep averages of weights (EMA, SWA) away"
                " from the buffers named permutation"
            )

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
        ours = prefix + "permutation"
        if (theirs := prefix + "random_indices") in state_dict:
            state_dict[ours] = state_dict.pop(theirs)
            if self.groups > 1 and self.layout != "listing" and self.num_shuffled:
                raise ValueError(
                    f"SSConv2d {prefix[:-1]!r}: a checkpoint of Listing 1 with groups={self.groups} loads only into"
                    f" layout='listing', not {self.layout!r}, because its channels are in another order"
                )
        for key in ("weight", "bias"):
            if prefix + "conv." + key in state_dict:
                state_dict[prefix + key] = state_dict.pop(prefix + "conv." + key)
        if ours in state_dict and not state_dict[ours].is_meta:
            self._refuse_unless_permutation(state_dict[ours], f"SSConv2d {prefix[:-1]!r}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)
        for own in (ours, prefix + "draws"):
            if own in missing:
                missing.remove(own)

    def __getstate__(self) -> dict:
        """Leave out which buffer was checked, and what was derived from it: a copy has another."""
        return {**super().__getstate__(), "_checked": None}

    def extra_repr(self) -> str:
        """Return what `nn.Conv2d` prints, and the shuffle."""
        size = "any" if self.spatial_size is None else "x".join(map(str, self.spatial_size))
        return (
            f"{super().extra_repr()}, alpha={self.alpha}, layout={self.layout},"
            f" shuffled={self.num_shuffled}/{self.in_channels}, spatial_size={size}"
            + ("" if self.fast else ", fast=False")
            + ("" if self.control == "none" else f", control={self.control}")
        )


def _pair(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return a spatial size as (H, W)."""
    if size is None:
        return None
    pair = (size, size) if isinstance(size, Integral) else size
    if not isinstance(pair, (tuple, list, torch.Size)) or len(pair) != 2:
        raise ValueError(f"spatial_size={size!r}: expected a positive integer, or (height, width)")
    if any(isinstance(n, bool) or not isinstance(n, Integral) or n < 1 for n in pair):
        raise ValueError(f"spatial_size={size!r}: expected positive integers for height and width")
    if max(pair) >= LONGEST:
        raise ValueError(f"spatial_size={size!r}: expected height and width below {LONGEST}")
    return int(pair[0]), int(pair[1])


def _is_symbolic(tensor: Tensor) -> bool:
    """Tell whether the values can't be looked at: fake, meta, or wrapped by a functorch transform."""
    return tensor.is_meta or isinstance(tensor, FakeTensor) or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
