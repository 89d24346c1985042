"""The state of a run and its step: one forward or several, in one process or in many."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .batchnorm import RunningStatistics
from .data import Data
from .evaluation import evaluate, loss_and_logits
from .files import write_whole
from .group import SOLO, Group
from .history import check_history
from .imagefolder import FolderData, Images
from .loader import make_batches
from .models import create_model
from .origin import check_origins, origin
from .run import Run
from .seeds import mixed_seed
from .torchfile import load_checked

EVALUATION_BATCH = 500
STATE = ("epoch", "batch", "sums", "seconds", "history", "origins")  # with what has a state_dict, all resuming needs
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclasses.dataclass
class Machine:
    """How a run is carried out, as opposed to what it is; no part of the run's hash.

    Attributes:
        device: "cpu", "cuda", "cuda:1", …
        compile: A mode of `torch.compile`, such as "reduce-overhead" (CUDA graphs); None is eager. It has not been
            run on a GPU yet, so it is off by default.
        checkpoint_every: Seconds between checkpoints.
        should_stop: Asked after each step; True saves a checkpoint and ends.
        report: Called with each finished epoch's entry of the history.
        loaders: Processes that decode images, if the run's data are files.
        group: The processes that train the run together.
    """

    device: str = "cpu"
    compile: str | None = None
    checkpoint_every: float = 60.0
    should_stop: Callable[[], bool] = lambda: False
    report: Callable[[dict[str, Any]], None] = lambda entry: None
    loaders: int = 0
    group: Group = SOLO

    @property
    def origin(self) -> dict[str, str | int]:
        """What a record says about where it comes from."""
        return origin(self.device, self.compile, self.group.size)


class Training:
    """The state of a run between two steps: what a checkpoint holds and resuming restores.

    Order of the data and augmentation are functions of (seed, epoch), so there are no generators to save. All processes
    of a group have the same state after every step.

    Raises:
        ValueError: the forwards of a step can't be shared equally by the processes of the group, or the run's control
            is for one process.
    """

    def __init__(self, run: Run, data: Data | FolderData, machine: Machine) -> None:
        self.run, self.machine, self.group = run, machine, machine.group
        if run.forwards % self.group.size:
            raise ValueError(
                f"{run.label}: a step of {run.batch_size} images in forwards of {run.bn_batch or run.batch_size} "
                f"(bn_batch) can't be shared equally by {self.group.size} processes; take a divisor of {run.forwards}"
            )
        if run.control == "fresh" and self.group.size > 1:
            raise ValueError(
                f'{run.label}: control="fresh" draws a π for each forward of one process, {self.group.size} would each'
                " draw their own; train it in one process"
            )
        self.device = torch.device(machine.device)
        self.data = data.to(self.device)
        options = {"device": self.device, "loaders": machine.loaders}
        per_forward = run.bn_batch or run.batch_size
        self.train_batches = make_batches(self.data, "train", per_forward, seed=run.seed, train=True, **options)
        self.test_batches = make_batches(self.data, "test", EVALUATION_BATCH, train=False, **options)
        self.model = build_model(run, data.num_classes, data.input_size).to(self.device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=run.lr,
            momentum=run.momentum,
            weight_decay=run.weight_decay,
            nesterov=run.nesterov,
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=run.precision == "fp16")
        self.statistics = RunningStatistics(self.model, self.group) if run.forwards > 1 else None
        self.wrapped = self.group.wrap(self.model) if self.group.size > 1 else None
        self.forward = self.wrapped or self.model
        if machine.compile:
            torch._dynamo.reset()  # or the graphs of earlier runs in this process count against its limit
            self.forward = torch.compile(self.forward, mode=machine.compile)  # evaluation stays eager
        self.steps = -(-len(self.train_batches) // run.forwards)  # of an epoch
        self.epoch, self.batch = 0, 0
        self.evaluated = 0  # images that the last evaluation has read
        self.sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, wrong, images: of this epoch so far
        self.seconds = {"train": 0.0, "evaluate": 0.0}
        self.history: list[dict[str, Any]] = []
        self.origins = [machine.origin]

    def train_epoch(self, after_step: Callable[[], bool]) -> bool:
        """Train to the end of the epoch, or until `after_step` returns True; return whether the end was reached."""
        self.model.train()
        start = min(self.batch * self.run.forwards, len(self.train_batches))  # behind a last step short of forwards
        batches = self.train_batches.epoch(self.epoch, start, self.group.rank, self.group.size)
        last = time.perf_counter()
        with closing(batches):
            while self.batch < self.steps:
                self.step(batches)
                self.batch += 1
                now = time.perf_counter()
                self.seconds["train"] += now - last  # with the loading
                last = now
                if after_step():
                    return False
        return True

    def step(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """One step of SGD over this process's next forwards; on a GPU only fp16's loss scaling waits for the host."""
        lr = self.run.lr_at(Fraction(self.epoch * self.steps + self.batch, self.run.epochs * self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        sizes = self._forward_sizes()
        mine = sizes[self.group.rank :: self.group.size]
        self.optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros_like(self.sums)
        if self.statistics:
            self.statistics.begin()
        for k, (images, labels) in enumerate(islice(batches, len(mine))):
            with self._exchange(k == len(mine) - 1):
                sums += self._accumulate(images, labels, sum(sizes))
            if self.statistics:
                self.statistics.collect()
        if not mine:
            self._idle()
        if self.statistics:
            sums = self.statistics.end(len(sizes), sums)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.sums += sums

    def _forward_sizes(self) -> list[int]:
        """Images in each forward of this step, of all processes; the last step of an epoch has what is left."""
        first = self.batch * self.run.batch_size
        left = min(self.run.batch_size, len(self.data.train) - first)
        per_forward = self.train_batches.batch_size
        return [min(per_forward, left - done) for done in range(0, left, per_forward)]

    def _exchange(self, last: bool) -> AbstractContextManager:
        """Gradients go to the other processes with the last of this process's forwards."""
        return self.wrapped.no_sync() if self.wrapped and not last else nullcontext()

    def _accumulate(self, images: Tensor, labels: Tensor, total: int) -> Tensor:
        """Add one forward's gradients, by its part of the step's `total` images; return loss, wrong and images.

        An image that could not be read and is left out counts in `total`: such a step is a little smaller.
        """
        precision = self.run.precision
        with torch.autocast(self.device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            outputs = self.forward(images)
        loss, logits = loss_and_logits(outputs, labels)
        weight = len(labels) * self.group.size / total  # DistributedDataParallel takes the mean over processes
        self.scaler.scale(loss if weight == 1 else loss * weight).backward()
        wrong = (logits.argmax(1) != labels).sum()
        return torch.stack((loss.detach() * len(labels), wrong, torch.full_like(wrong, len(labels))))

    def _idle(self) -> None:
        """Take part in the exchange of gradients without an image: an epoch's last step can be short of forwards."""
        norms = [module for module in self.model.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.eval()  # one image need not have a spread to divide by
        outputs = self.forward(torch.zeros(1, *self.data.input_size, device=self.device))
        heads = outputs if isinstance(outputs, tuple) else (outputs,)
        self.scaler.scale(sum(logits.sum() for logits in heads) * 0).backward()
        for norm in norms:
            norm.train()

    def end_epoch(self) -> dict[str, Any]:
        """Evaluate, and move the epoch's numbers into the history."""
        start = time.perf_counter()
        test = evaluate(self.model, self.test_batches, self.group)
        self.seconds["evaluate"] += time.perf_counter() - start
        train_loss, train_wrong, train_images = self.sums.tolist()
        self.epoch, self.batch, self.evaluated = self.epoch + 1, 0, test.images
        self.sums.zero_()
        entry = {
            "epoch": self.epoch,
            "train_loss": _finite(train_loss / train_images),
            "train_error": 100 * train_wrong / train_images,
            "loss": _finite(test.loss / test.images),
            "error": 100 * test.wrong / test.images,
        }
        if isinstance(self.run.data, Images):
            entry["top5_error"] = 100 * test.wrong5 / test.images
            if skipped := len(self.data.train) - round(train_images) + len(self.data.test) - test.images:
                entry["skipped_images"] = skipped
        self.history.append(entry)
        return entry

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all; in a group process 0 does, for all."""
        if self.group.rank == 0:
            state = {name: getattr(self, name) for name in STATE}
            state |= {name: part.state_dict() for name, part in self._parts().items()}
            write_whole(path, lambda file: torch.save({"run": self.run.hash, **state}, file))

    def resume(self, path: Path) -> None:
        """Take up a checkpoint of the same run; in a group process 0 reads it, for all.

        Raises:
            ValueError: the file is damaged or belongs to another run.
        """
        here = self.origins
        state = self.group.share(lambda: self._read(path))
        with checkpoint_damage(path, self.run.label):
            self._check_state(state)
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            for name in STATE:
                setattr(self, name, state[name])
            self.sums = self.sums.to(self.device)
        if _without_date(self.origins[-1]) != _without_date(here[0]):
            self.origins += here

    def _check_state(self, state: dict[str, Any]) -> None:
        """Refuse numbers that no run has between two steps, before any is taken up."""
        epoch, batch, sums, seconds, history, origins = (state[name] for name in STATE)
        possible = (
            type(epoch) is type(batch) is int
            and 0 <= epoch <= self.run.epochs
            and 0 <= batch <= self.steps
            and (sums.shape, sums.dtype) == (self.sums.shape, self.sums.dtype)
            and {name: type(value) for name, value in seconds.items()} == {"train": float, "evaluate": float}
            and {type(origin) for origin in origins} == {dict}
        )
        if not possible:
            raise ValueError("what it says of the epoch, its sums, the seconds or the origins is impossible")
        check_history(history, epoch)
        check_origins(origins)

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "scaler": self.scaler}

    def _read(self, path: Path) -> dict[str, Any]:
        with checkpoint_damage(path, self.run.label):
            state = load_checked(path, "cpu" if self.group.size > 1 else self.device)
            owner = state["run"]
        if owner != self.run.hash:
            raise ValueError(f"checkpoint {path} belongs to run {owner}, not to {self.run.label}; delete it")
        return state


@contextmanager
def checkpoint_damage(path: Path, label: str) -> Iterator[None]:
    """A torn checkpoint of a run fails in many ways, all meaning the same; a ValueError says so."""
    try:
        yield
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise ValueError(f"checkpoint {path} is damaged; delete it to start {label} anew") from error


def build_model(run: Run, num_classes: int, input_size: tuple[int, int, int]) -> nn.Module:
    """Build the network of a run; its initial weights have a stream of their own, shared by conv and ss."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mixed_seed(run.seed, "weights"))  # torch.manual_seed seeds GPUs as well
        model = create_model(
            run.model,
            num_classes=num_classes,
            alpha=run.alpha,
            input_size=input_size,
            layout=run.layout,
            replace=run.replace,
            seed=run.seed if run.pi_seed is None else run.pi_seed,
            control=run.control,
        )
    return model.to(memory_format=torch.channels_last)


def _without_date(origin: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in origin.items() if name != "date"}


def _finite(value: float) -> float | None:
    """JSON has no NaN: a diverged loss is null."""
    return value if math.isfinite(value) else None
