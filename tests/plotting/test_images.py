"""Reconstructions and samples: every image at its place, on the right scale."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from aevb import plotting


def random(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


@pytest.mark.parametrize("n", [1, 4, 10, 23])
def test_reconstructions_lie_under_their_originals(ax, n):
    originals, reconstructed = random(n, 9, 7), random(n, 9, 7, seed=1)
    originals[0, 0, :2] = 0, 1  # the scale
    plotting.reconstructions(originals, reconstructed, ax=ax)
    assert "Originals (above)" in ax.get_title()
    (picture,) = ax.images
    mosaic = np.ma.filled(np.ma.asarray(picture.get_array(), dtype=float), np.nan)
    band = 2 * 9 + 1 + 3  # two lines, a pixel between them and a third of a line beneath
    for k in range(n):
        top, left = k // 10 * band, k % 10 * 8
        np.testing.assert_allclose(mosaic[top : top + 9, left : left + 7], originals[k])
        np.testing.assert_allclose(mosaic[top + 10 : top + 19, left : left + 7], reconstructed[k])
    assert np.isfinite(mosaic).sum() == 2 * n * 9 * 7


def test_reconstructions_have_the_scale_of_the_originals(ax, tiles):
    originals = np.array([[[0.0, 200.0]]])
    plotting.reconstructions(originals, np.array([[[-50.0, 100.0]]]), ax=ax)
    np.testing.assert_allclose(tiles(ax, 1, 2), [[[0, 1]], [[0, 0.5]]])


def test_reconstructions_of_other_shape_are_refused(ax):
    with pytest.raises(ValueError, match=r"\(2, 3, 3\), as for `originals`.*got \(1, 3, 3\)"):
        plotting.reconstructions(random(2, 3, 3), random(1, 3, 3), ax=ax)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (4, 2), (7, 3), (64, 8)])
def test_samples_fill_a_square(ax, tiles, n, columns):
    pictures = random(n, 5, 4)
    plotting.samples(pictures, ax=ax)
    low, high = pictures.min(), pictures.max()
    np.testing.assert_allclose(tiles(ax, 5, 4), (pictures - low) / (high - low))
    assert ax.images[0].get_array().shape[1] == columns * 5 - 1
    assert ax.get_title() == ("1 image" if n == 1 else f"{n} images")


@pytest.mark.parametrize("shape", [(6, 5, 4, 1), (6, 5, 4, 3)])
def test_images_with_channels(ax, tiles, shape):
    pictures = np.round(255 * random(*shape)).astype(np.uint8)
    pictures[0, 0, 0], pictures[0, 0, 1] = 0, 255
    plotting.samples(pictures, ax=ax)
    drawn = tiles(ax, 5, 4)
    if shape[-1] == 3:
        np.testing.assert_allclose(drawn[..., :3], pictures / 255)
        assert (drawn[..., 3] == 1).all()
    else:
        np.testing.assert_allclose(drawn, pictures[..., 0] / 255)


def test_images_of_one_brightness_and_of_ink_on_paper(ax, tiles):
    plotting.samples(np.full((4, 2, 2), 7.0), ax=ax, cmap="gray_r")
    assert (tiles(ax, 2, 2) == 0).all()
    assert ax.images[0].get_cmap().name == "gray_r"


def test_pixels_that_are_no_numbers_stay_empty_and_the_others_are_drawn(ax):
    gray, coloured = random(2, 3, 3), random(1, 2, 2, 3)
    gray[0, 0], coloured[0, 0, 0, 1] = (0, 1, np.nan), np.nan
    plotting.reconstructions(gray, gray, ax=ax)
    drawn = np.ma.filled(ax.images[0].get_array(), np.nan)
    np.testing.assert_allclose(drawn[:3, :3], gray[0])
    plotting.samples(coloured, ax=(other := Figure().subplots()), limits=(0, 1))
    drawn = other.images[0].get_array()
    np.testing.assert_array_equal(drawn[..., 3], [[0, 1], [1, 1]])
    np.testing.assert_allclose(drawn[1, :, :3], coloured[0, 1])
    with pytest.raises(ValueError, match=r"finite numbers in the images; got nothing but NaN"):
        plotting.samples(np.full((2, 3, 3), np.nan), ax=ax)


@pytest.mark.parametrize("shape", [(0, 8, 8), (0, 4, 4, 3)])
def test_no_image_at_all_is_refused(ax, shape):
    for draw in (plotting.samples, lambda x, ax: plotting.reconstructions(x, x, ax)):
        with pytest.raises(ValueError, match=r"one image at least; got none, shape \(0, "):
            draw(np.zeros(shape), ax=ax)


@pytest.mark.parametrize(
    ("limits", "error", "message"),
    [
        ((1, 0), ValueError, r"low below high, for `limits`; got \(1, 0\)"),
        ((0, 1, 2), ValueError, r"2 values for `limits`; got 3"),
        ((0, np.inf), ValueError, r"finite numbers \(low, high\) for `limits`; got inf"),
        (255, TypeError, r"sequence for `limits`; got 255"),
    ],
)
def test_limits_that_are_none_are_refused(ax, limits, error, message):
    with pytest.raises(error, match=message):
        plotting.samples(random(2, 3, 3), ax, limits=limits)


@pytest.mark.parametrize("shape", [(6, 64), (6, 8, 8, 2), (8,)])
def test_what_is_no_image_is_refused(ax, shape):
    with pytest.raises(ValueError, match=r"Expected images of shape \(n, h, w\).*Reshape"):
        plotting.samples(np.zeros(shape), ax=ax)
