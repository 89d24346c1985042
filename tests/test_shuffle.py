"""Which channels, which permutation, and P itself, against the paper's equations written out by hand."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssconv_lib.shuffle import (
    channel_slice,
    draw_permutation,
    is_permutation,
    listing_order,
    resolve_layout,
    shuffled_channels,
    spatial_shuffle,
)

hundredths = st.integers(0, 100)
channel_counts = st.integers(1, 600)


@given(channel_counts, hundredths)
def test_leading_is_eq_2_with_an_exact_floor(channels, percent):
    """1-based c ≤ ⌊αC⌋, in whole numbers: ⌊percent·C/100⌋."""
    expected = [c - 1 for c in range(1, channels + 1) if c <= percent * channels // 100]
    assert shuffled_channels(channels, percent / 100, "leading").tolist() == expected


@given(channel_counts, hundredths.filter(bool))
@pytest.mark.filterwarnings("ignore:.*Eq. 3 takes every")
def test_interleaved_is_eq_3(channels, percent):
    """1-based c with c mod ⌊1/α⌋ = 0."""
    q = 100 // percent
    expected = [c - 1 for c in range(1, channels + 1) if c % q == 0]
    assert shuffled_channels(channels, percent / 100, "interleaved").tolist() == expected
    assert len(shuffled_channels(channels, percent / 100, "matched")) == len(expected)


@pytest.mark.parametrize(
    ("channels", "alpha", "layout", "count"),
    [
        (100, 0.29, "leading", 29),  # int(100 * .29) is 28
        (128, 0.06, "leading", 7),
        (256, 0.06, "leading", 15),
        (512, 0.06, "leading", 30),
        (128, 0.06, "interleaved", 8),
        (256, 0.06, "interleaved", 16),
        (512, 0.06, "interleaved", 32),
        (512, 0.06, "matched", 32),
        (16, 0.04, "leading", 0),
        (16, 0, "interleaved", 0),
    ],
)
def test_counts_of_the_errata(channels, alpha, layout, count):
    assert len(shuffled_channels(channels, alpha, layout)) == count


def test_matched_depends_on_groups_as_the_layer_does():
    assert len(shuffled_channels(64, 0.06, "matched", groups=1)) == len(shuffled_channels(64, 0.06, "leading")) == 3
    assert len(shuffled_channels(64, 0.06, "matched", groups=2)) == 4


def test_channels_are_sorted_zero_based_int64():
    channels = shuffled_channels(64, 0.06, "interleaved")
    assert channels.dtype == torch.int64
    assert channels.tolist() == [15, 31, 47, 63]
    assert shuffled_channels(64, 0.06, "leading").tolist() == [0, 1, 2]


def test_layouts_depend_on_groups_as_the_paper_says():
    assert resolve_layout("auto", 1) == "leading"
    assert resolve_layout("auto", 2) == "interleaved"
    assert resolve_layout("listing", 1) == resolve_layout("matched", 1) == "leading"
    assert resolve_layout("listing", 2) == "listing"
    assert resolve_layout("interleaved", 1) == "interleaved"


def test_above_one_half_interleaving_shuffles_everything_and_says_so():
    with pytest.warns(UserWarning, match=r"all 10 channels.*true fraction"):
        assert len(shuffled_channels(10, 0.6, "interleaved")) == 10


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf"), "0.1", None, True, 1j])
def test_bad_alpha_is_quoted(alpha):
    with pytest.raises(ValueError, match=r"alpha=.*\[0, 1\]"):
        channel_slice(10, alpha)


@pytest.mark.parametrize("channels", [0, -1, 2.5, True, None])
def test_bad_channel_count_is_quoted(channels):
    with pytest.raises(ValueError, match="channels=.*positive integer"):
        channel_slice(channels, 0.5)


def test_unknown_layout_is_quoted():
    with pytest.raises(ValueError, match="layout='diagonal'.*'leading'"):
        shuffled_channels(10, 0.5, "diagonal")


shapes = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 5), st.integers(1, 5))


@given(shapes, st.sampled_from(["leading", "interleaved"]), st.integers(1, 50), st.integers(0, 2**63 - 1))
def test_shuffle_is_the_definition(shape, layout, percent, seed):
    """Against Eq. 2 / 3 written as a loop: out[k] = in[π[k]] over the chosen channels, the rest untouched."""
    chosen = channel_slice(shape[1], percent / 100, layout)
    channels = list(range(shape[1])[chosen])
    size = shape[2] * shape[3]
    permutation = draw_permutation(len(channels) * size, seed)
    x = torch.randn(shape)
    out = spatial_shuffle(x, permutation, chosen)
    expected = x.clone()
    for k, source in enumerate(permutation.tolist()):
        c, position = channels[k // size], k % size
        from_c, from_position = channels[source // size], source % size
        expected[:, c].flatten(1)[:, position] = x[:, from_c].flatten(1)[:, from_position]
    assert torch.equal(out, expected)
    assert torch.equal(spatial_shuffle(x[0], permutation, chosen), expected[0])


def test_shuffle_is_linear_keeps_the_input_and_does_not_commute_with_translation():
    chosen, permutation = slice(0, 2, 1), draw_permutation(2 * 36, seed=1)
    x, y = torch.randn(2, 3, 8, 6, 6, dtype=torch.float64)
    before, version = x.clone(), x._version
    shuffled = spatial_shuffle(x, permutation, chosen)
    assert torch.equal(x, before)
    assert x._version == version
    torch.testing.assert_close(
        spatial_shuffle(2 * x + y, permutation, chosen), 2 * shuffled + spatial_shuffle(y, permutation, chosen)
    )
    assert torch.equal(shuffled.flatten(1).sort().values, x.flatten(1).sort().values)
    moved_first = spatial_shuffle(x.roll(1, dims=-1), permutation, chosen)
    assert not torch.equal(moved_first, shuffled.roll(1, dims=-1))


def test_the_backward_is_the_inverse_permutation():
    chosen, permutation = slice(1, 8, 3), draw_permutation(3 * 20, seed=2)
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn_like(x)
    spatial_shuffle(x, permutation, chosen).backward(gradient)
    assert torch.equal(x.grad, spatial_shuffle(gradient, permutation.argsort(), chosen))
    assert torch.autograd.gradcheck(lambda x: spatial_shuffle(x, permutation, chosen), x)


@pytest.mark.parametrize("chosen", [slice(0, 3, 1), slice(2, 8, 3)])
def test_memory_format_is_kept(chosen):
    x = torch.randn(2, 8, 4, 5).to(memory_format=torch.channels_last)
    permutation = draw_permutation(len(range(8)[chosen]) * 20, seed=3)
    out = spatial_shuffle(x, permutation, chosen)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, spatial_shuffle(x.contiguous(), permutation, chosen))


def _group_of_listing_1(shuffled, rest):
    """What Listing 1's `_group` does, for comparison, in one expression."""
    n, s, height, width = shuffled.shape
    length, residue = divmod(rest.shape[1], s)
    blocks = rest[:, residue:].reshape(n, length, s, height, width)
    together = torch.cat((shuffled.unsqueeze(1), blocks), 1).view(n, -1, height, width)
    return torch.cat((together, rest[:, :residue]), 1)


@given(st.integers(2, 40), st.data())
def test_listing_order_is_group_of_listing_1(channels, data):
    s = data.draw(st.integers(1, channels - 1))
    x = torch.randn(2, channels, 2, 3)
    out = listing_order(x, s)
    assert torch.equal(out, _group_of_listing_1(x[:, :s], x[:, s:]))
    assert torch.equal(out[:, :s], x[:, :s]), "the shuffled channels stay in front: nothing is interleaved"
    if (channels - s) % s == 0:
        assert torch.equal(out, x), "without a residue nothing moves at all"


def test_golden_permutation():
    """Records name π by a seed only, so every torch must draw the same."""
    assert draw_permutation(12, seed=2026).tolist() == [9, 0, 10, 6, 1, 4, 5, 7, 8, 2, 11, 3]
    assert draw_permutation(50_000, seed=7)[:6].tolist() == [41615, 33421, 9717, 7492, 3935, 5537]


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    draw_permutation(100, seed=5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "index",
    [
        torch.tensor([0, 1, 1]),
        torch.tensor([0, 1, 3]),
        torch.tensor([-1, 0, 1]),
        torch.tensor([0, 1]),
        torch.tensor([[0, 1, 2]]),
        torch.tensor([0.0, 1.0, 2.0]),
        torch.tensor([0, 1, 2], dtype=torch.int32),
    ],
)
def test_what_is_no_permutation(index):
    assert not is_permutation(index, 3)


@given(st.integers(0, 200), st.integers(0, 2**63 - 1))
def test_what_is_drawn_is_a_permutation(length, seed):
    assert is_permutation(draw_permutation(length, seed), length)


def test_fractions_are_what_was_meant():
    """Every α with up to six decimals: ⌊αC⌋ for C = 1/α times k is k, which binary floats miss."""
    for alpha in (Fraction(29, 100), Fraction(7, 100), Fraction(57, 100)):
        assert len(shuffled_channels(100, float(alpha), "leading")) == alpha * 100


COMPLEX = {
    "contiguous": lambda: torch.randn(2, 8, 4, 5, dtype=torch.complex64),
    "channels_last": lambda: COMPLEX["contiguous"]().to(memory_format=torch.channels_last),
    "conjugated": lambda: COMPLEX["contiguous"]().conj(),
    "expanded": lambda: torch.randn(1, 8, 4, 1, dtype=torch.complex64).expand(2, -1, -1, 5),
    "transposed": lambda: torch.randn(5, 4, 8, 2, dtype=torch.complex64).permute(3, 2, 1, 0),
    "every second": lambda: torch.randn(2, 8, 4, 10, dtype=torch.complex64)[..., ::2],
    "no batch": lambda: torch.randn(8, 4, 5, dtype=torch.complex64),
    "empty": lambda: torch.randn(0, 8, 4, 5, dtype=torch.complex64),
}


@pytest.mark.parametrize("kind", COMPLEX)
@pytest.mark.parametrize("chosen", [slice(0, 3, 1), slice(1, 8, 3)])
def test_complex_numbers_are_shuffled_as_their_parts_with_gradients(kind, chosen):
    x, permutation = COMPLEX[kind](), draw_permutation(3 * 20, seed=3)
    out = spatial_shuffle(x, permutation, chosen)
    assert torch.equal(out.real, spatial_shuffle(x.real, permutation, chosen))
    assert torch.equal(out.imag, spatial_shuffle(x.imag, permutation, chosen))
    if kind in ("contiguous", "channels_last"):
        assert out.stride() == x.stride()
    source = x.clone().requires_grad_()
    gradient = torch.randn_like(out)
    spatial_shuffle(source, permutation, chosen).backward(gradient)
    assert torch.equal(source.grad, spatial_shuffle(gradient, permutation.argsort(), chosen))
    two = torch.stack([permutation, permutation.flip(0)])
    both = torch.vmap(lambda permutation: spatial_shuffle(x, permutation, chosen))(two)
    assert torch.equal(both[0], out)
    assert torch.equal(both[1], spatial_shuffle(x, two[1], chosen))
