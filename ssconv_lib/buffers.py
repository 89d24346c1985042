"""π as a layer's buffer: looked at before it is used, whichever way it came; loaded by other keys, or not at all.

What is no permutation would move values that aren't there, and leave others out, without an error.
"""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from .controls import DRAWLESS
from .inplace import Moves
from .shuffle import is_permutation

if TYPE_CHECKING:
    from .conv import SSConv2d


def look_at(layer: "SSConv2d") -> Moves | None:
    """Return π, looked at; refuse one that something wrote to and that is none any more; None if nobody can look.

    It costs two comparisons if nothing was written. What writes in place raises the buffer's version, what replaces it
    makes it another object. Tensors made in inference mode have no version, so they are always looked at; in a traced
    graph nobody can look. A dispatch mode that looks on, as of a trace or of selective checkpointing, sees nothing.

    Raises:
        ValueError: it is no permutation.
    """
    if torch.compiler.is_compiling():
        return None
    index, checked = layer.permutation, layer._checked  # one read: another thread may set it
    if checked and checked.permutation is index and checked.version == index._version:
        return checked
    if torch.jit.is_tracing() or has_no_values(index):
        return None
    with _disable_current_modes():
        refuse_unless_permutation(layer, index, layer._label())
        moves = Moves(index, layer.shuffled, layer.in_channels, layer.spatial_size)
    if moves.version is not None:
        layer._checked = moves
    return moves


def has_no_values(tensor: Tensor) -> bool:
    """Tell whether the values can't be looked at: meta, of a subclass (fake, distributed), wrapped by a transform."""
    plain = type(tensor) in (Tensor, nn.Parameter)
    return not plain or tensor.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def refuse_unless_permutation(layer: "SSConv2d", index: Tensor, label: str) -> None:
    """Raise a ValueError unless the index is a permutation of the layer's shuffled channels and positions."""
    m = layer.num_shuffled * layer.spatial_size[0] * layer.spatial_size[1] if layer.num_shuffled else 0
    if not is_permutation(index, m):
        raise ValueError(
            f"{label}: the buffer of shape {tuple(index.shape)} and type {index.dtype} is not a permutation of"
            f" {m} positions ({layer.num_shuffled} channels of size {layer.spatial_size}); load one from a"
            " checkpoint of this alpha, layout and input size, and keep averages of weights (EMA, SWA) away"
            " from the buffers named permutation"
        )


def accept_state(layer: "SSConv2d", state: dict[str, Any], prefix: str) -> bool:
    """Rename Listing 1's keys, and look at the state's π, before it is loaded.

    Returns:
        Whether it is, or may be, another than the layer's.

    Raises:
        ValueError: it is no permutation, or its channels are in another order.
    """
    ours, label = prefix + "permutation", f"SSConv2d {prefix[:-1]!r}"
    if (theirs := prefix + "random_indices") in state:
        state[ours] = state.pop(theirs)
        if layer.groups > 1 and layer.layout != "listing" and layer.num_shuffled:
            raise ValueError(
                f"{label}: a checkpoint of Listing 1 with groups={layer.groups} loads only into"
                f" layout='listing', not {layer.layout!r}, because its channels are in another order"
            )
    for key in ("weight", "bias"):
        if prefix + "conv." + key in state:
            state[prefix + key] = state.pop(prefix + "conv." + key)
    if (loaded := state.get(ours)) is None:
        return False
    if has_no_values(loaded):
        return True
    refuse_unless_permutation(layer, loaded, label)
    own = layer.permutation
    return has_no_values(own) or not torch.equal(own, loaded.to(own.device))


def keep_own(layer: "SSConv2d", state: dict[str, Any], prefix: str, missing: list[str]) -> None:
    """Let a state without π, of a plain convolution, leave the layer's own where it is; behind the loading.

    Where the weight got its values (assign=True) and π has none yet, they are drawn; if no seed is known, π is missing.
    """
    if prefix + "permutation" not in state and state:
        half = layer.permutation.is_meta and not layer.weight.is_meta
        if half and layer.seed is not None:
            layer.reset_permutation()
        drew = layer.num_shuffled and layer.seed is not None and layer.control not in DRAWLESS
        if drew and not layer._is_seeded:
            warnings.warn(
                "the state dict holds no permutation, so an ss convolution keeps the one that it drew when it was made,"
                " without a seed. If these weights were trained with another one, save the buffers `permutation` with"
                " them, or give the layers a seed",
                stacklevel=3,
            )
    for name in ("permutation", "draws"):
        if prefix + name in missing and not (getattr(layer, name).is_meta and not layer.weight.is_meta):
            missing.remove(prefix + name)
