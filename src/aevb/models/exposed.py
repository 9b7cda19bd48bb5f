"""Auto-encoders of counts under an exposure, by which their means are multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
from jax import Array
from jaxtyping import Num, PyTree
from numpyro.distributions import Distribution

from aevb.models.autoencoder import AutoEncoder, ConditionalAutoEncoder
from aevb.models.base import LatentVariableModel, given
from aevb.models.kinds.case import Case
from aevb.models.kinds.rows import is_sparse
from aevb.probability.blocks import Blocks
from aevb.probability.exposure import at_exposure


class Context(NamedTuple):
    """What is known of a datum of counts besides its values.

    Attributes
    ----------
    covariates : Array or None
        What the networks read of its condition, if there is one.
    exposure : Array
        Its exposure, as a multiple of the typical one.
    """

    covariates: PyTree
    exposure: Any


class ExposedAutoEncoder(LatentVariableModel):
    """Variational auto-encoder of counts: p(z), p(x|z) at the exposure of x, q(z|x per exposure).

    Parameters
    ----------
    inner : AutoEncoder or ConditionalAutoEncoder
        The model at the typical exposure.
    counts : tuple of str
        The blocks of a case that are counts.

    Examples
    --------
    >>> import jax.numpy as jnp, aevb
    >>> X = jnp.array([[1, 0], [2, 3], [9, 1]])
    >>> vae = aevb.VAE(likelihood="poisson", epochs=1).fit(X, exposure="total")
    >>> twice = vae.model_.likelihood(jnp.zeros(2), Context(None, jnp.array(2.0))).mean
    >>> bool(jnp.allclose(twice, 2 * vae.model_.inner.likelihood(jnp.zeros(2)).mean))
    True
    """

    inner: AutoEncoder | ConditionalAutoEncoder
    counts: tuple[str, ...] = eqx.field(static=True)

    @property
    def estimator(self) -> str | None:
        """What ``estimator="auto"`` stands for."""
        return self.inner.estimator

    def prior(self) -> Distribution:
        """Return p(z), which the exposure does not move."""
        return self.inner.prior()

    def likelihood(self, z: Num[Array, " latent_dim"], c: Context) -> Distribution | Blocks:
        """Return p(x|z) at an exposure."""
        return at_exposure(given(self.inner, c.covariates).likelihood(z), c.exposure)

    def posterior(self, x: PyTree, c: Context) -> Distribution:
        """Return q(z|x), of the counts per exposure."""
        x = per_exposure(x, c.exposure, self.counts)
        return given(self.inner, c.covariates).posterior(x)


class PerExposure(eqx.Module):
    """What the encoder reads of a pair of datum and exposure."""

    inputs: Callable[[PyTree], Array]
    counts: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, pair: tuple[PyTree, Array]) -> Array:
        """Read the counts per exposure."""
        return self.inputs(per_exposure(*pair, self.counts))


def per_exposure(x: PyTree, exposure: Any, counts: tuple[str, ...]) -> PyTree:
    """Divide counts by their exposure: of one datum, or of rows with an exposure each.

    Parameters
    ----------
    x : array, or Case of arrays
        Data.
    exposure : array of shape () or (n,)
        Exposures.
    counts : tuple of str
        The blocks of a case that are counts.

    Examples
    --------
    >>> import numpy as np
    >>> per_exposure(np.array([[2.0, 4.0], [9.0, 6.0]]), np.array([2.0, 3.0]), ()).tolist()
    [[1.0, 2.0], [3.0, 2.0]]
    """
    if isinstance(x, Case):
        named = x.blocks.items()
        blocks = {n: per_exposure(b, exposure, ()) if n in counts else b for n, b in named}
        return x._replace(blocks=blocks)
    if is_sparse(x):
        return x.multiply(1 / exposure[:, None]).tocsr()
    return x / exposure.reshape(exposure.shape + (1,) * (x.ndim - exposure.ndim))
