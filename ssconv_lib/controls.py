"""Controls of the shuffle, none of them the paper's: what else P may do to the shuffled channels at the same cost.

Each takes one thing away from P of Eq. 2. Three are permutations like any other, held in the layer's buffer:
"per_channel" moves no value to another channel, "windows" none out of its window of 4x4 pixels, and "roll" moves all
values by half of the map, circularly. "fresh" draws a new π in every forward, so that there is no wiring to be learned;
torch.utils.checkpoint, which runs a forward once more in the backward, would get another one, and is refused.
Three are no permutations: "shift" moves each channel by one pixel, the first down, then up, right, left in turn, and
zeros come in (ShiftViT's partial shift, Wang et al. 2022); "zeroed" leaves nothing of the shuffled channels; and "mean"
puts each channel's mean over positions into all of them, which is global context without places.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .seeds import mixed_seed
from .shuffle import draw_permutation, spatial_shuffle, with_channels

if TYPE_CHECKING:
    from .conv import SSConv2d

WINDOW = 4  # pixels a side; what doesn't divide leaves smaller windows at the border
FORMS = ("shift", "fresh", "zeroed", "mean")  # that no buffer of Eq. 2 can hold
DRAWLESS = ("roll", "shift", "zeroed", "mean")  # of which no seed decides anything
CONTROLS = ("none", "per_channel", "windows", "roll", *FORMS)
STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # rows and columns, of "shift"


def check_control(control: str) -> str:
    """Return the control.

    Raises:
        ValueError: it is none of `CONTROLS`.
    """
    if control not in CONTROLS:
        raise ValueError(f"control={control!r}: expected one of {', '.join(map(repr, CONTROLS))}")
    return control


def draw_control(control: str, channels: int, size: tuple[int, int], seed: int) -> Tensor:
    """Draw the permutation of a control, for channels of this (H, W), in (c, h, w) order.

    Args:
        control: One of `CONTROLS`; "none" and those without a permutation of their own give π of Eq. 2.
        channels: The shuffled ones.
        size: (H, W).
        seed: "roll" doesn't depend on it.

    Returns:
        LongTensor of shape (channels · H · W,), to be used as out[k] = in[permutation[k]].
    """
    height, width = size
    area = height * width
    places = torch.arange(channels * area, device="cpu").view(channels, height, width)  # (c, h, w)
    if control == "per_channel":
        drawn = [draw_permutation(area, mixed_seed(seed, channel)) + channel * area for channel in range(channels)]
        return torch.cat([*drawn, places[:0].reshape(-1)])
    if control == "windows":
        return _within_windows(places, seed)
    if control == "roll":
        return places.roll((height // 2, width // 2), (1, 2)).reshape(-1)
    return draw_permutation(channels * area, seed)


def _within_windows(places: Tensor, seed: int) -> Tensor:
    """A permutation over all channels and positions of each window."""
    result = places.clone()
    for number, rows in enumerate(range(0, places.shape[1], WINDOW)):
        for other, columns in enumerate(range(0, places.shape[2], WINDOW)):
            window = (slice(None), slice(rows, rows + WINDOW), slice(columns, columns + WINDOW))
            own = places[window].reshape(-1)
            order = draw_permutation(len(own), mixed_seed(seed, number, other))
            result[window] = own[order].view(places[window].shape)
    return result.reshape(-1)


def drawn_now(layer: "SSConv2d") -> Tensor:
    """Return the layer's π, or with control="fresh" that of this forward.

    That is a function of the seed and of how many forwards there have been in training, and, in evaluation, since
    that began; so that evaluating changes nothing of a network.

    Raises:
        RuntimeError: a backward runs the forward of a "fresh" layer again.
    """
    if layer.control != "fresh":
        return layer.permutation
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            f"{layer._label()}: control='fresh' under activation checkpointing, whose backward runs the forward again,"
            " and would get another permutation than the forward had; leave this layer out of it"
        )
    key = (layer._fresh_seed, int(layer.draws))
    if layer.training:
        layer.draws.add_(1)
    else:
        layer._evaluated += 1
        key += ("evaluation", layer._evaluated)
    return draw_permutation(len(layer.permutation), mixed_seed(*key)).to(layer.draws.device)


def controlled(control: str, x: Tensor, chosen: slice, permutation: Tensor) -> Tensor:
    """Do what one of `FORMS` does to the chosen channels of x.

    Args:
        control: One of `FORMS`.
        x: Tensor[..., C, H, W].
        chosen: The channels.
        permutation: For "fresh", the one drawn for this forward.

    Returns:
        A new tensor like x.
    """
    if control == "fresh":
        return spatial_shuffle(x, permutation, chosen)
    values = x[..., chosen, :, :]  # (..., s, H, W)
    if control == "shift":
        put = _shifted(values)
    else:
        put = torch.zeros_like(values) if control == "zeroed" else values.mean((-2, -1), keepdim=True).expand_as(values)
    return with_channels(x, put, chosen)


def _shifted(values: Tensor) -> Tensor:
    """Each channel by one pixel, the four directions in turn; what comes in over the border is 0."""
    padded = F.pad(values, (1, 1, 1, 1))  # (..., s, H + 2, W + 2)
    height, width = values.shape[-2:]
    planes = []
    for channel in range(values.shape[-3]):
        down, right = STEPS[channel % len(STEPS)]
        planes.append(padded[..., channel, 1 - down : 1 - down + height, 1 - right : 1 - right + width])
    return torch.stack(planes, dim=-3)
