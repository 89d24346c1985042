"""The paper's own code of the layer (Listing 1, Appendix A.2), written shorter, as the thing to compare with.

It computes what the paper's code computes and has its keys (`conv.weight`, `random_indices`). Three things make it
a poor layer to use; `SSConv2d` does them otherwise:

- π is drawn in the first forward, from the global generator. Before that the buffer isn't there, so a trained
  state dict doesn't load, and the draw shifts every random number after it.
- `torch.cat` writes the whole input anew to change a few of its channels.
- `_group`, which is to interleave the shuffled channels for grouped convolutions (Eq. 3), doesn't.

Two details differ, so that it can be timed everywhere: `reshape` in place of `view`, which refuses channels_last
inputs, and π is sent to the input's device.
"""

import torch
from torch import Tensor, nn

from .conv import SSConv2d
from .seeds import mixed_seed
from .shuffle import draw_permutation, shuffled_channels


class ListingConv2d(nn.Module):
    """Listing 1, with its argument names and its defaults: padding=1, bias=None (no bias).

    Shape:
        - Input: Tensor[N, C, H, W]; the first input fixes H and W.
        - Output: as of `nn.Conv2d`
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | str | tuple[int, int] = 1,
        bias: bool | None = None,
        groups: int = 1,
        dilation: int | tuple[int, int] = 1,
        alpha: float = 0.04,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_planes, out_planes, kernel_size, stride, padding, dilation, groups, bool(bias))
        self.alpha, self.groups = alpha, groups
        self.shuffle_until_here = int(in_planes * alpha)

    @classmethod
    def from_ssconv(cls, layer: SSConv2d) -> "ListingConv2d":
        """Return Listing 1 with an ss convolution's parameters (the same objects) and flags, as the thing to time.

        Where it shuffles as many channels it shares π too, and without groups it then computes what the layer does.
        Else π is drawn here, not in the first forward, and the global generator stays where it is.
        """
        with torch.device("meta"):  # parameters that are dropped at once
            listing = cls(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.bias is not None,
                layer.groups,
                layer.dilation,
                layer.alpha,
            )
        listing.conv.weight, listing.conv.bias = layer.weight, layer.bias
        listing.conv.padding_mode = layer.padding_mode
        if (s := listing.shuffle_until_here) and layer.spatial_size is not None:
            m = s * layer.spatial_size[0] * layer.spatial_size[1]
            same = m == layer.permutation.numel()
            pi = layer.permutation if same else draw_permutation(m, mixed_seed("listing", layer.name))
            listing.register_buffer("random_indices", pi.to(layer.weight.device))
        return listing.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """Shuffle, then convolve (Eq. 1)."""
        return self.conv(self.shuffle(x))

    def shuffle(self, x: Tensor) -> Tensor:
        """Return P(x), Tensor[N, C, H, W]; the first call draws π."""
        s = self.shuffle_until_here
        if s == 0:
            return x
        if not hasattr(self, "random_indices"):
            self.register_buffer("random_indices", torch.randperm(s * x[0, 0].numel()).to(x.device))
        shuffled, rest = x[:, :s], x[:, s:]
        shuffled = shuffled.reshape(len(x), -1).index_select(1, self.random_indices).view(shuffled.shape)
        return group(shuffled, rest) if self.groups >= 2 else torch.cat((shuffled, rest), 1)


def group(shuffled: Tensor, rest: Tensor) -> Tensor:
    """Put shuffled and other channels together as `_group` does; its comment says "shuffled_x is interleaved".

    Args:
        shuffled: Tensor[N, s, H, W], s ≥ 1.
        rest: Tensor[N, C - s, H, W].

    Returns:
        Tensor[N, C, H, W]
    """
    n, s, height, width = shuffled.shape
    length, residue = divmod(rest.shape[1], s)
    blocks = rest[:, residue:].reshape(n, length, s, height, width)
    together = torch.cat((shuffled.unsqueeze(1), blocks), 1).view(n, -1, height, width)
    return torch.cat((together, rest[:, :residue]), 1) if residue else together


def values_copied(layer: SSConv2d) -> int:
    """Count the values an image that `cat` would write in Listing 1 at this layer's α; with a residue it runs twice.

    Listing 1 shuffles the first ⌊αC⌋ channels, whatever the layer's own layout is.
    """
    channels = layer.in_channels
    s = len(shuffled_channels(channels, layer.alpha, "leading"))
    if s == 0:
        return 0
    residue = (channels - s) % s if layer.groups >= 2 else 0
    written = channels + (channels - residue if residue else 0)
    return written * layer.spatial_size[0] * layer.spatial_size[1]
