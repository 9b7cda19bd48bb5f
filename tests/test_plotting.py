"""Pictures: what is drawn is what was given, at the right place and under the right name."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib import colors
from matplotlib.figure import Figure
from scipy.stats import norm

import aevb
from aevb import plotting

matplotlib.use("Agg")


@pytest.fixture
def ax():
    return Figure().subplots()


def tiles(ax, height, width, gap=1):
    """Cut the one picture in `ax` back into its images, line by line; empty places are left out."""
    (picture,) = ax.images
    mosaic = np.ma.filled(np.ma.asarray(picture.get_array(), dtype=float), np.nan)
    found = [
        mosaic[top : top + height, left : left + width]
        for top in range(0, mosaic.shape[0], height + gap)
        for left in range(0, mosaic.shape[1], width + gap)
    ]
    empty = (lambda t: (t[..., 3] == 0).all()) if mosaic.ndim == 3 else lambda t: np.isnan(t).all()
    return np.stack([tile for tile in found if not empty(tile)])


def images(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


@pytest.mark.parametrize("n", [2, 5, 20])
def test_manifold_is_the_grid_of_figure_4(ax, n):
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


@pytest.mark.parametrize("n", [1, 4, 10, 23])
def test_reconstructions_lie_under_their_originals(ax, n):
    originals, reconstructed = images(n, 9, 7), images(n, 9, 7, seed=1)
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


def test_reconstructions_have_the_scale_of_the_originals(ax):
    originals = np.array([[[0.0, 200.0]]])
    plotting.reconstructions(originals, np.array([[[-50.0, 100.0]]]), ax=ax)
    np.testing.assert_allclose(tiles(ax, 1, 2), [[[0, 1]], [[0, 0.5]]])


def test_reconstructions_of_other_shape_are_refused(ax):
    with pytest.raises(ValueError, match=r"\(2, 3, 3\), as of `originals`.*got \(1, 3, 3\)"):
        plotting.reconstructions(images(2, 3, 3), images(1, 3, 3), ax=ax)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (4, 2), (7, 3), (64, 8)])
def test_samples_fill_a_square(ax, n, columns):
    pictures = images(n, 5, 4)
    plotting.samples(pictures, ax=ax)
    low, high = pictures.min(), pictures.max()
    np.testing.assert_allclose(tiles(ax, 5, 4), (pictures - low) / (high - low))
    assert ax.images[0].get_array().shape[1] == columns * 5 - 1
    assert ax.get_title() == f"{n} samples from the model"


@pytest.mark.parametrize("shape", [(6, 5, 4, 1), (6, 5, 4, 3)])
def test_images_with_channels(ax, shape):
    pictures = np.round(255 * images(*shape)).astype(np.uint8)
    pictures[0, 0, 0], pictures[0, 0, 1] = 0, 255
    plotting.samples(pictures, ax=ax)
    drawn = tiles(ax, 5, 4)
    if shape[-1] == 3:
        np.testing.assert_allclose(drawn[..., :3], pictures / 255)
        assert (drawn[..., 3] == 1).all()
    else:
        np.testing.assert_allclose(drawn, pictures[..., 0] / 255)


def test_images_of_one_brightness_and_of_ink_on_paper(ax):
    plotting.samples(np.full((4, 2, 2), 7.0), ax=ax, cmap="gray_r")
    assert (tiles(ax, 2, 2) == 0).all()
    assert ax.images[0].get_cmap().name == "gray_r"


@pytest.mark.parametrize("shape", [(6, 64), (6, 8, 8, 2), (8,)])
def test_what_is_no_image_is_refused(ax, shape):
    with pytest.raises(ValueError, match=r"Expected images of shape \(n, h, w\).*Reshape"):
        plotting.samples(np.zeros(shape), ax=ax)


def test_scatter_draws_every_class_in_its_colour_and_names_it_among_its_points(ax):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 30)
    Z = 20 * np.column_stack([labels % 4, labels // 4]) + rng.normal(size=(300, 2))
    plotting.latent_scatter(Z, labels, ax=ax)
    assert len(ax.collections) == 10
    seen = {colors.to_hex(points.get_facecolor()[0]) for points in ax.collections}
    assert len(seen) == 10
    for k, (points, text) in enumerate(zip(ax.collections, ax.texts, strict=True)):
        np.testing.assert_array_equal(points.get_offsets(), Z[labels == k])
        assert text.get_text() == str(k)
        assert np.linalg.norm(np.array(text.get_position()) - Z[labels == k].mean(axis=0)) < 2
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == list("0123456789")
    assert ax.get_aspect() == 1
    assert ax.get_title() == "300 cases in the latent space"


def test_the_name_of_a_class_in_two_clusters_lies_in_one_of_them(ax):
    Z = np.concatenate([np.full((60, 2), -5.0), np.full((40, 2), 5.0)])
    plotting.latent_scatter(Z, ["a"] * 100, ax=ax)
    assert ax.texts[0].get_position() == (-5, -5)


def test_more_than_ten_classes_differ_in_colour_or_shape(ax):
    plotting.latent_scatter(np.zeros((24, 2)), np.arange(24), ax=ax)
    looks = {
        (colors.to_hex(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in ax.collections
    }
    assert len(looks) == 24


def test_scatter_without_labels_and_with_numbers():
    figure = Figure()
    plain, scaled = figure.subplots(1, 2)
    Z = np.random.default_rng(0).normal(size=(50, 2))
    plotting.latent_scatter(Z, ax=plain)
    assert plain.get_legend() is None
    np.testing.assert_array_equal(plain.collections[0].get_offsets(), Z)
    plotting.latent_scatter(Z, Z[:, 0], ax=scaled)
    np.testing.assert_array_equal(scaled.collections[0].get_array(), Z[:, 0])
    assert len(figure.axes) == 3  # with the colour scale


def test_scatter_of_two_among_more_dimensions(ax):
    Z = images(5, 4)
    plotting.latent_scatter(Z, ax=ax, dimensions=(3, 1))
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), Z[:, [3, 1]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent dimension 3", "latent dimension 1")
    assert ax.get_title() == "5 cases in two of 4 latent dimensions"


@pytest.mark.parametrize(
    ("shape", "dimensions", "labels", "message"),
    [
        ((5,), (0, 1), None, r"\(n, d\), d at least 2, for `Z`; got \(5,\)"),
        ((5, 1), (0, 1), None, r"got \(5, 1\)\. One latent dimension"),
        ((5, 3), (0, 3), None, r"integers from 0 to 2 for `dimensions`; got \[0, 3\]"),
        ((5, 3), (1, 1), None, r"distinct integers.*got \[1, 1\]"),
        ((5, 3), (0, -1), None, r"at least 0 for `dimensions`; got -1"),
        ((5, 3), (0, 1, 2), None, r"two integers for `dimensions`; got 3: \[0, 1, 2\]"),
        ((5, 2), (0, 1), [1, 2], r"label for each of the 5 cases.*got shape \(2,\)"),
    ],
)
def test_scatter_refuses_what_it_cannot_draw(ax, shape, dimensions, labels, message):
    with pytest.raises(ValueError, match=message):
        plotting.latent_scatter(np.zeros(shape), labels, ax, dimensions=dimensions)


@pytest.mark.parametrize(("n", "scale"), [(3, "linear"), (40, "log")])
def test_learning_curve(ax, n, scale):
    history = {
        "epoch": list(range(1, n + 1)),
        "elbo": list(np.linspace(-40, -20, n)),
        "validation_elbo": list(np.linspace(-39, -22, n)),
    }
    plotting.learning_curve(history, ax=ax)
    training, held_out = ax.lines
    np.testing.assert_array_equal(training.get_xydata().T, [history["epoch"], history["elbo"]])
    np.testing.assert_array_equal(held_out.get_ydata(), history["validation_elbo"])
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == ["training", "held out"]
    assert ax.get_xscale() == scale
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "ELBO (nats per case)")


def test_learning_curve_without_held_out_cases(ax):
    plotting.learning_curve({"epoch": [1, 2], "elbo": [-3.0, -2.0]}, ax=ax)
    assert len(ax.lines) == 1


def test_learning_curve_draws_the_importance_weighted_bound_above_the_elbo(ax):
    columns = ("iw_bound", "validation_iw_bound", "elbo", "validation_elbo")
    history = {"epoch": [1, 2], **{name: [k - 9.0, k - 8.0] for k, name in enumerate(columns)}}
    plotting.learning_curve(history, ax=ax)
    drawn = {line.get_label(): line for line in ax.lines}
    names = {
        "importance-weighted bound, training": "iw_bound",
        "importance-weighted bound, held out": "validation_iw_bound",
        "ELBO, training": "elbo",
        "ELBO, held out": "validation_elbo",
    }
    assert drawn.keys() == names.keys()
    for label, column in names.items():
        np.testing.assert_array_equal(drawn[label].get_ydata(), history[column])
        assert drawn[label].get_linestyle() == ("-" if "iw" in column else "--")
    assert ax.get_ylabel() == "importance-weighted bound and ELBO (nats per case)"


def test_learning_curve_without_a_bound_draws_the_joint_density(ax):
    history = {"epoch": [1, 2], "log_joint": [-3.0, -2.0], "acceptance": [0.5, 0.9]}
    plotting.learning_curve(history, ax=ax)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), [-3, -2])
    assert ax.get_ylabel() == "log p(x, z) (nats per case)"
    plotting.learning_curve({**history, "elbo": [-5.0, -4.0]}, ax=(both := Figure().subplots()))
    assert both.get_ylabel() == "ELBO (nats per case)"


def test_learning_curve_of_unknown_columns_is_refused(ax):
    with pytest.raises(ValueError, match=r"iw_bound, elbo, log_joint in `history`; got epoch, los"):
        plotting.learning_curve({"epoch": [1], "loss": [2.0]}, ax=ax)


def gradient_report(relative=(1.0, 1.0, 0.5, 0.0, 1.0, 1.0)):
    """Return a report of three estimators, two of one objective, in two groups."""
    rows = {
        "estimator": ["A", "A", "stl", "stl", "iw", "iw"],
        "n_draws": [1, 1, 1, 1, 5, 5],
        "objective": ["elbo"] * 4 + ["iw_5"] * 2,
        "group": ["theta", "phi"] * 3,
        "variance": [4.0, 8.0, 2.0, 0.0, 3.0, 3.0],
        "variance_se": [0.4, 0.8, 0.1, 0.0, 0.3, 0.3],
        "milliseconds": [1.0, 1.0, 1.0, 1.0, 2.5, 2.5],
        "variance_x_cost": list(relative),
    }
    return SimpleNamespace(rows=rows)


def test_gradient_variance_has_a_line_per_estimator_and_a_colour_per_group(ax):
    plotting.gradient_variance(gradient_report(), ax=ax)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["A (1)  1 ms", "stl (1)  1 ms", "iw (5)  2.5 ms"]
    assert ax.yaxis_inverted()  # the first on top
    assert ax.get_xscale() == "log"
    theta, phi = ax.containers
    np.testing.assert_allclose(theta.lines[0].get_xdata(), [1, 0.5, 1])
    np.testing.assert_allclose(phi.lines[0].get_xdata(), [1, np.nan, 1])  # no zero on this scale
    assert (np.round([c.lines[0].get_ydata() for c in (theta, phi)]) == [0, 1, 2]).all()
    lengths = [np.ptp(bar[:, 0]) / 2 for bar in theta.lines[2][0].get_segments()]
    np.testing.assert_allclose(lengths, [0.1, 0.025, 0.1])
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == ["theta", "phi"]
    (between,) = (line for line in ax.lines if len(set(line.get_ydata())) == 1)
    assert between.get_ydata()[0] == 1.5  # the objectives


@pytest.mark.parametrize("nothing", [0.0, np.nan, np.inf])
def test_gradient_variance_without_a_single_point(ax, nothing, tmp_path):
    plotting.gradient_variance(gradient_report([nothing] * 6), ax=ax)
    ax.figure.savefig(tmp_path / "picture.png")


DRAWINGS = {
    "manifold": lambda ax=None: plotting.manifold(lambda Z: Z[:, :1], (1, 1), n=3, ax=ax),
    "reconstructions": lambda ax=None: plotting.reconstructions(
        images(12, 4, 4), images(12, 4, 4), ax=ax
    ),
    "samples": lambda ax=None: plotting.samples(images(9, 4, 4), ax=ax),
    "latent_scatter": lambda ax=None: plotting.latent_scatter(images(9, 2), range(9), ax=ax),
    "learning_curve": lambda ax=None: plotting.learning_curve(
        {"epoch": [1, 2], "elbo": [-3.0, -2.0]}, ax=ax
    ),
    "gradient_variance": lambda ax=None: plotting.gradient_variance(gradient_report(), ax=ax),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_given_axes_are_used_and_no_other_figure_is_made(draw, tmp_path):
    from matplotlib import pyplot as plt

    figure = Figure(layout="constrained")
    ax = figure.subplots()
    assert draw(ax) is ax
    assert plt.get_fignums() == []
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_without_axes_there_is_one_new_figure_for_pyplot_to_show(draw):
    from matplotlib import pyplot as plt

    ax = draw()
    assert [plt.figure(number) for number in plt.get_fignums()] == [ax.figure]
    plt.close(ax.figure)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.delattr(aevb, "plotting")
    monkeypatch.delitem(sys.modules, "aevb.plotting")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'need matplotlib.*pip install "aevb\[plot\]"'):
        from aevb import plotting  # noqa: F401
