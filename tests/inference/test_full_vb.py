"""Full variational Bayes against conjugate models, where q(θ) and the evidence are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pandas as pd
import pytest
from scipy import integrate, stats

import aevb
from aevb import SGVB, Bayesian, FullVB, LatentVariableModel, MonteCarloEM, WakeSleep, posteriors
from aevb.inference.stopping import judged_value
from aevb.inference.training import Batch


class Mean(LatentVariableModel):
    """x = loc + z + noise, with half of the variance in z, whose posterior is exact given loc."""

    loc: jax.Array

    def prior(self):
        return dist.Normal(0.0, 0.5**0.5)

    def likelihood(self, z):
        return dist.Normal(self.loc + z, 0.5**0.5)

    def posterior(self, x):
        return dist.Normal((x - self.loc) / 2, 0.5)


class Regression(LatentVariableModel):
    """x = weight · c + bias + z + noise, as above."""

    weight: jax.Array
    bias: jax.Array

    def mean(self, c):
        return self.weight @ c + self.bias

    def prior(self):
        return dist.Normal(0.0, 0.5**0.5)

    def likelihood(self, z, c):
        return dist.Normal(self.mean(c) + z, 0.5**0.5)

    def posterior(self, x, c):
        return dist.Normal((x - self.mean(c)) / 2, 0.5)


def batch_of(x, c=None, *, n_total=None, seed=0):
    n = len(x)
    keys = jax.random.split(jax.random.key(seed), n)
    x, c = jax.tree.map(jnp.asarray, (x, c))
    n_total = jnp.asarray(float(n_total or n))
    return Batch(x, c, jnp.ones(n), keys, n_total, jnp.arange(n), jnp.asarray(0))


def decaying(rate, steps):
    """Return an optimizer whose step falls like 1/t: its last iterate averages the noise out."""
    return optax.sgd(lambda t: rate / (1 + 20 * t / steps))


# The conjugate mean.

X = np.random.default_rng(1).normal(1.0, 1.0, 40)
POSTERIOR = (X.sum() / (len(X) + 1), (len(X) + 1) ** -0.5)
EVIDENCE = stats.multivariate_normal(np.zeros(40), np.eye(40) + 1).logpdf(X)


@pytest.fixture(scope="module")
def trained():
    model = Bayesian(Mean(jnp.array(0.0)), start_scale=0.1)
    options = {"optimizer": decaying(0.5, 2000), "learning_rate": "auto", "estimator": "A"}
    return aevb.train(model, X, **options, epochs=1000, batch_size=20)


def test_a_conjugate_mean_gives_its_posterior_and_the_evidence(trained, x64):
    model = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), trained.model)
    scale = float(model.std.loc)
    np.testing.assert_allclose((model.mean.loc, scale), POSTERIOR, rtol=0.05)

    # At the exact q(θ) = p(θ|X) the bound is the evidence, for every θ: no average is needed.
    exact = eqx.tree_at(
        lambda m: (m.parameter_posterior.mean, m.parameter_posterior.log_scale),
        model,
        (jnp.array([POSTERIOR[0]]), jnp.log(jnp.array([POSTERIOR[1]]))),
    )

    @jax.jit
    def bound(model, theta):
        plain = Mean(theta)
        elbo = jax.vmap(lambda x: aevb.sgvb(plain, x, jax.random.key(0), estimator="A"))(X)
        log_q = model.parameter_posterior().log_prob(jnp.reshape(theta, 1))
        return jnp.sum(elbo) + dist.Normal().log_prob(theta) - log_q

    for theta in (0.5, 1.0):
        np.testing.assert_allclose(bound(exact, theta), EVIDENCE, rtol=1e-10)

    # In θ the bound is quadratic; Gauss-Hermite quadrature averages that exactly.
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    averaged = sum(
        weight * bound(model, model.mean.loc + scale * node)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True)
    )
    assert EVIDENCE - 0.01 < averaged <= EVIDENCE


def test_history_prints_the_elbo_without_the_divergence_and_this_beside_it(trained):
    history = trained.history
    assert {"elbo", "kl", "reconstruction", "kl_parameters"} <= set(history)
    np.testing.assert_allclose(
        history["elbo"], np.subtract(history["reconstruction"], history["kl"]), rtol=1e-5
    )
    last = {name: np.mean(history[name][-300:]) for name in ("elbo", "kl_parameters")}
    np.testing.assert_allclose(last["elbo"] - last["kl_parameters"], EVIDENCE / len(X), atol=0.01)
    mean, scale = POSTERIOR
    kl = 0.5 * (mean**2 + scale**2 - 1 - 2 * np.log(scale))
    np.testing.assert_allclose(last["kl_parameters"], kl / len(X), rtol=0.02)


def test_minibatches_give_the_whole_batchs_gradient_on_average(x64):
    model = Bayesian(Mean(jnp.array(0.3)), start_scale=0.4)
    objective, key = FullVB(SGVB("A")), jax.random.key(5)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model, batch):
        return objective(model, batch, key, None)[0]

    # With z's exact posterior, estimator A has no noise of its own: the same θ, the same numbers.
    whole = gradient(model, batch_of(X))
    parts = [gradient(model, batch_of(part, n_total=len(X))) for part in np.split(X, 8)]
    for name in ("mean", "log_scale"):
        of_parts = np.mean([getattr(part.parameter_posterior, name) for part in parts])
        np.testing.assert_allclose(of_parts, getattr(whole.parameter_posterior, name), rtol=1e-10)


def test_one_draw_of_the_parameters_for_all_rows_of_a_minibatch(x64):
    seen = []

    def spy(model, batch, key, state):
        seen.append(model)
        return SGVB("A")(model, batch, key, state)

    model, batch = Bayesian(Mean(jnp.array(0.3)), start_scale=0.4), batch_of(X)
    for seed in (0, 1):
        surrogate, metrics, _ = FullVB(spy)(model, batch, jax.random.key(seed), None)
        theta = seen[-1].loc
        assert theta.shape == ()
        rows = stats.norm(theta, 1.0).logpdf(X)  # log p(x|θ) of every row, at the same θ
        np.testing.assert_allclose(metrics["elbo"], rows.mean(), rtol=1e-10)
        np.testing.assert_allclose(surrogate, rows.mean() - model.kl() / len(X), rtol=1e-10)
    assert seen[0].loc != seen[1].loc


# A regression, whose posterior has correlations that q(θ) has not.


@pytest.mark.slow
def test_regression_means_and_scales_are_those_of_the_exact_posterior(x64):
    rng = np.random.default_rng(2)
    c = rng.normal(size=(60, 2)) @ [[1.0, 0.4], [0.0, 0.6]]
    x = c @ [1.0, -0.5] + 0.3 + rng.normal(size=60)
    design = np.column_stack([c, np.ones(60)])
    precision = design.T @ design + np.eye(3) / 2.0**2
    mean = np.linalg.solve(precision, design.T @ x)

    start = Regression(jnp.zeros(2), jnp.array(0.0))
    model = aevb.train(
        Bayesian(start, prior=dist.Normal(0.0, 2.0), start_scale=0.1),
        x,
        context=c,
        estimator="A",
        optimizer=decaying(0.3, 4000),
        learning_rate="auto",
        epochs=2000,
        batch_size=30,
    ).model
    np.testing.assert_allclose([*model.mean.weight, model.mean.bias], mean, atol=0.02)
    scale = np.array([*model.std.weight, model.std.bias])
    np.testing.assert_allclose(scale, np.diag(precision) ** -0.5, rtol=0.1)

    new = np.array([[0.0, 0.0], [3.0, -2.0]])

    def expected(model):
        return {"x": jax.vmap(lambda c: model.likelihood(0.0, c).mean)(jnp.asarray(new))}

    predicted = aevb.posterior_predictive(model, expected, jax.random.key(0), n_draws=20_000)
    at_new = np.column_stack([new, np.ones(2)])
    np.testing.assert_allclose(predicted.mean["x"], at_new @ mean, atol=0.08)
    std = np.sqrt(at_new**2 @ scale**2)
    np.testing.assert_allclose(predicted.std["x"], std, rtol=0.02)


# A regression whose columns are nearly one, where independent normals are much too narrow.

PRIOR_SCALE = 2.0
RNG = np.random.default_rng(3)
C = 1 + RNG.normal(size=(60, 1)) + 0.4 * RNG.normal(size=(60, 2))
Y = C @ [1.0, -0.5] + 0.3 + RNG.normal(size=60)
DESIGN = np.column_stack([C, np.ones(60)])
PRECISION = DESIGN.T @ DESIGN + np.eye(3) / PRIOR_SCALE**2
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = COVARIANCE @ DESIGN.T @ Y
STD = np.sqrt(np.diag(COVARIANCE))
EVIDENCE_OF_Y = stats.multivariate_normal(
    np.zeros(60), np.eye(60) + PRIOR_SCALE**2 * DESIGN @ DESIGN.T
).logpdf(Y)
FAMILIES = [
    posteriors.Normal(),
    posteriors.FullNormal(),
    posteriors.LowRankNormal(2),
    posteriors.Flow(),
    posteriors.Flow("coupling"),
]


def name_of(family):
    return getattr(family, "layer", family.name)


def regression(posterior, start=(0.0, 0.0, 0.0), scale=0.1):
    model = Regression(jnp.array(start[:2]), jnp.array(start[2]))
    prior = dist.Normal(0.0, PRIOR_SCALE)
    return Bayesian(model, posterior=posterior, prior=prior, start_scale=scale)


def changed(model, size=0.3):
    """Move all parameters of q(θ) by some noise."""
    arrays, rest = eqx.partition(model.parameter_posterior, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    rng = np.random.default_rng(0)
    moved = [leaf + size * rng.normal(size=leaf.shape) for leaf in leaves]
    q = eqx.combine(jax.tree.unflatten(structure, moved), rest)
    return eqx.tree_at(lambda m: m.parameter_posterior, model, q)


def bound(mean, covariance):
    """Return the bound on log p(Y) for a normal q(θ), exactly."""
    residual = Y - DESIGN @ mean
    spread = np.trace(DESIGN.T @ DESIGN @ covariance)
    likelihood = -0.5 * (60 * np.log(2 * np.pi) + residual @ residual + spread)
    square = (np.trace(covariance) + mean @ mean) / PRIOR_SCALE**2
    log_det = np.linalg.slogdet(covariance)[1]
    return likelihood - 0.5 * (square - 3 + 6 * np.log(PRIOR_SCALE) - log_det)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_every_posterior_begins_as_independent_normals_at_the_model(x64, family):
    start, scale = np.array([1.0, -2.0, 0.5]), 0.3
    model = regression(family, start, scale)
    points = start + scale * np.random.default_rng(0).normal(size=(5, 3))
    log_prob = jax.vmap(model.parameter_posterior().log_prob)(jnp.asarray(points))
    np.testing.assert_allclose(log_prob, stats.norm(start, scale).logpdf(points).sum(1), rtol=1e-9)
    # The moments of a flow are those of 256 draws.
    error = 0.2 * scale if family.name == "flow" else 1e-12
    np.testing.assert_allclose([*model.mean.weight, model.mean.bias], start, atol=error)
    np.testing.assert_allclose([*model.std.weight, model.std.bias], scale, atol=error)


@pytest.mark.quick(2)
@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_draws_and_divergence_are_those_of_the_distribution(x64, family):
    model = changed(regression(family, (1.0, -2.0, 0.5), 0.3))
    q = model.parameter_posterior()
    draw = eqx.filter_jit(model.draw_and_kl)
    key = jax.random.key(7)
    theta = model.draw(key)
    drawn, divergence = draw(key)
    np.testing.assert_allclose([*drawn.weight, drawn.bias], [*theta.weight, theta.bias])
    np.testing.assert_allclose(divergence, model.kl(key), rtol=1e-9)

    draws, divergences = jax.vmap(draw)(jax.random.split(jax.random.key(0), 20_000))
    flat = jnp.column_stack([draws.weight, draws.bias])
    log_prior = stats.norm(0, PRIOR_SCALE).logpdf(flat).sum(1)
    ratio = np.asarray(jax.vmap(q.log_prob)(flat)) - log_prior  # its mean is the divergence
    error = 4 * np.std(ratio) / len(flat) ** 0.5
    np.testing.assert_allclose(np.mean(divergences), np.mean(ratio), atol=error)
    if family.name == "flow":
        np.testing.assert_allclose(divergences, ratio, atol=1e-9)
    else:
        np.testing.assert_allclose(divergences, model.kl(), rtol=1e-9)
        np.testing.assert_allclose(flat.mean(0), q.mean, atol=4 * STD.max() * 3 / 141)
        covariance = getattr(q, "covariance_matrix", np.diag(q.variance))
        np.testing.assert_allclose(np.cov(flat.T), covariance, atol=0.05 * np.max(covariance))
        np.testing.assert_allclose([*model.std.weight, model.std.bias] ** np.array(2), q.variance)


def test_at_the_exact_posterior_the_bound_is_the_evidence_at_every_draw(x64):
    factor = np.linalg.cholesky(COVARIANCE)
    model = eqx.tree_at(
        lambda m: jax.tree.leaves(m.parameter_posterior),
        regression("full-normal"),
        [MEAN, np.log(np.diag(factor)), factor[np.tril_indices(3, -1)]],
    )
    np.testing.assert_allclose(
        model.parameter_posterior().covariance_matrix, COVARIANCE, atol=1e-12
    )
    objective = FullVB(SGVB("A"))
    values = []
    for seed in range(3):
        key = jax.random.key(seed)
        theta = model.draw(jax.random.split(key)[0])  # as the objective draws it
        flat = np.array([*theta.weight, theta.bias])
        value, metrics, _ = objective(model, batch_of(Y, C), key, None)
        values.append(value * 60)
        log_q = model.parameter_posterior().log_prob(flat)
        at_draw = log_q - stats.norm(0, PRIOR_SCALE).logpdf(flat).sum()
        np.testing.assert_allclose(metrics["elbo"] * 60 - at_draw, EVIDENCE_OF_Y, rtol=1e-9)
    assert np.ptp(values) > 0.1  # the objective itself has the divergence in closed form
    np.testing.assert_allclose(bound(MEAN, COVARIANCE), EVIDENCE_OF_Y, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_correlated_parameters(family):
    data, context = Y.astype(np.float32), C.astype(np.float32)
    steps = 4000
    model = aevb.train(
        regression(family),
        data,
        context=context,
        estimator="A",
        optimizer="adam",
        learning_rate=optax.cosine_decay_schedule(0.02, steps),
        epochs=steps,
        batch_size=60,
    ).model
    q = model.parameter_posterior()
    draws = jax.vmap(q.sample)(jax.random.split(jax.random.key(1), 20_000))
    drawn = np.asarray(draws, float)
    np.testing.assert_allclose(drawn.mean(axis=0), MEAN, atol=0.1 * STD.min())
    if family.name == "normal":  # the known optimum of independent normals: 0.37 of STD here
        narrow = np.diag(PRECISION) ** -0.5
        np.testing.assert_allclose(np.sqrt(q.variance), narrow, rtol=0.1)
        assert narrow.min() < 0.4 * STD.max()
        return
    covariance = np.asarray(getattr(q, "covariance_matrix", np.cov(drawn.T)), float)
    error = 0.08 if family.name == "flow" else 0.05
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)), STD, rtol=error)
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(correlation, COVARIANCE / np.outer(STD, STD), atol=0.05)
    assert EVIDENCE_OF_Y - 0.05 < bound(drawn.mean(axis=0), covariance) < EVIDENCE_OF_Y + 1e-3


def test_a_flow_needs_two_numbers_and_no_posterior_is_over_complex_ones():
    with pytest.raises(ValueError, match=r"normal families for `posterior` over a single number"):
        Bayesian(Mean(jnp.array(0.0)), posterior="iaf")
    with pytest.raises(ValueError, match=r"Expected real arrays for `where`; got complex ones"):
        Bayesian(Mean(jnp.array(1.0j)))


def test_each_array_of_the_parameters_keeps_its_type():
    start = Regression(jnp.ones(2, jnp.float16), jnp.array(0.5, jnp.float32))
    model = Bayesian(start, posterior="full-normal")
    for parts in (model.mean, model.std, model.draw(jax.random.key(0)), model.at_mean()):
        assert (parts.weight.dtype, parts.bias.dtype) == (jnp.float16, jnp.float32)


# The prior is free, and so is the choice of what is uncertain.


@pytest.mark.parametrize(
    "prior",
    [dist.Normal(0.5, 2.0), dist.Laplace(0.0, 1.0), dist.StudentT(4.0)],
    ids=lambda p: type(p).__name__,
)
def test_divergence_from_any_prior(x64, prior):
    model = Bayesian(Mean(jnp.array(0.7)), prior=prior, start_scale=0.6)
    q = stats.norm(0.7, 0.6)

    def integrand(theta):
        return q.pdf(theta) * (q.logpdf(theta) - float(prior.log_prob(theta)))

    exact, _ = integrate.quad(integrand, -5.0, 6.4, limit=200, points=[0.0])
    draws = jax.vmap(model.kl)(jax.random.split(jax.random.key(0), 20_000))
    error = max(4 * np.std(draws) / np.sqrt(len(draws)), 1e-6)
    np.testing.assert_allclose(np.mean(draws), exact, atol=error)


def test_without_a_closed_form_the_divergence_is_taken_at_the_parameters_drawn(x64):
    prior = dist.StudentT(4.0)
    model = Bayesian(Mean(jnp.array(0.7)), prior=prior, start_scale=0.6)
    with pytest.raises(ValueError, match=r"`key`, since no closed form.* from StudentT; got None"):
        model.kl()
    key = jax.random.key(3)
    theta = model.draw(key).loc
    expected = dist.Normal(0.7, 0.6).log_prob(theta) - prior.log_prob(theta)
    np.testing.assert_allclose(model.kl(key), expected, rtol=1e-12)


def test_closed_form_is_equation_24(x64):
    model = Bayesian(Regression(jnp.array([1.0, -2.0]), jnp.array(0.5)), start_scale=0.3)
    mean, scale = np.array([1.0, -2.0, 0.5]), 0.3
    expected = -0.5 * np.sum(1 + np.log(scale**2) - mean**2 - scale**2)
    np.testing.assert_allclose(model.kl(), expected, rtol=1e-12)


def test_draws_have_the_mean_and_scale_of_their_distribution(x64):
    start = Regression(jnp.array([1.0, -2.0]), jnp.array(0.5))
    model = Bayesian(start, start_scale=0.3)
    draws = jax.vmap(model.draw)(jax.random.split(jax.random.key(0), 20_000))
    flat = np.column_stack([draws.weight, draws.bias])
    np.testing.assert_allclose(flat.mean(axis=0), [1.0, -2.0, 0.5], atol=4 * 0.3 / 20_000**0.5)
    np.testing.assert_allclose(np.cov(flat.T), 0.09 * np.eye(3), atol=4 * 0.09 * 2**0.5 / 141)


def test_parameters_not_chosen_are_trained_as_points(line):
    start = line()
    model = Bayesian(start, where=lambda m: m.weight)
    result = aevb.train(model, np.ones((20, 3), np.float32), epochs=3, learning_rate=0.01).model
    assert [leaf.shape for leaf in jax.tree.leaves(result.std)] == [(3, 1)]
    assert (result.std.weight != model.std.weight).all()
    plain, drawn = result.at_mean(), result.draw(jax.random.key(0))
    for moved in ("weight", "shift", "encoder"):
        assert (getattr(plain, moved) != getattr(start, moved)).all()
    np.testing.assert_array_equal(plain.constant.value, start.constant.value)
    np.testing.assert_array_equal(drawn.encoder, plain.encoder)
    assert (drawn.weight != plain.weight).all()
    assert int(drawn.count) == 7


def test_ways_to_choose_parameters(line):
    start = line()
    nothing = jax.tree.map(lambda _: False, start)
    for where, chosen in [
        (None, {"weight", "shift", "encoder"}),
        (lambda m: (m.weight, m.encoder), {"weight", "encoder"}),
        (lambda m: [m.shift, m.constant, m.count], {"shift"}),  # what is not trainable stays
        (eqx.tree_at(lambda m: m.encoder, nothing, True), {"encoder"}),
        (True, {"weight", "shift", "encoder"}),
    ]:
        model = Bayesian(start, where=where)
        leaves, _ = jax.tree_util.tree_flatten_with_path(model.mean)
        assert {path[0].name for path, _ in leaves} == chosen
        assert jax.tree.structure(model.at_mean()) == jax.tree.structure(start)


class Networks(LatentVariableModel):
    decoder: eqx.nn.MLP
    encoder: eqx.nn.MLP

    def prior(self):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(self.decoder(z), 1.0).to_event(1)

    def posterior(self, x):
        return dist.Normal(self.encoder(x), 1.0).to_event(1)


def test_parts_of_networks_can_be_chosen():
    keys = jax.random.split(jax.random.key(0))
    start = Networks(eqx.nn.MLP(2, 6, 4, 1, key=keys[0]), eqx.nn.MLP(6, 2, 4, 1, key=keys[1]))
    model = Bayesian(start, where=lambda m: m.decoder)
    assert sum(leaf.size for leaf in jax.tree.leaves(model.mean)) == 2 * 4 + 4 + 4 * 6 + 6
    drawn = model.draw(jax.random.key(0))
    x, z = jnp.ones(6), jnp.ones(2)
    np.testing.assert_array_equal(drawn.posterior(x).mean, start.posterior(x).mean)
    assert (drawn.likelihood(z).mean != start.likelihood(z).mean).all()


@pytest.mark.usefixtures("own_messages")
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"where": lambda m: m.count}, ValueError, "at least one trainable array for `where`"),
        ({"prior": 1.0}, TypeError, "one number, over all real numbers, for `prior`; got 1.0"),
        ({"prior": dist.Normal(jnp.zeros(3))}, ValueError, r"`prior`; got shape \(3,\)"),
        ({"prior": dist.HalfNormal()}, ValueError, "`prior`; got HalfNormal, of support"),
        ({"prior": dist.Uniform(-1.0, 1.0)}, ValueError, "`prior`; got Uniform, of support"),
        ({"prior": dist.Poisson(1.0)}, ValueError, "`prior`; got Poisson, of support"),
        (
            {"posterior": "full"},
            ValueError,
            r"Expected one of 'normal', 'full-normal', 'low-rank-normal', 'iaf', 'coupling' or, "
            r"of `aevb.posteriors`, one of .*Flow for `posterior`; got 'full'\. Did you mean",
        ),
        ({"posterior": "mixture"}, ValueError, "for `posterior`; got 'mixture'"),
        ({"posterior": posteriors.Mixture()}, TypeError, r"for `posterior`; got Mixture\("),
        ({"start_scale": 0.0}, ValueError, r"positive number for `start_scale`; got 0\.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_wrong_arguments_are_named(line, arguments, error, message):
    with pytest.raises(error, match=message):
        Bayesian(line(), **arguments)


@pytest.mark.usefixtures("own_messages")
def test_only_a_plain_model_becomes_bayesian(line):
    for wrong in (3, Bayesian(line())):
        with pytest.raises(TypeError, match=r"not Bayesian yet for `model`; got (int|Bayesian)"):
            Bayesian(wrong)


def test_a_second_prior_over_the_parameters_is_refused(line):
    data = np.ones((5, 3), np.float32)
    with pytest.raises(ValueError, match=r"`weight_prior` left at None for a Bayesian model"):
        aevb.train(Bayesian(line()), data, weight_prior=1.0)
    for objective in (SGVB(weight_prior=1.0), WakeSleep(weight_prior=1.0)):
        with pytest.raises(ValueError, match=r"`weight_prior` left at None.*got 1\.0"):
            FullVB(objective)


class WithState(aevb.Objective):
    """An objective that starts with a state of its own, which FullVB would not make."""

    def init(self, model, chunk, key):
        return jnp.zeros(())

    def __call__(self, model, batch, key, state):
        return SGVB()(model, batch, key, state)


@pytest.mark.usefixtures("own_messages")
def test_objectives_and_models_that_do_not_go_together_are_refused(line):
    data = np.ones((5, 3), np.float32)
    for objective in (SGVB(), WakeSleep(), MonteCarloEM()):
        with pytest.raises(
            ValueError, match=f"FullVB .* Bayesian model.*{type(objective).__name__}"
        ):
            aevb.train(Bayesian(line()), data, objective=objective)
    with pytest.raises(TypeError, match=r"Expected a Bayesian model for FullVB; got Line"):
        aevb.train(line(), data, objective=FullVB())
    with pytest.raises(TypeError, match=r"without an E step.*MonteCarloEM"):
        FullVB(MonteCarloEM())
    with pytest.raises(TypeError, match=r"a state of its own for FullVB; got WithState"):
        FullVB(WithState())
    with pytest.raises(TypeError, match=r"Bayesian model for `model`; got Line"):
        aevb.posterior_predictive(line(), lambda model: model.weight, jax.random.key(0))
    with pytest.raises(ValueError, match=r"at least 2 for `n_draws`; got 1"):
        aevb.posterior_predictive(
            Bayesian(line()), lambda model: model.weight, jax.random.key(0), n_draws=1
        )


def test_validation_and_other_estimators_work_as_for_points(line):
    data = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    objective = FullVB(SGVB("iw", 3))
    options = {"objective": objective, "epochs": 2, "validation_data": data[:5], "patience": 2}
    history = aevb.train(Bayesian(line()), data, **options).history
    assert np.isfinite(history["validation_iw_bound"]).all()
    assert "validation_kl_parameters" not in history


def test_as_a_model_it_stands_for_the_one_at_the_mean(line):
    model, x, z = Bayesian(line()), jnp.ones(3), jnp.ones(1)
    for ours, plain in [
        (model.prior(), line().prior()),
        (model.likelihood(z), line().likelihood(z)),
        (model.posterior(x), line().posterior(x)),
    ]:
        np.testing.assert_array_equal(ours.mean, plain.mean)
    regression = Regression(jnp.ones(2), jnp.array(0.5))
    with_context = Bayesian(regression).likelihood(0.0, jnp.array([1.0, 2.0]))
    assert float(with_context.mean) == 3.5


def test_early_stopping_counts_the_divergence_of_the_parameters_in():
    row = {"elbo": -2.0, "kl_parameters": 0.5}
    assert judged_value(row) == -2.5
    assert judged_value({**row, "validation_elbo": -3.0}) == -3.0
    assert judged_value({"log_joint": -1.0}) is None
    # On the way from the data's mean to the prior's the ELBO falls and the whole bound rises.
    rng = np.random.default_rng(0)
    states = []
    result = aevb.train(
        Bayesian(Mean(jnp.array(3.0)), prior=dist.Normal(0.0, 0.1)),
        (rng.normal(size=20) + 3).astype(np.float32),
        batch_size=20,
        epochs=200,
        learning_rate=0.05,
        patience=5,
        callbacks=[lambda epoch: states.append(epoch.model)],
    )
    bound = np.subtract(result.history["elbo"], result.history["kl_parameters"])
    best = int(np.argmax(pd.Series(bound).ewm(span=5, adjust=False).mean()))
    np.testing.assert_array_equal(result.model.mean.loc, states[best].mean.loc)
    assert best > int(np.argmax(result.history["elbo"])) + 5  # there the ELBO would have stopped
