"""Listing 1 from an ss convolution: the same parameters, and the same results where the two mean the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssconv_lib.conv import SSConv2d
from ssconv_lib.listing import ListingConv2d
from ssconv_lib.shuffle import is_permutation


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(4, 24),
    kernel=st.sampled_from([1, 3, (1, 3)]),
    stride=st.sampled_from([1, 2]),
    padding=st.sampled_from([0, 1]),
    bias=st.booleans(),
    alpha=st.sampled_from([0.25, 0.5, 1.0]),
    padding_mode=st.sampled_from(["zeros", "circular"]),
)
def test_without_groups_it_computes_the_same(channels, kernel, stride, padding, bias, alpha, padding_mode):
    layer = SSConv2d(
        channels, 5, kernel, stride, padding, bias=bias, padding_mode=padding_mode, alpha=alpha, spatial_size=6
    )
    theirs = ListingConv2d.from_ssconv(layer)
    x = torch.randn(2, channels, 6, 6)
    assert torch.allclose(theirs(x), layer(x), atol=1e-6)
    assert theirs.random_indices is layer.permutation


def test_parameters_are_the_same_objects_and_flags_are_kept():
    layer = SSConv2d(8, 4, 3, padding=1, alpha=0.5, spatial_size=6).eval()
    layer.weight.requires_grad_(False)
    theirs = ListingConv2d.from_ssconv(layer)
    assert theirs.conv.weight is layer.weight
    assert theirs.conv.bias is layer.bias
    assert not theirs.training
    assert set(theirs.state_dict()) == {"conv.weight", "conv.bias", "random_indices"}


@pytest.mark.parametrize("layout", ["interleaved", "listing", "matched"])
def test_of_a_grouped_layer_it_shares_a_permutation_as_long_as_its_own(layout):
    layer = SSConv2d(8, 8, 3, padding=1, groups=2, alpha=0.25, spatial_size=6, layout=layout)
    theirs = ListingConv2d.from_ssconv(layer)
    assert theirs.random_indices is layer.permutation
    x = torch.randn(1, 8, 6, 6)
    assert torch.allclose(theirs(x), layer(x), atol=1e-6) == (layout != "interleaved"), "3 rests of 2: nothing is moved"


def test_where_it_shuffles_another_number_of_channels_it_has_its_own():
    layer = SSConv2d(16, 8, 1, groups=2, alpha=0.3, spatial_size=6)  # channels 2, 5, 8, 11, 14; Listing 1's are 0 to 3
    one, other = (ListingConv2d.from_ssconv(layer) for _ in range(2))
    assert is_permutation(one.random_indices, 4 * 36)
    assert torch.equal(one.random_indices, other.random_indices)
    assert one(torch.randn(1, 16, 6, 6)).shape == (1, 8, 6, 6)


def test_too_small_an_alpha_shuffles_nothing():
    layer = SSConv2d(8, 4, 1, alpha=0.1)
    assert torch.equal(ListingConv2d.from_ssconv(layer)(x := torch.randn(1, 8, 5, 5)), layer(x))


def test_no_random_number_is_drawn():
    layer = SSConv2d(8, 4, 3, alpha=0.5, spatial_size=6)
    before = torch.get_rng_state()
    ListingConv2d.from_ssconv(layer)
    assert torch.equal(torch.get_rng_state(), before)
