"""Priors: what they start as, what training moves, and the mixture of posteriors."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import VAE, FitWarning, Frozen, TrainingDiverged, posteriors, priors, sgvb
from aevb.models.priors import EqualMixture, examples_for, make_prior

TABLE = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32) * [1, 2, 3, 4]
KEY = jax.random.key(0, impl="rbg")
SMALL = {"latent_dim": 2, "hidden": (5,), "epochs": 3, "random_state": 0}


def test_the_learned_normal_starts_as_the_standard_one():
    p = priors.LearnedNormal().build(3, key=KEY)()
    np.testing.assert_array_equal(p.mean, np.zeros(3))
    np.testing.assert_array_equal(p.variance, np.ones(3))


def test_a_mixture_has_its_components():
    module = priors.Mixture(n_components=3).build(2, key=KEY)
    module = eqx.tree_at(lambda m: m.logits, module, jnp.array([0.0, 1.0, -1.0]))
    weights = np.exp([0.0, 1.0, -1.0]) / np.exp([0.0, 1.0, -1.0]).sum()
    means, z = np.asarray(module.loc), np.array([0.3, -0.5])
    density = np.exp(-0.5 * ((z - means) ** 2).sum(1)) / (2 * np.pi)
    np.testing.assert_allclose(module().log_prob(z), np.log(weights @ density), rtol=1e-5)


# Priors with the number of their arrays that training moves, and of those that it leaves.
MOVING = {
    "learned-normal": ("learned-normal", 2, 0),
    "mixture": (priors.Mixture(3), 3, 0),
    "vamp": (priors.Vamp(3), 1, 0),
    "fixed": (dist.Normal(0.5, 2.0), 0, 2),
}


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", MOVING)
def test_training_moves_what_is_learned_and_nothing_else(name):
    prior, n_arrays, n_still = MOVING[name]
    before, after = (
        jax.tree.leaves(VAE(prior=prior, **{**SMALL, "epochs": n}).fit(TABLE).model_.latent_prior)
        for n in (1, 3)
    )
    moved = [np.any(a != b) for a, b in zip(before, after, strict=True)]
    assert sum(moved) == n_arrays
    assert moved.count(False) == n_still


# The mixture of posteriors.


@pytest.fixture(scope="module")
def vamp():
    return VAE(prior=priors.Vamp(3), **SMALL).fit(TABLE)


def test_the_vampprior_is_the_mixture_of_the_posterior_at_its_inputs(vamp):
    model = vamp.model_
    data_units = jax.vmap(model.encoder.inputs.standardise.undo)(model.latent_prior.inputs)
    z = jnp.array([[0.3, -0.5], [1.0, 2.0]])

    @eqx.filter_jit
    def by_hand(model):
        each = [model.posterior(u).log_prob(z) for u in data_units]
        return jax.nn.logsumexp(jnp.stack(each), axis=0) - jnp.log(3.0)

    log_prob = eqx.filter_jit(lambda model: model.prior().log_prob(z))(model)
    np.testing.assert_allclose(log_prob, by_hand(model), rtol=1e-3, atol=1e-4)


def test_pseudo_inputs_start_at_evenly_spaced_cases():
    np.testing.assert_array_equal(
        examples_for(priors.Vamp(), np.arange(197))[[0, 1, 49]], [0, 4, 196]
    )
    assert examples_for(priors.Normal(), TABLE) is None
    with pytest.raises(ValueError, match=r"at least 50 training cases.*got 40\. Choose fewer"):
        VAE(prior="vamp", **SMALL).fit(TABLE)


def test_pseudo_inputs_are_encoded_once_for_all_rows(vamp):
    rows, n_inputs, n_hidden = 7, 3, 5

    def bounds(model, X):
        keys = jax.random.split(KEY, rows)
        return jax.vmap(lambda x, key: sgvb(model, x, key))(X, keys)

    arrays, static = eqx.partition(vamp.model_, eqx.is_array)
    jaxpr = jax.make_jaxpr(lambda arrays, X: bounds(eqx.combine(arrays, static), X))(
        arrays, TABLE[:rows]
    )
    products = re.findall(r":f32\[([\d,]*)\] = dot_general", str(jaxpr))
    sizes = [int(np.prod([int(size) for size in shape.split(",")])) for shape in products]
    assert n_inputs * n_hidden in sizes  # the pseudo-inputs' hidden layer
    assert max(sizes) == rows * n_hidden


@pytest.mark.slow
def test_an_equal_mixture_draws_by_its_density():
    inputs = jnp.array([[-1.0, 0.0], [2.0, 1.0], [0.5, -3.0]])
    mixture = EqualMixture(lambda u: dist.Normal(u, 0.5).to_event(1), inputs)
    z = np.asarray(jax.jit(lambda key: mixture.sample(key, (20_000,)))(jax.random.key(1)))
    np.testing.assert_allclose(z.mean(0), mixture.mean, atol=0.05)
    np.testing.assert_allclose(z.var(0), mixture.variance, rtol=0.05)
    assert mixture.sample(jax.random.key(1)).shape == (2,)
    same = dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.zeros(3)), dist.Normal(inputs, 0.5).to_event(1)
    )
    np.testing.assert_allclose(mixture.log_prob(z[:50]), same.log_prob(z[:50]), rtol=1e-5)


# Distributions of NumPyro.


@pytest.mark.parametrize(
    "given",
    [
        dist.Gamma(2.0, 1.0),
        dist.Gamma(2.0, 1.0).expand((3,)),
        dist.Gamma(2.0 * jnp.ones(3), 1.0).to_event(1),
    ],
    ids=["number", "batch", "vector"],
)
def test_a_distribution_over_numbers_is_that_of_every_latent(given):
    module = make_prior(given).build(3, key=KEY)
    assert isinstance(module.distribution, Frozen)
    p = module()
    assert (p.batch_shape, p.event_shape) == ((), (3,))
    z = np.array([0.5, 1.0, 2.0])
    np.testing.assert_allclose(p.log_prob(z), dist.Gamma(2.0, 1.0).log_prob(z).sum(), rtol=1e-5)


def test_a_joint_distribution_stays_one():
    given = dist.MultivariateNormal(jnp.zeros(2), jnp.array([[2.0, 1.0], [1.0, 2.0]]))
    p = make_prior(given).build(2, key=KEY)()
    z = jnp.array([0.3, -0.5])
    np.testing.assert_allclose(p.log_prob(z), given.log_prob(z), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "outside"),
    [
        (dist.Uniform(0.0, 1.0), 1.5),
        (dist.Uniform(jnp.zeros(2), 1.0).to_event(1), -0.1),
        (dist.Gamma(2.0, 1.0).expand((2,)).to_event(1), -1.0),
        (dist.TruncatedNormal(0.0, 1.0, low=-1.0), -2.0),
    ],
)
def test_a_fixed_prior_has_no_density_outside_of_its_support(given, outside):
    log_prob = jax.jit(lambda module, z: module().log_prob(z))
    module = make_prior(given).build(2, key=KEY)
    assert log_prob(module, jnp.array([0.5, outside])) == -jnp.inf
    expected = jnp.sum(given.log_prob(jnp.array([0.5, 0.7])))
    np.testing.assert_allclose(log_prob(module, jnp.array([0.5, 0.7])), expected, rtol=1e-5)
    assert "_validate_args" not in vars(given)  # what was given stays as it was


@pytest.mark.quick(1)
@pytest.mark.parametrize("prior", [dist.Uniform(0.0, 1.0), dist.Gamma(2.0, 1.0)])
def test_draws_outside_of_a_fixed_prior_make_no_bound(prior):
    """A posterior with ends that are learned may or may not keep to the support."""
    with pytest.warns(FitWarning), pytest.raises(TrainingDiverged, match=r"(elbo|kl) was -?inf"):
        VAE(posterior="uniform", prior=prior, **SMALL).fit(TABLE)


# What does not fit.


@pytest.mark.usefixtures("own_messages")
@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: priors.Mixture(0), ValueError, "`n_components`; got 0"),
        (lambda: priors.Vamp("many"), TypeError, "`n_components`; got 'many'"),
        (lambda: priors.Flow(n_layers=0), ValueError, "`n_layers`; got 0"),
        (lambda: priors.Vamp(3).build(2, key=KEY), ValueError, "for `examples` of Vamp.build"),
        (lambda: make_prior("vmp"), ValueError, "`prior`.*Did you mean 'vamp'"),
        (lambda: make_prior(dist.Normal), TypeError, "a Prior or a distribution of NumPyro"),
    ],
    ids=["mixture", "vamp", "flow", "examples", "name", "class"],
)
def test_options_that_make_no_prior(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"prior": dist.Normal(jnp.zeros(3), 1.0).to_event(1)},
            r"vectors of shape \(2,\), for `prior`; got one of batch shape \(\) and event shape",
        ),
        (
            {"prior": priors.Vamp(3), "posterior": "uniform"},
            "beside prior 'vamp'.*got Uniform, whose support is learned",
        ),
        ({"prior": "flow", "latent_dim": 1}, "`latent_dim` of at least 2 for a flow"),
    ],
    ids=["length", "support", "one dimension"],
)
def test_priors_that_do_not_fit_are_refused_before_the_first_step(options, message):
    vae = VAE(**{**SMALL, **options})
    with pytest.raises(ValueError, match=message):
        vae.fit(TABLE)
    assert not hasattr(vae, "model_")


def test_flows_as_priors_have_fast_densities():
    """A masked autoregressive flow would loop over the latents in the other direction."""
    module = eqx.filter_jit(lambda: priors.Flow(n_layers=1, width=4).build(3, key=KEY))()
    log_prob = jax.make_jaxpr(lambda z: module().log_prob(z))(jnp.zeros(3))
    head = eqx.filter_jit(lambda: posteriors.Flow(width=4, n_layers=1).build(5, 3, key=KEY))()
    draw = jax.make_jaxpr(lambda key: head(jnp.zeros(5)).sample_and_log_prob(key))(KEY)
    for jaxpr in (log_prob, draw):
        assert "length=3" not in str(jaxpr)
    slow = jax.make_jaxpr(lambda z: head(jnp.zeros(5)).log_prob(z))(jnp.zeros(3))
    assert "length=3" in str(slow)
