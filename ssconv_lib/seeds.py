"""Streams of random numbers that have nothing to do with each other, each named by a key."""

import hashlib
import json

import torch


def mixed_seed(*key: int | str) -> int:
    """A seed of 63 bits for a key such as `(seed, "order", epoch)`, the same in every process."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(*key: int | str) -> torch.Generator:
    """A CPU generator of its own for a key; see `mixed_seed`."""
    return torch.Generator().manual_seed(mixed_seed(*key))
