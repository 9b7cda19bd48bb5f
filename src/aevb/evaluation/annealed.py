r"""log p(x) by annealed importance sampling, and between two bounds for simulated data.

A chain goes from a density that can be drawn from, :math:`q_0`, to the posterior, along

.. math:: f_\beta(z) = q_0(z)^{1 - \beta} \, p(x, z)^\beta, \qquad
    0 = \beta_0 < \beta_1 < \dots < \beta_N < \beta_{N+1} = 1

by a transition of Hamiltonian Monte Carlo at each of the N temperatures between. With
:math:`z_0 \sim q_0` and :math:`z_i` after the i-th transition, its weight is unbiased for p(x):

.. math:: \log w = \sum_{i=0}^{N} (\beta_{i+1} - \beta_i) \, \log \frac{p(x, z_i)}{q_0(z_i)},
    \qquad E[w] = p(x)

That holds for any step sizes that do not depend on the chain. So a pilot run, whose noise is its
own, finds the step sizes and the scales of z at each temperature, and then they stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import choose, integer, number
from aevb.evaluation.importance import Evidence, Method, evidence_of
from aevb.inference.hmc import adapt, log_joint, move, require_unbounded, start_chain
from aevb.models.base import Given, LatentVariableModel, given
from aevb.models.checks import require_likelihood, require_ratio

PURPOSE = "annealed importance sampling"
_PILOTS = 16  # chains of the pilot run
_STEEPNESS = 4.0  # of the sigmoid; Wu and others have 4
_MEMORY = 0.7  # share of the scales that a temperature takes over from the one before
# Trajectories of one fixed length may be half a period of the posterior, and then only swap sides.
_JITTER = 0.2


@final
@dataclass(frozen=True)
class Annealed(Method):
    """Annealed importance sampling, with its settings: see `annealed_importance_sampling`.

    Parameters
    ----------
    n_temperatures : int
        Number N of transitions on the way. 0 is importance sampling from the start.
    n_leapfrog : int
        Leapfrog steps per transition.
    start : {"posterior", "prior"}
        What the chains start from: q(z|x), or p(z) where q(z|x) is not to be relied on. From the
        prior take a thousand temperatures or more.
    target_acceptance : float
        Towards which the pilot run adapts the step sizes. They are such that a transition goes a
        quarter of a period of a normal density at most.

    Raises
    ------
    ValueError, TypeError
        For settings that do not fit.

    Examples
    --------
    >>> Annealed(n_temperatures=1000, start="prior").start
    'prior'
    """

    n_temperatures: int = 100
    n_leapfrog: int = 5
    start: str = "posterior"
    target_acceptance: float = 0.8
    name: ClassVar[str] = "annealed"
    n_draws: ClassVar[int] = 16
    n_rows: ClassVar[int] = 4

    def __post_init__(self) -> None:
        """Check the settings."""
        integer(self.n_temperatures, "n_temperatures", minimum=0)
        integer(self.n_leapfrog, "n_leapfrog", minimum=1)
        choose(self.start, {"posterior": None, "prior": None}, "start")
        expected = "a number between 0 and 1"
        number(self.target_acceptance, "target_acceptance", expected, lambda rate: 0 < rate < 1)

    def __call__(self, model, x, key, *, c=None, n_draws):  # noqa: D102
        return annealed_importance_sampling(model, x, key, c=c, n_chains=n_draws, settings=self)


class Sandwich(NamedTuple):
    """What `sandwich` returns: log p(x) of simulated data between two bounds; prints as a summary.

    Attributes
    ----------
    lower : Array
        Stochastic lower bound of log p(x) of each datapoint, nats: at most log p(x) on average.
    upper : Array
        Stochastic upper bound, nats: at least log p(x) on average.
    n_chains : Array
        Number of chains in each direction.
    """

    lower: Float[Array | np.ndarray, "*n"]
    upper: Float[Array | np.ndarray, "*n"]
    n_chains: Float[Array | np.ndarray, "*n"]

    @property
    def gap(self) -> np.ndarray:
        """Difference of the two bounds for each datapoint; at least 0 on average."""
        return np.asarray(self.upper, np.float64) - np.asarray(self.lower, np.float64)

    @property
    def mean_gap(self) -> float:
        """Mean gap over the datapoints, nats."""
        return float(np.mean(self.gap))

    @property
    def mean_gap_se(self) -> float:
        """Standard error of the mean gap; NaN of a single datapoint."""
        return _standard_error(self.gap)

    def __str__(self) -> str:
        """Return the means of both bounds and of their gap, with standard errors."""
        n = np.size(self.lower)
        several = f"{n} simulated cases" if n > 1 else "1 simulated case"
        title = f"log p(x) of {several}, {int(np.max(self.n_chains))} chains each way, nats"
        table = {"lower bound": self.lower, "upper bound": self.upper, "gap": self.gap}
        lines = []
        for name, each in table.items():
            spread = f" ± {_standard_error(each):.4f}" if n > 1 else ""
            lines.append(f"{name:12} {np.mean(np.asarray(each, np.float64)):.4f}{spread}")
        if n > 1:
            lines[-1] += " (standard errors over the cases)"
        return "\n".join([title, *lines])

    def __repr__(self) -> str:
        return str(self)


def annealed_importance_sampling(
    model: LatentVariableModel,
    x: PyTree,
    key: Key,
    *,
    c: PyTree = None,
    n_chains: int = 16,
    settings: Annealed = Annealed(),
) -> Evidence:
    r"""Estimate log p(x) of one datapoint by annealed importance sampling, with its error.

    Chains go from q(z|x), or p(z), to the posterior in small steps; see `aevb.evaluation.annealed`.
    Their weights estimate p(x) without bias, so that the logarithm of the mean weight is at most
    log p(x) on average, as with importance sampling; but the weights differ less, and the less the
    more temperatures there are. What the errors cannot see is a part of the posterior to which no
    chain goes. Temperatures follow a sigmoid, dense at both ends. Latents are arrays of real
    numbers without bounds. Needs BlackJAX, of the extra ``aevb[mcmc]``. Memory does not grow with
    the number of temperatures.

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
    n_chains : int
        Number of chains. The standard error is that of their weights.
    settings : Annealed
        Temperatures, leapfrog steps, start.

    Returns
    -------
    Evidence
        Of scalars.

    Raises
    ------
    ValueError, TypeError
        For latents with bounds or discrete ones; for settings that do not fit.
    ImportError
        Without BlackJAX.

    References
    ----------
    Neal (2001), Annealed importance sampling, https://arxiv.org/abs/physics/9803008

    Wu, Burda, Salakhutdinov and Grosse (2017), On the quantitative analysis of decoder-based
    generative models, https://arxiv.org/abs/1611.04273

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
    >>> found = aevb.evaluation.annealed_importance_sampling(
    ...     Shift(), jnp.array(2.0), jax.random.key(0)
    ... )
    >>> exact = dist.Normal(0.0, 2**0.5).log_prob(2.0)
    >>> bool(abs(found.log_likelihood - exact) < 4 * found.standard_error)
    True
    """
    n_chains = integer(n_chains, "n_chains", minimum=1)
    start_key, pilot_key, key = jax.random.split(key, 3)
    path = _path(given(model, c), x, settings)
    ladder = _pilot(path, pilot_key, settings)
    return evidence_of(_forward(path, ladder, path.draw(start_key, n_chains), key))


def sandwich(
    model: LatentVariableModel,
    key: Key,
    *,
    c: PyTree = None,
    n_chains: int = 16,
    settings: Annealed = Annealed(),
) -> Sandwich:
    r"""Simulate one datapoint, and bound its log p(x) from both sides: bidirectional Monte Carlo.

    Of :math:`z^* \sim p(z)`, :math:`x \sim p(x|z^*)`, the latent :math:`z^*` is an exact draw of
    p(z|x). Chains of `annealed_importance_sampling` that start there and go backwards, from the
    posterior to q(z|x) or p(z), have weights w with :math:`E[1/w] = 1/p(x)`. With K chains in each
    direction,

    .. math:: E \log \frac1K \sum_k w_k^\text{forward} \;\le\; \log p(x) \;\le\;
        E \Big[ -\log \frac1K \sum_k \frac{1}{w_k^\text{reverse}} \Big]

    by Jensen's inequality. There is one exact draw only, from which all reverse chains start. The
    mean of their 1 / w is unbiased nevertheless, as each of them is; but they depend on one
    another, so that their spread does not tell the error. The gap of the two bounds, averaged over
    many simulated datapoints, does: on average each of the two is at most that far off. It is that
    of simulated data. It tells the error on real data as far as the model resembles these.

    Parameters
    ----------
    model : LatentVariableModel
        A model.
    key : Array
        JAX random key.
    c : PyTree, optional
        Context.
    n_chains : int
        Number of chains in each direction.
    settings : Annealed
        Temperatures, leapfrog steps, start.

    Returns
    -------
    Sandwich
        Of scalars. `aevb.predict.sandwich` has many datapoints.

    Raises
    ------
    ValueError, TypeError
        For latents with bounds or discrete ones; for settings that do not fit.
    ImportError
        Without BlackJAX.

    References
    ----------
    Grosse, Ghahramani and Adams (2015), Sandwiching the marginal likelihood using bidirectional
    Monte Carlo, https://arxiv.org/abs/1511.02543

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Shift(aevb.LatentVariableModel):
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x):
    ...         return dist.Normal(x / 2, 0.5**0.5)  # the exact one
    >>> found = aevb.evaluation.sandwich(Shift(), jax.random.key(0))
    >>> bool(abs(found.upper - found.lower) < 1e-4)
    True
    """
    n_chains = integer(n_chains, "n_chains", minimum=1)
    z_key, x_key, start_key, pilot_key, forward_key, reverse_key = jax.random.split(key, 6)
    view = given(model, c)
    z = view.prior().sample(z_key)
    x = view.likelihood(z).sample(x_key)
    path = _path(view, x, settings)
    ladder = _pilot(path, pilot_key, settings)
    forward = _forward(path, ladder, path.draw(start_key, n_chains), forward_key)
    ends = jnp.broadcast_to(path.flat(z), (n_chains, path.size))
    reverse = _reverse(path, ladder, ends, reverse_key)
    of_inverse = evidence_of(-reverse)
    return Sandwich(
        evidence_of(forward).log_likelihood,
        -of_inverse.log_likelihood,
        of_inverse.n_draws,
    )


class _Path(NamedTuple):
    """The densities on the way of one datapoint, of latents in one vector.

    Attributes
    ----------
    draw : callable
        (key, n) -> draws of q_0, shape (n, d).
    flat : callable
        Makes a vector of latents.
    log_start, log_end : callable
        log q_0(z) and log p(x, z).
    size : int
        The number d of latent dimensions.
    n_leapfrog : int
        Leapfrog steps per transition.
    """

    draw: Callable[[Key, int], Array]
    flat: Callable[[PyTree], Array]
    log_start: Callable[[Array], Array]
    log_end: Callable[[Array], Array]
    size: int
    n_leapfrog: int

    def log_ratio(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """Evaluate log p(x, z) / q_0(z)."""
        return self.log_end(z) - self.log_start(z)

    def move(self, z: Float[Array, " d"], rung: _Rung, key: Key) -> tuple[Array, Array]:
        """Make a transition that leaves f_β as it is; return z and the acceptance."""

        def log_density(z: Array) -> Array:
            return (1 - rung.beta) * self.log_start(z) + rung.beta * self.log_end(z)

        key, size_key = jax.random.split(key)
        factor = jax.random.uniform(size_key, (), z.dtype, 1 - _JITTER, 1 + _JITTER)
        state = start_chain(log_density, z)
        step_size = factor * rung.step_size
        state, acceptance = move(
            log_density, state, key, step_size, self.n_leapfrog, rung.inverse_mass
        )
        return state.position, acceptance


class _Rung(NamedTuple):
    """A temperature, and how chains move there: scalars and a vector, or a ladder of N of them."""

    beta: Array
    step_size: Array
    inverse_mass: Array


def _path(view: Given, x: PyTree, settings: Annealed) -> _Path:
    prior = view.prior()
    q = view.posterior(x) if settings.start == "posterior" else prior
    require_ratio(view, q, prior)
    example = prior.sample(jax.random.key(0))
    require_unbounded(view, prior, example, PURPOSE)
    require_unbounded(view, q, example, PURPOSE, settings.start)
    require_likelihood(view, view.likelihood(example))
    first, unravel = ravel_pytree(example)

    def draw(key: Key, n: int) -> Array:
        return jax.vmap(lambda z: ravel_pytree(z)[0])(q.sample(key, (n,)))

    return _Path(
        draw,
        lambda z: ravel_pytree(z)[0],
        lambda z: q.log_prob(unravel(z)),
        lambda z: log_joint(view, x, unravel(z)),
        first.size,
        settings.n_leapfrog,
    )


def temperatures(n: int) -> Float[np.ndarray, " n+2"]:
    """Return 0, n temperatures between, and 1, by the sigmoid of Wu and others (2017)."""
    heights = 1 / (1 + np.exp(-_STEEPNESS * np.linspace(-1, 1, n + 2)))
    return (heights - heights[0]) / (heights[-1] - heights[0])


def _pilot(path: _Path, key: Key, settings: Annealed) -> _Rung:
    """Find step sizes and scales at each temperature, by chains of their own."""
    longest = math.pi / 2 / path.n_leapfrog
    start_key, key = jax.random.split(key)
    z = path.draw(start_key, _PILOTS)
    beta = jnp.asarray(temperatures(settings.n_temperatures)[1:-1], z.dtype)
    least = jnp.finfo(z.dtype).tiny

    def climb(carry: tuple, each: tuple[Array, Array]) -> tuple[tuple, tuple]:
        z, step_size, variance = carry
        beta, key = each
        variance = _MEMORY * variance + (1 - _MEMORY) * jnp.var(z, axis=0, ddof=1)
        rung = _Rung(beta, step_size, jnp.maximum(variance, least))
        keys = jax.random.split(key, _PILOTS)
        z, acceptance = jax.vmap(lambda z, key: path.move(z, rung, key))(z, keys)
        found = adapt(step_size, jnp.mean(acceptance), settings.target_acceptance)
        step_size = jnp.minimum(found, longest).astype(z.dtype)
        return (z, step_size, variance), (step_size, rung.inverse_mass)

    carry = z, jnp.array(longest, z.dtype), jnp.var(z, axis=0, ddof=1)
    _, (step_size, inverse_mass) = lax.scan(climb, carry, (beta, jax.random.split(key, len(beta))))
    return _Rung(beta, step_size, inverse_mass)


def _forward(path: _Path, ladder: _Rung, z: Array, key: Key) -> Float[Array, " K"]:
    """Return log w of chains from draws of q_0, shape (K, d), up the ladder."""
    return _walk(path, ladder, _rises(ladder), z, key)


def _reverse(path: _Path, ladder: _Rung, z: Array, key: Key) -> Float[Array, " K"]:
    """Return log w of chains from exact draws of the posterior, shape (K, d), down the ladder."""
    down = jax.tree.map(lambda leaf: leaf[::-1], ladder)
    return _walk(path, down, _rises(ladder)[::-1], z, key)


def _rises(ladder: _Rung) -> Float[Array, " N+1"]:
    return jnp.diff(ladder.beta, prepend=0.0, append=1.0)


def _walk(path: _Path, ladder: _Rung, rises: Array, z: Array, key: Key) -> Float[Array, " K"]:
    """Sum up log p(x, z) / q_0(z), times the rises, along chains; a transition between any two."""

    def visit(carry: tuple[Array, Array], each: tuple[Array, _Rung, Key]) -> tuple[tuple, None]:
        z, log_w = carry
        rise, rung, key = each
        keys = jax.random.split(key, len(z))
        log_w += rise * jax.vmap(path.log_ratio)(z)
        z, _ = jax.vmap(lambda z, key: path.move(z, rung, key))(z, keys)
        return (z, log_w), None

    nothing = jnp.zeros(len(z), dtype=float)
    keys = jax.random.split(key, len(ladder.beta))
    (z, log_w), _ = lax.scan(visit, (z, nothing), (rises[:-1], ladder, keys))
    return log_w + rises[-1] * jax.vmap(path.log_ratio)(z)


def _standard_error(each: Float[Array | np.ndarray, "*n"]) -> float:
    n = np.size(each)
    if n < 2:
        return math.nan
    return float(np.std(np.asarray(each, np.float64), ddof=1)) / math.sqrt(n)
