r"""The evidence of a datapoint by importance sampling, with what can be known of its error.

The weights :math:`w_k = p(x, z_k) / q(z_k|x)` tell it themselves. Their spread gives a standard
error and a bias, and the tail of their largest whether these can be believed: above a Pareto shape
of 0.7 the variance is one of a few draws, and means nothing (Vehtari and others, 2024,
https://arxiv.org/abs/1507.02646).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import integer
from aevb.evaluation.marginal import log_weights
from aevb.models.base import LatentVariableModel, given

_FEW = 5  # of the largest weights; from fewer no shape is estimated


class Evidence(NamedTuple):
    r"""Estimates of log p(x), each with its error; arrays over datapoints, or of one.

    All come from n weights, each of which estimates p(x) without bias (importance sampling,
    annealed importance sampling) or 1 / p(x) (appendix D).

    Attributes
    ----------
    log_likelihood : Array
        The logarithm of the mean weight, nats: on average at most log p(x). Of appendix D, minus
        that logarithm: on average at least log p(x).
    standard_error : Array
        Its standard error, :math:`\sqrt{(n / n_{\text{eff}} - 1) / (n - 1)}`, nats; NaN of a
        single draw.
    bias : Array
        About how far it is off log p(x) on average, nats: half the squared standard error, below
        zero for what is too low on average.
    n_effective : Array
        Effective number of draws, :math:`(\sum w)^2 / \sum w^2`.
    pareto_k : Array
        Shape of the tail of the weights. NaN of fewer than 25 draws, from which no shape can be
        estimated, and of equal weights: then q(z|x) is the exact posterior.
    n_draws : Array
        Number of weights: draws of importance sampling, otherwise chains.
    """

    log_likelihood: Float[Array | np.ndarray, "*n"]
    standard_error: Float[Array | np.ndarray, "*n"]
    bias: Float[Array | np.ndarray, "*n"]
    n_effective: Float[Array | np.ndarray, "*n"]
    pareto_k: Float[Array | np.ndarray, "*n"]
    n_draws: Float[Array | np.ndarray, "*n"]

    @property
    def reliable(self) -> np.ndarray:
        r"""Whether each error can be believed: a shape of at most min(0.7, 1 - 1 / log10 n).

        Of fewer than 25 draws nothing speaks against it, and little for it.
        """
        n = np.asarray(self.n_draws, np.float64)
        most = np.minimum(0.7, 1 - 1 / np.log10(np.maximum(n, 2)))
        return ~(np.asarray(self.pareto_k) > most)

    def __str__(self) -> str:
        """Return the mean, its errors, and whether they can be believed."""
        each = np.atleast_1d(np.asarray(self.log_likelihood, np.float64))
        own = np.atleast_1d(np.asarray(self.standard_error, np.float64))
        bias = float(np.mean(self.bias, dtype=np.float64))
        n = len(each)
        drawn = math.sqrt(np.mean(own**2) / n)
        lines = [
            f"log p(x) of {n} {'case' if n == 1 else 'cases'} by "
            f"{int(np.max(self.n_draws))} draws each: {each.mean():.4f} nats in the mean",
            f"standard error of the draws {drawn:.4f}, bias about {bias:.4f}",
        ]
        if n > 1:
            among = each.std(ddof=1) / math.sqrt(n)
            lines[1] += f"; standard error over the cases {among:.4f}"
        wild = int(np.sum(~np.atleast_1d(self.reliable)))
        if wild:
            lines.append(
                f"{wild} of them have errors that cannot be believed (Pareto shape too large): "
                "take more draws, or a richer posterior"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Method(ABC):
    """A way to estimate log p(x) of one datapoint, with its error; subclasses are final.

    Attributes
    ----------
    name : str
        Its name.
    n_draws : int
        Number of draws or chains, where the user names none.
    n_rows : int
        Datapoints of which it is computed at a time.
    """

    name: ClassVar[str]
    n_draws: ClassVar[int]
    n_rows: ClassVar[int]

    @abstractmethod
    def __call__(
        self, model: LatentVariableModel, x: PyTree, key: Key, *, c: PyTree = None, n_draws: int
    ) -> Evidence:
        """Estimate log p(x) of one datapoint.

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
            Number of draws or chains.
        """


@final
@dataclass(frozen=True)
class Importance(Method):
    """Importance sampling from q(z|x): see `aevb.evaluation.evidence`.

    Parameters
    ----------
    chunk : int
        Draws evaluated at a time.

    Examples
    --------
    >>> Importance()
    Importance(chunk=50)
    """

    chunk: int = 50
    name: ClassVar[str] = "importance"
    n_draws: ClassVar[int] = 1000
    n_rows: ClassVar[int] = 16

    def __post_init__(self) -> None:
        """Check the setting."""
        integer(self.chunk, "chunk", minimum=1)

    def __call__(self, model, x, key, *, c=None, n_draws):  # noqa: D102
        return evidence(model, x, key, c=c, n_draws=n_draws, chunk=self.chunk)


def evidence(
    model: LatentVariableModel,
    x: PyTree,
    key: Key,
    *,
    c: PyTree = None,
    n_draws: int = 1000,
    chunk: int = 50,
) -> Evidence:
    """Estimate log p(x) of one datapoint by importance sampling from q(z|x), with its error.

    Memory does not grow with the number of draws, but for the largest ⌈3 √n⌉ weights.

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
        Number of draws.
    chunk : int
        Draws evaluated at a time.

    Returns
    -------
    Evidence
        Of scalars.

    Raises
    ------
    ValueError, TypeError
        When `n_draws` or `chunk` is not a positive integer.

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp
    >>> vae = aevb.VAE(latent_dim=2, epochs=1, random_state=0).fit(jnp.eye(8))
    >>> found = evidence(vae.model_, jnp.eye(8)[0], jax.random.key(0))
    >>> bool(found.standard_error < 0.1), bool(found.n_effective <= 1000)
    (True, True)
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    chunk = min(integer(chunk, "chunk", minimum=1), n_draws)
    view = given(model, c)
    n_tail = _n_tail(n_draws)

    def accumulate(carry: tuple[Array, Array, Array], i: Array) -> tuple[tuple, None]:
        total, squares, largest = carry
        log_w = log_weights(view, x, key, i, chunk, n_draws)
        total = jnp.logaddexp(total, jax.nn.logsumexp(log_w))
        squares = jnp.logaddexp(squares, jax.nn.logsumexp(2 * log_w))
        largest, _ = lax.top_k(jnp.concatenate([largest, log_w]), n_tail + 1)
        return (total, squares, largest), None

    nothing = jnp.array(-jnp.inf, dtype=float)  # of JAX's widest enabled type, as the sum will be
    start = nothing, nothing, jnp.full(n_tail + 1, -jnp.inf, dtype=float)
    steps = jnp.arange(math.ceil(n_draws / chunk))
    (total, squares, largest), _ = lax.scan(accumulate, start, steps)
    return _evidence_of(total, squares, largest, n_draws)


def evidence_of(log_w: Float[Array, " n"]) -> Evidence:
    """Estimate log p(x) from the logarithms of weights, each an unbiased estimate of p(x).

    Parameters
    ----------
    log_w : Array
        Shape (n,), of independent weights.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> found = evidence_of(jnp.log(jnp.array([1.0, 2.0, 3.0])))
    >>> round(float(jnp.exp(found.log_likelihood)), 4)  # their mean
    2.0
    >>> round(float(found.standard_error), 4)  # that of the mean, √(1/3), by the mean
    0.2887
    """
    largest, _ = lax.top_k(log_w, _n_tail(len(log_w)) + 1)
    sums = jax.nn.logsumexp(log_w), jax.nn.logsumexp(2 * log_w)
    return _evidence_of(*sums, largest, len(log_w))


def _evidence_of(
    total: Float[Array, ""], squares: Float[Array, ""], largest: Float[Array, " m"], n: int
) -> Evidence:
    """Summarise n weights, of which are known the logarithms of two sums and of the largest."""
    n_effective = jnp.clip(jnp.exp(2 * total - squares), 1, n)
    variance = jnp.maximum(n / n_effective - 1, 0) / (n - 1) if n > 1 else jnp.nan * n_effective
    return Evidence(
        total - math.log(n),
        jnp.sqrt(variance),
        -variance / 2,
        n_effective,
        pareto_shape(largest),
        jnp.asarray(float(n)),
    )


def _n_tail(n: int) -> int:
    """Return how many of n weights are their tail."""
    return min(math.ceil(3 * math.sqrt(n)), n // 5)


def pareto_shape(largest: Float[Array, " m"]) -> Float[Array, ""]:
    """Estimate the shape of the tail of weights from the logarithms of the largest.

    The generalised Pareto law of what the largest exceed the least of them by, by the method of
    Zhang and Stephens (2009, https://doi.org/10.1198/tech.2009.08017), drawn a little to a half.

    Parameters
    ----------
    largest : Array
        Logarithms of weights, in falling order; the last one is where the tail begins.

    Returns
    -------
    Array
        Scalar: 1/2 and more means an infinite variance. NaN for fewer than five weights, or equal
        ones.

    Examples
    --------
    >>> import jax
    >>> draws = jax.random.pareto(jax.random.key(0), 2.0, (2000,))  # of shape 1/2
    >>> largest = jax.lax.top_k(jnp.log(draws), 301)[0]
    >>> bool(0.3 < pareto_shape(largest) < 0.7)
    True
    """
    n = len(largest) - 1
    if n < _FEW:
        return jnp.array(jnp.nan)
    scaled = jnp.exp(largest - largest[0])
    excess = (scaled[:-1] - scaled[-1])[::-1]
    equal = excess[-1] <= 1e-5
    excess = jnp.where(equal, jnp.arange(1.0, n + 1), jnp.maximum(excess, 1e-30))
    m = 30 + int(math.sqrt(n))
    candidates = 1 - jnp.sqrt(m / (jnp.arange(1, m + 1) - 0.5))
    candidates = candidates / (3 * excess[int(n / 4 + 0.5) - 1]) + 1 / excess[-1]
    shapes = jnp.mean(jnp.log1p(-candidates[:, None] * excess), axis=1)
    profile = n * (jnp.log(-candidates / shapes) - shapes - 1)
    b = jnp.sum(candidates * jax.nn.softmax(profile))
    shape = jnp.mean(jnp.log1p(-b * excess))
    return jnp.where(equal, jnp.nan, (n * shape + 5) / (n + 10))
