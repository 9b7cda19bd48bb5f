"""`GrayBernoulli` says what its formula says; `Batched` is a loop over rows."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import Batched, GrayBernoulli, Joint
from aevb.probability.distributions import Reshaped

LOGITS = np.array([-80.0, -30.0, -5.0, -1.0, 0.0, 0.3, 5.0, 30.0, 80.0])
GRAYS = np.array([0.0, 1e-3, 0.25, 0.5, 0.9, 1.0])
GRID = [axis.ravel() for axis in np.meshgrid(LOGITS, GRAYS)]


def plain_log_prob(logits, x):
    """The formula as it is written, which autodiff can differentiate."""
    return x * jax.nn.log_sigmoid(logits) + (1 - x) * jax.nn.log_sigmoid(-logits)


@pytest.mark.usefixtures("x64")
class TestGrayBernoulli:
    def test_equals_bernoulli_on_black_and_white(self):
        for bit in (0.0, 1.0):
            ours = GrayBernoulli(jnp.asarray(LOGITS)).log_prob(jnp.asarray(bit))
            theirs = dist.Bernoulli(logits=jnp.asarray(LOGITS)).log_prob(bit)
            # NumPyro's own loses what is smaller than 1e-14.
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)

    def test_gray_level_is_the_expectation_under_binarisation(self):
        logits = jnp.array([-2.0, 0.5, 3.0, 0.1])
        x = jnp.array([0.2, 0.7, 0.0, 0.5])
        expected = 0.0
        for bits in itertools.product([0.0, 1.0], repeat=4):
            b = jnp.array(bits)
            probability = jnp.prod(x**b * (1 - x) ** (1 - b))
            log_p = dist.Bernoulli(logits=logits).to_event(1).log_prob(b)
            expected += float(probability * log_p)
        ours = GrayBernoulli(logits).to_event(1).log_prob(x)
        np.testing.assert_allclose(ours, expected, rtol=1e-12)

    @pytest.mark.parametrize("white", [1.0, 255.0])
    def test_value_equals_the_plain_formula(self, white):
        logits, x = map(jnp.asarray, GRID)
        ours = GrayBernoulli(logits, white).log_prob(white * x)
        np.testing.assert_allclose(ours, plain_log_prob(logits, x), rtol=1e-12)
        assert np.isfinite(ours).all()

    def test_derivatives_equal_those_of_the_plain_formula(self):
        def ours(logits, x):
            return GrayBernoulli(logits).log_prob(x)

        for derivative in (jax.grad, jax.hessian):
            mine, plain = (
                jax.tree.leaves(jax.jit(jax.vmap(derivative(f, (0, 1))))(*GRID))
                for f in (ours, plain_log_prob)
            )
            for a, b in zip(mine, plain, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14)
                assert np.isfinite(a).all()

    def test_derivatives_equal_finite_differences(self):
        @jax.jit
        def value_and_slope(logits, x):
            value = GrayBernoulli(logits).log_prob
            return value(x), jax.vmap(jax.grad(lambda η, x: GrayBernoulli(η).log_prob(x)))(
                logits, x
            )

        (logits, x), step = GRID, 1e-4
        (up, slope_up), (down, slope_down) = (value_and_slope(logits + h, x) for h in (step, -step))
        _, slope = value_and_slope(logits, x)
        np.testing.assert_allclose(slope, (up - down) / (2 * step), atol=1e-8)
        y = 1 / (1 + np.exp(-logits))
        np.testing.assert_allclose(-y * (1 - y), (slope_up - slope_down) / (2 * step), atol=1e-8)

    def test_derivatives_broadcast_as_values_do(self):
        logits, x = jnp.array([0.3, -1.0]), jnp.linspace(0, 1, 6).reshape(3, 2)
        ours = jax.grad(lambda logits: jnp.sum(GrayBernoulli(logits).log_prob(x)))(logits)
        plain = jax.grad(lambda logits: jnp.sum(plain_log_prob(logits, x)))(logits)
        np.testing.assert_allclose(ours, plain, rtol=1e-12)


def test_extreme_logits_stay_finite_in_float32():
    logits = jnp.array([-1e4, -80.0, 80.0, 1e4])
    for x in (0.0, 0.5, 1.0):
        slope = jax.vmap(jax.grad(lambda η, x=x: GrayBernoulli(η).log_prob(x)))(logits)
        value = GrayBernoulli(logits).log_prob(x)
        expected = [-1e4 * x, -80 * x, -80 * (1 - x), -1e4 * (1 - x)]
        np.testing.assert_allclose(value, expected, atol=1e-30)
        np.testing.assert_allclose(slope, [x, x, x - 1, x - 1], atol=1e-30)


@pytest.mark.parametrize("white", [1.0, 255.0])
def test_moments_are_those_of_samples(white):
    pixel = GrayBernoulli(jnp.array([-3.0, -0.5, 0.0, 2.0]), white)
    draws = np.asarray(pixel.sample(jax.random.key(0), (20_000,)), np.float64)
    assert set(np.unique(draws)) == {0.0, white}
    mean, variance = np.asarray(pixel.mean), np.asarray(pixel.variance)
    standard_error = np.sqrt(variance / len(draws))
    assert (abs(draws.mean(axis=0) - mean) < 4 * standard_error).all()
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.1)


def test_values_that_no_pixel_has_are_warned_of():
    pixel = GrayBernoulli(0.0, 255.0, validate_args=True)
    assert np.isfinite(pixel.log_prob(100.0))
    with pytest.warns(UserWarning, match="Out-of-support"):
        pixel.log_prob(256.0)
    with pytest.raises(ValueError, match="logits"):
        GrayBernoulli(jnp.nan, validate_args=True)


def test_white_goes_with_the_distribution_through_transformations():
    @jax.jit
    def shifted(d):
        return GrayBernoulli(d.logits + 1, d.white)

    pixel = shifted(GrayBernoulli(jnp.zeros(3), 255.0))
    assert pixel.white == 255.0
    np.testing.assert_allclose(pixel.mean, 255 * jax.nn.sigmoid(1.0) * np.ones(3), rtol=1e-6)

    mapped = jax.vmap(lambda η: GrayBernoulli(η, 255.0).to_event(1).log_prob(jnp.full(3, 51.0)))
    rows = jnp.arange(6.0).reshape(2, 3)
    one_by_one = [plain_log_prob(row, 0.2).sum() for row in rows]
    np.testing.assert_allclose(mapped(rows), one_by_one, rtol=1e-6)
    assert pixel.expand((2, 3)).log_prob(jnp.zeros((2, 3))).shape == (2, 3)


ROWS = np.linspace(-2.0, 2.0, 12, dtype=np.float32).reshape(4, 3)
FAMILIES = {
    "normal with a shared scale": lambda row: dist.Normal(row, 0.5).to_event(1),
    "gray bernoulli": lambda row: GrayBernoulli(row, 255.0).to_event(1),
    "image": lambda row: dist.Normal(jnp.outer(row, row), 1.0).to_event(2),
    "scalar": lambda row: dist.Normal(row.sum(), 1.0),
    "multivariate normal": lambda row: dist.MultivariateNormal(row, jnp.diag(jnp.exp(row))),
}


@pytest.fixture(params=FAMILIES.values(), ids=list(FAMILIES))
def family(request):
    return request.param


class TestBatched:
    def test_methods_equal_a_loop_over_rows(self, family):
        batch = Batched(jax.vmap(family)(ROWS))
        keys = jax.random.split(jax.random.key(1), 4)
        draws = batch.sample(jax.random.key(1))
        assert len(batch) == len(draws) == 4
        assert batch.sample(jax.random.key(1), (5, 2)).shape == (5, 2, *draws.shape)

        @jax.jit
        def of_one_row(row, key, x):
            d = family(row)
            return d.mean, d.variance, d.sample(key), d.log_prob(x)

        rows = [of_one_row(*row) for row in zip(ROWS, keys, draws, strict=True)]
        together = batch.mean, batch.variance, draws, batch.log_prob(draws)
        for whole, parts in zip(together, zip(*rows, strict=True), strict=True):
            np.testing.assert_allclose(whole, np.stack(parts), rtol=1e-5, atol=1e-5)

    def test_indexing_gives_rows(self, family):
        batch = Batched(jax.vmap(family)(ROWS))
        for index in (2, np.int64(2), -2):
            row = batch[index]
            assert row.batch_shape == ()
            np.testing.assert_allclose(row.mean, family(ROWS[2]).mean, rtol=1e-6)
        np.testing.assert_allclose(batch[1:3].mean, batch.mean[1:3])
        np.testing.assert_allclose(batch[np.array([3, 0])].mean, batch.mean[np.array([3, 0])])
        assert len(batch[1:3]) == 2

    def test_iteration_ends_with_the_last_row(self, family):
        batch = Batched(jax.vmap(family)(ROWS))
        assert [d.event_shape for d in batch] == 4 * [family(ROWS[0]).event_shape]
        with pytest.raises(IndexError):
            batch[4]

    def test_passes_through_jit(self, family):
        means = jax.jit(lambda rows: Batched(jax.vmap(family)(rows)))(ROWS).mean
        np.testing.assert_allclose(means, Batched(jax.vmap(family)(ROWS)).mean, rtol=1e-5)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (dist.Normal(jnp.zeros(4), 1.0).to_event(1), True),
        (dist.Bernoulli(0.5 * jnp.ones(4)).to_event(1), False),  # once "reparameterised"
        (dist.Dirichlet(jnp.ones(4)), dist.Dirichlet(jnp.ones(4)).has_rsample),
        (GrayBernoulli(jnp.zeros(4)).to_event(1), False),
    ],
)
def test_every_wrapper_is_reparameterised_if_its_base_is(base, expected):
    assert base.has_rsample == expected
    assert Reshaped(base, (2, 2)).has_rsample == expected
    assert Reshaped(Reshaped(base, (4,)), (2, 2)).has_rsample == expected
    assert Joint(a=dist.Normal(), b=lambda a: base).has_rsample == expected
    assert Joint(a=Joint(b=base)).has_rsample == expected
