"""What a network gets wrong, and the loss that it is trained on."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import Batches
from .group import SOLO, Group

TOP = 5


class Evaluation(NamedTuple):
    """Sums over the images of a split.

    Attributes:
        loss: Of cross-entropy.
        wrong: Images whose class is not the first answer.
        wrong5: Images whose class is not among the first five answers.
        images: How many there were.
    """

    loss: float
    wrong: int
    wrong5: int
    images: int


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches, group: Group = SOLO) -> Evaluation:
    """Read every image of a split once, in fp32 and eval mode, each process of the group its share of the batches."""
    model.eval()
    device = batches.labels.device
    sums = torch.zeros(4, dtype=torch.float64)
    for images, labels in batches.epoch(0, rank=group.rank, ranks=group.size):
        with torch.autocast(device.type, enabled=False):
            logits = model(images)
        loss = F.cross_entropy(logits, labels, reduction="sum").double()
        missed = (logits.argmax(1) != labels).sum()
        best = logits.topk(min(TOP, logits.shape[1]), dim=1).indices  # (N, 5)
        missed5 = (best != labels[:, None]).all(1).sum()
        sums = sums.to(device) + torch.stack((loss, missed, missed5, torch.full_like(missed, len(labels))))
    loss, *counts = group.sum_(sums.cpu()).tolist()
    return Evaluation(loss, *map(round, counts))


def loss_and_logits(outputs: Tensor | tuple[Tensor, ...], labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of a training step, and the logits that answer.

    A network with an attention branch gives the logits of both branches (Fukui et al. 2019, Sec. 3.3): the loss is the
    sum of both cross-entropies, and the first, the perception branch, answers.

    Args:
        outputs: Logits Tensor[N, classes], or a tuple of such.
        labels: LongTensor of shape (N,).
    """
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    first, *others = (logits.to(torch.promote_types(logits.dtype, torch.float32)) for logits in heads)
    loss = F.cross_entropy(first, labels)
    for logits in others:
        loss = loss + F.cross_entropy(logits, labels)
    return loss, heads[0]
