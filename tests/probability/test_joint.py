"""Joint distributions: their density, their draws, and two layers of latents in a model."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import Joint, LatentVariableModel, sgvb

N_KEYS = 20_000


def chain(shift=0.5):
    """A number, a vector given it, and a bit given both, beside a number of its own."""
    return Joint(
        a=dist.Normal(1.0, 2.0),
        b=lambda a: dist.Normal(jnp.array([1.0, -1.0]) * a + shift, 0.5).to_event(1),
        c=lambda b, a: dist.Bernoulli(logits=b.sum() + a),
        d=dist.Exponential(0.5),
    )


VALUE = {"a": 0.3, "b": np.array([0.5, -0.2]), "c": 1, "d": 1.5}


def test_log_prob_is_the_sum_of_its_factors(x64):
    a, b, c, d = VALUE.values()
    expected = (
        dist.Normal(1.0, 2.0).log_prob(a)
        + dist.Normal(np.array([1.0, -1.0]) * a + 0.5, 0.5).log_prob(b).sum()
        + dist.Bernoulli(logits=b.sum() + a).log_prob(c)
        + dist.Exponential(0.5).log_prob(d)
    )
    np.testing.assert_allclose(chain().log_prob(VALUE), expected, rtol=1e-12)
    shuffled = {name: VALUE[name] for name in "dcba"}
    np.testing.assert_allclose(chain().log_prob(shuffled), expected, rtol=1e-12)


def test_draws_are_ancestral(x64):
    draws = jax.jit(lambda key: chain().sample(key, (N_KEYS,)))(jax.random.key(0))
    a, b, d = (np.asarray(draws[name]) for name in "abd")
    assert b.shape == (N_KEYS, 2)
    error = 4 / N_KEYS**0.5  # of a mean of unit variance
    assert abs(a.mean() - 1.0) < 2 * error
    assert abs(d.mean() - 2.0) < 2 * error
    expected = np.array([[4, 4, -4], [4, 4.25, -4], [-4, -4, 4.25]])
    np.testing.assert_allclose(np.cov(np.column_stack([a, b]).T), expected, atol=0.2)
    residual = b - a[:, None] * [1, -1] - 0.5
    assert abs(np.corrcoef(np.column_stack([residual, a, d]).T) - np.eye(4)).max() < error


def test_shapes_and_what_is_reparameterised():
    assert chain().event_shape == {"a": (), "b": (2,), "c": (), "d": ()}
    assert chain().batch_shape == ()
    assert not chain().has_rsample
    assert Joint(a=dist.Normal(), b=lambda a: dist.Normal(a)).has_rsample
    draws = jax.jit(lambda key: chain().sample(key, (3, 4)))(jax.random.key(0))
    assert {name: leaf.shape for name, leaf in draws.items()} == {
        **{"a": (3, 4), "b": (3, 4, 2)},
        **{"c": (3, 4), "d": (3, 4)},
    }
    assert len(np.unique(draws["a"])) == 12


def test_nothing_is_computed_to_know_the_shapes():
    def picky(top):
        assert isinstance(top, jax.core.Tracer)  # no value, and none outside the support of top
        return dist.Gamma(top, 1.0)

    assert Joint(top=dist.Gamma(2.0), bottom=picky).event_shape == {"top": (), "bottom": ()}


def test_mean_where_no_part_depends_on_another():
    independent = Joint(a=dist.Normal(1.0), b=dist.Gamma(2.0, 1.0))
    assert {name: float(mean) for name, mean in independent.mean.items()} == {"a": 1, "b": 2}
    with pytest.raises(NotImplementedError, match=r"mean of part 'b', given others"):
        chain().mean  # noqa: B018


def test_a_joint_within_a_joint(x64):
    inner = Joint(c=dist.Normal(), d=lambda c: dist.Normal(c, 0.5))
    nested = Joint(a=dist.Normal(), b=inner, e=lambda b: dist.Normal(b["d"], 1.0))
    value = nested.sample(jax.random.key(0))
    assert nested.event_shape == {"a": (), "b": {"c": (), "d": ()}, "e": ()}
    flat = (value["a"], value["b"]["c"], value["b"]["d"] - value["b"]["c"])
    terms = [dist.Normal(0.0, s).log_prob(v) for v, s in zip(flat, (1.0, 1.0, 0.5), strict=True)]
    expected = sum(terms) + dist.Normal(value["b"]["d"], 1.0).log_prob(value["e"])
    np.testing.assert_allclose(nested.log_prob(value), expected, rtol=1e-12)


def test_transformations_of_jax_go_through(x64):
    values = jax.vmap(lambda key: chain().sample(key))(jax.random.split(jax.random.key(0), 6))

    def log_prob(shift, value):
        return chain(shift).log_prob(value)

    def gradients(shifts):
        rows = jax.vmap(jax.value_and_grad(log_prob), (None, 0))
        return jax.vmap(rows, (0, None))(shifts, values)

    shifts = jnp.array([0.5, 1.0])
    compiled = jax.jit(gradients)(shifts)
    assert compiled[0].shape == (2, 6)
    # d/dshift of log p(b|a) is Σ (b - mean)/0.25; of the other terms, nothing.
    mean = jnp.array([1.0, -1.0]) * values["a"][:, None]
    expected = ((values["b"] - mean - shifts[:, None, None]) / 0.25).sum(-1)
    np.testing.assert_allclose(compiled[1], expected, rtol=1e-10)
    np.testing.assert_allclose(
        compiled[0][0, 0], log_prob(0.5, {k: v[0] for k, v in values.items()})
    )


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({}, ValueError, "at least one part"),
        ({"a": 1.0}, TypeError, r"or a function that returns one, for part 'a' .* got 1\.0"),
        ({"a": dist.Normal}, TypeError, r"for part 'a' of a Joint; got <class .*Normal'>"),
        (
            {"a": dist.Normal(), "b": lambda c: dist.Normal(c)},
            ValueError,
            r"part 'b' .* function of earlier parts \(a\), by their names; got one of c",
        ),
        (
            {"a": lambda b: dist.Normal(b), "b": dist.Normal()},
            ValueError,
            r"part 'a' .* earlier parts \(there are none\)",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(parts, error, message):
    with pytest.raises(error, match=message):
        Joint(**parts)


@pytest.mark.parametrize(
    ("part", "error", "message"),
    [
        (lambda a: (a, 1.0), TypeError, r"from the function of part 'b' of a Joint; got \("),
        (
            lambda a: dist.Normal(a * jnp.ones(2), 1.0),
            ValueError,
            r"one joint distribution for part 'b'.* batch shape \(2,\)\. Join .*`\.to_event\(1\)`",
        ),
    ],
)
def test_what_a_function_returns_is_looked_at(part, error, message):
    joint = Joint(a=dist.Normal(), b=part)
    for use in (
        lambda: joint.sample(jax.random.key(0)),
        lambda: joint.log_prob({"a": jnp.zeros(()), "b": jnp.zeros(2)}),
        lambda: joint.event_shape,
    ):
        with pytest.raises(error, match=message):
            use()


# In a model.


class TwoLayers(LatentVariableModel):
    """Top t ~ N(0, 1); bottom b ~ N(w t, r²); x ~ N(b, s²): all is Gaussian, and known."""

    w: jax.Array
    r: jax.Array
    s: jax.Array
    bottom: jax.Array
    bottom_scale: jax.Array
    top: jax.Array
    top_scale: jax.Array

    @classmethod
    def exact(cls, w=0.8, r=0.7, s=0.5):
        """p(b|x) and p(t|b, x) = p(t|b), of which the posterior is made."""
        bottom_variance = w**2 + r**2
        gain, top_gain = bottom_variance / (bottom_variance + s**2), w / bottom_variance
        scales = (gain**0.5 * s, r / bottom_variance**0.5)
        return cls(*map(jnp.asarray, (w, r, s, gain, scales[0], top_gain, scales[1])))

    def prior(self):
        return Joint(t=dist.Normal(), b=lambda t: dist.Normal(self.w * t, self.r))

    def likelihood(self, z):
        return dist.Normal(z["b"], self.s)

    def posterior(self, x):
        return Joint(
            b=dist.Normal(self.bottom * x, self.bottom_scale),
            t=lambda b: dist.Normal(self.top * b, self.top_scale),
        )

    def log_evidence(self, x):
        return dist.Normal(0.0, jnp.sqrt(self.w**2 + self.r**2 + self.s**2)).log_prob(x)


PHI = ("bottom", "bottom_scale", "top", "top_scale")


@eqx.filter_jit
def estimates(model, bound, n_draws=1, n_keys=N_KEYS):
    def one(key):
        return jax.value_and_grad(lambda m: sgvb(m, 1.3, key, estimator=bound, n_draws=n_draws))(
            model
        )

    return jax.vmap(one)(jax.random.split(jax.random.key(1), n_keys))


def assert_mean(values, expected):
    values = np.asarray(values)
    standard_error = values.std(axis=0) / np.sqrt(len(values))
    assert (abs(values.mean(axis=0) - expected) < 4 * standard_error + 1e-12).all()


@pytest.mark.parametrize(("bound", "n_draws"), [("stl", 1), ("dreg", 2)])
def test_two_layers_stick_the_landing_at_their_exact_posterior(x64, bound, n_draws):
    model = TwoLayers.exact()
    values, gradients = estimates(model, bound, n_draws)
    evidence, gradient = jax.value_and_grad(lambda m: m.log_evidence(1.3))(model)
    np.testing.assert_allclose(values, evidence, rtol=1e-12)
    for name in PHI:
        np.testing.assert_allclose(getattr(gradients, name), 0, atol=1e-10)
    for name in ("w", "r", "s"):
        assert getattr(gradients, name).std() > 0.1
        assert_mean(getattr(gradients, name), getattr(gradient, name))


def test_two_layers_keep_the_path_through_the_layer_between(x64):
    # Away from the exact posterior: the bottom layer moves the top one, whose density's own
    # parameters are stopped all the same. The expectation is estimator A's.
    model = TwoLayers(*map(jnp.asarray, (0.8, 0.7, 0.5, 0.5, 0.6, 0.3, 0.9)))
    (a, plain), (value, stuck) = estimates(model, "A"), estimates(model, "stl")
    np.testing.assert_allclose(a, value, rtol=1e-12)
    for name in PHI:
        difference = np.asarray(getattr(plain, name) - getattr(stuck, name))
        assert difference.std() > 0.01  # the score, of expectation zero
        assert_mean(difference, 0.0)
