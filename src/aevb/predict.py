"""What a fitted model says of many cases: pure functions of a model and rows, without an estimator.

Every function takes any `LatentVariableModel` and arrays with rows leading, and maps the model's
methods, which know one datapoint, over the rows in blocks of one fixed size. A row gets the same
numbers, bit for bit, whichever rows come with it. `VAE`'s methods are thin over these functions.
"""

from __future__ import annotations

import jax
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.compiling import jit
from aevb.errors import integer
from aevb.evaluation import annealed, cells, latent, marginal
from aevb.evaluation.annealed import Annealed, Sandwich
from aevb.evaluation.importance import Evidence, Method
from aevb.evaluation.marginal import Terms
from aevb.evaluation.methods import find_method
from aevb.evaluation.rows import map_rows, row_key
from aevb.models.base import LatentVariableModel, given
from aevb.models.flows import FlowDistribution
from aevb.probability.averages import expected
from aevb.probability.distributions import Batched
from aevb.probability.joint import AnyDistribution

__all__ = [
    "decode",
    "elbo",
    "elbo_terms",
    "encode",
    "evidence",
    "impute",
    "latent_kl",
    "latent_mean",
    "latent_moments",
    "log_likelihood",
    "reconstruct",
    "sample",
    "sandwich",
    "surprise",
]

ENCODE_BLOCK = 256  # rows of one pass through a network; a single row costs as much
SCORE_BLOCK = 16  # rows at a time, with many draws each


def encode(model: LatentVariableModel, X: PyTree, *, context: PyTree = None) -> Batched:
    """Return q(z|x) for each row.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    X : PyTree of arrays, shape (n, ...)
        Datapoints.
    context : PyTree of arrays, shape (n, ...), optional
        Context of each datapoint.

    Returns
    -------
    Batched
        One distribution per row: ``mean``, ``variance``, ``sample(key)``, ``log_prob(z)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from aevb import VAE, predict
    >>> model = VAE(latent_dim=2, epochs=1).fit(jnp.eye(8)).model_
    >>> predict.encode(model, jnp.eye(8)).mean.shape
    (8, 2)
    """
    q = map_rows(_posterior, model, (X, context), ENCODE_BLOCK)
    if isinstance(q, FlowDistribution):
        first = jax.tree.map(lambda leaf: leaf[0], (X, context))
        q = q.sharing(_one_posterior(model, first))
    return Batched(q)


def latent_mean(
    model: LatentVariableModel, X: PyTree, *, context: PyTree = None
) -> PyTree[Float[np.ndarray, "n ..."]]:
    """Return the mean of q(z|x) of each row; the median where there is none ("cauchy").

    Those of a flow are averages over 256 draws, the same every time. Arguments as in `encode`.
    """
    return map_rows(_mean, model, (X, context), ENCODE_BLOCK)


def latent_moments(
    model: LatentVariableModel, X: PyTree, *, context: PyTree = None
) -> tuple[PyTree[Float[np.ndarray, "n ..."]], PyTree[Float[np.ndarray, "n ..."]]]:
    """Return mean and variance of q(z|x) of each row. Arguments as in `encode`."""
    return map_rows(_moments, model, (X, context), ENCODE_BLOCK)


def latent_kl(
    model: LatentVariableModel, X: PyTree, *, context: PyTree = None
) -> Float[np.ndarray, "n d"]:
    """Return the KL of each latent dimension's own q(z_j|x) from p(z_j), nats.

    See `aevb.evaluation.latent.marginal_kl`. Arguments as in `encode`.
    """
    return map_rows(_kl, model, (X, context), ENCODE_BLOCK)


def decode(model: LatentVariableModel, Z: PyTree, *, context: PyTree = None) -> PyTree:
    """Return the expected datapoint E[x|z] of each latent point, in the data's own units.

    Of categories that is the most probable one, of ordered levels the median.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    Z : PyTree of arrays, shape (n, ...)
        Latent points.
    context : PyTree of arrays, shape (n, ...), optional
        Context of each point.

    Returns
    -------
    PyTree of ndarray, shape (n, ...)
        Means of p(x|z).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from aevb import VAE, predict
    >>> model = VAE(latent_dim=2, epochs=1).fit(jnp.eye(8)).model_
    >>> predict.decode(model, jnp.zeros((5, 2))).shape
    (5, 8)
    """
    return map_rows(_expectation, model, (Z, context), ENCODE_BLOCK)


def reconstruct(model: LatentVariableModel, X: PyTree, *, context: PyTree = None) -> PyTree:
    """Return E[x|z] at the mean of q(z|x), for each row. Arguments as in `encode`."""
    return map_rows(_reconstruction, model, (X, context), ENCODE_BLOCK)


def sample(
    model: LatentVariableModel, n: int, key: Key, *, context: PyTree = None, mean: bool = False
) -> PyTree:
    """Generate datapoints: z ~ p(z), then x ~ p(x|z).

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    n : int
        Number of datapoints.
    key : Array
        JAX random key.
    context : PyTree of arrays, shape (n, ...), optional
        Context of each.
    mean : bool
        Return E[x|z] instead of a draw from p(x|z).

    Returns
    -------
    PyTree of ndarray, shape (n, ...)
        Datapoints, in the data's own units.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from aevb import VAE, predict
    >>> model = VAE(latent_dim=2, epochs=1).fit(jnp.eye(8)).model_
    >>> predict.sample(model, 3, jax.random.key(0)).shape
    (3, 8)
    """
    keys = jax.random.split(key, integer(n, "n", minimum=1))
    data = np.asarray(jax.random.key_data(keys))
    return map_rows(_new_case, model, (data, context), ENCODE_BLOCK, bool(mean))


def elbo(
    model: LatentVariableModel,
    X: PyTree,
    key: Key,
    *,
    context: PyTree = None,
    n_draws: int = 32,
) -> Float[np.ndarray, " n"]:
    """Estimate the evidence lower bound of each row, nats; see `aevb.elbo`.

    Parameters
    ----------
    model, X, context
        As in `encode`.
    key : Array
        JAX random key. The draws for a row depend on its values and the key alone.
    n_draws : int
        Draws of z to average over.
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    return map_rows(_elbo, model, (X, context), SCORE_BLOCK, key, n_draws)


def elbo_terms(
    model: LatentVariableModel,
    X: PyTree,
    key: Key,
    *,
    context: PyTree = None,
    n_draws: int = 32,
) -> Terms:
    """Estimate the terms of each row's bound, nats: reconstruction, also by entry, and KL.

    Arguments as in `elbo`, whose draws it takes: its numbers are ``reconstruction - kl``.

    Returns
    -------
    Terms
        ``reconstruction`` and ``kl``, shape (n,); ``entries``, arrays of shape (n, ...), or None
        where the entries of a datapoint are not known to be independent given z.
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    return map_rows(_terms, model, (X, context), SCORE_BLOCK, key, n_draws)


def log_likelihood(
    model: LatentVariableModel,
    X: PyTree,
    key: Key,
    *,
    context: PyTree = None,
    n_draws: int = 1000,
) -> Float[np.ndarray, " n"]:
    """Estimate log p(x) of each row by importance sampling, nats; see `aevb.log_likelihood`.

    Arguments as in `elbo`; `n_draws` is the number of importance samples.
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    return map_rows(_log_likelihood, model, (X, context), SCORE_BLOCK, key, n_draws)


def evidence(
    model: LatentVariableModel,
    X: PyTree,
    key: Key,
    *,
    context: PyTree = None,
    n_draws: int | None = None,
    method: str | Method = "importance",
) -> Evidence:
    """Estimate log p(x) of each row, with its errors; see `aevb.evaluation.Evidence`.

    Parameters
    ----------
    model, X, context
        As in `encode`.
    key : Array
        JAX random key. The draws for a row depend on its values and the key alone.
    n_draws : int, optional
        Number of draws, or of chains; None: 1000 draws, or 16 chains.
    method : str or Method
        ``"importance"`` (importance sampling, with the numbers of `log_likelihood`),
        ``"annealed"`` (annealed importance sampling) or ``"reciprocal"`` (appendix D);
        `aevb.evaluation` has them with options: `Importance`, `Annealed`, `Reciprocal`.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from aevb import VAE, predict
    >>> model = VAE(latent_dim=2, epochs=1).fit(jnp.eye(8)).model_
    >>> predict.evidence(model, jnp.eye(8), jax.random.key(0)).standard_error.shape
    (8,)
    """
    method = find_method(method)
    n_draws = method.n_draws if n_draws is None else integer(n_draws, "n_draws", minimum=1)
    return map_rows(_evidence, model, (X, context), method.n_rows, key, method, n_draws)


def sandwich(
    model: LatentVariableModel,
    n: int,
    key: Key,
    *,
    context: PyTree = None,
    n_chains: int = 16,
    method: str | Method = "annealed",
) -> Sandwich:
    """Simulate datapoints, and bound log p(x) of each from both sides.

    Bidirectional Monte Carlo; see `aevb.evaluation.sandwich`.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    n : int
        Number of datapoints.
    key : Array
        JAX random key.
    context : PyTree of arrays, shape (n, ...), optional
        Context of each.
    n_chains : int
        Number of chains in each direction.
    method : str or Method
        ``"annealed"``, or `aevb.evaluation.Annealed` with options.

    Returns
    -------
    Sandwich
        ``lower``, ``upper``, ``gap``: arrays of shape (n,). Prints as a summary.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from aevb import VAE, predict
    >>> model = VAE(latent_dim=2, epochs=1).fit(jnp.eye(8)).model_
    >>> predict.sandwich(model, 4, jax.random.key(0)).gap.shape
    (4,)
    """
    settings = find_method(method)
    if not isinstance(settings, Annealed):
        raise ValueError(
            "Expected 'annealed' or `aevb.evaluation.Annealed` for `method`, whose chains can go "
            f"backwards; got {method!r}."
        )
    n_chains = integer(n_chains, "n_chains", minimum=1)
    keys = jax.random.split(key, integer(n, "n", minimum=1))
    rows = np.asarray(jax.random.key_data(keys)), context
    return map_rows(_sandwich, model, rows, settings.n_rows, settings, n_chains)


def impute(
    model: LatentVariableModel,
    X: PyTree,
    key: Key,
    *,
    observed: PyTree = None,
    context: PyTree = None,
    n_draws: int = 1000,
    n_imputations: int | None = None,
    wide: bool = False,
) -> PyTree:
    r"""Return the values to expect where some are missing, by importance sampling.

    .. math:: E[x_m | x_o] \approx \sum_k w_k E[x_m | z_k], \quad
              w_k \propto p(x_o | z_k) p(z_k) / q(z_k | x_o), \quad z_k \sim q(z | x_o)

    (Mattei and Frellsen, 2019, https://arxiv.org/abs/1812.02633, equation 12.) See
    `aevb.evaluation.cells.fill`.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    X : PyTree of arrays, shape (n, ...)
        Datapoints. Those that say themselves what is missing, as `aevb.models.kinds.case.Case`
        may, go as they are into the encoder.
    key : Array
        JAX random key. The draws for a row depend on its values and the key alone.
    observed : PyTree of arrays of bool, optional
        Of datapoints that do not, which entries are there.
    context : PyTree of arrays, shape (n, ...), optional
        Context of each datapoint.
    n_draws : int
        Draws of z.
    n_imputations : int, optional
        Draw so many values of x, from p(x|z) at draws of z by weight; None: the expectation of
        each, the most probable category, the median of ordered levels, a whole number of counts.
    wide : bool
        Whether half of the draws are of p(z): where little is observed, q(z|x) may be too narrow.

    Returns
    -------
    PyTree of ndarray, shape (n, ...) or (n, n_imputations, ...)
        Datapoints. What is observed has been predicted as well.
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    if n_imputations is not None:
        n_imputations = integer(n_imputations, "n_imputations", minimum=1)
    rows = X, observed, context
    block = 1 if wide else SCORE_BLOCK  # few rows, with many draws each
    return map_rows(_filled, model, rows, block, key, n_draws, n_imputations, bool(wide))


def surprise(
    model: LatentVariableModel,
    X: PyTree,
    key: Key,
    *,
    context: PyTree = None,
    n_draws: int = 1000,
) -> PyTree:
    r"""Return how surprising each entry is, given the others: :math:`-\log p(x_j | x_{-j})`, nats.

    See `aevb.evaluation.cells.surprise`.

    Parameters
    ----------
    model, X, context
        As in `encode`.
    key : Array
        JAX random key. The draws for a row depend on its values and the key alone.
    n_draws : int
        Draws of z.

    Returns
    -------
    PyTree of ndarray
        Of the shapes of the entries, (n, ...); 0 where an entry is missing.
    """
    n_draws = integer(n_draws, "n_draws", minimum=1)
    return map_rows(_surprise, model, (X, context), SCORE_BLOCK, key, n_draws)


# Functions of one row, (x, c), as `map_rows` compiles them.

Row = tuple[PyTree, PyTree]


def _posterior(model: LatentVariableModel, row: Row) -> AnyDistribution:
    x, c = row
    q = given(model, c).posterior(x)
    return q.of_row() if isinstance(q, FlowDistribution) else q


@jit
def _one_posterior(model: LatentVariableModel, row: Row) -> AnyDistribution:
    x, c = row
    return given(model, c).posterior(x)


def _mean(model: LatentVariableModel, row: Row) -> PyTree[Array]:
    x, c = row
    return latent.location(given(model, c).posterior(x))


def _moments(model: LatentVariableModel, row: Row) -> tuple[PyTree[Array], PyTree[Array]]:
    x, c = row
    q = given(model, c).posterior(x)
    return latent.location(q), latent.spread(q)


def _kl(model: LatentVariableModel, row: Row) -> Float[Array, " d"]:
    x, c = row
    view = given(model, c)
    return latent.marginal_kl(view.posterior(x), view.prior(), row_key(jax.random.key(0), x))


def _expectation(model: LatentVariableModel, row: Row) -> PyTree:
    z, c = row
    return expected(given(model, c).likelihood(z))


def _reconstruction(model: LatentVariableModel, row: Row) -> PyTree:
    return _expectation(model, (_mean(model, row), row[1]))


def _new_case(model: LatentVariableModel, row: Row, mean: bool) -> PyTree:
    key_data, c = row
    view = given(model, c)
    key_z, key_x = jax.random.split(jax.random.wrap_key_data(key_data))
    likelihood = view.likelihood(view.prior().sample(key_z))
    return expected(likelihood) if mean else likelihood.sample(key_x)


def _filled(
    model: LatentVariableModel,
    row: tuple[PyTree, PyTree, PyTree],
    key: Key,
    n_draws: int,
    n_imputations: int | None,
    wide: bool,
) -> PyTree:
    x, observed, c = row
    key = row_key(key, (x, observed))
    return cells.fill(given(model, c), x, observed, key, n_draws, n_imputations, wide=wide)


def _surprise(model: LatentVariableModel, row: Row, key: Key, n_draws: int) -> PyTree:
    x, c = row
    return cells.surprise(given(model, c), x, row_key(key, x), n_draws)


def _elbo(model: LatentVariableModel, row: Row, key: Key, n_draws: int) -> Float[Array, ""]:
    x, c = row
    return marginal.elbo(model, x, row_key(key, x), c=c, n_draws=n_draws)


def _terms(model: LatentVariableModel, row: Row, key: Key, n_draws: int) -> Terms:
    x, c = row
    return marginal.elbo_terms(given(model, c), x, row_key(key, x), n_draws)


def _log_likelihood(
    model: LatentVariableModel, row: Row, key: Key, n_draws: int
) -> Float[Array, ""]:
    x, c = row
    return marginal.log_likelihood(model, x, row_key(key, x), c=c, n_draws=n_draws)


def _evidence(
    model: LatentVariableModel, row: Row, key: Key, method: Method, n_draws: int
) -> Evidence:
    x, c = row
    return method(model, x, row_key(key, x), c=c, n_draws=n_draws)


def _sandwich(model: LatentVariableModel, row: Row, settings: Annealed, n_chains: int) -> Sandwich:
    key_data, c = row
    key = jax.random.wrap_key_data(key_data)
    return annealed.sandwich(model, key, c=c, n_chains=n_chains, settings=settings)
