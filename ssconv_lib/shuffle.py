"""Which channels are shuffled, by which permutation, and the shuffle itself as a function of tensors.

The paper has three versions of P, the operation in front of the convolution: Eq. 2 (the leading channels),
Eq. 3 (interleaved channels, for grouped convolutions) and the code of Listing 1, whose `_group` moves channels
about but does not interleave. All three pick an evenly spaced set of channels, so one slice describes each.
"""

import math
import warnings
from collections.abc import Sequence
from fractions import Fraction
from numbers import Integral, Real

import torch
from torch import Tensor

LAYOUTS = ("auto", "leading", "interleaved", "listing", "matched")
LONGEST = 2**31  # positions that a permutation can't have: a typing error in a size, and not a layer


def check_alpha(alpha: Real) -> Fraction:
    """Return α as the fraction that was meant: 0.29 is 29/100, not the binary number next to it.

    Raises:
        ValueError: α is not a number in [0, 1].
    """
    number = isinstance(alpha, Real) and not isinstance(alpha, bool)
    if not number or not math.isfinite(alpha) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha!r}: expected a number in [0, 1], the fraction of channels to shuffle")
    return Fraction(float(alpha)).limit_denominator(10**6)


def check_size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    """Return a spatial size as (H, W), of which one integer is both; None stays None.

    Raises:
        ValueError: it is neither.
    """
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


def check_seed(seed: int | None) -> int | None:
    """Return the seed.

    Raises:
        ValueError: it is none that a generator of torch takes.
    """
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise ValueError(f"seed={seed!r}: expected an integer from 0 to 2**63 - 1, or None")
    return int(seed)


def resolve_layout(layout: str, groups: int = 1) -> str:
    """Return the layout that a convolution with this many groups really uses.

    "auto" is what the paper describes: Eq. 3 in grouped convolutions, Eq. 2 in all others. "listing" differs from
    "leading" in grouped convolutions only. "matched", a control that is not in the paper, shuffles in grouped
    convolutions as many channels as Eq. 3 does, in Eq. 2's places; elsewhere it is "leading".

    Raises:
        ValueError: the layout is none of these.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}: expected one of {', '.join(map(repr, LAYOUTS))}")
    if layout == "auto":
        return "interleaved" if groups > 1 else "leading"
    return "leading" if layout in ("listing", "matched") and groups == 1 else layout


def channel_slice(channels: int, alpha: Real, layout: str = "leading") -> slice:
    """Return the shuffled channels as a slice of range(channels).

    Eq. 2 counts channels from 1: c ≤ ⌊αC⌋ are the first ⌊αC⌋. Eq. 3, whose C is a typo for c, takes every q-th,
    q = ⌊1/α⌋, counted from 1 too: its count is ⌊C/q⌋, which can exceed ⌊αC⌋. Above α = 1/2, q is 1: Eq. 3 then
    shuffles everything, and warns.

    Args:
        channels: C, the number of input channels.
        alpha: α in [0, 1]; floors are exact, so C = 100 and α = .29 give 29.
        layout: "leading" (Eq. 2), "interleaved" (Eq. 3), "listing" (Listing 1; the channels of Eq. 2) or
            "matched" (Eq. 2's places, Eq. 3's count). "auto" needs `resolve_layout` first.
    """
    fraction = check_alpha(alpha)
    if isinstance(channels, bool) or not isinstance(channels, Integral) or channels < 1:
        raise ValueError(f"channels={channels!r}: expected a positive integer, the number of input channels")
    layout = "leading" if layout == "auto" else layout
    resolve_layout(layout)
    if fraction == 0:
        return slice(0, 0, 1)
    if layout in ("leading", "listing"):
        return slice(0, math.floor(fraction * channels), 1)
    q = math.floor(1 / fraction)
    if q == 1 and fraction < 1:
        warnings.warn(
            f"alpha={alpha}: Eq. 3 takes every {q}st channel for any alpha > 1/2, so all {channels} channels are"
            " shuffled; label results by the true fraction, 1.0",
            stacklevel=2,
        )
    if layout == "matched":
        return slice(0, channels // q, 1)
    return slice(q - 1, channels, q) if q <= channels else slice(0, 0, 1)


def shuffled_channels(channels: int, alpha: Real, layout: str = "leading", groups: int | None = None) -> Tensor:
    """Return the 0-based, sorted indices of the channels that are shuffled.

    Args:
        channels: C, the number of input channels.
        alpha: α in [0, 1].
        layout: one of `LAYOUTS`.
        groups: the groups of the convolution, on which "auto" and "matched" depend; without it "auto" is "leading".

    Returns:
        LongTensor of shape (number of shuffled channels,).
    """
    if groups is not None:
        layout = resolve_layout(layout, groups)
    return torch.arange(channels)[channel_slice(channels, alpha, layout)]


def draw_permutation(length: int, seed: int) -> Tensor:
    """Draw π (Sec. 3.1) of shape (length,), int64, on the CPU, from a generator of its own.

    The global generators stay where they are, so models with and without shuffling start from the same weights.
    """
    with torch.inference_mode(False):
        generator = torch.Generator(device="cpu").manual_seed(seed)
        return torch.randperm(length, generator=generator, device="cpu")


def is_permutation(index: Tensor, length: int) -> bool:
    """Tell whether `index` is a permutation of range(length): int64, one dimension, each position once."""
    if index.dtype != torch.int64 or index.shape != (length,):
        return False
    return bool((index.sort().values == torch.arange(length, device=index.device)).all())


def spatial_shuffle(x: Tensor, permutation: Tensor, chosen: slice) -> Tensor:
    """Apply P of Eq. 2 or Eq. 3: permute the values of the chosen channels over all their positions.

    The chosen channels are flattened together in (c, h, w) order, so that values move across channels too:
    out[k] = in[permutation[k]].

    Args:
        x: Tensor[..., C, H, W], of any memory format; with or without a batch dimension.
        permutation: LongTensor of shape (channels chosen · H · W,).
        chosen: the shuffled channels, from `channel_slice`.

    Returns:
        A new tensor like x, in x's memory format. Its gradient is the inverse permutation of the incoming one.
    """
    values = x[..., chosen, :, :]  # (..., s, H, W)
    flat = values.reshape(*x.shape[:-3], permutation.shape[0])  # (..., m)
    moved = flat.gather(-1, permutation.expand_as(flat)).view(values.shape)
    return with_channels(x, moved, chosen)


def with_channels(x: Tensor, values: Tensor, chosen: slice) -> Tensor:
    """Return x, Tensor[..., C, H, W], with values, Tensor[..., s, H, W], in place of its chosen channels."""
    if torch.compiler.is_compiling():
        # the same, in a form that the inductor of torch 2.11 compiles: a gather inside slice_scatter breaks its C++
        return x.index_copy(-3, torch.arange(x.shape[-3], device=x.device)[chosen], values)
    where = {"start": chosen.start, "end": chosen.stop, "step": chosen.step}
    if x.is_complex():  # of which slice_scatter has no gradient, but of pairs of real numbers
        x, values = (torch.view_as_real(one.resolve_conj()) for one in (x, values))
        return torch.view_as_complex(torch.slice_scatter(x, values, dim=-4, **where))
    return torch.slice_scatter(x, values, dim=-3, **where)


def listing_order(x: Tensor, shuffled: int) -> Tensor:
    """Reorder channels as `_group` of Listing 1 does: the r = (C - s) mod s first unshuffled ones go to the end.

    The paper says that this interleaves the shuffled channels; but the concatenation is along the new dimension
    in front, so that they stay at 0 … s - 1, and with r = 0 nothing happens at all.

    Args:
        x: Tensor[..., C, H, W] whose first `shuffled` channels are shuffled.
        shuffled: s ≥ 1.
    """
    rest = (x.shape[-3] - shuffled) % shuffled
    if rest == 0:
        return x
    head, residue, tail = x.split([shuffled, rest, x.shape[-3] - shuffled - rest], dim=-3)
    return torch.cat((head, tail, residue), dim=-3)
