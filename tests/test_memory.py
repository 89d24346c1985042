"""Bytes counted by hand for models small enough to do so."""

import pytest
import torch
from torch import nn

from ssconv_lib.conv import SSConv2d
from ssconv_lib.listing import ListingConv2d
from ssconv_lib.memory import peak_bytes, saved_bytes

X = torch.randn(2, 3, 8, 8)  # 2·3·64·4 = 1536 bytes


def test_saved_is_the_input_and_what_the_layers_keep():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    relu = 2 * 4 * 64 * 4  # saved by the ReLU and by the convolution behind it: once
    assert saved_bytes(model, lambda: model(X)) == 1536 + relu


def test_parameters_and_buffers_do_not_count():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    statistics = 2 * 4 * 4  # batch norm's mean and inverse deviation of this batch
    assert saved_bytes(model, lambda: model(X)) == 1536 + 2 * 4 * 64 * 4 + statistics


def test_a_view_counts_as_the_whole_storage_that_it_keeps_alive():
    model = nn.Conv2d(3, 4, 1)
    wide = torch.randn(2, 3, 8, 16)
    assert saved_bytes(model, lambda: model(wide[..., :8])) == 2 * 3 * 8 * 16 * 4


def test_listing_1_saves_a_second_input_and_ss_does_not():
    body = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU())
    ss = SSConv2d(16, 4, 1, alpha=0.25, spatial_size=8, bias=False)
    hidden = 2 * 16 * 64 * 4
    plain, ours, theirs = (
        nn.Sequential(body, layer) for layer in (nn.Conv2d(16, 4, 1), ss, ListingConv2d.from_ssconv(ss))
    )
    assert saved_bytes(plain, lambda: plain(X)) == 1536 + hidden
    assert saved_bytes(ours, lambda: ours(X)) == 1536 + hidden
    assert saved_bytes(theirs, lambda: theirs(X)) == 1536 + 2 * hidden


def test_nothing_is_saved_without_gradients():
    model = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        assert saved_bytes(model, lambda: model(X)) == 0


def test_the_peak_is_the_most_that_was_there_at_once():
    x = torch.zeros(1 << 18)  # 1 MiB

    def step():
        a = x * 2  # 1 MiB
        b = a + 1  # 2 MiB
        del a
        torch.cat((b, b, b)).sum()  # 4 MiB

    assert peak_bytes(step, "cpu") == pytest.approx(4 << 20, abs=4096)


def test_what_was_there_before_is_not_counted():
    x = torch.zeros(1 << 18)
    assert peak_bytes(lambda: x.add_(1), "cpu") < 4096
