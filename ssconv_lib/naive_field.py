"""Eq. 4's iteration as one would first write it, and what it costs beside this project's."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .fieldrun import FieldRun
from .fieldstep import OptimisedField, clean_parts, held, hide
from .timing import interleaved, rounded

ROUNDS = 7


def naive_step(
    network: nn.Module,
    run: FieldRun,
    field: Tensor,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    black: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """An iteration as one would first write it, for comparison: the whole network twice, all parameters' gradients.

    Only φ_l(x) is taken without gradients, which most would think of.

    Args:
        network: In eval mode.
        run: What to optimise.
        field: R, Tensor[1, C, H, W], which requires a gradient and has it afterwards.
        optimizer: Of the field.
        x: Normalised images, Tensor[N, C, H, W].
        black: See `hide`.

    Returns:
        The perceptual part and the penalty before the step.
    """
    outputs: list[Tensor] = []
    hook = network.get_submodule(run.layer).register_forward_hook(lambda _, inputs, y: outputs.append(y.clone()))
    try:
        with torch.no_grad():
            network(x)
        sigma = torch.sigmoid(field)
        network(hide(x, sigma, black))
    finally:
        hook.remove()
    clean, masked = outputs
    difference = box_mask(run, clean) * (masked - clean)
    perceptual, penalty = (difference**2).sum() / len(x), run.beta * sigma.abs().sum()
    optimizer.zero_grad()
    (perceptual + penalty).backward()
    optimizer.step()
    return perceptual.detach(), penalty.detach()


def box_mask(run: FieldRun, y: Tensor) -> Tensor:
    """Return M of Eq. 4 in the units of a layer's output Tensor[N, c, h, w]: 0 and 1, Tensor[c, h, w]."""
    mask, pixels = torch.zeros_like(y[0]), run.input_size[1]
    low, high = (end * y.shape[-1] // pixels for end in run.box)
    mask[slice(None) if run.channel is None else run.channel, low:high, low:high] = 1
    return mask


def iteration_cost(
    network: nn.Module, run: FieldRun, x: Tensor, black: Tensor | None = None, rounds: int = ROUNDS
) -> dict[str, list[float]]:
    """Time an iteration the naive way and this module's, in turn, on one batch; nothing of the network changes.

    Returns:
        `naive` and `fast`: seconds of each round. The fast one takes its own φ_l(x), which several runs would share.
    """
    ours, rival = OptimisedField(network, run, black), OptimisedField(network, run, black)
    ours._marks = frozenset()

    def fast() -> None:
        ours.step(x, clean_parts(network, [ours.part], x)[ours.part])

    def naive() -> None:
        naive_step(network, run, rival.field, rival.optimizer, x, rival.black)

    def timer(step: Callable[[], None], gradients: bool) -> Callable[[], float]:
        def once() -> float:
            with held(network, gradients=gradients):
                return _seconds(step, x.device)

        return once

    seconds = interleaved({"naive": timer(naive, True), "fast": timer(fast, False)}, rounds, label=run.layer)
    return {name: [rounded(one) for one in each] for name, each in seconds.items()}


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    """By the clock, with the wait for a GPU at both ends: also what Python takes is a part of an iteration."""
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
    wait()
    start = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - start
