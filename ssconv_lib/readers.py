"""The processes that decode images, and what they are asked for.

A request names all that decides the answer, so the processes hold no state, and there can be any number of them, or
none. Pictures travel as uint8; they become normalised floats on the device.
"""

import atexit
import multiprocessing
import signal
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .children import end_with_parent, end_within
from .imagefolder import FolderData, Images
from .origin import processors
from .progress import bar
from .seeds import mixed_seed

GRACE = 10.0  # seconds that a process goes on when it is told to end: its parent may want to end in order
CHUNK = 64  # files that are checked at once


class Request(NamedTuple):
    """A batch to be made: its epoch, and of each image the number, the label and the name."""

    epoch: int
    images: list[tuple[int, int, str]]


class Requests:
    """The sampler of a DataLoader that stays for many epochs: what it gives is set before each."""

    def __init__(self, now: Iterable[Any] = ()) -> None:
        self.now = now

    def __iter__(self) -> Iterator[Any]:
        return iter(self.now)


class Decoded(NamedTuple):
    """A batch: pictures (N, H, W, C) uint8, labels (N,) int64; the names of what could not be read, and why."""

    pictures: Tensor
    labels: Tensor
    left_out: list[tuple[str, str]]


class Reader(Dataset):
    """Answers requests for batches. Errors that tell the user what to do are answers too.

    Raised in another process, they would arrive as the text of a traceback within a traceback.

    Args:
        root: The folder of the data set.
        spec: Its description.
        seed: Of augmentation; None cuts out the centres.
    """

    def __init__(self, root: str, spec: Images, seed: int | None) -> None:
        self.root, self.spec, self.seed = root, spec, seed

    def __getitem__(self, request: Request) -> Decoded | Exception:
        from .decode import Unreadable

        pictures, labels, left_out = [], [], []
        for number, label, name in request.images:
            try:
                pictures.append(self._view(name, request.epoch, number))
                labels.append(label)
            except Unreadable as error:
                if self.spec.corrupt == "refuse":
                    return error
                left_out.append((name, error.reason))
            except OSError as error:
                return error
        if not pictures:
            first, reason = left_out[0]
            return ValueError(
                f"nothing is left of a batch: none of its {len(left_out)} images can be read, such as "
                f"{self.root}/{first} ({reason}); bring the data set again"
            )
        return Decoded(torch.from_numpy(np.stack(pictures)), torch.tensor(labels), left_out)

    def _view(self, name: str, epoch: int, number: int) -> np.ndarray:
        from .decode import evaluation_view, training_view

        path = f"{self.root}/{name}"
        if self.seed is None:
            return evaluation_view(path, self.spec)
        return training_view(path, self.spec, mixed_seed(self.seed, "augment", epoch, number))


class _Checker(Dataset):
    """Decodes files in full: answers names with those that can't be read, and why."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __getitem__(self, names: list[str]) -> list[tuple[str, str]] | Exception:
        from .decode import Unreadable, check

        found = []
        for name in names:
            try:
                check(f"{self.root}/{name}")
            except Unreadable as error:
                found.append((name, error.reason))
            except OSError as error:
                return error
        return found


def unreadable(data: FolderData, loaders: int | None = None) -> list[tuple[str, str]]:
    """Decodes every image of a data set, with a progress bar.

    Args:
        data: The data set.
        loaders: Processes that decode; None is one for each processor.

    Returns:
        The name of each file that can't be read, below the folder of the data set, and why.

    Raises:
        OSError: a file is gone, or the disk or the network fails.
    """
    names = data.train.names + data.test.names
    requests = Requests([names[k : k + CHUNK] for k in range(0, len(names), CHUNK)])
    loaders = check_loaders(processors() if loaders is None else loaders)
    pool, found = start_pool(_Checker(data.train.root), requests, min(loaders, len(requests.now))), []
    try:
        with bar(total=len(names), desc=data.spec.folder, unit=" images") as progress:
            for request, result in zip(requests.now, pool, strict=True):
                if isinstance(result, Exception):
                    raise result
                found += result
                progress.update(len(request))
    finally:
        end_pool(pool)
    return found


_pools: weakref.WeakSet[DataLoader] = weakref.WeakSet()


def start_pool(reader: Dataset, requests: Requests, loaders: int, pin_memory: bool = False) -> DataLoader:
    """A DataLoader that answers requests in their order.

    The processes come from a clean server that has imported once what they need, not from a fork of this process,
    which may have threads and a GPU.
    """
    options: dict[str, Any] = {}
    if loaders:
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload([f"{__package__}.decode"])
        options = {"multiprocessing_context": context, "worker_init_fn": _begin, "persistent_workers": True}
    pool = DataLoader(
        reader,
        batch_size=None,  # a request is a batch already
        sampler=requests,
        num_workers=loaders,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or it would draw a seed from the global one
        **options,
    )
    _pools.add(pool)
    return pool


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin(_: int) -> None:
    """Prepare a process: deaf to Ctrl-C, in no hurry when a batch system tells all to end, and gone with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: end_within(GRACE))
    end_with_parent()


def end_pool(pool: DataLoader) -> None:
    """End the processes of a DataLoader now, and not when the last reference to its iterator is gone."""
    iterator, pool._iterator = pool._iterator, None
    if iterator is not None:
        iterator._shutdown_workers()


@atexit.register
def _end_all() -> None:
    """Before torch and multiprocessing, which would tell the processes to end and wait for them."""
    for pool in list(_pools):
        end_pool(pool)


def check_loaders(loaders: int) -> int:
    """Return the number of processes if this process can have as many.

    Raises:
        ValueError: it is below 0, or this process is a daemon, which can't have any.
    """
    if loaders < 0:
        raise ValueError(f"loaders is {loaders}: it must be at least 0")
    if loaders and multiprocessing.current_process().daemon:
        raise ValueError(
            f"loaders is {loaders}: this process is a daemon, which can't have processes of its own; take 0, or start "
            "it otherwise"
        )
    return loaders
