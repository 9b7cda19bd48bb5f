"""What the pictures ask of a fitted estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aevb.latents import INACTIVE
from aevb.plotting import cases
from aevb.plotting.quantiles import quantiles
from aevb.plotting.style import check_dimensions

MOST_DIMENSIONS = 10  # that are drawn unless more are asked for


def data_range(vae: Any) -> tuple[float, float] | None:
    """Return the least and greatest value that a datum can have; None: not known."""
    parts = list(vae.schema_.parts.values())
    if len(parts) > 1 or parts[0].kind.likelihood.name != "bernoulli":
        return None
    return 0.0, vae.schema_.white


def codes(vae: Any, X: ArrayLike) -> np.ndarray:
    """Return latent points (n, latent_dim), an array also under ``set_output``."""
    return np.asarray(vae.transform(X))


def decode(vae: Any, Z: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Decode latent points (n, m, latent_dim) to cases (n, m, *shape)."""
    decoded = vae.inverse_transform(Z.reshape(-1, Z.shape[-1]))
    return np.asarray(decoded).reshape(*Z.shape[:2], *shape)


def one_moves(
    vae: Any, x: ArrayLike | None, dimensions: list[int], steps: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """Return lines of cases (len(dimensions), len(steps), *shape): in each one dimension moves.

    It moves through `steps` (n, latent_dim); the others stay at those of the case `x`, or at the
    middle of the prior.
    """
    if x is None:
        start = quantiles(vae.model_.prior(), [0.5])
    else:
        start = codes(vae, cases.as_cases(x, vae.feature_shape_, tuple(shape)))
        if len(start) != 1:
            raise ValueError(f"Expected one case for `x`; got {len(start)}.")
    Z = np.tile(start[0], (len(dimensions), len(steps), 1))
    for line, j in zip(Z, dimensions, strict=True):
        line[:, j] = steps[:, j]
    return decode(vae, Z, shape)


def dimensions_to_draw(vae: Any, given: Sequence[int] | None) -> list[int]:
    """Return the latent dimensions that are given, or the active ones, with most KL first."""
    kl = np.asarray(vae.explained_nats_)
    if given is not None:
        return check_dimensions(given, len(kl))
    if not np.isfinite(kl).all():  # not known, under a flow
        return list(range(min(len(kl), MOST_DIMENSIONS)))
    active = [int(j) for j in np.argsort(-kl, kind="stable") if kl[j] >= INACTIVE]
    if not active:
        raise ValueError(
            f"Expected an active latent dimension; got KL below {INACTIVE:g} nats in all "
            f"{len(kl)}: the posterior has collapsed to the prior. Name some, for instance "
            "dimensions=[0], to draw them nevertheless."
        )
    return active[:MOST_DIMENSIONS]


def spread(vae: Any, X: ArrayLike) -> np.ndarray:
    """Return the standard deviation of each column; NaN where it does not vary."""
    rows = vae._numbers(X).astype(np.float64)
    if len(rows) < 2:
        raise ValueError(
            "Expected two cases at least for `X`, whose columns' standard deviations are the unit "
            f"of the effects; got {len(rows)}."
        )
    varies = np.ptp(rows, axis=0) > 0
    if not varies.any():
        raise ValueError(
            "Expected a column that varies in `X`, as its standard deviation is the unit of the "
            f"effects; got {len(rows)} cases that are all the same."
        )
    return np.where(varies, rows.std(axis=0), np.nan)
