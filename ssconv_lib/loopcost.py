"""What the training loop costs around the bare step: both in one process, in turn, so that drift hits both alike."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from .data import load
from .progress import bar
from .run import Run
from .training import Machine, Training


@dataclass(frozen=True)
class LoopCost:
    """Images a second with the real data path and on one ready-made batch.

    Attributes:
        loop: Median over the rounds, with loading, augmentation and normalisation of every batch.
        step: Median over the rounds of the same steps on one batch that lies ready.
        ratio: Median of loop / step, round by round; 1 is a loop that costs nothing.
        low: The smallest of these ratios.
        high: The largest.
    """

    loop: float
    step: float
    ratio: float
    low: float
    high: float


def loop_cost(run: Run, *, steps: int = 12, rounds: int = 9, device: str = "cpu") -> LoopCost:
    """Measure how much of the bare step's speed the training loop keeps.

    Args:
        run: Its data, model, batch size and precision are used; nothing is recorded.
        steps: Steps in each half of a round.
        rounds: Rounds of both halves, after one to warm up.
        device: Where to train.
    """
    training = Training(run, load(run.data), Machine(device=device))
    training.model.train()
    batches = _endless(training)
    images, labels = (tensor.clone(memory_format=torch.preserve_format) for tensor in next(batches))

    def bare() -> None:
        training.step(iter([(images, labels)]))

    def real() -> None:
        training.step(batches)

    seconds = {bare: [], real: []}
    for number in bar(iterable=range(rounds + 1), desc=run.label, unit="round"):
        for do in (bare, real) if number % 2 else (real, bare):  # neither is always the first
            seconds[do].append(_seconds(do, steps, device))
    loops, bares = seconds[real][1:], seconds[bare][1:]
    ratios = [one / other for one, other in zip(bares, loops, strict=True)]
    count = steps * run.batch_size
    return LoopCost(count / median(loops), count / median(bares), median(ratios), min(ratios), max(ratios))


def _seconds(do: Callable[[], None], times: int, device: str) -> float:
    start = time.perf_counter()
    for _ in range(times):
        do()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _endless(training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        whole = (batch for batch in training.train_batches.epoch(epoch) if len(batch[1]) == training.run.batch_size)
        yield from whole
        epoch += 1
