"""Bits per dimension, the unit in which models of images are compared."""

from __future__ import annotations

import math

import jax
import numpy as np
from jaxtyping import Float, PyTree
from numpy.typing import ArrayLike

from aevb.models.base import LatentVariableModel, given
from aevb.probability.blocks import Blocks
from aevb.probability.measures import COUNTING, measure_of


def bits_per_dimension(
    log_p: ArrayLike, n_values: ArrayLike, log_volume: ArrayLike = 0.0
) -> Float[np.ndarray, "*n"]:
    r"""Convert log p(x) into bits per dimension.

    .. math:: -\frac{\log p(x) + \log \Delta V}{D \log 2}

    A density of real numbers is not a probability, and has no bits. It becomes the probability of a
    bin, approximately, when it is multiplied by the bin's volume :math:`\Delta V`, if the bin is
    narrow beside the width of the density.

    Parameters
    ----------
    log_p : array-like of shape (n,)
        log p(x) of each datapoint, nats.
    n_values : array-like of shape (n,) or int
        The number D of values of each, without those that are missing.
    log_volume : array-like of shape (n,) or float
        Of densities, the logarithm of the volume of the bin of each: the sum of those of the
        widths. Of probabilities 0.

    Returns
    -------
    ndarray of shape (n,)
        Bits per dimension; the lower, the better. NaN where there are no values.

    Examples
    --------
    >>> import math
    >>> float(bits_per_dimension(-3 * math.log(2), 6))  # 3 fair coins of 6: half a bit each
    0.5
    """
    values = np.asarray(n_values, np.float64)
    nats = -(np.asarray(log_p, np.float64) + np.asarray(log_volume, np.float64))
    return np.divide(nats, values * math.log(2), where=values > 0, out=np.full(nats.shape, np.nan))


def densities(model: LatentVariableModel, c: PyTree = None) -> set[str] | bool:
    """Say whether p(x|z) is a density rather than a probability; of blocks, which of them are.

    Parameters
    ----------
    model : LatentVariableModel
        A model.
    c : PyTree, optional
        Context of one datapoint.

    Returns
    -------
    set of str, or bool
        The names of the blocks, where there are some.
    """
    found: list[set[str] | bool] = []

    def look() -> None:
        view = given(model, c)
        law = view.likelihood(view.prior().sample(jax.random.key(0)))
        if isinstance(law, Blocks):
            measures = {name: measure_of(part) for name, part in law.parts.items()}
            found.append({name for name, each in measures.items() if each != COUNTING})
        else:
            found.append(measure_of(law) != COUNTING)

    jax.eval_shape(look)
    return found[0]
