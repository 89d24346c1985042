"""Is the wiring used? What trained networks answer with P treated, and to images moved, resized and corrupted.

Each probe yields an `Outcome` for every condition, and reads all test images for it. Networks with and without
shuffling see the same pixels, so that their answers are paired by image.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product

import torch.nn.functional as F
from torch import Tensor, nn

from .ablation import Change, ask, blocks, treated
from .controls import DRAWLESS, FORMS
from .corruptions import LEVELS, SEVERITIES, corrupt, pixel_scale
from .probes import Condition, Outcome, Subject
from .seeds import mixed_seed
from .training import build_model

TREATMENTS = ("other_pi", "fresh", "unshuffled", "mean", "zeroed")  # of ablation.TREATMENTS, all layers at once
DRAWN = ("other_pi", "fresh")  # of these
SHIFTS = (1, 2, 4, 8)  # pixels
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}  # where the picture goes, (dy, dx)
FACTORS = tuple(map(Fraction, ("3/4", "7/8", "1", "5/4", "3/2")))  # of the side
AS_IS, BACK, NEW_PI, UNSHUFFLED = "as is", "resized back", "new π", "unshuffled"  # ways to take another size


def wiring(subject: Subject) -> Iterator[Outcome]:
    """The network as it is, then with P of all ss convolutions treated at once, see `ablation.treated`.

    Conditions: treatment ("intact" or one of `TREATMENTS`) and draw (0 where nothing is drawn). Of networks without
    shuffling, or whose P is no permutation, there is only the first.
    """
    asked = _Asked(subject)
    yield asked.outcome({"treatment": "intact", "draw": 0})
    layers = _wired(subject)
    for how in TREATMENTS if layers else ():
        for draw in range(subject.run.draws if how in DRAWN else 1):
            with treated(subject.model, layers, how, mixed_seed(subject.run.seed, "draw", draw)):
                outcome = asked.outcome({"treatment": how, "draw": draw})
            yield outcome


def shift(subject: Subject) -> Iterator[Outcome]:
    """The images moved by some pixels: the error, and consistency (Zhang 2019) as images whose answer changed.

    Beyond the edge an image is continued by reflection, not by black as in training: nothing dark moves in. A patch of
    the generated task can leave the image.

    Conditions: shift (pixels), direction ("none" for 0, else of `DIRECTIONS`) and measure: "error", where `wrong` means
    a wrong answer, or "changed", where it means another answer than to the unmoved image.
    """
    asked = _Asked(subject)
    still = asked.outcome({"shift": 0, "direction": "none", "measure": "error"})
    yield still
    for pixels in SHIFTS:
        for direction, (dy, dx) in DIRECTIONS.items():
            at = {"shift": pixels, "direction": direction}
            by = (dy * pixels, dx * pixels)
            moved = asked.outcome({**at, "measure": "error"}, lambda x, _, by=by: moved_by(x, *by))
            yield moved
            yield Outcome({**at, "measure": "changed"}, moved.answers != still.answers, moved.answers)


def sizes(subject: Subject) -> Iterator[Outcome]:
    """Other input sizes, the images resized bilinearly with antialiasing.

    A plain network takes them "as is". A π is for one size, so a network that shuffles takes them "resized back" to its
    own size, or gets a "new π" of that size, with the trained weights, or is "unshuffled", which needs no π. Plain ones
    are also asked "resized back", where only detail is lost.

    Conditions: size (height in pixels), way and draw (of a new π).
    """
    asked, side = _Asked(subject), tuple(subject.data.input_size[1:])
    for factor in FACTORS:
        size = tuple(round(factor * n) for n in side)
        at = {"size": size[0], "draw": 0}
        if size == side:
            yield asked.outcome({**at, "way": AS_IS})
        else:
            yield asked.outcome({**at, "way": BACK}, lambda x, _, size=size: resized(resized(x, size), side))
        for draw, way, model in _networks_for(subject, size):
            yield asked.outcome({**at, "draw": draw, "way": way}, lambda x, _, size=size: resized(x, size), model)


def corruptions(subject: Subject) -> Iterator[Outcome]:
    """Corrupted images, see `corruptions.corrupt`; first the images as they are, as corruption "none", severity 0."""
    asked = _Asked(subject)
    yield asked.outcome({"corruption": "none", "severity": 0})
    scale = pixel_scale(subject.data)
    for kind, severity in product(LEVELS, SEVERITIES):
        at = {"corruption": kind, "severity": severity}
        yield asked.outcome(at, lambda x, first, at=(kind, severity): corrupt(x, *at, scale, first))


def moved_by(images: Tensor, dy: int, dx: int) -> Tensor:
    """Move pictures down by dy and to the right by dx pixels; beyond the edge they are mirrored.

    Args:
        images: Tensor[N, C, H, W].
        dy: Pixels, less than H either way.
        dx: Pixels, less than W either way.
    """
    height, width = images.shape[-2:]
    margin = max(abs(dy), abs(dx))
    padded = F.pad(images, (margin,) * 4, mode="reflect")
    return padded[..., margin - dy : margin - dy + height, margin - dx : margin - dx + width]


def resized(images: Tensor, size: Iterable[int]) -> Tensor:
    """Resize Tensor[N, C, H, W] to (height, width), bilinearly, with antialiasing."""
    return F.interpolate(images, tuple(size), mode="bilinear", antialias=True, align_corners=False)


def at_size(subject: Subject, size: tuple[int, int], draw: int = 0) -> nn.Module:
    """Return the network for images of another (height, width): the trained weights, π drawn anew for that size."""
    run = subject.run.network
    pi_seed = mixed_seed(subject.run.seed, "size", *size, draw)
    model = build_model(replace(run, pi_seed=pi_seed), subject.data.num_classes, (subject.data.input_size[0], *size))
    of_size = ("permutation", "draws")
    state = {name: x for name, x in subject.model.state_dict().items() if name.rpartition(".")[2] not in of_size}
    model.load_state_dict(state)
    return model.eval().to(subject.device)


def _networks_for(subject: Subject, size: tuple[int, int]) -> Iterator[tuple[int, str, nn.Module]]:
    """The ways in which a network itself takes images of a size: draw, way, and the network with nothing treated."""
    own, native = blocks(subject.model), size == tuple(subject.data.input_size[1:])
    if not own or subject.run.network.control in DRAWLESS:
        if not native:
            yield 0, AS_IS, at_size(subject, size) if own else subject.model
    else:
        for draw in range(subject.run.draws):
            yield draw, NEW_PI, at_size(subject, size, draw)
    if layers := _wired(subject):
        model = at_size(subject, size)
        with treated(model, layers, "unshuffled"):  # a network of its own: nobody else sees what is done to it
            yield 0, UNSHUFFLED, model


def _wired(subject: Subject) -> list[str]:
    """The ss convolutions that have a π."""
    if subject.run.network.control in FORMS:
        return []
    return [name for layers in blocks(subject.model).values() for name in layers]


class _Asked:
    """The test images of a subject, read again for each condition."""

    def __init__(self, subject: Subject) -> None:
        self.model, self.batches = subject.model, subject.test_batches()

    def outcome(self, condition: Condition, change: Change | None = None, model: nn.Module | None = None) -> Outcome:
        """Ask a network, by default the subject's, about all images, changed or not."""
        answers, wrong = ask(self.model if model is None else model, self.batches, change)
        return Outcome(condition, wrong, answers)
