"""Posteriors: heads that give proper distributions, and auto-encoders that train with them."""

import functools
import pickle
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from sklearn.base import clone

import aevb
from aevb import VAE, Frozen, LatentVariableModel, posteriors, priors
from aevb.models.autoencoder import build_autoencoder
from aevb.models.base import trainable
from aevb.models.checks import check_model
from aevb.models.posteriors import POSTERIORS, make_posterior
from aevb.models.priors import PRIORS, make_prior
from aevb.probability import FAMILIES, has_closed_form, kl_divergence
from aevb.probability.special import scale_of
from aevb.schema import Schema

TABLE = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32) * [1, 2, 3, 4]
KEY = jax.random.key(0, impl="rbg")
FEATURES = jnp.linspace(-1.0, 1.0, 5)

HEADS = {
    "normal": posteriors.Normal(),
    "full-normal": posteriors.FullNormal(),
    "low-rank-normal": posteriors.LowRankNormal(rank=2),
    "mixture": posteriors.Mixture(n_components=3),
    "iaf": posteriors.Flow(width=6),
    "coupling": posteriors.Flow("coupling", width=6),
    "gamma": posteriors.Reparameterised("gamma"),
}


@pytest.fixture(scope="module")
def heads():
    """A head of each kind, from five features to three latents."""

    @eqx.filter_jit
    def build():
        return {name: q.build(5, 3, key=KEY) for name, q in HEADS.items()}

    return build()


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_a_distribution_of_one_latent_vector(name, heads):
    @eqx.filter_jit
    def look(head, h):
        q = head(h)
        z = q.sample(jax.random.key(1), (7,))
        inside = q.support(z)
        return (q.batch_shape, q.event_shape), z, inside, q.log_prob(z), q.log_prob(z[0])

    shapes, z, inside, log_prob, of_one = look(heads[name], FEATURES)
    assert shapes == ((), (3,))
    assert z.shape == (7, 3)
    assert log_prob.shape == (7,)
    assert np.all(inside)
    assert np.isfinite(log_prob).all()
    np.testing.assert_allclose(of_one, log_prob[0], rtol=1e-4, atol=1e-4)


def test_the_gaussians_have_the_covariance_of_their_factors(heads):
    full = heads["full-normal"](FEATURES)
    mean, log_variance, below = np.split(np.asarray(heads["full-normal"].linear(FEATURES)), [3, 6])
    factor = np.diag(np.exp(log_variance / 2))
    factor[[1, 2, 2], [0, 0, 1]] = below
    np.testing.assert_allclose(full.covariance_matrix, factor @ factor.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(full.mean, mean, rtol=1e-5)

    low = heads["low-rank-normal"](FEATURES)
    _, log_variance, columns = np.split(
        np.asarray(heads["low-rank-normal"].linear(FEATURES)), [3, 6]
    )
    V = columns.reshape(3, 2)
    expected = V @ V.T + np.diag(np.exp(log_variance))
    np.testing.assert_allclose(low.covariance_matrix, expected, rtol=1e-4, atol=1e-5)


# Normalising flows.


def flow_of(layer):
    @eqx.filter_jit
    def build(h):
        return posteriors.Flow(layer, width=6).build(5, 2, key=KEY)(h)

    return build(FEATURES)


@pytest.mark.quick(1)
@pytest.mark.parametrize("layer", ["autoregressive", "coupling"])
def test_a_flow_is_a_density_with_its_own_moments(layer):
    flow = flow_of(layer)
    z, log_prob = flow.sample_and_log_prob(jax.random.key(1), (4000,))
    np.testing.assert_allclose(flow.log_prob(z), log_prob, rtol=1e-4, atol=1e-4)
    axes = [
        np.linspace(m - 8 * s, m + 8 * s, 200) for m, s in zip(z.mean(0), z.std(0), strict=True)
    ]
    grid = jnp.stack(jnp.meshgrid(*axes), axis=-1)
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    density = np.exp(np.asarray(flow.log_prob(grid), np.float64)) * cell
    assert abs(density.sum() - 1) < 0.01
    mean = (density[..., None] * grid).sum((0, 1))
    variance = (density[..., None] * (grid - mean) ** 2).sum((0, 1))
    np.testing.assert_allclose(flow.mean, mean, atol=4 * np.sqrt(variance / 256).max())
    np.testing.assert_allclose(flow.variance, variance, rtol=0.5)


def test_a_flow_without_flowjax_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "flowjax.flows", None)
    for options in ({"posterior": "iaf"}, {"prior": "flow"}):
        with pytest.raises(ImportError, match=r"pip install 'aevb\[flows\]'"):
            VAE(2, **options, epochs=1).fit(TABLE)


# Auto-encoders.


PAIRS = {
    "full-normal": (posteriors.FullNormal(), priors.Vamp(n_components=3)),
    "low-rank-normal": (posteriors.LowRankNormal(rank=1), "learned-normal"),
    "mixture": (posteriors.Mixture(n_components=2), priors.Mixture(n_components=3)),
    "iaf": (posteriors.Flow(n_layers=1, width=4), "normal"),
    "coupling": (
        posteriors.Flow("coupling", n_layers=2, width=4),
        priors.Flow(n_layers=1, width=4),
    ),
    "gamma": ("gamma", dist.Gamma(2.0, 1.0)),
}


def fit(posterior, prior="normal"):
    vae = VAE(2, posterior=posterior, prior=prior, hidden=(5,), epochs=2, random_state=0)
    return vae.fit(TABLE)


@pytest.fixture(scope="module")
def fitted():
    """A function that gives an auto-encoder with a pair of families, fitted once."""
    return functools.cache(lambda name: fit(*PAIRS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_every_family_does_what_an_auto_encoder_does(name, fitted, tmp_path):
    vae = fitted(name)
    assert np.isfinite(vae.history_["elbo"]).all()
    Z = vae.transform(TABLE)
    assert Z.shape == (40, 2)
    assert np.isfinite(Z).all()
    assert np.isfinite(vae.sample(3)).all()
    distances = vae.distances(TABLE[:3], metric="expected")
    assert (distances > vae.distances(TABLE[:3])).all()
    assert vae.explained_nats_.shape == (2,)
    assert np.isnan(vae.explained_nats_).all() == (name in ("iaf", "coupling"))

    elbo, log_likelihood = vae.elbo(TABLE, 500), vae.log_likelihood(TABLE, 500)
    assert elbo.mean() < log_likelihood.mean() + 0.05

    vae.save(tmp_path / "model")
    for other in (VAE.load(tmp_path / "model"), pickle.loads(pickle.dumps(vae))):
        np.testing.assert_array_equal(other.transform(TABLE), Z)
        np.testing.assert_array_equal(other.elbo(TABLE, 500), elbo)
        np.testing.assert_array_equal(other.sample(3), vae.sample(3))
        np.testing.assert_array_equal(other.explained_nats_, vae.explained_nats_)
        assert other.model_.estimator == vae.model_.estimator


@pytest.mark.slow
def test_rows_of_a_flow_share_its_layers(fitted):
    vae = fitted("iaf")
    q = vae.encode(TABLE)
    assert {len(leaf) for leaf in jax.tree.leaves(q)} == {40}
    z = np.array([0.3, -0.2], np.float32)
    log_prob = eqx.filter_jit(lambda d: d.log_prob(z))
    one = eqx.filter_jit(lambda model, x: model.posterior(x).log_prob(z))(vae.model_, TABLE[3])
    np.testing.assert_allclose(log_prob(q[3]), one, rtol=1e-4, atol=1e-4)
    every = eqx.filter_jit(lambda q: (q.log_prob(jnp.tile(z, (40, 1))), q.mean))(q)
    np.testing.assert_allclose(every[0][3], one, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(every[1], vae.transform(TABLE), rtol=1e-3, atol=1e-4)


def test_a_cauchy_is_represented_by_its_median():
    vae = fit("cauchy", dist.Cauchy())
    assert vae.model_.estimator == "B"
    median = eqx.filter_jit(lambda model, x: model.posterior(x).base_dist.icdf(0.5))
    expected = [median(vae.model_, x) for x in TABLE[:3]]
    np.testing.assert_allclose(vae.transform(TABLE[:3]), expected, rtol=1e-4, atol=1e-5)
    assert np.isposinf(vae.distances(TABLE[:2], metric="expected")).all()


def test_options_are_copied_and_compared_as_values():
    vae = VAE(posterior=posteriors.Mixture(3), prior=priors.Vamp(4))
    assert clone(vae).get_params() == vae.get_params()
    assert posteriors.Mixture(3) == posteriors.Mixture(n_components=3) != posteriors.Mixture(4)


# A prior for the latents of each family.
SUPPORTED_BY = {
    "dirichlet": dist.Dirichlet(jnp.ones(3)),
    "beta": dist.Beta(2.0, 2.0),
    **dict.fromkeys(("uniform", "triangular"), dist.Normal(0.0, 2.0)),
}


def prior_for(name):
    """Return a prior on the support of a posterior; None where that is all numbers."""
    if name in SUPPORTED_BY or name not in FAMILIES:
        return SUPPORTED_BY.get(name)
    family = FAMILIES[name]
    draws = family.from_reals(jnp.full((family.n_parameters, 3), -5.0)).sample(KEY, (99,))
    return dist.Gamma(2.0, 1.0) if np.all(draws > 0) else None


def assemble(posterior, prior, n_examples=0):
    return build_autoencoder(
        Schema.fit(TABLE, "gaussian").block,
        3,
        posterior=posterior,
        prior=prior,
        examples=TABLE[:n_examples] if n_examples else None,
        hidden=(5,),
        key=KEY,
    )


@pytest.mark.quick(3)
@pytest.mark.parametrize("posterior", POSTERIORS)
def test_every_posterior_goes_with_every_prior_of_its_support(posterior):
    fixed = prior_for(posterior)
    chosen = [name for name in PRIORS if posterior != "dirichlet" or name == "vamp"]
    if posterior in ("pareto", "reciprocal", "uniform", "triangular"):
        chosen.remove("vamp")  # their supports are learned
    for prior in [*chosen, *([fixed] if fixed is not None else [])]:
        n_examples = make_prior(prior).n_examples and 40

        def look(x, prior=prior, n_examples=n_examples):  # without computing anything
            model = assemble(posterior, prior, n_examples)
            check_model(model, x)
            return model, aevb.sgvb(model, x, KEY)

        model, estimate = eqx.filter_eval_shape(look, jax.ShapeDtypeStruct((4,), jnp.float32))
        assert estimate.shape == ()
        assert model.estimator in ("A", "B")


@pytest.mark.slow
@pytest.mark.parametrize(
    "posterior", ["full-normal", "low-rank-normal", "mixture", "coupling", "dirichlet"]
)
def test_every_part_of_an_auto_encoder_gets_a_gradient(posterior):
    prior = SUPPORTED_BY.get(posterior, "normal")

    @eqx.filter_jit
    def look(x):
        model = assemble(posterior, prior)
        bound = eqx.filter_value_and_grad(lambda m: aevb.sgvb(m, x, KEY, n_draws=8))
        value, gradient = bound(model)
        return value, eqx.filter(gradient, trainable(model))  # constants are not trained

    value, gradient = look(jnp.asarray(TABLE[0], jnp.float32))
    assert np.isfinite(value)
    for part in (gradient.encoder.body, gradient.encoder.head, gradient.decoder):
        for leaf in jax.tree.leaves(part):
            assert np.isfinite(leaf).all()
            assert np.any(leaf != 0)


def test_the_model_says_which_estimator_is_used():
    expected = {
        ("normal", "normal"): "B",
        ("full-normal", "normal"): "B",
        ("low-rank-normal", "learned-normal"): "B",
        ("gamma", dist.Gamma(2.0, 1.0)): "B",
        ("mixture", "normal"): "A",
        ("iaf", "normal"): "A",
        ("normal", "flow"): "A",
        ("normal", "mixture"): "A",
    }
    found = {pair: eqx.filter_eval_shape(assemble, *pair).estimator for pair in expected}
    assert list(found.values()) == list(expected.values())


# In models of one's own, against what is known exactly.


class Recognised(LatentVariableModel):
    """A linear-Gaussian model whose parameters are known, and a posterior to learn."""

    truth: Frozen
    head: eqx.Module

    def prior(self):
        return self.truth.value.prior()

    def likelihood(self, z):
        return self.truth.value.likelihood(z)

    def posterior(self, x):
        return self.head(x)


def recognised(linear_gaussian, family):
    truth = linear_gaussian.random(4, 2)
    truth = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), truth)
    return Recognised(Frozen(truth), family.build(4, 2, key=KEY))


@pytest.mark.slow
def test_full_covariance_reaches_the_evidence_where_the_diagonal_cannot(linear_gaussian):
    truth = recognised(linear_gaussian, posteriors.Normal()).truth.value
    z = jax.random.normal(KEY, (100, 2))
    noise = jax.random.normal(jax.random.key(1), (100, 4))
    X = z @ truth.W.T + truth.m + truth.s * noise
    least = 0.5 * (jnp.sum(jnp.log(jnp.diag(truth.M))) - jnp.linalg.slogdet(truth.M)[1])

    def gap(family):
        model = recognised(linear_gaussian, family)
        settings = {"estimator": "stl", "epochs": 600, "batch_size": 20, "learning_rate": 0.1}
        head = aevb.train(model, X, **settings, key=0).model.head

        @jax.jit
        @jax.vmap
        def kl(x):  # what the bound lacks
            q = head(x)
            full = getattr(q, "covariance_matrix", jnp.diag(q.variance))
            return kl_divergence(dist.MultivariateNormal(q.mean, full), truth.exact_posterior(x))

        return float(jnp.mean(kl(X)))

    assert least > 0.1
    assert gap(posteriors.Normal()) > least
    assert gap(posteriors.FullNormal()) < 1e-3


def test_draws_in_strata_from_a_mixture_average_as_plain_draws(linear_gaussian):
    model = recognised(linear_gaussian, posteriors.Mixture(n_components=3))
    x = jnp.array([0.5, -1.0, 0.3, 2.0])
    assert not has_closed_form(model.posterior(x), model.prior())

    @jax.jit
    @jax.vmap
    def log_ratio(key):
        q = model.posterior(x)
        z = q.sample(key)
        return model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - q.log_prob(z)

    plain = np.asarray(log_ratio(jax.random.split(jax.random.key(1), 100_000)))
    keys = jax.random.split(jax.random.key(2), 1000)
    strata = jax.jit(jax.vmap(lambda key: aevb.sgvb(model, x, key, n_draws=30)))(keys)
    strata = np.asarray(strata)
    error = np.hypot(plain.std() / np.sqrt(plain.size), strata.std() / np.sqrt(strata.size))
    assert abs(plain.mean() - strata.mean()) < 4 * error
    assert error < 0.1 < plain.std()


# What does not fit.


@pytest.mark.usefixtures("own_messages")
@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: posteriors.Mixture(0), ValueError, "`n_components`; got 0"),
        (lambda: posteriors.LowRankNormal(1.5), TypeError, r"`rank`; got 1\.5"),
        (lambda: posteriors.Flow("couplng"), ValueError, "`layer`.*Did you mean 'coupling'"),
        (lambda: posteriors.Flow(width=0), ValueError, "`width`; got 0"),
        (lambda: posteriors.Reparameterised("gama"), ValueError, "`family`.*Did you mean 'gamma'"),
        (lambda: make_posterior("lapace"), ValueError, "`posterior`.*Did you mean 'laplace'"),
        (lambda: make_posterior(dist.Normal()), TypeError, "or a Posterior for `posterior`; got"),
    ],
    ids=["components", "rank", "layer", "width", "family", "name", "distribution"],
)
def test_options_that_make_no_posterior(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": "normal", "prior": dist.Gamma(2.0, 1.0)}, "support of `AutoEncoder.prior`"),
        ({"posterior": "gamma", "prior": dist.Beta(2.0, 2.0)}, "got Gamma with support Positive"),
        ({"posterior": "iaf", "latent_dim": 1}, "`latent_dim` of at least 2 for a flow; got 1"),
        ({"posterior": "mixture", "estimator": "B"}, "No closed form is known"),
        ({"posterior": "mixture", "estimator": "dreg"}, "not a mixture"),
    ],
    ids=["real", "positive", "one dimension", "B", "dreg"],
)
def test_what_does_not_go_together_is_said_before_the_first_step(options, message):
    vae = VAE(**{"latent_dim": 2, "hidden": (5,), "epochs": 1, **options})
    with pytest.raises(ValueError, match=message):
        vae.fit(TABLE)
    assert not hasattr(vae, "model_")


# Scales.


LOG_VARIANCES = {
    "normal": (2, 4),
    "full-normal": (2, 4),
    "low-rank-normal": (2, 4),
    "mixture": (-10, None),
}


@pytest.mark.parametrize("name", LOG_VARIANCES)
@pytest.mark.parametrize("size", [50.0, -50.0, 1e3, -1e3, 1e10, -1e10])
def test_scales_are_finite_and_above_zero_whatever_a_network_says(name, size):
    posterior = make_posterior(name)
    reals = jnp.zeros(posterior.n_parameters(2)).at[slice(*LOG_VARIANCES[name])].set(size)

    def variance(reals):
        return jnp.sum(posterior.member(reals, 2).variance)

    value, slope = jax.value_and_grad(variance)(reals)
    assert 0 < value < jnp.inf and jnp.isfinite(slope).all()
    assert (value > 1e10) == (size > 0)


def test_a_scale_of_use_is_the_exponential_to_the_last_bit():
    log_scale = jnp.linspace(-20.0, 20.0, 999)
    np.testing.assert_array_equal(scale_of(log_scale), jnp.exp(log_scale))
    np.testing.assert_array_equal(
        jax.vmap(jax.grad(scale_of))(log_scale[1:-1]), jnp.exp(log_scale)[1:-1]
    )
    beyond = scale_of(jnp.array([20.0, 20.001, 20.01, 21.0, 40.0]))
    assert (jnp.diff(beyond) > 0).all()
