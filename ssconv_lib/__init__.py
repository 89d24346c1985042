"""Spatially shuffled convolution: `SSConv2d`, and `convert_to_ssconv` for a whole model.

These need torch alone; the studies behind the book are in the submodules.
"""

from .conv import SSConv2d
from .convert import convert_to_ssconv

__all__ = ["SSConv2d", "convert_to_ssconv"]
