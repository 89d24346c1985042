"""Noise, blur and contrast, against what they are defined to be."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from ssconv_lib import cifar10, corruptions
from ssconv_lib.corruptions import LEVELS, PixelScale, corrupt, pixel_scale
from ssconv_lib.data import Data, LongRange, Split, load

SCALE = PixelScale(cifar10.MEAN, cifar10.STD)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(of)[:, None, None] for of in (SCALE.mean, SCALE.std))
    return (pixels - mean) / std


def pixels_of(images: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(of)[:, None, None] for of in (SCALE.mean, SCALE.std))
    return images * std + mean


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_blur_is_scipys_gaussian_filter_of_each_channel_in_pixel_values(pixels, severity):
    blurred = pixels_of(corrupt(normalised(pixels), "blur", severity, SCALE))
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]
    expected = gaussian_filter(pixels.double().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4)
    np.testing.assert_allclose(blurred.numpy(), expected, atol=2e-6)


def test_an_image_of_twice_the_side_is_blurred_by_twice_as_many_pixels():
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    blurred = pixels_of(corrupt(normalised(pixels), "blur", 5, SCALE))
    expected = gaussian_filter(pixels.double().numpy(), (0, 0, 2, 2), mode="nearest", truncate=4)
    np.testing.assert_allclose(blurred.numpy(), expected, atol=2e-6)


def test_contrast_leaves_each_channels_mean_and_a_share_of_the_distance_from_it(pixels):
    changed = pixels_of(corrupt(normalised(pixels), "contrast", 5, SCALE))
    mean = pixels.mean((2, 3), keepdim=True)
    torch.testing.assert_close(changed, mean + 0.15 * (pixels - mean))


def test_noise_is_normal_in_pixel_values_and_of_the_severitys_size():
    grey = torch.full((20, 3, 32, 32), 0.5)
    for severity, level in enumerate(LEVELS["noise"], 1):
        noise = pixels_of(corrupt(normalised(grey), "noise", severity, SCALE)) - 0.5
        assert noise.std().item() == pytest.approx(level, rel=0.02)
        assert noise.mean().item() == pytest.approx(0, abs=0.002)
        assert (noise.abs() < level).float().mean().item() == pytest.approx(0.683, abs=0.01)


def test_an_image_has_the_same_noise_in_every_batch_and_another_one_than_its_neighbour(pixels):
    same = normalised(pixels[:1].expand(6, -1, -1, -1))
    whole = corrupt(same, "noise", 2, SCALE)
    assert torch.equal(whole[4:], corrupt(same[4:], "noise", 2, SCALE, first=4))
    assert not torch.equal(whole[0], whole[1])


def test_the_global_generator_and_the_batch_are_left_alone(pixels):
    images, state = normalised(pixels), torch.random.get_rng_state()
    before = images.clone()
    for kind in LEVELS:
        assert corrupt(images, kind, 3, SCALE).shape == images.shape
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(images, before)


def test_pixel_values_stay_between_0_and_1_unless_they_have_no_range():
    white = normalised(torch.ones(4, 3, 32, 32))
    assert pixels_of(corrupt(white, "noise", 5, SCALE)).max().item() == pytest.approx(1, abs=1e-6)
    free = PixelScale((0.0,), (0.5,), bounded=False)
    assert corrupt(torch.full((4, 3, 32, 32), 2.0), "noise", 5, free).max() > 2.1


def test_the_scale_is_that_of_the_data_set():
    assert pixel_scale(_data("dataset")) == SCALE
    generated = load(LongRange(train=50, test=1))
    scale = pixel_scale(generated)
    assert not scale.bounded
    assert (generated.train.images * scale.std[0]).std().item() == pytest.approx(0.25, rel=1e-3)


def test_images_normalised_by_their_own_mean_are_refused():
    with pytest.raises(ValueError, match=r"'gcn'.*normalise='dataset'"):
        pixel_scale(_data("gcn"))


def test_what_there_is_not_is_refused_by_name(pixels):
    with pytest.raises(ValueError, match=r"'fog'.*'noise', 'blur', 'contrast'"):
        corrupt(pixels, "fog", 1, SCALE)
    with pytest.raises(ValueError, match="severity=6: expected one of 1, 2, 3, 4, 5"):
        corrupt(pixels, "blur", 6, SCALE)


def test_every_kind_has_a_level_for_every_severity_that_grows():
    for kind, levels in LEVELS.items():
        assert len(levels) == len(corruptions.SEVERITIES)
        assert list(levels) == sorted(levels, reverse=kind == "contrast")


def _data(normalise: str) -> Data:
    split = Split(torch.zeros(2, 32, 32, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    return Data(split, split, 10, (3, 32, 32), normalise, cifar10.MEAN, cifar10.STD)
