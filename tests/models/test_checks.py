"""What is wrong with a model is said in its author's terms, before anything is computed."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import transforms

import aevb
from aevb import Joint, LatentVariableModel
from aevb.models.checks import check_model
from aevb.probability import ExpRelaxedOneHotCategorical


def normal(*shape, loc=0.0):
    return dist.Normal(loc * jnp.ones(shape), 1.0).to_event(len(shape))


class Mine(LatentVariableModel):
    """A model whose methods are given one by one; each sees the weight, (3,), and its argument."""

    weight: jax.Array
    own_prior: Any = eqx.field(static=True)
    own_likelihood: Any = eqx.field(static=True)
    own_posterior: Any = eqx.field(static=True)

    def prior(self):
        return self.own_prior(self.weight)

    def likelihood(self, z):
        return self.own_likelihood(self.weight, z)

    def posterior(self, x):
        return self.own_posterior(self.weight, x)


def mine(
    prior=lambda w: normal(2), likelihood=lambda w, z: normal(3), posterior=lambda w, x: normal(2)
):
    return Mine(jnp.ones(3), prior, likelihood, posterior)


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


X = shape(3)


def test_a_model_without_mistakes_passes():
    check_model(mine(), X)
    check_model(mine(), np.zeros(3))


DISTRIBUTIONS = [
    ("posterior", lambda w, x: (w * x, w), r"got \(f32\[3\], f32\[3\]\)"),
    ("posterior", lambda w, x: {"mean": x}, r"got \{'mean': f32\[3\]\}"),
    ("prior", lambda w: dist.Normal, "got the class Normal"),
    ("prior", lambda w: None, "got None"),
    ("likelihood", lambda w, z: w, r"got f32\[3\]"),
    ("likelihood", lambda w, z: [normal(3)], r"got \[<.*Independent"),
]


@pytest.mark.parametrize(("method", "function", "got"), DISTRIBUTIONS)
def test_what_is_no_distribution(method, function, got):
    message = rf"Expected a distribution from `Mine\.{method}`; {got}.*numpyro\.distributions"
    with pytest.raises(TypeError, match=message):
        check_model(mine(**{method: function}), X)


SHAPES = [
    (
        {"posterior": lambda w, x: normal(3)},
        r"same latent from `Mine\.posterior` and `Mine\.prior`; got event shapes \(3,\) and \(2,\)",
    ),
    (
        {"prior": lambda w: normal(2, 1)},
        r"`Mine\.posterior` and `Mine\.prior`; got event shapes \(2,\) and \(2, 1\)",
    ),
    (
        {"likelihood": lambda w, z: normal(4)},
        r"one datapoint, of shape \(3,\), from `Mine\.likelihood`; got event shape \(4,\)",
    ),
    (  # would be broadcast, and wrong
        {"likelihood": lambda w, z: normal()},
        r"one datapoint, of shape \(3,\), from `Mine\.likelihood`; got event shape \(\)",
    ),
    (
        {"likelihood": lambda w, z: normal(1)},
        r"one datapoint, of shape \(3,\), from `Mine\.likelihood`; got event shape \(1,\)",
    ),
]


@pytest.mark.parametrize(("methods", "message"), SHAPES)
def test_shapes_that_do_not_agree(methods, message):
    with pytest.raises(ValueError, match=message):
        check_model(mine(**methods), X)


@pytest.mark.parametrize(
    ("method", "function", "size"),
    [
        ("prior", lambda w: dist.Normal(jnp.zeros(2), 1.0), 2),
        ("likelihood", lambda w, z: dist.Normal(w, 1.0), 3),
        ("posterior", lambda w, x: dist.Normal(jnp.zeros((2, 2)), 1.0).to_event(1), 2),
    ],
)
def test_components_that_were_not_joined(method, function, size):
    message = (
        rf"whole datapoint from `Mine\.{method}`; got independent ones of batch shape \({size},\)"
        r"\. Join them with `\.to_event\(1\)`"
    )
    with pytest.raises(ValueError, match=message):
        check_model(mine(**{method: function}), X)


def test_what_a_method_raises_is_told_with_its_name_and_what_it_was_given():
    model = mine(likelihood=lambda w, z: normal(3, loc=w @ z))
    message = r"`Mine\.likelihood` of one latent of shape \(2,\); got TypeError: dot_general"
    with pytest.raises(ValueError, match=message) as caught:
        check_model(model, X)
    assert isinstance(caught.value.__cause__, TypeError)
    model = mine(posterior=lambda w, x: normal(2, loc=x["age"]))
    with pytest.raises(
        ValueError, match=r"`Mine\.posterior` of one datapoint of shape \(3,\); got"
    ):
        check_model(model, X)
    model = mine(prior=lambda w: normal(2, loc=w.bias))
    with pytest.raises(ValueError, match=r"from `Mine\.prior`; got AttributeError"):
        check_model(model, X)


# Data of several parts.

PARTS = {"height": shape(3), "count": shape(dtype=jnp.int32), "age": shape()}


def parts(**others):
    return lambda w, z: Joint(**{"height": normal(3), "count": dist.Poisson(1.0), **others})


def test_a_likelihood_of_parts():
    # What a datapoint has beside them may serve the posterior.
    check_model(mine(likelihood=parts(), posterior=lambda w, x: normal(2, loc=x["age"])), PARTS)


@pytest.mark.parametrize(
    ("likelihood", "x", "message"),
    [
        (parts(weight=normal()), PARTS, r"'age': \(\).* got event shape .*'weight': \(\)"),
        (parts(height=normal(1)), PARTS, r"'height': \(3,\).* got event shape .*'height': \(1,\)"),
        (parts(), X, r"of shape \(3,\), from `Mine\.likelihood`; got event shape \{"),
        (
            parts(height=dist.Normal(jnp.zeros(3))),
            PARTS,
            r"`Mine\.likelihood` of one latent .*part 'height'.*batch shape \(3,\)\. Join them",
        ),
        (
            lambda w, z: normal(3),
            PARTS,
            r"one number from `log_prob` of `Mine\.likelihood` for one datapoint of shape \{.*Type",
        ),
        (lambda w, z: normal(3), (X, X), r"shape \(\(3,\), \(3,\)\); got TypeError"),
    ],
)
def test_a_likelihood_that_does_not_have_the_parts_of_the_data(likelihood, x, message):
    with pytest.raises(ValueError, match=message):
        check_model(mine(likelihood=likelihood), x)


class Sum:
    """A likelihood of a user's own, with nothing but log_prob."""

    def __init__(self, axis):
        self.axis = axis

    def log_prob(self, x):
        return -jnp.sum(x**2, axis=self.axis)


def test_a_likelihood_may_be_nothing_but_log_prob():
    check_model(mine(likelihood=lambda w, z: Sum(None)), X)
    message = r"one number from `log_prob` of `Mine\.likelihood`.*got an array of shape \(3,\)"
    with pytest.raises(ValueError, match=message):
        check_model(mine(likelihood=lambda w, z: Sum(())), X)


# Supports.


def gamma(*size):
    return dist.Gamma(2.0 * jnp.ones(size), 1.0).to_event(len(size))


def beta(*size):
    return dist.Beta(2.0 * jnp.ones(size), 1.0).to_event(len(size))


def mixture():
    return dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.zeros(3)), dist.Normal(jnp.zeros(3), 1.0)
    )


@pytest.mark.parametrize(
    ("posterior", "prior", "got"),
    [
        (normal(2), gamma(2), r"Positive.*; got Normal with support Real"),
        (normal(), beta(), r"UnitInterval.*; got Normal with support Real"),
        (gamma(2), beta(2), r"UnitInterval.*; got Gamma with support Positive"),
        (dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)), gamma(2), r"Pos.*; got Multivar"),
        (mixture(), gamma(), r"Positive.*; got MixtureSameFamily with support Real"),
        (normal(2), dist.Uniform(0.0, 1.0).expand([2]).to_event(1), r"Interval.*; got Normal"),
        (
            Joint(a=normal(), b=lambda a: normal(2)),
            Joint(b=gamma(2), a=lambda b: normal()),
            r"Positive.*; got Normal",
        ),
    ],
)
def test_a_posterior_that_leaves_the_support_of_the_prior(posterior, prior, got):
    model = mine(posterior=lambda w, x: posterior, prior=lambda w: prior)
    message = rf"`Mine\.posterior` within the support of `Mine\.prior`, {got}.*Choose two families"
    with pytest.raises(ValueError, match=message):
        check_model(model, X)


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        (gamma(2), normal(2)),
        (beta(2), gamma(2)),
        (dist.LogNormal(jnp.zeros(2)).to_event(1), gamma(2)),
        (dist.Dirichlet(jnp.ones(4)), dist.Dirichlet(jnp.ones(4))),
        (beta(3), dist.Uniform(jnp.zeros(3), jnp.ones(3)).to_event(1)),
        (beta(3), dist.Uniform(0.0, 1.0).expand([3]).to_event(1)),
        (dist.Bernoulli(0.3), dist.Bernoulli(0.5)),
    ],
)
def test_a_posterior_within_the_support_of_the_prior(posterior, prior):
    check_model(mine(posterior=lambda w, x: posterior, prior=lambda w: prior), X)


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        (dist.Dirichlet(jnp.ones(3)), normal(3)),
        (normal(3), dist.Dirichlet(jnp.ones(3))),
        (dist.Bernoulli(0.3), dist.Normal()),
        (dist.Normal(), dist.Categorical(jnp.ones(3) / 3)),
        # These passed once:
        (ExpRelaxedOneHotCategorical(0.5, jnp.zeros(3)), normal(3)),
        (normal(3), ExpRelaxedOneHotCategorical(0.5, jnp.zeros(3))),
        (dist.ProjectedNormal(jnp.ones(3)), normal(3)),
        (dist.Dirichlet(jnp.ones((2, 3))).to_event(1), normal(2, 3)),
        (dist.LKJCholesky(3), normal(3, 3)),
        (Joint(a=normal(), b=normal(3)), Joint(a=normal(), b=dist.ProjectedNormal(jnp.ones(3)))),
        (
            dist.TransformedDistribution(
                dist.Dirichlet(jnp.ones(3)), transforms.AffineTransform(0.0, 10.0)
            ),
            normal(3),
        ),
    ],
)
def test_densities_of_different_kinds_have_no_ratio(posterior, prior):
    model = mine(posterior=lambda w, x: posterior, prior=lambda w: prior)
    with pytest.raises(ValueError, match=r"densities of one kind from `Mine\.posterior`"):
        check_model(model, X)


POINTS = [
    dist.Delta(0.3),
    dist.Delta(0.3).mask(True),
    dist.TransformedDistribution(dist.Delta(0.3), transforms.AffineTransform(0.0, 2.0)),
]


@pytest.mark.parametrize("point", POINTS)
def test_a_point_mass_is_no_density(point):
    # It passed once, for a "bound" of 2.64 nats where log p(x) was -1.04.
    posterior = mine(posterior=lambda w, x: point, prior=lambda w: normal())
    with pytest.raises(ValueError, match=r"from `Mine\.posterior`; got .* on a point, .*narrow"):
        check_model(posterior, X)
    prior = mine(posterior=lambda w, x: normal(), prior=lambda w: point)
    with pytest.raises(ValueError, match=r"from `Mine\.prior`; got .* on a point, "):
        check_model(prior, X)
    both = mine(
        posterior=lambda w, x: Joint(a=normal(), b=point),
        prior=lambda w: Joint(a=normal(), b=point),
    )
    with pytest.raises(ValueError, match=r"from `Mine\.posterior`; got .* a point for part 'b'"):
        check_model(both, X)
    likelihood = mine(likelihood=lambda w, z: Joint(height=normal(3), age=point))
    with pytest.raises(ValueError, match=r"from `Mine\.likelihood`; got .* a point for part 'age'"):
        check_model(likelihood, PARTS)


def test_censored_data_have_a_likelihood():
    likelihood = mine(
        likelihood=lambda w, z: dist.RightCensoredDistribution(
            dist.Normal(w, 1.0), jnp.array([0, 1, 1])
        ).to_event(1)
    )
    check_model(likelihood, X)


def test_surfaces_of_one_kind_pass():
    choice = ExpRelaxedOneHotCategorical(0.5, jnp.zeros(3))
    check_model(mine(posterior=lambda w, x: choice, prior=lambda w: choice), X)
    direction = dist.ProjectedNormal(jnp.ones(3))
    check_model(mine(posterior=lambda w, x: direction, prior=lambda w: direction), X)


def test_a_dirichlet_posterior_wants_another_prior_than_the_default():
    with pytest.raises(ValueError, match=r"got Dirichlet on .* and Normal on"):
        aevb.VAE(2, hidden=(), posterior="dirichlet", epochs=1).fit(np.eye(3))


BOUNDED = [
    (dist.Uniform(0.0, 1.0), "normal"),
    (dist.Uniform(0.0, 2.0), "gamma"),
    (dist.TruncatedNormal(0.0, 1.0, low=-5.0, high=5.0), "normal"),
]


@pytest.mark.parametrize(("prior", "posterior"), BOUNDED)
def test_bounds_that_training_leaves_as_they_are_are_known(prior, posterior):
    # Outside of them NumPyro's densities go on, and the "bound" exceeds the evidence.
    with pytest.raises(ValueError, match=r"within the support of `AutoEncoder\.prior`"):
        aevb.VAE(2, hidden=(), prior=prior, posterior=posterior, epochs=1).fit(np.eye(3))

    class Own(LatentVariableModel):
        bounded: aevb.Frozen

        def prior(self):
            return self.bounded.value

        def likelihood(self, z):
            return dist.Normal(z, jnp.ones(3)).to_event(1)

        def posterior(self, x):
            return normal() if posterior == "normal" else gamma()

    for as_arrays in (jnp.asarray, np.asarray):
        with pytest.raises(ValueError, match=r"within the support of `Own\.prior`"):
            check_model(Own(aevb.Frozen(jax.tree.map(as_arrays, prior))), X)


def test_bounds_that_are_parameters_are_not_known_beforehand():
    prior = lambda w: dist.Uniform(w - 1, w).to_event(1)  # noqa: E731
    check_model(mine(posterior=lambda w, x: normal(3), prior=prior), X)


# Context.


class WithContext(LatentVariableModel):
    """Regression on a covariate: the latent is a line's intercept."""

    slope: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z, c):
        return dist.Normal(z + self.slope @ c, 1.0)

    def posterior(self, x, c):
        return dist.Normal(x - self.slope @ c, 1.0)


def test_a_model_with_context():
    model = WithContext(jnp.ones(2))
    check_model(model, shape(), shape(2))
    with pytest.raises(ValueError, match=r"`WithContext\.posterior` of one datapoint.*got"):
        check_model(model, shape(), shape(4))
    with pytest.raises(ValueError, match=r"`WithContext\.posterior` of one datapoint.*got"):
        check_model(model, shape())


# In training.


@pytest.mark.parametrize(
    ("methods", "options", "error", "message"),
    [
        (dict([DISTRIBUTIONS[0][:2]]), {}, TypeError, r"`Mine\.posterior`; got \(f32"),
        (SHAPES[0][0], {}, ValueError, SHAPES[0][1]),
        (SHAPES[2][0], {}, ValueError, SHAPES[2][1]),
        ({"prior": lambda w: gamma(2)}, {}, ValueError, r"support of `Mine\.prior`"),
        (
            {
                "posterior": lambda w, x: dist.Bernoulli(0.3 * jnp.ones(2)).to_event(1),
                "prior": lambda w: dist.Bernoulli(0.5 * jnp.ones(2)).to_event(1),
            },
            {"estimator": "stl"},
            ValueError,
            r"reparameterised .* from `Mine\.posterior`; got BernoulliProbs.*'score' and 'vimco'",
        ),
        (
            {"prior": lambda w: dist.Cauchy(jnp.zeros(2)).to_event(1)},
            {"estimator": "B"},
            ValueError,
            r"KL\(Normal‖Cauchy\)",
        ),
        ({}, {"estimator": "vimco"}, ValueError, r"`n_draws` of at least 2 for estimator 'vimco'"),
        ({}, {"n_draws": 0}, ValueError, r"`n_draws`; got 0"),
        ({}, {"free_bits": -1.0}, ValueError, r"`free_bits`; got -1\.0"),
        ({}, {"kl_weight": "warm"}, TypeError, r"`kl_weight`; got 'warm'"),
    ],
)
def test_training_says_so_before_the_first_step(methods, options, error, message):
    seen = []
    with pytest.raises(error, match=message):
        aevb.train(mine(**methods), np.zeros((8, 3)), callbacks=[seen.append], **options)
    assert not seen
