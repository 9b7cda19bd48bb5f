"""Textbook models, written as users would and trained by the defaults, against their exact optima.

Nothing is said of epochs or of a learning rate. A warning of no convergence fails a test, except
where its comment says otherwise.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.distributions import constraints
from numpyro.infer import MCMC, NUTS
from scipy import optimize, stats
from sklearn.mixture import GaussianMixture

import aevb
from aevb import LatentVariableModel

# One normal latent behind several columns: maximum likelihood by Gauss-Hermite quadrature.


class OneFactor(LatentVariableModel):
    slopes: Array
    intercepts: Array  # their meaning depends on the likelihood
    encoder: eqx.nn.MLP

    @classmethod
    def start(cls, n_columns, *intercepts):
        encoder = eqx.nn.MLP(n_columns, 2, 32, 1, key=jax.random.key(0))
        return cls(jnp.full(n_columns, 0.5), jnp.zeros((*intercepts, n_columns)), encoder)

    def prior(self):
        return dist.Normal()

    def posterior(self, x):
        loc, log_scale = self.encoder(jnp.log1p(x))
        return dist.Normal(loc, jnp.exp(log_scale))


class ItemResponse(OneFactor):
    """The two-parameter logistic model of right and wrong answers."""

    def likelihood(self, z):
        return dist.Bernoulli(logits=self.slopes * z + self.intercepts).to_event(1)


class ZeroInflatedCounts(OneFactor):
    def likelihood(self, z):
        log_rate, gate_logits = self.intercepts
        counts = dist.Poisson(jnp.exp(log_rate + self.slopes * z))
        return dist.ZeroInflatedDistribution(counts, gate_logits=gate_logits).to_event(1)


class Ratings(OneFactor):
    """Ordered logistic: cut points that ascend, between four levels."""

    def likelihood(self, z):
        first, gaps = self.intercepts[:1], jnp.exp(self.intercepts[1:])
        cuts = jnp.cumsum(jnp.concatenate([first, gaps]), axis=0).T
        return dist.OrderedLogistic(self.slopes * z, cuts).to_event(1)


def answers(rng):
    slopes, intercepts = rng.lognormal(0.2, 0.4, 24), rng.normal(0, 1.2, 24)
    logits = rng.normal(size=(316, 1)) * slopes + intercepts
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)


def zero_inflated_counts(rng):
    slopes = rng.uniform(0.3, 0.7, 6) * [1, 1, -1, 1, -1, 1]
    counts = rng.poisson(np.exp(rng.normal(0.7, 0.4, 6) + slopes * rng.normal(size=(500, 1))))
    return (counts * (rng.random(counts.shape) > rng.uniform(0.1, 0.4, 6))).astype(np.float32)


def ratings(rng):
    slopes = rng.uniform(0.7, 1.8, 6) * [1, 1, -1, 1, -1, 1]
    latent = slopes * rng.normal(size=(500, 1)) + rng.logistic(size=(500, 6))
    cuts = rng.normal(0, 0.4, (6, 1)) + np.array([-1.5, 0, 1.5])
    return (latent[:, :, None] > cuts).sum(axis=2).astype(np.int32)


def log_marginal(model, X):
    """Integrate z out, by Gauss-Hermite quadrature: the mean of log p(x)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    log_p = jax.vmap(lambda z: model.likelihood(z).log_prob(X))(nodes)
    log_weights = np.log(weights / weights.sum())
    return jax.nn.logsumexp(log_p + log_weights[:, None], axis=0).mean()


def maximum_likelihood(start, X):
    vector, unravel = ravel_pytree(eqx.filter((start.slopes, start.intercepts), eqx.is_array))

    @jax.jit
    @jax.value_and_grad
    def loss(vector):
        slopes, intercepts = unravel(vector)
        return -log_marginal(type(start)(slopes, intercepts, start.encoder), X)

    options = {"maxiter": 5000, "ftol": 1e-13}
    return -optimize.minimize(loss, vector, jac=True, method="L-BFGS-B", options=options).fun


# After 19,200 steps the encoder still raises the bound by 0.002 nats a round, about the noise of a
# round's level (0.0015): the warning comes by chance. The likelihood is 0.0006 or less from its
# maximum by then.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Not converged")
@pytest.mark.parametrize(
    ("model", "simulate"),
    [
        (ItemResponse.start(24), answers),
        (ZeroInflatedCounts.start(6, 2), zero_inflated_counts),
        (Ratings.start(6, 3), ratings),
    ],
    ids=["item response", "zero-inflated counts", "ratings"],
)
def test_one_factor_reaches_maximum_likelihood(model, simulate):
    X = simulate(np.random.default_rng(0))
    trained = aevb.train(model, X).model
    with jax.enable_x64(True):
        start, trained = (
            jax.tree.map(lambda a: jnp.asarray(a, float) if eqx.is_array(a) else a, each)
            for each in (model, trained)
        )
        best, reached = maximum_likelihood(start, X), float(log_marginal(trained, X))
    assert best - 0.002 < reached < best + 1e-6


# Time series: one series is one datapoint, the latent is its whole path.


class GaussianChain(dist.Distribution):
    """z_t - loc_t = carry_t (z_{t-1} - loc_{t-1}) + scale_t e_t: any tridiagonal precision."""

    support = constraints.real_vector
    arg_constraints = dict.fromkeys(("loc", "carry", "scale"), constraints.real_vector)
    reparametrized_params = ("loc", "carry", "scale")

    def __init__(self, loc, carry, scale):
        self.loc, self.carry, self.scale = loc, carry, scale
        super().__init__((), loc.shape)

    def sample(self, key, sample_shape=()):
        noise = self.scale * jax.random.normal(key, (*sample_shape, *self.event_shape))
        steps = jnp.broadcast_to(self.carry, noise.shape), noise
        return self.loc + jax.lax.associative_scan(self._two_steps, steps, axis=-1)[1]

    @staticmethod
    def _two_steps(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    def log_prob(self, z):
        rest = z - self.loc
        before = jnp.concatenate([jnp.zeros_like(rest[..., :1]), rest[..., :-1]], axis=-1)
        return dist.Normal(self.carry * before, self.scale).log_prob(rest).sum(axis=-1)


class LocalLevel(LatentVariableModel):
    """A random walk from N(0, 10), seen with noise."""

    log_step: Array
    log_noise: Array
    loc: Array
    carry: Array
    log_scale: Array

    def prior(self):
        ones = jnp.ones_like(self.loc)
        scale = (jnp.exp(self.log_step) * ones).at[0].set(10.0)
        return GaussianChain(0 * ones, ones, scale)

    def likelihood(self, z):
        return dist.Normal(z, jnp.exp(self.log_noise)).to_event(1)

    def posterior(self, x):
        return GaussianChain(self.loc, self.carry, jnp.exp(self.log_scale))


def kalman_filter(log_step, log_noise, x):
    """Return log p(x) of the local level model."""
    step, noise, mean, variance, log_p = np.exp(2 * log_step), np.exp(2 * log_noise), 0.0, 100.0, 0
    for value in x:
        log_p += stats.norm.logpdf(value, mean, np.sqrt(variance + noise))
        gain = variance / (variance + noise)
        mean, variance = mean + gain * (value - mean), variance * (1 - gain) + step
    return log_p


@pytest.mark.slow
def test_local_level_reaches_the_maximum_of_the_kalman_filter():
    rng = np.random.default_rng(0)
    x = (2 + np.cumsum(0.5 * rng.normal(size=100)) + rng.normal(size=100)).astype(np.float32)
    start = LocalLevel(jnp.array(0.0), jnp.array(0.0), jnp.array(x), jnp.zeros(100), jnp.zeros(100))
    # By estimator="auto", A here, the noise of single draws is in the way: after 19,200 steps and a
    # warning, 0.10 nats are missing, of the series' 164. STL has no noise at the exact posterior.
    model = aevb.train(start, x[None], estimator="stl").model
    best = -optimize.minimize(lambda p: -kalman_filter(*p, x), [0, 0], method="Nelder-Mead").fun
    reached = kalman_filter(float(model.log_step), float(model.log_noise), x)
    assert best - 0.01 < reached < best + 1e-4


class StochasticVolatility(LatentVariableModel):
    """Returns N(0, exp((level + z_t) / 2)) with z_t = φ z_{t-1} + s e_t, stationary."""

    level: Array
    log_s: Array
    arctanh_phi: Array
    loc: Array
    carry: Array
    log_scale: Array

    def prior(self):
        phi, ones = jnp.tanh(self.arctanh_phi), jnp.ones_like(self.loc)
        scale = (jnp.exp(self.log_s) * ones).at[0].divide(jnp.sqrt(1 - phi**2))
        return GaussianChain(0 * ones, phi * ones, scale)

    def likelihood(self, z):
        return dist.Normal(0.0, jnp.exp((self.level + z) / 2)).to_event(1)

    def posterior(self, x):
        return GaussianChain(self.loc, self.carry, jnp.exp(self.log_scale))


def grid_filter(level, log_s, arctanh_phi, x):
    """Return log p(x) of stochastic volatility: a filter on a grid over z_t, exact to 1e-8."""
    s, phi = np.exp(log_s), np.tanh(arctanh_phi)
    scale = s / np.sqrt(1 - phi**2)
    z, width = np.linspace(-6 * scale, 6 * scale, 400, retstep=True)
    move = width * stats.norm.pdf(z[:, None], phi * z, s)
    p = width * stats.norm.pdf(z, 0, scale)
    log_p = 0.0
    for seen in stats.norm.pdf(x[:, None], 0, np.exp((level + z) / 2)):
        p = p * seen
        log_p += np.log(p.sum())
        p = move @ (p / p.sum())
    return log_p


@pytest.mark.slow
def test_stochastic_volatility_reaches_maximum_likelihood():
    rng, n, phi, s = np.random.default_rng(0), 200, 0.95, 0.25
    z = [s / np.sqrt(1 - phi**2) * rng.normal()]
    for _ in range(n - 1):
        z.append(phi * z[-1] + s * rng.normal())
    x = (np.exp((np.array(z) - 1) / 2) * rng.normal(size=n)).astype(np.float32)
    # The path starts near the prior's: carried on by 0.9. From 0, STL misses by 1.2 nats of 213 and
    # warns. From 0.9, it misses by up to 0.07 with one draw, and "auto" by 1.0; both warn.
    parameters = jnp.array(0.0), jnp.log(0.3), jnp.array(1.5)
    start = StochasticVolatility(*parameters, jnp.zeros(n), jnp.full(n, 0.9), jnp.full(n, -1.0))
    model = aevb.train(start, x[None], estimator="stl", n_draws=10).model
    best = -optimize.minimize(lambda p: -grid_filter(*p, x), [0, -1, 1.5], method="Nelder-Mead").fun
    reached = [float(each) for each in (model.level, model.log_s, model.arctanh_phi)]
    assert best - 0.01 < grid_filter(*reached, x) < best + 1e-4


# A discrete latent.


class GaussianClusters(LatentVariableModel):
    logits: Array
    means: Array
    scales: Array

    def prior(self):
        return dist.Categorical(logits=self.logits)

    def likelihood(self, z):
        scale = jnp.tril(self.scales[z], -1) + jnp.diag(jnp.exp(jnp.diag(self.scales[z])))
        return dist.MultivariateNormal(self.means[z], scale_tril=scale)

    def log_joint(self, x):
        log_p = jax.vmap(lambda z: self.likelihood(z).log_prob(x))(jnp.arange(3))
        return jax.nn.log_softmax(self.logits) + log_p

    def posterior(self, x):
        return dist.Categorical(logits=self.log_joint(x))


@pytest.mark.slow
def test_mixture_of_gaussians_reaches_the_optimum_of_em():
    # With the exact responsibilities, all draws of z have the weight p(x): no noise is left.
    rng = np.random.default_rng(0)
    z = rng.choice(3, p=[0.5, 0.3, 0.2], size=600)
    shapes = 0.8 * rng.normal(size=(3, 2, 2))
    X = np.array([[0, 0], [3, 1], [-1, 3]])[z] + 0.4 * rng.normal(size=(600, 2))
    X = (X + np.einsum("nij,nj->ni", shapes[z], rng.normal(size=(600, 2)))).astype(np.float32)
    em = GaussianMixture(
        3, means_init=X[:3], weights_init=np.full(3, 1 / 3), precisions_init=[np.eye(2)] * 3,
        tol=1e-9, max_iter=5000, reg_covar=1e-9,
    ).fit(X.astype(float))  # fmt: skip
    start = GaussianClusters(jnp.zeros(3), jnp.array(X[:3]), jnp.zeros((3, 2, 2)))
    model = aevb.train(start, X, estimator="score", n_draws=2).model
    reached = jax.nn.logsumexp(jax.vmap(model.log_joint)(X), axis=1).mean()
    np.testing.assert_allclose(reached, em.score(X), atol=5e-4)


# Uncertain parameters.

EFFECTS = np.array([28, 8, -3, 7, -1, 1, 18, 12], np.float32)
ERRORS = np.array([15, 10, 16, 11, 9, 11, 10, 18], np.float32)


class SchoolsPrior(dist.Distribution):
    """μ ~ N(0, 5), τ ~ HalfCauchy(5) by its logarithm, and a standard normal for each school."""

    support = constraints.real_vector

    def __init__(self):
        super().__init__((), (10,))

    def log_prob(self, z):
        log_tau = z[..., 1]
        return (
            dist.Normal(0.0, 5.0).log_prob(z[..., 0])
            + dist.HalfCauchy(5.0).log_prob(jnp.exp(log_tau)) + log_tau
            + dist.Normal().log_prob(z[..., 2:]).sum(axis=-1)
        )  # fmt: skip


class EightSchools(LatentVariableModel):
    """Rubin (1981), not centred."""

    loc: Array
    log_diagonal: Array
    below: Array

    def prior(self):
        return SchoolsPrior()

    @staticmethod
    def effects(z):
        return z[..., :1] + jnp.exp(z[..., 1:2]) * z[..., 2:]

    def likelihood(self, z):
        return dist.Normal(self.effects(z), ERRORS).to_event(1)

    def posterior(self, x):
        scale = jnp.tril(self.below, -1) + jnp.diag(jnp.exp(self.log_diagonal))
        return dist.MultivariateNormal(self.loc, scale_tril=scale)


def exact_schools():
    """Return log p(x), and means and standard deviations of the effects and μ, by quadrature."""
    y, s = EFFECTS.astype(float)[:, None, None], ERRORS.astype(float)[:, None, None]
    mu, mu_width = np.linspace(-25, 30, 400, retstep=True)
    log_tau, tau_width = np.linspace(-12, 7, 1200, retstep=True)
    mu, tau = mu[:, None], np.exp(log_tau)
    log_p = stats.norm.logpdf(mu, 0, 5) + stats.halfcauchy.logpdf(tau, 0, 5) + log_tau
    log_p = log_p + stats.norm.logpdf(y, mu, np.hypot(s, tau)).sum(axis=0)
    p = np.exp(log_p) * mu_width * tau_width
    gain = tau**2 / (tau**2 + s**2)
    means = np.concatenate([mu + gain * (y - mu), (mu + 0 * tau)[None]])
    variances = np.concatenate([gain * s**2 + 0 * mu, 0 * p[None]])
    first = (p * means).sum(axis=(1, 2)) / p.sum()
    second = (p * (variances + means**2)).sum(axis=(1, 2)) / p.sum()
    return np.log(p.sum()), first, np.sqrt(second - first**2)


@pytest.mark.slow
def test_eight_schools():
    start = EightSchools(jnp.zeros(10), jnp.full(10, -1.0), jnp.zeros((10, 10)))
    model = aevb.train(start, EFFECTS[None], estimator="stl", n_draws=10).model
    evidence, means, stds = exact_schools()
    draws = model.posterior(EFFECTS).sample(jax.random.key(0), (100_000,))
    effects = np.concatenate([model.effects(draws), draws[:, :1]], axis=1)
    assert np.abs((effects.mean(axis=0) - means) / stds).max() < 0.15
    np.testing.assert_allclose(effects.std(axis=0) / stds, 1, atol=0.1)
    log_p = aevb.log_likelihood(model, EFFECTS, jax.random.key(1), n_draws=100_000)
    np.testing.assert_allclose(log_p, evidence, atol=0.03)  # 0.1 % of -31.31


class FactorAnalysis(LatentVariableModel):
    """Two factors, of which the posterior is known given the parameters.

    W is lower triangular. With a loading in place of the zero, the factors could be rotated, and
    the standard deviations of the covariances were 0.93 to 1.16 of the exact ones.
    """

    W: Array
    log_psi: Array

    def prior(self):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(z @ jnp.tril(self.W).T, jnp.exp(0.5 * self.log_psi)).to_event(1)

    def posterior(self, x):
        W = jnp.tril(self.W)
        weighted = W / jnp.exp(self.log_psi)[:, None]
        precision = jnp.eye(2) + W.T @ weighted
        mean = jnp.linalg.solve(precision, x @ weighted)
        return dist.MultivariateNormal(mean, precision_matrix=precision)


def covariances(W, log_psi):
    """Return the entries of W Wᵀ + Ψ, which do not depend on the factors' signs."""
    W = jnp.tril(W)
    full = W @ jnp.swapaxes(W, -1, -2) + jnp.exp(log_psi)[..., None] * jnp.eye(6)
    return np.asarray(full)[..., *np.triu_indices(6)]


@pytest.fixture(scope="module")
def factor_data():
    """Data, and means and standard deviations of their covariances by NUTS."""
    rng = np.random.default_rng(0)
    # Strong loadings of the first two columns fix the signs: weak ones leave several modes that
    # overlap, of which a normal q finds one.
    W = np.concatenate([[[1.2, 0.0], [0.5, 1.1]], 0.9 * rng.normal(size=(4, 2))])
    X = rng.normal(size=(200, 2)) @ W.T + rng.normal(size=(200, 6)) * rng.uniform(0.5, 1, 6)
    scatter = jnp.linalg.cholesky(X.T @ X)

    def model():
        W = numpyro.sample("W", dist.Normal().expand([6, 2]).to_event(2))
        log_psi = numpyro.sample("log_psi", dist.Normal().expand([6]).to_event(1))
        covariance = jnp.tril(W) @ jnp.tril(W).T + jnp.diag(jnp.exp(log_psi))
        scale = jnp.linalg.cholesky(covariance)
        whitened = jax.scipy.linalg.solve_triangular(scale, scatter, lower=True)
        numpyro.factor("x", -200 * jnp.log(jnp.diag(scale)).sum() - 0.5 * jnp.sum(whitened**2))

    chain = MCMC(NUTS(model), num_warmup=500, num_samples=4000, progress_bar=False)
    chain.run(jax.random.key(0))
    draws = covariances(**chain.get_samples())
    return X.astype(np.float32), draws.mean(axis=0), draws.std(axis=0)


def fitted_covariances(X, posterior):
    W = 0.1 * np.random.default_rng(1).normal(size=(6, 2))
    start = FactorAnalysis(jnp.array(W, jnp.float32), jnp.zeros(6))
    start = aevb.Bayesian(start, posterior=posterior, start_scale=0.05)
    model = aevb.train(start, X).model
    draws = jax.vmap(model.draw)(jax.random.split(jax.random.key(0), 20_000))
    draws = covariances(draws.W, draws.log_psi)
    return draws.mean(axis=0), draws.std(axis=0)


@pytest.mark.slow
def test_bayesian_factor_analysis(factor_data):
    X, means, stds = factor_data
    fitted_means, fitted_stds = fitted_covariances(X, "full-normal")
    assert np.abs((fitted_means - means) / stds).max() < 0.2
    np.testing.assert_allclose(fitted_stds / stds, 1, atol=0.1)


@pytest.mark.slow
def test_independent_parameters_of_factor_analysis_are_too_sure(factor_data):
    X, means, stds = factor_data
    fitted_means, fitted_stds = fitted_covariances(X, "normal")
    assert np.abs((fitted_means - means) / stds).max() < 0.2
    assert (fitted_stds / stds).min() < 0.75


# A Gaussian process over latent positions: all the data are one datapoint.


class LatentPositions(LatentVariableModel):
    log_kernel: Array  # of length, amplitude and noise
    loc: Array
    log_scale: Array

    def prior(self):
        return dist.Normal(jnp.zeros(30), 1.0).to_event(1)

    def likelihood(self, z):
        length, amplitude, noise = jnp.exp(self.log_kernel)
        kernel = amplitude**2 * jnp.exp(-0.5 * ((z[:, None] - z) / length) ** 2)
        covariance = kernel + (noise**2 + 1e-4) * jnp.eye(30)
        column = dist.MultivariateNormal(jnp.zeros(30), covariance_matrix=covariance)
        return column.expand([12]).to_event(1)

    def posterior(self, x):
        return dist.Normal(self.loc, jnp.exp(self.log_scale)).to_event(1)


@pytest.mark.slow
def test_gaussian_process_latent_variable_model():
    # From the first principal component to as good a bound as from the true positions. (With a
    # kernel half as long, and 8 columns, it ended in a local optimum, 27 nats lower.)
    rng = np.random.default_rng(0)
    z = rng.normal(size=30)
    kernel = np.exp(-0.5 * ((z[:, None] - z) / 2) ** 2)
    columns = np.linalg.cholesky(kernel + 1e-8 * np.eye(30)) @ rng.normal(size=(30, 12))
    X = (columns + 0.2 * rng.normal(size=(30, 12))).astype(np.float32)
    component = np.linalg.svd(X - X.mean(axis=0))[0][:, 0]

    def fit(positions):
        loc = jnp.array(positions / positions.std(), jnp.float32)
        start = LatentPositions(jnp.array([0.0, 0.0, -1.0]), loc, jnp.full(30, -2.0))
        model = aevb.train(start, X.T[None], estimator="stl", n_draws=10).model
        return model, aevb.elbo(model, X.T, jax.random.key(0), n_draws=2000)

    (model, bound), (_, bound_of_true) = fit(component), fit(z)
    assert abs(stats.spearmanr(component, z).statistic) < 0.96
    assert abs(stats.spearmanr(model.loc, z).statistic) > 0.98
    assert bound > bound_of_true - 3e-3 * abs(bound_of_true)
