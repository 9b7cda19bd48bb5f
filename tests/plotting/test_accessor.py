"""`vae.plot`: every picture shows the estimator's own predictions."""

from __future__ import annotations

import copy
import inspect
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import gamma, norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from aevb import VAE, plotting, priors
from aevb.models.priors import LearnedNormalPrior
from aevb.plotting.cases import as_cases, image_shape
from aevb.plotting.predictions import data_range
from aevb.plotting.quantiles import quantiles
from aevb.schema import Schema

SMALL = {"hidden": (8,), "epochs": 3, "batch_size": 20, "random_state": 0}
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(40, 4, 3)).astype(np.float32)
TABLE = pd.DataFrame(
    RNG.normal(size=(40, 3)) @ RNG.normal(size=(3, 12)) + np.arange(12),
    columns=[f"column {k}" for k in range(12)],
).astype(np.float32)


@pytest.fixture(scope="module")
def pictures():
    """Images of 4 × 3 pixels, in two latent dimensions."""
    return VAE(2, **SMALL).fit(IMAGES)


@pytest.fixture(scope="module")
def table():
    """Twelve columns with names, in twelve latent dimensions."""
    return VAE(12, **SMALL).fit(TABLE)


def with_kl(vae, *kl):
    vae = copy.copy(vae)
    vae.explained_nats_ = np.array(kl)
    return vae


def with_prior(vae, part):
    vae = copy.copy(vae)
    vae.model_ = eqx.tree_at(lambda model: model.latent_prior, vae.model_, part)
    return vae


def scaled(images):
    return (images - images.min()) / np.ptp(images)


def texts(labels):
    return [label.get_text() for label in labels]


def test_there_is_a_method_for_every_picture_of_an_estimator():
    names = {name for name in dir(plotting.PlotAccessor) if not name.startswith("_")}
    assert names == set(plotting.__all__) - {"PlotAccessor", "gradient_variance"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *[(name, ()) for name in ("manifold", "samples", "traversal", "learning_curve")],
        *[(name, (IMAGES,)) for name in ("reconstructions", "latent_scatter", "column_effects")],
        ("interpolation", (IMAGES[0], IMAGES[1])),
        ("kl_per_dimension", ()),
    ],
)
def test_an_estimator_that_is_not_fitted_has_nothing_to_draw(name, arguments):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(VAE().plot, name)(*arguments)


def test_the_estimator_stays_one_of_scikit_learn(pictures, ax):
    pictures.plot.samples(4, ax)
    assert "plot" not in pictures.get_params()
    assert clone(pictures).get_params() == pictures.get_params()
    again = pickle.loads(pickle.dumps(pictures))
    again.plot.samples(4, (other := Figure().subplots()))
    np.testing.assert_array_equal(other.images[0].get_array(), ax.images[0].get_array())


@pytest.mark.parametrize("name", [n for n in plotting.__all__ if hasattr(plotting.PlotAccessor, n)])
def test_axes_are_an_argument_of_every_method(name):
    parameter = inspect.signature(getattr(plotting.PlotAccessor, name)).parameters["ax"]
    assert parameter.default is None


def test_manifold_decodes_the_quantiles_of_the_prior(pictures, ax, tiles):
    assert pictures.plot.manifold(3, ax) is ax
    z = norm.ppf([1 / 6, 1 / 2, 5 / 6])
    Z = [(first, second) for second in z[::-1] for first in z]
    np.testing.assert_allclose(tiles(ax, 4, 3), scaled(pictures.inverse_transform(Z)), atol=1e-4)


def test_manifold_of_a_learned_prior(pictures, ax, tiles):
    prior = LearnedNormalPrior(jnp.array([1.0, -2.0]), jnp.log(jnp.array([0.5, 3.0])))
    vae = with_prior(pictures, prior)
    vae.plot.manifold(2, ax)
    first, second = (norm.ppf([0.25, 0.75], *moments) for moments in ((1, 0.5), (-2, 3)))
    Z = [(a, b) for b in second[::-1] for a in first]
    np.testing.assert_allclose(tiles(ax, 4, 3), scaled(vae.inverse_transform(Z)), atol=1e-4)


def test_manifold_under_a_prior_of_dependent_dimensions_is_refused(pictures, ax):
    vae = with_prior(pictures, priors.Mixture(3).build(2, key=jax.random.key(0)))
    vae.prior = "mixture"
    with pytest.raises(ValueError, match=r"independent dimensions.*got prior=.*plot\.sam"):
        vae.plot.manifold(ax=ax)


@pytest.mark.parametrize("mean", [True, False])
def test_samples(pictures, ax, tiles, mean):
    pictures.plot.samples(9, ax, mean=mean, random_state=3, cmap="gray_r")
    np.testing.assert_allclose(tiles(ax, 4, 3), scaled(pictures.sample(9, 3, mean=mean)), atol=1e-6)
    title = "E[x|z] of 9 draws from p(z)" if mean else "9 samples from the model"
    assert ax.get_title() == title
    assert ax.images[0].get_cmap().name == "gray_r"


def test_reconstructions(pictures, ax, tiles):
    X = IMAGES[:4].reshape(4, 12)  # rows of a model of images
    pictures.plot.reconstructions(X, ax)
    low, high = X.min(), X.max()
    both = np.concatenate([IMAGES[:4], pictures.reconstruct(X)])
    np.testing.assert_allclose(
        tiles(ax, 4, 3), np.clip((both - low) / (high - low), 0, 1), atol=1e-6
    )


def picture(draw, *arguments, **options):
    drawn = draw(*arguments, ax=Figure().subplots(), **options).images[0].get_array()
    return np.ma.filled(drawn, np.nan)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *[("manifold", (3,)), ("samples", (4,)), ("reconstructions", (IMAGES[:3],))],
        *[("interpolation", (IMAGES[0], IMAGES[1])), ("traversal", (IMAGES[0], 3, [0]))],
    ],
)
def test_a_bernoulli_likelihood_has_the_range_of_its_data(pictures, name, arguments):
    vae = copy.copy(pictures)
    vae.schema_ = Schema.fit((IMAGES > 0).astype(np.float32), "bernoulli")
    drawn = picture(getattr(vae.plot, name), *arguments)
    for limits, same in (((0, 1), True), ((0, 0.5), False)):
        other = picture(getattr(pictures.plot, name), *arguments, limits=limits)
        assert np.array_equal(drawn, other, equal_nan=True) == same
    vae.schema_ = Schema.fit((IMAGES > 0).astype(np.uint8), "bernoulli")
    assert data_range(vae) == (0, 255)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("interpolation", (TABLE[:2], TABLE[2:4])),
        ("traversal", (TABLE.iloc[3], 3, [0])),
        ("column_effects", (TABLE, [0])),
    ],
)
def test_output_as_a_frame_changes_no_picture(table, name, arguments):
    options = {"x": TABLE.iloc[3]} if name == "column_effects" else {"image_shape": (3, 4)}
    framed = copy.copy(table).set_output(transform="pandas")
    first, second = (picture(getattr(v.plot, name), *arguments, **options) for v in (table, framed))
    np.testing.assert_array_equal(first, second)


def test_one_case_alone_is_a_case_as_image_and_as_row(table):
    for X in (IMAGES[0], IMAGES[0].ravel(), IMAGES[:1]):
        np.testing.assert_array_equal(as_cases(X, (4, 3)).reshape(1, 4, 3), IMAGES[:1])
    np.testing.assert_array_equal(as_cases(IMAGES, (12,), (4, 3)), IMAGES.reshape(40, 12))
    rows, shape = TABLE.to_numpy(), (3, 4)
    table = copy.copy(table)
    del table.feature_names_in_  # rows without names
    images = rows.reshape(-1, *shape)
    for name, flat, shaped in (
        ("reconstructions", [rows[:1]], [images[0]]),
        ("interpolation", [rows[0], rows[1]], list(images[:2])),
        ("traversal", [rows[0]], [images[0]]),
    ):
        draw = getattr(table.plot, name)
        first, second = (picture(draw, *given, image_shape=shape) for given in (flat, shaped))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 3)])
def test_flat_rows_are_images_of_the_shape_that_is_given(table, ax, tiles, shape):
    table.plot.samples(4, ax, image_shape=shape)
    expected = scaled(table.sample(4, mean=True).to_numpy()).reshape(4, *shape)
    drawn = tiles(ax, *shape[:2])
    np.testing.assert_allclose(drawn[..., :3] if len(shape) == 3 else drawn, expected, atol=1e-6)


def test_latent_scatter(table, ax):
    labels = np.arange(40) % 2
    table.plot.latent_scatter(TABLE, labels, ax, dimensions=(2, 0))
    Z = table.transform(TABLE)[:, [2, 0]]
    for k in range(2):
        np.testing.assert_array_equal(ax.collections[k].get_offsets(), Z[labels == k])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent dimension 2", "latent dimension 0")


def on_the_way(vae, start, end, n):
    t = np.linspace(0, 1, n)[:, None]
    return vae.inverse_transform((1 - t) * vae.transform(start) + t * vae.transform(end))


@pytest.mark.parametrize("alone", [True, False])
def test_interpolation_of_one_pair(pictures, ax, tiles, alone):
    start, end = (IMAGES[0], IMAGES[7].ravel()) if alone else (IMAGES[:1], IMAGES[7:8])
    pictures.plot.interpolation(start, end, 5, ax)
    way = on_the_way(pictures, IMAGES[:1], IMAGES[7:8], 5)
    low, high = (f([way.min(), way.max(), *IMAGES[[0, 7]].flat]) for f in (np.min, np.max))
    whole = ax.images[0].get_array()
    drawn = [whole[:, left : left + 3] for left in (0, 5, 9, 13, 17, 21, 26)]
    expected = (np.stack([IMAGES[0], *way, IMAGES[7]]) - low) / (high - low)
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
    assert texts(ax.get_xticklabels()) == ["start", "t = 0", "t = 1", "end"]


def test_interpolation_of_rows_of_a_table(table):
    rows, row = (Figure().subplots() for _ in range(2))
    table.plot.interpolation(TABLE[:2], TABLE[2:4], 3, rows, image_shape=(3, 4))
    assert rows.images[0].get_array().shape[0] == 3 + 2 + 3
    table.plot.interpolation(TABLE.iloc[0], TABLE.iloc[2], 3, row, image_shape=(3, 4))
    assert row.images[0].get_array().shape[0] == 3


def test_traversal_moves_one_dimension_of_the_prior_at_a_time(table, ax, tiles):
    vae = with_kl(table, 0.5, 0.001, 2.0, *[0.0] * 9)
    vae.plot.traversal(n=5, ax=ax, image_shape=(3, 4))
    z = norm.ppf([0.1, 0.3, 0.5, 0.7, 0.9])
    Z = np.zeros((2, 5, 12))
    Z[0, :, 2] = Z[1, :, 0] = z  # the most KL first, and the inactive one is left out
    expected = scaled(vae.inverse_transform(Z.reshape(10, 12)).to_numpy()).reshape(10, 3, 4)
    np.testing.assert_allclose(tiles(ax, 3, 4, apart=2), expected, atol=1e-4)
    assert texts(ax.get_yticklabels()) == ["2\n2.00 nats", "0\n0.50 nats"]
    assert texts(ax.get_xticklabels()) == ["10 %", "30 %", "50 %", "70 %", "90 %"]


def test_traversal_around_a_case(table, ax, tiles):
    table.plot.traversal(TABLE.iloc[3], 4, [1], ax, image_shape=(3, 4))
    Z = np.repeat(table.transform(TABLE[3:4]), 4, axis=0)
    Z[:, 1] = norm.ppf([0.125, 0.375, 0.625, 0.875])
    expected = scaled(table.inverse_transform(Z).to_numpy()).reshape(4, 3, 4)
    np.testing.assert_allclose(tiles(ax, 3, 4), expected, atol=1e-4)


def test_traversal_where_no_kl_is_known(table, ax):
    with_kl(table, *[np.nan] * 12).plot.traversal(n=3, ax=ax, image_shape=(3, 4))
    assert texts(ax.get_yticklabels()) == [str(j) for j in range(10)]


def test_no_more_than_ten_dimensions_are_drawn_unless_asked_for(table, ax):
    vae = with_kl(table, *range(1, 13))
    vae.plot.traversal(n=2, ax=ax, image_shape=(3, 4))
    assert texts(ax.get_yticklabels()) == [f"{j}\n{j + 1}.00 nats" for j in range(11, 1, -1)]
    vae.plot.column_effects(TABLE, range(12), (other := Figure().subplots()))
    assert texts(other.get_xticklabels()) == [str(j) for j in range(12)]


def test_learning_curve_and_kl_are_the_estimators(table):
    curve, bars = (Figure().subplots() for _ in range(2))
    table.plot.learning_curve(curve)
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), table.history_["elbo"])
    table.plot.kl_per_dimension(bars, inactive_below=1000)
    heights = [bar.get_height() for bar in bars.containers[0]]
    np.testing.assert_allclose(heights, np.sort(table.explained_nats_)[::-1])
    assert bars.get_title() == "0 of 12 latent dimensions active"


@pytest.mark.parametrize("around", [None, 5])
def test_column_effects_are_changes_in_standard_deviations_of_the_column(table, ax, around):
    X = TABLE.copy()
    X["column 4"] = 1.0  # says nothing of a standard deviation
    x = None if around is None else TABLE.iloc[around]
    table.plot.column_effects(X, [2, 0], ax, x=x)
    stay = np.zeros(12) if around is None else table.transform(TABLE[around : around + 1])[0]
    for place, j in enumerate([2, 0]):
        ends = np.tile(stay, (2, 1))
        ends[:, j] = -1, 1
        low, high = table.inverse_transform(ends).to_numpy()
        spread = X.to_numpy(np.float64).std(axis=0)
        expected = (high - low) / np.where(spread > 0, spread, np.nan)
        drawn = np.ma.filled(ax.images[0].get_array(), np.nan)[:, place]
        np.testing.assert_allclose(drawn, expected, atol=1e-4)
    assert texts(ax.get_yticklabels()) == list(TABLE.columns)
    assert texts(ax.get_xticklabels()) == ["2", "0"]
    assert "from z = −1 to +1" in ax.figure.axes[1].get_ylabel()


def test_column_effects_under_another_prior_say_so(table, ax):
    vae = with_prior(table, LearnedNormalPrior(jnp.zeros(12), jnp.ones(12)))
    vae.plot.column_effects(TABLE, [3], ax)
    assert "from the 16 % to the 84 % quantile of p(z)" in ax.figure.axes[1].get_ylabel()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (
            lambda p, t: t.samples(),
            r"Expected images.*got rows of 12 val.*image_shape=\(2, 2, 3\)\. For ta",
        ),
        (
            lambda p, t: t.samples(image_shape=(4, 4)),
            r"of the 12 values.*`image_shape`; got \(4, 4\)",
        ),
        (lambda p, t: t.samples(image_shape=(12,)), r"Expected \(h, w\) or .* got \(12,\)"),
        (
            lambda p, t: t.manifold(image_shape=(3, 4)),
            r"two latent dimensions.*latent_dim=12.*trav",
        ),
        (lambda p, t: p.manifold(n=1), r"integer of at least 2 for `n`; got 1"),
        (lambda p, t: p.interpolation(IMAGES[:2], IMAGES[:3]), r"as for `end`.*got 2 and 3"),
        (lambda p, t: p.interpolation(IMAGES[0], IMAGES[1], n=1), r"of at least 2 for `n`; got 1"),
        (lambda p, t: p.traversal(IMAGES[:2]), r"Expected one case for `x`; got 2"),
        (lambda p, t: p.traversal(dimensions=[2]), r"from 0 to 1 for `dimensions`; got \[2\]"),
        (lambda p, t: p.latent_scatter(IMAGES, dimensions=(0, 2)), r"`dimensions`; got \[0, 2\]"),
        (lambda p, t: t.column_effects(TABLE[:1]), r"two cases at least for `X`.*; got 1"),
        (
            lambda p, t: t.column_effects(TABLE.iloc[[0] * 7]),
            r"column that varies in `X`.*got 7 cases",
        ),
        (lambda p, t: p.column_effects(IMAGES), r"Expected a table.*shape \(4, 3\)\..*traversal"),
    ],
)
def test_what_cannot_be_drawn_is_refused(pictures, table, draw, message):
    with pytest.raises(ValueError, match=message):
        draw(pictures.plot, table.plot)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda p, t: t.traversal(dimensions=1, image_shape=(3, 4)), "dimensions"),
        (lambda p, t: t.column_effects(TABLE, 1), "dimensions"),
        (lambda p, t: p.latent_scatter(IMAGES, dimensions=1), "dimensions"),
        (lambda p, t: t.samples(image_shape=12), "image_shape"),
    ],
)
def test_a_number_where_several_are_needed_is_refused(pictures, table, draw, name):
    with pytest.raises(TypeError, match=rf"sequence for `{name}`; got 1"):
        draw(pictures.plot, table.plot)


@pytest.mark.parametrize(
    ("size", "example"),
    [(64, r", for instance image_shape=\(8, 8\)"), (48, r", .*\(4, 4, 3\)"), (3, ""), (7, "")],
)
def test_the_message_guesses_the_shape_of_square_images(size, example):
    expected = rf"rows of {size} values.*as image_shape=\(h, w\) or \(h, w, c\){example}\. For"
    with pytest.raises(ValueError, match=expected):
        image_shape((size,), None)


def test_a_collapsed_posterior_has_no_dimension_to_choose(table, ax):
    vae = with_kl(table, *[1e-3, -1e-4] * 6)
    with pytest.raises(ValueError, match=r"collapsed to the prior.*dimensions=\[0\]"):
        vae.plot.column_effects(TABLE)
    vae.plot.column_effects(TABLE, [0], ax)


LEVELS = np.array([0.05, 0.5, 0.9])


@pytest.mark.parametrize(
    ("prior", "exact", "atol"),
    [
        (dist.Normal(jnp.array([0.0, 5.0]), 2.0), norm([0, 5], 2), 1e-4),
        (dist.Normal(1.0, 2.0), norm([1, 1], 2), 1e-4),
        (dist.Gamma(2.0, 1.0), gamma([2, 2]), 0.1),  # NumPyro has no quantile of it: draws
        (
            dist.MultivariateNormal(jnp.zeros(2), jnp.array([[1.0, 0.9], [0.9, 4.0]])),
            norm(0, [1, 2]),
            0.1,
        ),
    ],
    ids=["a number each", "one number", "no inverse CDF", "dependent"],
)
def test_quantiles_of_each_latent(prior, exact, atol):
    built = priors.Fixed(prior).build(2, key=None)()
    np.testing.assert_allclose(quantiles(built, LEVELS), exact.ppf(LEVELS[:, None]), atol=atol)
