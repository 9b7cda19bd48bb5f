"""Which columns of numbers repeat what others say."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

_MOST_COLUMNS, _MOST_ROWS = 256, 4096
_SHARE = 1e-2  # of a column's standard deviation; less is left when others determine it


def dependent_columns(
    X: Shaped[np.ndarray, "n d"], resolution: Float[np.ndarray, " d"]
) -> tuple[int, ...]:
    """Return the columns that are linear functions of those before them, to their last digit.

    That is: the least-squares fit from an intercept and the columns before leaves less than one
    unit of the last digit, and less than a hundredth of the column's standard deviation. None is
    named where the rows, of which at most 4096 are used, are fewer than two for each column, or
    the columns are more than 256.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Finite numbers.
    resolution : ndarray of shape (d,)
        One unit of the last digit of each column.

    Examples
    --------
    >>> a, b = np.random.default_rng(0).integers(100, size=(2, 50))
    >>> dependent_columns(np.stack([a, b, a - 2 * b, b % 7], axis=1), np.ones(4))
    (2,)
    """
    d = X.shape[1]
    rows = X[:: -(-len(X) // _MOST_ROWS)].astype(np.float64)
    if d > _MOST_COLUMNS or len(rows) < 2 * d:
        return ()
    rows -= rows.mean(axis=0)
    spread = rows.std(axis=0)
    varies = spread > 0
    # Column j of R: what column j has of the directions of those before it, and of its own.
    own = np.diagonal(np.linalg.qr(rows / np.where(varies, spread, 1), mode="r"))
    left = abs(own) / np.sqrt(len(rows)) * spread
    found = varies & (left <= np.minimum(resolution, _SHARE * spread))
    return tuple(map(int, np.flatnonzero(found)))
