"""Packages that only some networks need: the layer itself needs none but torch."""

import importlib
from types import ModuleType


def package_of(network: str, package: str) -> ModuleType:
    """Import the package that a network comes from.

    Raises:
        RuntimeError: it can't be imported; names the network and the remedy.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RuntimeError(
            f"{network} comes from {package}, which can't be imported ({error}); make installs it,"
            " as does pip install -e '.[book]'"
        ) from error
