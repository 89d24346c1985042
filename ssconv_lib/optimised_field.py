"""Eq. 4: receptive fields found by optimisation, several on one network at once, resumable with the same bits.

R* = argmin_R ‖M · (φ_l(σ(R) · x) − φ_l(x))‖² + β ‖σ(R)‖₁, with one R of shape (C, H, W) for all images. The squared
error is summed over channels and positions where M is 1, and its mean is taken over the batch.

An iteration costs one forward behind which no gradient of a parameter is formed, cut behind layer l, its backward, and
a share of the forward that gives φ_l(x), which all runs on the same images have in common.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor, nn

from .data import Batches
from .fieldrun import FieldRun
from .fieldstep import Optimised, OptimisedField, clean_parts, held
from .files import write_whole
from .loader import FolderBatches
from .naive_field import iteration_cost
from .torchfile import load_checked
from .training import checkpoint_damage


def optimise(
    network: nn.Module,
    batches: Batches | FolderBatches,
    runs: Sequence[FieldRun],
    *,
    black: Tensor | None = None,
    checkpoints: Path | None = None,
    checkpoint_every: float = 60.0,
    should_stop: Callable[[], bool] = lambda: False,
    report: Callable[[int], None] = lambda iterations: None,
    compare: bool = True,
) -> dict[str, Optimised]:
    """Optimise several fields on one network, each from its checkpoint if there is one.

    Iteration t sees batch t, a function of (seed, t) alone: the short last batch of an epoch is left out. Those
    furthest behind go first, the others join them, so it doesn't matter with which others a run goes.

    Args:
        network: On the batches' device; it is as before at the end, also after an error.
        batches: Of the training split, with augmentation, of the runs' seed and batch.
        runs: All of this network, and with one seed and batch.
        black: See `OptimisedField`.
        checkpoints: A folder for `<label>.pt` of each run; they stay, and the caller removes them.
        checkpoint_every: Seconds between checkpoints.
        should_stop: Asked before each iteration; True saves checkpoints and ends.
        report: Called after each iteration with the number of runs that made it, and at once with those on file.
        compare: Whether to measure `iteration_cost` at the start of each run.

    Returns:
        By hash, what the runs found that reached their last iteration.

    Raises:
        ValueError: a layer, box or channel that the network doesn't have; a checkpoint that is damaged or of another
            run; runs of different seeds or batches than these batches; fewer images than a batch.
    """
    _check_batches(batches, runs)
    with held(network):
        fields = [OptimisedField(network, run, black) for run in runs]
        for field in fields:
            _resume(field, checkpoints)
            report(field.iteration)
        if compare:
            _compare([field for field in fields if not field.done and not field.cost], batches, black)
        saver = _Saver(fields, checkpoints, checkpoint_every)
        _advance(fields, batches, saver, should_stop, report)
    return {field.run.hash: field.result() for field in fields if field.done}


def batch_stream(batches: Batches | FolderBatches, start: int) -> Iterator[Tensor]:
    """Yield the images of batch `start`, `start` + 1, … of all epochs; the short last one of an epoch is left out."""
    full = len(batches.labels) // batches.batch_size
    epoch, first = divmod(start, full)
    while True:
        with closing(batches.epoch(epoch, start=first)) as of_epoch:
            for number, (images, _) in enumerate(of_epoch, first):
                if number < full:
                    yield images
        epoch, first = epoch + 1, 0


def _check_batches(batches: Batches | FolderBatches, runs: Sequence[FieldRun]) -> None:
    for run in runs:
        if (run.seed, run.batch) != (batches.seed, batches.batch_size):
            raise ValueError(
                f"{run.label}: seed = {run.seed}, batch = {run.batch}; expected those of the batches, "
                f"{batches.seed} and {batches.batch_size}"
            )
    if not batches.train or len(batches.labels) < batches.batch_size:
        kind = "training" if batches.train else "evaluation"
        raise ValueError(
            f"{len(batches.labels)} images in {kind} batches of {batches.batch_size}: expected training batches, and "
            "images for one at least; take a smaller batch"
        )


def _compare(fields: Sequence[OptimisedField], batches: Batches | FolderBatches, black: Tensor | None) -> None:
    """Measure the cost of an iteration of each field, on the first batch; R and the batches stay where they are."""
    if fields:
        with closing(batch_stream(batches, 0)) as stream:
            x = next(stream)
        clean_parts(fields[0].network, [field.part for field in fields], x)  # what can't be is named by `cut`
        for field in fields:
            field.cost = iteration_cost(field.network, field.run, x, black)


def _advance(
    fields: Sequence[OptimisedField],
    batches: Batches | FolderBatches,
    saver: "_Saver",
    should_stop: Callable[[], bool],
    report: Callable[[int], None],
) -> None:
    """Bring all fields to their ends; a checkpoint and an end before, if asked to stop."""
    while waiting := [field for field in fields if not field.done]:
        now = min(field.iteration for field in waiting)
        last = time.monotonic()
        with closing(batch_stream(batches, now)) as stream:
            while active := [field for field in waiting if field.iteration == now and not field.done]:
                if should_stop():
                    saver.save()
                    return
                _iterate(active, next(stream))
                before, last, now = last, time.monotonic(), now + 1
                for field in active:
                    field.seconds += (last - before) / len(active)
                report(len(active))
                saver.save_if_due()


def _iterate(fields: Sequence[OptimisedField], x: Tensor) -> None:
    clean = clean_parts(fields[0].network, [field.part for field in fields], x)
    for field in fields:
        field.step(x, clean[field.part])


class _Saver:
    """Checkpoints, a file a field, from time to time."""

    def __init__(self, fields: Sequence[OptimisedField], folder: Path | None, every: float) -> None:
        self.fields, self.folder, self.every, self.last = fields, folder, every, time.monotonic()

    def save_if_due(self) -> None:
        if time.monotonic() - self.last >= self.every:
            self.save()

    def save(self) -> None:
        for field in self.fields if self.folder else ():
            state = field.state_dict()
            write_whole(_checkpoint(self.folder, field), lambda file, state=state: torch.save(state, file))
        self.last = time.monotonic()


def _checkpoint(folder: Path, field: OptimisedField) -> Path:
    return folder / f"{field.run.label}.pt"


def _resume(field: OptimisedField, folder: Path | None) -> None:
    if folder is None or not (path := _checkpoint(folder, field)).exists():
        return
    with checkpoint_damage(path, field.run.label):
        state = load_checked(path)
        owner = state["run"]
        if owner == field.run.hash:
            field.load_state_dict(state)
    if owner != field.run.hash:
        raise ValueError(f"checkpoint {path} belongs to run {owner}, not to {field.run.label}; delete it")
