"""What latent points decode to: the right points, every image at its place, named ticks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gamma, norm

from aevb import plotting


def random(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_manifold_is_the_grid_of_figure_4(ax, tiles, n):
    seen = []

    def decode(Z):
        seen.append(Z)
        return np.repeat(Z, 3, axis=1)  # an image of 2 × 3 pixels: z₁ above z₂

    assert plotting.manifold(decode, (2, 3), n=n, ax=ax) is ax
    (Z,) = seen
    z = norm.ppf((np.arange(n) + 0.5) / n)
    expected = [(first, second) for second in z[::-1] for first in z]
    np.testing.assert_allclose(Z, expected, atol=1e-6)

    drawn = tiles(ax, 2, 3).reshape(n, n, 2, 3)
    assert (np.diff(drawn[:, :, 0, 0], axis=1) > 0).all()  # z₁ grows to the right
    assert (np.diff(drawn[:, :, 1, 0], axis=0) < 0).all()  # z₂ grows upwards
    np.testing.assert_allclose(drawn[0, 0, :, 0], [0, 1], atol=1e-6)


def test_manifold_has_its_ticks_at_round_latent_values(ax):
    plotting.manifold(lambda Z: np.zeros((len(Z), 4, 2)), (4, 2), ax=ax)
    np.testing.assert_allclose(ax.get_xticks(), norm.cdf([-2, -1, 0, 1, 2]), atol=1e-5)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["−2", "−1", "0", "1", "2"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent dimension 0", "latent dimension 1")
    assert ax.get_aspect() == 2  # images are upright, so are the tiles


def test_manifold_follows_the_quantiles_of_another_prior(ax):
    seen = []

    def decode(Z):
        seen.append(Z)
        return Z[:, :1]

    def quantile(p):
        return np.column_stack([norm.ppf(p, 5, 2), gamma.ppf(p, 2)])

    plotting.manifold(decode, (1, 1), n=3, ax=ax, quantile=quantile)
    first, second = quantile(np.array([1 / 6, 1 / 2, 5 / 6])).T
    np.testing.assert_allclose(seen[0][:, 0], np.tile(first, 3), rtol=1e-6)
    np.testing.assert_allclose(seen[0][:, 1], np.repeat(second[::-1], 3), rtol=1e-6)
    for axis, cdf in ((ax.xaxis, norm(5, 2).cdf), (ax.yaxis, gamma(2).cdf)):
        named = [float(label.get_text()) for label in axis.get_ticklabels()]
        assert len(named) >= 3
        np.testing.assert_allclose(axis.get_ticklocs(), cdf(named), atol=1e-4)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_interpolation_is_a_line_of_images_for_each_pair(ax, tiles, channels):
    images = random(2, 4, 6, 5, *channels)
    images[0, 0, 0, :2] = np.array([0, 1]).reshape(2, *[1] * len(channels))  # the scale
    assert plotting.interpolation(images, ax) is ax
    drawn = tiles(ax, 6, 5, apart=2)
    np.testing.assert_allclose(
        drawn[..., :3] if channels else drawn, images.reshape(8, *drawn.shape[1:3], *channels)
    )
    np.testing.assert_allclose(ax.get_xticks(), [2, 3 * 6 + 2])  # middles of first and last image
    assert [label.get_text() for label in ax.get_xticklabels()] == ["t = 0", "t = 1"]


@pytest.mark.parametrize("channels", [(), (3,)])
def test_interpolation_has_the_cases_at_both_sides(ax, channels):
    images, ends = random(2, 3, 6, 9, *channels), random(2, 2, 6, 9, *channels, seed=1)
    ends[0, 0, 0, 0], ends[0, 0, 0, 1] = 0, 2  # the scale is that of all images
    plotting.interpolation(images, ax, ends=ends)
    (picture,) = ax.images
    whole = np.ma.filled(np.ma.asarray(picture.get_array(), dtype=float), np.nan)
    whole = whole[..., :3] if channels else whole
    lefts = [0, 9 + 3, 9 + 3 + 10, 9 + 3 + 20, 9 + 3 + 29 + 3]  # a third of a width aside
    for pair in range(2):
        line = [ends[pair, 0], *images[pair], ends[pair, 1]]
        for left, image in zip(lefts, line, strict=True):
            drawn = whole[pair * 8 : pair * 8 + 6, left : left + 9]
            np.testing.assert_allclose(drawn, image / 2)
    named = {
        label.get_text(): at
        for label, at in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)
    }
    assert named == {"start": 4, "t = 0": 16, "t = 1": 36, "end": 48}


def test_traversal_is_a_line_of_images_for_each_dimension(ax, tiles):
    images = random(3, 5, 12, 4)
    images[0, 0, 0, :2] = 0, 1  # the scale
    plotting.traversal(images, [7, 0, 3], ax, levels=[0.1, 0.3, 0.5, 0.7, 0.9], kl=[2, 1.234, 0.5])
    np.testing.assert_allclose(tiles(ax, 12, 4, apart=2), images.reshape(15, 12, 4))
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["7\n2.00 nats", "0\n1.23 nats", "3\n0.50 nats"]
    np.testing.assert_allclose(ax.get_yticks(), 5.5 + 14 * np.arange(3))
    steps = [label.get_text() for label in ax.get_xticklabels()]
    assert steps == ["10 %", "30 %", "50 %", "70 %", "90 %"]
    np.testing.assert_allclose(ax.get_xticks(), 1.5 + 5 * np.arange(5))


def test_traversal_without_names_counts_its_lines(ax):
    plotting.traversal(random(2, 3, 4, 4), ax=ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "1"]
    assert len(ax.get_xticks()) == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 1}, ValueError, r"integer of at least 2 for `n`; got 1"),
        ({"image_shape": (4, 5)}, ValueError, r"9 images of shape \(4, 5\) from `decode`.*\(9, 16"),
        ({"decode": lambda Z: Z[:4]}, ValueError, r"9 images.*got an array of shape \(4, 2\)"),
        ({"image_shape": 16}, TypeError, r"sequence for `image_shape`; got 16"),
        (
            {"image_shape": (16,)},
            ValueError,
            r"\(h, w\) or \(h, w, c\) for `image_shape`; got \(16",
        ),
    ],
)
def test_manifold_refuses_what_makes_no_grid_of_images(ax, options, error, message):
    given = {"decode": lambda Z: np.zeros((len(Z), 16)), "image_shape": (4, 4), "n": 3, **options}
    with pytest.raises(error, match=message):
        plotting.manifold(**given, ax=ax)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dimensions": [0]}, ValueError, r"2 values for `dimensions`, one for each line.*got 1"),
        ({"kl": [1.0, 2.0, 3.0]}, ValueError, r"2 values for `kl`, one for each line.*got 3"),
        ({"levels": [0.1, 0.9]}, ValueError, r"3 values for `levels`, one for each step; got 2"),
        ({"dimensions": 1}, TypeError, r"sequence for `dimensions`; got 1\. Write \[1\]"),
    ],
)
def test_traversal_refuses_names_that_do_not_fit(ax, options, error, message):
    with pytest.raises(error, match=message):
        plotting.traversal(random(2, 3, 4, 4), ax=ax, **options)


@pytest.mark.parametrize("draw", [plotting.interpolation, plotting.traversal])
@pytest.mark.parametrize("shape", [(5, 8, 8), (0, 3, 8, 8), (2, 3, 4, 4, 3, 1)])
def test_what_is_no_line_of_images_is_refused(ax, draw, shape):
    with pytest.raises(
        ValueError, match=r"lines of images, of shape \(n_lines.*got \(.*images\[No"
    ):
        draw(np.zeros(shape), ax=ax)


def test_ends_of_other_shape_are_refused(ax):
    with pytest.raises(ValueError, match=r"shape \(2, 2, 4, 4\), for `ends`; got \(2, 4, 4\)"):
        plotting.interpolation(random(2, 3, 4, 4), ax, ends=random(2, 4, 4))
