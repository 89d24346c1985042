"""Numbers as readers know them."""

import pytest

from ssconv_lib import readable


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.27499999999999997, "0.28"), (0.2749, "0.27"), (-0.5, "−0.50"), (12345.678, "12,345.68"), (12345, "12,345")],
)
def test_a_number_reads_the_same_wherever_it_comes_from(value, text):
    assert readable.number(value) == text
