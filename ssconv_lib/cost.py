"""What shuffling costs a network, counted: parameters, multiply-accumulates, values moved."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .conv import SSConv2d
from .convert import shuffle_summary
from .listing import values_copied


def cost(model: nn.Module, input_size: tuple[int, int, int]) -> dict[str, int]:
    """Count what a network holds and does for one image of (C, H, W).

    Returns:
        `parameters`; `macs`, multiply-accumulates of convolutions and linear layers; `convs`, `converted`, `active`
        and `channels` as in `shuffle_summary`; `moved`, the values that the shuffles move; `pi_bytes`, what
        their permutations take; `listing_copies`, the values that Listing 1's `cat` writes at the same α.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *input_size))
    summary = shuffle_summary(model)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs": counter.get_total_flops() // 2,
        **{name: summary[name] for name in ("convs", "converted", "active", "channels")},
        "moved": summary["positions"],
        "pi_bytes": 8 * summary["positions"],
        "listing_copies": sum(values_copied(m) for m in model.modules() if isinstance(m, SSConv2d)),
    }
