"""How likely a datapoint is, by draws of its exact posterior: the estimator of appendix D."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import integer, number
from aevb.evaluation.importance import Evidence, Method, evidence_of
from aevb.inference.estimators import draw, over_draws
from aevb.inference.hmc import adapt, log_joint, move, require_unbounded, start_chain
from aevb.models.base import Given, LatentVariableModel, given, name_of

MAX_DIM = 4
_FIRST_STEP = 0.1
# Trajectories of one fixed length may be half a period of the posterior, and then only swap sides.
_JITTER = 0.2


class PosteriorDraws(NamedTuple):
    """What a Hamiltonian chain towards p(z|x) has seen after its burn-in.

    Attributes
    ----------
    z : Array
        Shape (n_draws, d): positions, all latents of the model in one vector.
    log_joint : Array
        Shape (n_draws,): log p(x, z) there.
    acceptance : Array
        Scalar: the mean probability of acceptance.
    """

    z: Array
    log_joint: Array
    acceptance: Array


def reciprocal_importance_sampling(
    model: LatentVariableModel,
    x: PyTree,
    key: Key,
    *,
    c: PyTree = None,
    n_draws: int = 200,
    **chain: Any,
) -> Array:
    r"""Estimate log p(x) of one datapoint by draws of its exact posterior, nats.

    Appendix D of the paper, for models of fewer than 5 latent dimensions. Hamiltonian Monte Carlo
    draws from :math:`p(z|x)`; a Gaussian density q is fitted to the first half of the draws; the
    other half gives

    .. math:: \log p(x) \approx -\log \frac1L \sum_{l=1}^L \frac{q(z_l)}{p(z_l) \, p(x|z_l)},
        \qquad z_l \sim p(z|x)

    whose sum estimates 1/p(x) without bias. The estimate of log p(x) is therefore biased upwards,
    :math:`\operatorname{E} \log \hat p(x) \ge \log p(x)`, and by less for more draws; exact for
    every draw where q is the exact posterior. That holds as far as the chain gets around: of a
    posterior in several pieces, of which the chain sees a share s, the estimate is that of
    log p(x) + log s; of a chain that never moved, to which no density can be fitted, it is NaN.
    q(z|x) and p(z) find the point where the chain starts (see `aevb.evaluation.posterior_draws`).
    The estimate does not depend on q(z|x) otherwise, so models without a good recognition model are
    measured as well as others.

    Latents are arrays of real numbers without bounds. Under a likelihood on gray levels the
    estimate is not a log-likelihood of the data (see `GrayBernoulli`). For more latent dimensions,
    and as a check from below, use `log_likelihood`. Needs BlackJAX, of the extra ``aevb[mcmc]``.

    Parameters
    ----------
    model : LatentVariableModel
        A model of at most 4 latent dimensions.
    x : PyTree
        One datapoint.
    key : Array
        JAX random key.
    c : PyTree, optional
        Context.
    n_draws : int
        Draws of the chain after its burn-in, for both halves. The paper has 50.
    **chain
        Further settings of `aevb.evaluation.posterior_draws`: `n_burn_in`, `n_leapfrog`,
        `target_acceptance`, `n_starts`.

    Returns
    -------
    Array
        Scalar, nats; NaN if the chain never moved.

    Raises
    ------
    ValueError, TypeError
        For a model of more than 4 latent dimensions, latents with bounds or discrete ones; for
        settings that do not fit.
    ImportError
        Without BlackJAX.

    References
    ----------
    Kingma and Welling (2013), appendix D, https://arxiv.org/abs/1312.6114

    Gelfand and Dey (1994), Bayesian model choice: asymptotics and exact calculations.

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Shift(aevb.LatentVariableModel):
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x):
    ...         return dist.Normal(0.0, 1.0)  # a poor one
    >>> estimate = aevb.reciprocal_importance_sampling(Shift(), jnp.array(2.0), jax.random.key(0))
    >>> bool(abs(estimate - dist.Normal(0.0, 2**0.5).log_prob(2.0)) < 0.05)
    True
    """
    dim = latent_dim(given(model, c))
    if dim > MAX_DIM:
        raise ValueError(
            f"Expected at most {MAX_DIM} latent dimensions of `{name_of(model)}` for a density "
            f"fitted to draws of its posterior; got {dim}. `aevb.log_likelihood` takes any number."
        )
    # Half of them fit a mean and a covariance, which twice as many draws as dimensions make safe.
    integer(n_draws, "n_draws", minimum=4 * (dim + 1))
    draws = posterior_draws(model, x, key, c=c, n_draws=n_draws, **chain)
    half = n_draws // 2
    log_q = fitted_normal(draws.z[:half]).log_prob(draws.z[half:])
    return log_reciprocal_mean(log_q, draws.log_joint[half:])


@final
@dataclass(frozen=True)
class Reciprocal(Method):
    """Appendix D's estimate by several chains, with its error: see `reciprocal_evidence`.

    Parameters
    ----------
    n_samples : int
        Draws of each chain after its burn-in.
    n_burn_in, n_leapfrog, target_acceptance, n_starts
        As in `posterior_draws`.

    Raises
    ------
    ValueError, TypeError
        For settings that do not fit.

    Examples
    --------
    >>> Reciprocal(n_samples=50).n_samples  # as the paper has it
    50
    """

    n_samples: int = 200
    n_burn_in: int = 100
    n_leapfrog: int = 4
    target_acceptance: float = 0.9
    n_starts: int = 400
    name: ClassVar[str] = "reciprocal"
    n_draws: ClassVar[int] = 16
    n_rows: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check the settings."""
        integer(self.n_samples, "n_samples", minimum=4)
        _check_chain(self.n_burn_in, self.n_leapfrog, self.target_acceptance, self.n_starts)

    def __call__(self, model, x, key, *, c=None, n_draws):  # noqa: D102
        chain = asdict(self)
        n_samples = chain.pop("n_samples")
        return reciprocal_evidence(model, x, key, c=c, n_chains=n_draws, n_draws=n_samples, **chain)


def reciprocal_evidence(
    model: LatentVariableModel,
    x: PyTree,
    key: Key,
    *,
    c: PyTree = None,
    n_chains: int = 16,
    n_draws: int = 200,
    **chain: Any,
) -> Evidence:
    r"""Estimate log p(x) of one datapoint by the estimator of appendix D, with its error.

    `reciprocal_importance_sampling` of `n_chains` independent chains. Each estimates 1/p(x), and
    their spread tells the error of the mean, however the draws of one chain depend on one another.
    The logarithm of 1 / p(x) is too low on average, and so log p(x) is too high, by about half the
    squared standard error: `bias` is positive.

    Parameters
    ----------
    model : LatentVariableModel
        A model of at most 4 latent dimensions.
    x : PyTree
        One datapoint.
    key : Array
        JAX random key.
    c : PyTree, optional
        Context.
    n_chains : int
        Number of chains.
    n_draws : int
        Draws of each chain after its burn-in, for both halves.
    **chain
        Further settings of `aevb.evaluation.posterior_draws`.

    Returns
    -------
    Evidence
        Of scalars; NaN if a chain never moved.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `reciprocal_importance_sampling`.

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Shift(aevb.LatentVariableModel):
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x):
    ...         return dist.Normal(0.0, 1.0)  # a poor one
    >>> found = aevb.evaluation.reciprocal_evidence(Shift(), jnp.array(2.0), jax.random.key(0))
    >>> exact = dist.Normal(0.0, 2**0.5).log_prob(2.0)
    >>> bool(abs(found.log_likelihood - exact) < 4 * found.standard_error)
    True
    """
    n_chains = integer(n_chains, "n_chains", minimum=1)

    def log_inverse(key: Key) -> Array:
        return -reciprocal_importance_sampling(model, x, key, c=c, n_draws=n_draws, **chain)

    found = evidence_of(jax.vmap(log_inverse)(jax.random.split(key, n_chains)))
    return found._replace(log_likelihood=-found.log_likelihood, bias=-found.bias)


def log_reciprocal_mean(log_q: Array, log_joint: Array) -> Array:
    """Evaluate the log of 1 / mean of q(z) / p(x, z), over draws of z."""
    return math.log(len(log_q)) - jax.nn.logsumexp(log_q - log_joint)


def posterior_draws(
    model: LatentVariableModel,
    x: PyTree,
    key: Key,
    *,
    c: PyTree = None,
    n_draws: int = 200,
    n_burn_in: int = 100,
    n_leapfrog: int = 4,
    target_acceptance: float = 0.9,
    n_starts: int = 400,
) -> PosteriorDraws:
    """Draw from p(z|x) of one datapoint by Hamiltonian Monte Carlo, one chain; unit mass.

    The chain starts at one of `n_starts` draws, half of them from q(z|x) and half from p(z), picked
    by its importance weight. In the burn-in the step size follows the acceptance; then it is the
    geometric mean of those of the burn-in's second half. Latents are arrays of real numbers without
    bounds, of any number of dimensions. Needs BlackJAX, of the extra ``aevb[mcmc]``.

    Parameters
    ----------
    model : LatentVariableModel
        A model.
    x : PyTree
        One datapoint.
    key : Array
        JAX random key.
    c : PyTree, optional
        Context.
    n_draws : int
        Draws of the chain after its burn-in.
    n_burn_in : int
        Transitions before, in which the step size is adapted.
    n_leapfrog : int
        Leapfrog steps per transition, of a size that varies by a fifth from one to the next.
    target_acceptance : float
        Towards which the step size is adapted.
    n_starts : int
        Draws among which the chain's first position is picked.

    Returns
    -------
    PosteriorDraws
        Positions ``z``, shape (n_draws, d), ``log_joint`` and ``acceptance``.

    Raises
    ------
    ValueError, TypeError
        For latents with bounds or discrete ones; for settings that do not fit.
    ImportError
        Without BlackJAX.

    References
    ----------
    Neal (2011), MCMC using Hamiltonian dynamics, https://arxiv.org/abs/1206.1901

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Shift(aevb.LatentVariableModel):
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x):
    ...         return dist.Normal(0.0, 1.0)  # a poor one
    >>> draws = aevb.evaluation.posterior_draws(
    ...     Shift(), jnp.array(2.0), jax.random.key(0), n_draws=1000
    ... )
    >>> draws.z.shape, bool(abs(draws.z.mean() - 1.0) < 0.1)
    ((1000, 1), True)
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    _check_chain(n_burn_in, n_leapfrog, target_acceptance, n_starts)
    view = given(model, c)
    latent_dim(view)  # refuses what the chain cannot move in
    start_key, burn_in_key, key = jax.random.split(key, 3)
    first, unravel = ravel_pytree(_start(view, x, start_key, n_starts))

    def log_density(z: Array) -> Array:
        return log_joint(view, x, unravel(z))

    def transition(
        state: PyTree, key: Key, step_size: Float[Array, ""]
    ) -> tuple[PyTree, Float[Array, ""]]:
        key, size_key = jax.random.split(key)
        factor = jax.random.uniform(size_key, (), step_size.dtype, 1 - _JITTER, 1 + _JITTER)
        return move(log_density, state, key, factor * step_size, n_leapfrog)

    def burn_in(carry: tuple, key: Key) -> tuple[tuple, Array]:
        state, step_size = carry
        state, acceptance = transition(state, key, step_size)
        step_size = adapt(step_size, acceptance, target_acceptance).astype(step_size.dtype)
        return (state, step_size), step_size

    def proceed(state: PyTree, key: Key) -> tuple[PyTree, PosteriorDraws]:
        state, acceptance = transition(state, key, step_size)
        return state, PosteriorDraws(state.position, state.logdensity, acceptance)

    carry = start_chain(log_density, first), jnp.array(_FIRST_STEP, first.dtype)
    (state, _), sizes = lax.scan(burn_in, carry, jax.random.split(burn_in_key, n_burn_in))
    step_size = jnp.exp(jnp.mean(jnp.log(sizes[n_burn_in // 2 :])))
    _, draws = lax.scan(proceed, state, jax.random.split(key, n_draws))
    return draws._replace(acceptance=jnp.mean(draws.acceptance))


def fitted_normal(z: Array) -> dist.MultivariateNormal:
    """Return the Gaussian with mean and covariance of some draws, shape (n, d)."""
    # A kernel density, as the paper's first author fits, is wider than what it is fitted to; where
    # it reaches beyond the posterior, this estimator has rare large terms.
    covariance = jnp.atleast_2d(jnp.cov(z, rowvar=False))
    mean = jnp.mean(z, axis=0)
    return dist.MultivariateNormal(mean, covariance_matrix=covariance, validate_args=False)


def latent_dim(model: Given) -> int:
    """Return the number of latent dimensions, which have to be real and unbounded."""

    def sample() -> PyTree:
        prior = model.prior()
        z = prior.sample(jax.random.key(0))
        require_unbounded(model, prior, z, "Hamiltonian Monte Carlo")
        return z

    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(jax.eval_shape(sample)))


def _check_chain(n_burn_in: int, n_leapfrog: int, target_acceptance: float, n_starts: int) -> None:
    integer(n_burn_in, "n_burn_in", minimum=2)
    integer(n_leapfrog, "n_leapfrog", minimum=1)
    integer(n_starts, "n_starts", minimum=2)
    expected = "a number between 0 and 1"
    number(target_acceptance, "target_acceptance", expected, lambda rate: 0 < rate < 1)


def _start(model: Given, x: PyTree, key: Key, n: int) -> PyTree:
    """Pick one of n draws, half from q(z|x) and half from p(z), by its importance weight."""
    posterior_key, prior_key, key = jax.random.split(key, 3)
    own = draw(model, x, posterior_key, n - n // 2, pathwise=False)
    more = own.prior.sample(prior_key, (n // 2,))
    z = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), own.z, more)
    log_q = jnp.logaddexp(over_draws(own.posterior.log_prob, z), over_draws(own.prior.log_prob, z))
    log_w = over_draws(lambda z: log_joint(model, x, z), z) - log_q
    chosen = jax.random.categorical(key, log_w)
    return jax.tree.map(lambda leaf: leaf[chosen], z)
