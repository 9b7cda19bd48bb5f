"""What a density is relative to, whatever it is wrapped in."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints, transforms

from aevb import Joint
from aevb.models.priors import EqualMixture
from aevb.probability import ExpRelaxedOneHotCategorical, has_closed_form, kl_divergence
from aevb.probability.distributions import Reshaped
from aevb.probability.measures import have_ratio, measure_of

DIRICHLET = dist.Dirichlet(jnp.ones(4))
DELTA = dist.Delta(jnp.zeros(4), event_dim=1)
NORMAL = dist.Normal(jnp.zeros(4), 1.0).to_event(1)


def mixture(component):
    return dist.MixtureSameFamily(dist.Categorical(logits=jnp.zeros(3)), component)


def affine(d, scale):
    return dist.TransformedDistribution(d, transforms.AffineTransform(0.0, scale))


WRAPPERS = {
    "as it is": lambda d: d,
    "to_event": lambda d: d.expand([2]).to_event(1),
    "expand": lambda d: d.expand([2, 5]),
    "mask": lambda d: d.mask(jnp.array(True)),
    "all": lambda d: d.expand([2]).mask(True).to_event(1).expand([3]).to_event(1),
    "mixture": lambda d: mixture(d.expand([3])),
    "equal mixture": lambda d: EqualMixture(lambda u: d, jnp.zeros((3, 1))),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(
    ("d", "measure"),
    [
        (NORMAL, "volume"),
        (dist.Gamma(jnp.ones(2), 1.0).to_event(1), "volume"),
        (dist.VonMises(jnp.zeros(2), 1.0).to_event(1), "volume"),
        (dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)), "volume"),
        (dist.Bernoulli(0.5 * jnp.ones(2)).to_event(1), "counting"),
        (dist.Multinomial(5, jnp.ones(3) / 3), "counting"),
        (DIRICHLET, "the simplex"),
        (ExpRelaxedOneHotCategorical(0.5, jnp.zeros(3)), "the log-simplex"),
        (dist.ProjectedNormal(jnp.ones(3)), "the sphere"),
        (dist.LKJCholesky(3), "Cholesky factors of correlations"),
        (dist.LKJ(3), "correlation matrices"),
        (dist.ZeroSumNormal(1.0, (3,)), "arrays that sum to zero along 1 axes"),
    ],
)
def test_families_and_wrappers(d, measure, wrapper):
    if "mixture" in wrapper and isinstance(d, dist.ZeroSumNormal | dist.MultinomialProbs):
        return  # mixtures take no support with a parameter
    assert measure_of(WRAPPERS[wrapper](d)) == measure


@pytest.mark.parametrize("wrapper", ["as it is", "to_event", "expand", "mask", "all", "mixture"])
def test_a_point_mass_is_no_density_in_any_wrapper(wrapper):
    assert measure_of(WRAPPERS[wrapper](DELTA)) == "a point"


def test_a_delta_of_whole_numbers_is_a_probability_mass_function():
    assert measure_of(dist.Delta(3)) == measure_of(dist.Delta(jnp.array(True))) == "counting"
    assert measure_of(dist.Delta(3, log_density=1.0)) == "a point"
    hard = dist.Delta(jnp.array(2))
    kl = kl_divergence(hard, dist.Categorical(probs=jnp.array([0.5, 0.3, 0.2])))
    np.testing.assert_allclose(kl, -np.log(0.2), rtol=1e-6)


@pytest.mark.parametrize(
    ("d", "measure"),
    [
        (Reshaped(NORMAL, (2, 2)), "volume"),
        (Reshaped(DELTA, (2, 2)), "a point"),
        (Reshaped(dist.Bernoulli(0.5 * jnp.ones(4)).to_event(1), (2, 2)), "counting"),
        (affine(dist.Normal(), 2.0), "volume"),
        (affine(dist.Delta(1.0), 2.0), "a point"),
        (
            dist.TransformedDistribution(
                dist.Normal(jnp.zeros(3), 1.0).to_event(1), transforms.StickBreakingTransform()
            ),
            "the simplex",
        ),
        (dist.Wishart(4.0, jnp.eye(2)), "symmetric matrices"),
        (dist.WishartCholesky(4.0, jnp.eye(2)), "lower triangular matrices"),
        (dist.HurdleGamma(0.5, 1.0, 1.0), "volume, and a point at zero"),
        (dist.HurdlePoisson(0.5, 1.0), "counting"),
        (dist.RightCensoredDistribution(dist.Normal(), 1), "censored values"),
        (
            dist.MixtureGeneral(
                dist.Categorical(logits=jnp.zeros(2)),
                [dist.Normal(), dist.Delta(0.0)],
                support=constraints.real,
            ),
            "several measures at once",
        ),
        (EqualMixture(lambda u: dist.Delta(u).to_event(1), jnp.zeros((3, 1))), "a point"),
        (
            Joint(a=dist.Normal(), b=lambda a: dist.Delta(a)),
            {"a": "volume", "b": "a point"},
        ),
    ],
)
def test_combinations(d, measure):
    assert measure_of(d) == measure


class Simplex(type(constraints.simplex)):
    """A simplex of a user's own."""


class Odd(constraints.Constraint):
    event_dim = 1
    measure: ClassVar = "the oddity"

    def __call__(self, x):
        return jnp.sum(x, -1) == 0

    def tree_flatten(self):
        return (), ((), {})


@pytest.mark.parametrize(
    ("support", "measure"),
    [
        (Simplex(), "the simplex"),
        (constraints.independent(constraints.simplex, 2), "the simplex"),
        (constraints.independent(constraints.sphere, 1), "the sphere"),
        (constraints.softplus_lower_cholesky, "lower triangular matrices"),
        (constraints.independent(Odd(), 1), "the oddity"),
        (constraints.interval(0.0, 1.0), "volume"),
        (constraints.integer_interval(0, 3), "counting"),
        (constraints.complex, "the complex plane"),
        (constraints.dependent, None),
        (constraints.cat([constraints.positive, constraints.real]), "volume"),
        (constraints.cat([constraints.positive, constraints.boolean]), "volume, counting"),
        (None, None),
    ],
)
def test_supports(support, measure):
    assert measure_of(support) == measure


@pytest.mark.parametrize(
    ("q", "p", "expected"),
    [
        (affine(DIRICHLET, 10.0), affine(DIRICHLET, 10.0), True),
        (affine(DIRICHLET, jnp.array(10.0)), affine(DIRICHLET, 10.0), True),
        (affine(DIRICHLET, 10.0), affine(DIRICHLET, 5.0), False),
        (affine(DIRICHLET, 10.0), NORMAL, False),
        (affine(DIRICHLET, 10.0), DIRICHLET, False),
        (Reshaped(DIRICHLET, (2, 2)), Reshaped(DIRICHLET, (2, 2)), True),
        (Reshaped(DIRICHLET, (2, 2)), Reshaped(NORMAL, (2, 2)), False),
        (Reshaped(DIRICHLET, (2, 2)), dist.Dirichlet(jnp.ones((2, 2))).to_event(1), False),
        (affine(dist.Bernoulli(0.5), 2.0), dist.Normal(), False),
        (dist.Normal(), Joint(a=dist.Normal()), False),
        (Joint(a=NORMAL, b=NORMAL), Joint(b=NORMAL, a=NORMAL), True),
        (Joint(a=NORMAL, b=DIRICHLET), Joint(b=NORMAL, a=NORMAL), False),
    ],
)
def test_which_have_a_ratio(q, p, expected):
    assert have_ratio(measure_of(q), measure_of(p)) is expected


def test_surfaces_whose_place_is_learned_are_not_known_to_be_one():
    def compare(scale):
        known.append(
            have_ratio(measure_of(affine(DIRICHLET, scale)), measure_of(affine(DIRICHLET, scale)))
        )
        known.append(
            have_ratio(
                measure_of(affine(DIRICHLET, 2 * scale)), measure_of(affine(DIRICHLET, 3 * scale))
            )
        )
        known.append(have_ratio(measure_of(affine(DIRICHLET, scale)), measure_of(NORMAL)))

    known = []
    jax.eval_shape(compare, 1.0)
    assert known == [True, False, False]  # the same scale; two; none


def test_no_closed_form_for_a_point_and_a_density():
    # NumPyro has one, -log p(v), which is no divergence.
    for point in (dist.Delta(0.0), dist.Delta(jnp.zeros(4)).to_event(1)):
        p = NORMAL if point.event_shape else dist.Normal()
        assert not has_closed_form(point, p)
        with pytest.raises(ValueError, match="No closed form"):
            kl_divergence(point, p)


def test_an_angle_is_a_number_in_an_interval():
    # KL from the uniform law on the circle: both densities are per radian.
    q, p = dist.VonMises(0.3, 2.0), dist.Uniform(-jnp.pi, jnp.pi)
    assert have_ratio(measure_of(q), measure_of(p))
    angles = jnp.linspace(-jnp.pi, jnp.pi, 10_001)
    np.testing.assert_allclose(jnp.trapezoid(jnp.exp(q.log_prob(angles)), angles), 1.0, rtol=1e-4)


def test_the_support_of_a_reshaped_simplex():
    image = Reshaped(DIRICHLET, (2, 2))
    draws = image.sample(jax.random.key(0), (5,))
    assert image.support(draws).all()
    assert not image.support(2 * draws).any()
    assert image.support(image.support.feasible_like(draws)).all()
    assert image.support == Reshaped(DIRICHLET, (2, 2)).support != image.base.support
    assert jax.tree.unflatten(jax.tree.structure(image.support), [])(draws).all()
