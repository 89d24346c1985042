"""Numbers as readers know them."""

import pytest

from ssconv_lib import readable


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.27499999999999997, "0.28"), (0.2749, "0.27"), (-0.5, "−0.50"), (12345.678, "12,345.68"), (12345, "12,345")],
)
def test_a_number_reads_the_same_wherever_it_comes_from(value, text):
    assert readable.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.99996, "over 99.9 %"), (1.0, "100 %"), (0.993, "99.3 %"), (0.9934, "over 99.3 %"), (0.5, "50 %")],
)
def test_a_share_looks_no_larger_than_it_is(share, text):
    assert readable.at_least(share) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1e-8, "10⁻⁸"), (0.1, "10⁻¹"), (3e-12, "3·10⁻¹²"), (2.5e-4, "2.5·10⁻⁴"), (1, "10⁰")]
)
def test_a_power_of_ten_reads_as_one(value, text):
    assert readable.power_text(value) == text
