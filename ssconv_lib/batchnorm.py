"""Batch norm's running statistics where a batch is several forwards, in one process or in many."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .group import Group


class RunningStatistics:
    """Running means and variances whose update does not depend on how the forwards of a step are spread.

    Every forward of a step starts from the same statistics, and afterwards they are averaged over all forwards of
    all processes. So K processes have the statistics of one process that does their forwards one by one, and all have
    the same at every step. (Left alone, one process would update them K times a step, and each of K processes
    would keep its own.)

    Args:
        model: The network; its batch norms must have a momentum, as all in this book have.
        group: The processes that share its steps.
    """

    def __init__(self, model: nn.Module, group: Group) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        self.group = group
        self.buffers = [b for norm in norms for b in (norm.running_mean, norm.running_var) if b is not None]
        self.before: list[Tensor] = []
        self.sums: list[Tensor] = []

    def begin(self) -> None:
        """Begin a step."""
        self.before = [buffer.clone() for buffer in self.buffers]
        self.sums = [torch.zeros_like(buffer) for buffer in self.buffers]

    def collect(self) -> None:
        """Take up what a forward made of the statistics and put them back, after its backward: that has read them."""
        if self.buffers:
            torch._foreach_add_(self.sums, self.buffers)
            torch._foreach_copy_(self.buffers, self.before)

    def end(self, forwards: int, sums: Tensor) -> Tensor:
        """Average over all forwards of the step; adds up `sums` over the processes on the same way.

        Args:
            forwards: How many there were, in all processes together.
            sums: A vector of numbers that each process has its part of.
        """
        parts = [sums, *(part.flatten().to(sums.dtype) for part in self.sums)]
        total = self.group.sum_(torch.cat(parts))
        sums, *parts = total.split([part.numel() for part in parts])
        for buffer, part in zip(self.buffers, parts, strict=True):
            buffer.copy_((part / forwards).view_as(buffer))
        return sums
