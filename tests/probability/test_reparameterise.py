"""The table of section 2.4 is whole, and any real numbers give a usable member of each family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb.probability import FAMILIES

# Compiling takes longer than running here.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

PAPER = {
    "inverse CDF": "exponential cauchy logistic rayleigh pareto weibull reciprocal gompertz gumbel "
    "erlang",
    "location-scale": "laplace elliptical student-t uniform triangular normal",
    "composition": "log-normal gamma dirichlet beta chi-squared f",
}


def test_holds_what_section_2_4_lists():
    ways = {name: way for way, names in PAPER.items() for name in names.split()}
    assert {name: family.way for name, family in FAMILIES.items()} == ways


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


@pytest.mark.quick(6)
def test_any_reals_give_finite_draws_log_densities_and_gradients(family):
    def row(reals, key):
        q = family.from_reals(reals)
        draws = q.sample(key, (20,))
        return q.log_prob(draws), draws

    @quick_jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def evaluate(reals):
        keys = jax.random.split(jax.random.key(1), len(reals))
        log_prob, draws = jax.vmap(row)(reals, keys)
        return jnp.mean(log_prob) + jnp.mean(jnp.tanh(draws)), draws

    reals = 3 * jax.random.normal(jax.random.key(0), (50, family.n_parameters, 4))
    (value, draws), gradient = evaluate(reals)
    assert draws.shape == (50, 20, 4)
    assert np.isfinite(value)
    assert np.isfinite(draws).all()
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max(axis=0) > 0).all()


def test_zeros_give_a_member_of_about_unit_scale(family):
    q = family.from_reals(jnp.zeros((family.n_parameters, 4)))
    core = q.base_dist if isinstance(q, dist.Independent) else q
    assert isinstance(core, family.distribution)
    assert q.has_rsample
    assert (q.batch_shape, q.event_shape) == ((), (4,))
    if family.distribution is dist.Cauchy:
        assert np.isnan(q.mean).all()
    elif family.distribution is dist.Dirichlet:
        np.testing.assert_allclose(q.mean, 0.25)
    else:
        assert ((q.variance > 0.04) & (q.variance < 6)).all()
        assert (np.abs(q.mean) < 3).all()


def test_refuses_reals_of_another_shape(family):
    for shape in ((family.n_parameters + 1, 4), (family.n_parameters,)):
        with pytest.raises(ValueError, match=r"Expected an array of shape .* for `reals`"):
            family.from_reals(jnp.zeros(shape))
