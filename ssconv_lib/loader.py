"""Image folders to batches: files are decoded in processes of their own, while the device computes."""

import warnings
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from .data import Batches, Data, batch_numbers, choose_split
from .imagefolder import FolderData, FolderSplit
from .readers import Decoded, Reader, Request, Requests, check_loaders, end_pool, start_pool
from .seeds import stream

# of ImageNet's red, green and blue values, scaled to [0, 1], as everywhere in the literature
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def make_batches(
    data: Data | FolderData,
    which: Literal["train", "test"],
    batch_size: int,
    *,
    seed: int = 0,
    train: bool,
    device: torch.device | str = "cpu",
    loaders: int = 0,
) -> "Batches | FolderBatches":
    """The batches of one split, of data in memory or of files; see `Batches` and `FolderBatches` for the arguments."""
    if isinstance(data, FolderData):
        return FolderBatches(data, which, batch_size, seed=seed, train=train, device=device, loaders=loaders)
    return Batches(data, which, batch_size, seed=seed, train=train, device=device)


class FolderBatches:
    """The batches of one split of an image folder, epoch after epoch.

    Batch k of epoch e is a function of (seed, e, k) alone, and what happens to an image in an epoch of (seed, e, its
    number), whatever the number of processes and wherever the epoch was begun. The processes start with the first
    epoch and stay for the next ones; they end with these batches, or when an epoch is left before its last batch.

    Args:
        data: The data set.
        which: Its split, "train" or "test".
        batch_size: Images a batch; the last one of an epoch may be smaller.
        seed: Of order and augmentation; without meaning unless `train`.
        train: Whether to shuffle and augment; else images are read in order, and their centres are cut out.
        device: Where the batches are needed.
        loaders: Processes that decode; with 0 this one does. Only one epoch at a time can be read with them.

    Raises:
        ValueError: for an unknown split, a batch size below 1 or loaders below 0; for loaders in a process that is a
            daemon, which can't have any.
    """

    def __init__(
        self,
        data: FolderData,
        which: Literal["train", "test"],
        batch_size: int,
        *,
        seed: int = 0,
        train: bool,
        device: torch.device | str = "cpu",
        loaders: int = 0,
    ) -> None:
        self.split: FolderSplit = choose_split(data, which, batch_size)
        self.labels = self.split.labels.to(device)
        self.device = self.labels.device
        self.batch_size, self.seed, self.train, self.spec = batch_size, seed, train, data.spec
        self.loaders = min(check_loaders(loaders), len(self))
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
        row = [values.float().repeat(data.spec.pixels).to(self.device) for values in (1 / (255 * std), -mean / std)]
        self._scale, self._shift = row  # (W·C,)
        self._left_out: set[str] = set()
        self._requests = Requests()
        self._pool: DataLoader | None = None
        self._turn = 0

    def __len__(self) -> int:
        """Batches an epoch."""
        return -(-len(self.split) // self.batch_size)

    @property
    def skipped(self) -> list[str]:
        """Names of the images that could not be read and were left out so far, sorted."""
        return sorted(self._left_out)

    def epoch(self, epoch: int, start: int = 0, rank: int = 0, ranks: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches `start`, `start + 1`, … of an epoch, or of these every one whose number modulo `ranks` is `rank`.

        Yields:
            Images (N, C, H, W), float32 in channels_last, and labels (N,), int64, both on the device.

        Raises:
            ValueError: if the epoch has no batch `start`, nor ends there, or `rank` is not below `ranks`; while it is
                read, naming an image that can't be read, if such images are refused or nothing is left of a batch.
            OSError: a file is gone, or the disk or the network fails.
        """
        return self._epoch(epoch, batch_numbers(len(self), start, rank, ranks))

    def close(self) -> None:
        """Ends the processes; the next epoch starts new ones."""
        if self._pool is not None:
            end_pool(self._pool)
            self._pool = None

    def _epoch(self, epoch: int, numbers: range) -> Iterator[tuple[Tensor, Tensor]]:
        if not numbers:
            return
        self._turn += 1
        turn, left = self._turn, len(numbers)
        self._requests.now = self._plan(epoch, numbers)
        try:
            for decoded in self._open():
                batch = self._deliver(decoded)
                left -= 1
                yield batch
                if self.loaders and turn != self._turn:
                    raise RuntimeError("another epoch of these batches was begun: loaders read one at a time")
        finally:
            if left and turn == self._turn:
                self.close()

    def _plan(self, epoch: int, numbers: range) -> Iterator[Request]:
        count = len(self.split)
        order = (
            torch.randperm(count, generator=stream(self.seed, "order", epoch)) if self.train else torch.arange(count)
        )
        for k in numbers:
            index = order[k * self.batch_size : (k + 1) * self.batch_size]
            labels = self.split.labels[index].tolist()
            numbered = zip(index.tolist(), labels, strict=True)
            yield Request(epoch, [(i, label, self.split.names[i]) for i, label in numbered])

    def _open(self) -> DataLoader:
        if self._pool is None:
            reader = Reader(self.split.root, self.spec, self.seed if self.train else None)
            self._pool = start_pool(reader, self._requests, self.loaders, pin_memory=self.device.type == "cuda")
        return self._pool

    def _deliver(self, decoded: Decoded | Exception) -> tuple[Tensor, Tensor]:
        if isinstance(decoded, Exception):
            raise decoded
        for name, reason in decoded.left_out:
            if name not in self._left_out:
                self._left_out.add(name)
                warnings.warn(f"{self.split.root}/{name} can't be read ({reason}): it is left out", stacklevel=3)
        values = decoded.pictures.to(self.device, non_blocking=True).to(torch.float32)  # (N, H, W, C)
        rows = values.view(*values.shape[:2], -1)  # (N, H, W·C)
        torch.addcmul(self._shift, rows, self._scale, out=rows)
        return values.permute(0, 3, 1, 2), decoded.labels.to(self.device, non_blocking=True)
