"""Section 2.4 of the paper: which families are reparameterised, and by which of the three ways."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import Distribution

from aevb.probability.families import Erlang, FisherSnedecor, Rayleigh, Triangular
from aevb.probability.positive import (
    Chi2,
    Exponential,
    Gamma,
    Gompertz,
    Pareto,
    Reciprocal,
    Weibull,
)


class Family(NamedTuple):
    """A family of distributions, and how it is reparameterised.

    Attributes
    ----------
    distribution : type
        The class; its own parameters, to be used as any NumPyro distribution.
    way : str
        "inverse CDF", "location-scale" or "composition".
    n_parameters : int
        Number of real parameters of one component.
    from_reals : Callable
        From any real array of shape (`n_parameters`, d), a network's output, to the distribution
        of d independent components as one event. Zeros give a member of about unit scale.
        "dirichlet" is over the simplex of d entries, and "elliptical", a multivariate Student's t,
        has one radius for all d. Parameters are kept where the variance is finite (but for
        "cauchy", which has none) and 32-bit draws do not pile up at an end of the support.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> gamma = FAMILIES["gamma"]
    >>> q = gamma.from_reals(jnp.zeros((gamma.n_parameters, 3)))
    >>> gamma.way, q.event_shape, q.mean.round(4).tolist()
    ('composition', (3,), [1.0, 1.0, 1.0])
    """

    distribution: type[Distribution]
    way: str
    n_parameters: int
    from_reals: Callable[[Array], Distribution]


def _real(reals: Array) -> Array:
    return reals


def _above(low: float, start: float) -> Callable[[Array], Array]:
    """Return an increasing map of the reals to the numbers above `low`; zero becomes `start`."""

    def transform(reals: Array) -> Array:
        at_one = math.log(math.expm1(1.0))  # where softplus is 1
        return low + (start - low) * jax.nn.softplus(reals + at_one)

    return transform


_positive = _above(1e-6, 1.0)
_shape = _above(0.2, 1.0)  # below, 32-bit draws underflow


def _uniform(loc: Array, scale: Array, validate_args: bool) -> Distribution:
    half = math.sqrt(3.0) * scale
    return dist.Uniform(loc - half, loc + half, validate_args=validate_args)


def _triangular(mode: Array, left: Array, right: Array, validate_args: bool) -> Distribution:
    low, high = mode - math.sqrt(6.0) * left, mode + math.sqrt(6.0) * right
    return Triangular(low, mode, high, validate_args=validate_args)


def _reciprocal(low: Array, width: Array, validate_args: bool) -> Distribution:
    return Reciprocal(low, low + width, validate_args=validate_args)


def _erlang(rate: Array, validate_args: bool) -> Distribution:
    return Erlang(2, rate, validate_args=validate_args)


def _elliptical(loc: Array, scale: Array, df: Array, validate_args: bool) -> Distribution:
    return dist.MultivariateStudentT(
        jnp.mean(df), loc, jnp.diag(scale), validate_args=validate_args
    )


def _family(
    distribution: type[Distribution],
    way: str,
    build: Callable[..., Distribution] | None = None,
    /,
    **parameters: Callable[[Array], Array],
) -> Family:
    """Return a family from a map of the reals for each argument of `build`, or of its class."""
    build = distribution if build is None else build

    def from_reals(reals: Array) -> Distribution:
        if jnp.ndim(reals) != 2 or len(reals) != len(parameters):
            raise ValueError(
                f"Expected an array of shape ({len(parameters)}, d) for `reals`, a row for each "
                f"of {', '.join(parameters)}; got {jnp.shape(reals)}."
            )
        rows = zip(parameters.items(), reals, strict=True)
        values = {name: transform(row) for (name, transform), row in rows}
        components = build(**values, validate_args=False)
        return components.to_event(1 - components.event_dim)

    return Family(distribution, way, len(parameters), from_reals)


_LOC_SCALE = {"loc": _real, "scale": _positive}

FAMILIES: dict[str, Family] = {
    "exponential": _family(Exponential, "inverse CDF", rate=_positive),
    "cauchy": _family(dist.Cauchy, "inverse CDF", **_LOC_SCALE),
    "logistic": _family(dist.Logistic, "inverse CDF", **_LOC_SCALE),  # location-scale, too
    "rayleigh": _family(Rayleigh, "inverse CDF", scale=_positive),
    "pareto": _family(Pareto, "inverse CDF", scale=_positive, alpha=_above(2.0, 3.0)),
    "weibull": _family(Weibull, "inverse CDF", scale=_positive, concentration=_shape),
    "reciprocal": _family(
        Reciprocal, "inverse CDF", _reciprocal, low=_positive, width=_above(1e-3, 3.0)
    ),
    "gompertz": _family(Gompertz, "inverse CDF", concentration=_positive, rate=_positive),
    "gumbel": _family(dist.Gumbel, "inverse CDF", **_LOC_SCALE),
    "erlang": _family(Erlang, "inverse CDF", _erlang, rate=_positive),
    "laplace": _family(dist.Laplace, "location-scale", **_LOC_SCALE),
    "elliptical": _family(
        dist.MultivariateStudentT, "location-scale", _elliptical, **_LOC_SCALE, df=_above(2.0, 5.0)
    ),
    "student-t": _family(dist.StudentT, "location-scale", df=_above(2.0, 5.0), **_LOC_SCALE),
    "uniform": _family(dist.Uniform, "location-scale", _uniform, **_LOC_SCALE),
    "triangular": _family(
        Triangular, "location-scale", _triangular, mode=_real, left=_positive, right=_positive
    ),
    "normal": _family(dist.Normal, "location-scale", **_LOC_SCALE),
    "log-normal": _family(dist.LogNormal, "composition", **_LOC_SCALE),
    "gamma": _family(Gamma, "composition", concentration=_shape, rate=_positive),
    "dirichlet": _family(dist.Dirichlet, "composition", concentration=_shape),
    "beta": _family(
        dist.Beta, "composition", concentration1=_above(0.5, 2.0), concentration0=_above(0.5, 2.0)
    ),
    "chi-squared": _family(Chi2, "composition", df=_above(0.4, 2.0)),
    "f": _family(FisherSnedecor, "composition", df1=_above(0.4, 4.0), df2=_above(4.0, 8.0)),
}
