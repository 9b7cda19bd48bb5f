"""What a density is relative to: two densities have a ratio only where that is one and the same."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import PyTree
from numpyro.distributions import constraints

VOLUME = "volume"  # length, area, and so on, of all entries of a value
COUNTING = "counting"

# Densities are not relative to these: such a log_prob is not a term of a bound.
POINT = "a point"
CENSORED = "censored values"
SEVERAL = "several measures at once"
NO_DENSITIES = (POINT, CENSORED, SEVERAL)

# Surfaces, on which the entries of a value determine one another. The first that fits counts. An
# angle is not among them: its density is per radian, as that of any number in an interval.
_SURFACES: list[tuple[type, str]] = [
    (type(constraints.simplex), "the simplex"),
    (type(constraints.sphere), "the sphere"),
    (type(constraints.corr_cholesky), "Cholesky factors of correlations"),
    (type(constraints.corr_matrix), "correlation matrices"),
    (type(constraints.lower_cholesky), "lower triangular matrices"),
    (type(constraints.positive_definite), "symmetric matrices"),
    (type(constraints.positive_semidefinite), "symmetric matrices"),
    (type(constraints.positive_definite_circulant_vector), "circulant vectors"),
    (type(constraints.complex), "the complex plane"),
]


def _families(*names: str) -> tuple[type[dist.Distribution], ...]:
    # Not every version of NumPyro has all of them.
    return tuple(getattr(dist, name) for name in names if hasattr(dist, name))


_CAT: Any = getattr(constraints, "cat", ())
_WRAPPERS = _families("Independent", "ExpandedDistribution", "MaskedDistribution")
_HURDLES = _families("HurdleProbs")
_CENSORED = _families(
    "LeftCensoredDistribution", "RightCensoredDistribution", "IntervalCensoredDistribution"
)


class Image(NamedTuple):
    """What becomes of a surface, or of points, under transformations."""

    base: Measure
    event_shape: tuple[int, ...]
    transforms: tuple

    def __str__(self) -> str:
        names = ", ".join(type(transform).__name__ for transform in self.transforms)
        return f"an image of {self.base} by {names or 'another shape'}"


Measure = str | Image | dict[str, Any]


def measure_of(d: Any) -> Measure | None:
    """Return what the density of a distribution, or of any on a support, is relative to.

    Parameters
    ----------
    d : Distribution, Joint or Constraint
        One of a user's own kind may say it by an attribute ``measure``.

    Returns
    -------
    str, Image, dict or None
        `VOLUME`, `COUNTING` or the name of a surface; one of `NO_DENSITIES`; a dictionary for the
        parts of a `Joint`. None where it is not known.

    Examples
    --------
    >>> measure_of(dist.Normal(0.0, 1.0)), measure_of(dist.Bernoulli(0.5))
    ('volume', 'counting')
    >>> measure_of(dist.Dirichlet(jnp.ones(3))), measure_of(dist.Delta(0.0))
    ('the simplex', 'a point')
    """
    own = getattr(d, "measure", None)
    if own is not None:
        return own
    if isinstance(d, constraints.Constraint):
        return _of_support(d)
    if isinstance(d, _WRAPPERS):
        return measure_of(d.base_dist)
    if isinstance(d, dist.Delta):
        return COUNTING if _has_whole_numbers(d) else POINT
    if isinstance(d, _CENSORED):
        return CENSORED
    if isinstance(d, _HURDLES) and not d.support.is_discrete:
        return "volume, and a point at zero"
    if isinstance(d, dist.MixtureSameFamily):
        return measure_of(d.component_distribution)
    if isinstance(d, dist.MixtureGeneral):
        first, *others = (measure_of(component) for component in d.component_distributions)
        return first if all(is_same(first, other) for other in others) else SEVERAL
    if isinstance(d, dist.TransformedDistribution):
        return _of_image(d)
    return _of_support(getattr(d, "support", None))


def support_of(d: Any) -> constraints.Constraint | None:
    """Return the support of a distribution; None where it has none or NumPyro does not know it."""
    try:
        return getattr(d, "support", None)
    except NotImplementedError:  # of a surface that is transformed
        return None


def image_of(
    base: Measure | None, event_shape: tuple[int, ...], transforms: tuple = ()
) -> Measure | None:
    """Return what becomes of a measure of values of some shape, by bijections or another shape."""
    if base in (None, VOLUME, *NO_DENSITIES) or (base == COUNTING and not transforms):
        return base
    return Image(base, event_shape, transforms)


def is_same(q: Measure | None, p: Measure | None) -> bool:
    """Say whether two measures are the same, as far as is known."""
    if q is None or p is None:
        return True
    if isinstance(q, dict) and isinstance(p, dict):
        return all(is_same(q[name], p[name]) for name in q.keys() & p.keys())
    if isinstance(q, Image) and isinstance(p, Image):
        same = is_same(q.base, p.base) and q.event_shape == p.event_shape
        return same and _are_equal(q.transforms, p.transforms)
    return type(q) is type(p) and q == p


def have_ratio(q: Measure | None, p: Measure | None) -> bool:
    """Say whether densities relative to these have a ratio, as far as is known."""
    if isinstance(q, dict) and isinstance(p, dict):
        return all(have_ratio(q[name], p[name]) for name in q.keys() & p.keys())
    return is_same(q, p) and q not in NO_DENSITIES and p not in NO_DENSITIES


def _of_support(support: constraints.Constraint | None) -> Measure | None:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if not isinstance(support, constraints.Constraint) or hasattr(support, "measure"):
        return getattr(support, "measure", None)
    if isinstance(support, _CAT):
        measures = dict.fromkeys(str(_of_support(part)) for part in support.cseq)
        return ", ".join(measures)
    try:
        if support.is_discrete:
            return COUNTING
    except NotImplementedError:  # of a support that depends on what is not known
        return None
    if isinstance(support, constraints.zero_sum):
        return f"arrays that sum to zero along {support.event_dim} axes"
    return next((name for kind, name in _SURFACES if isinstance(support, kind)), VOLUME)


def _of_image(d: dist.TransformedDistribution) -> Measure | None:
    base = measure_of(d.base_dist)
    if base in NO_DENSITIES:
        return base
    support = support_of(d)
    measure = VOLUME if support is None else _of_support(support)
    if measure != VOLUME:
        return measure
    embedded = math.prod(d.base_dist.shape()) < math.prod(d.shape())
    if base == VOLUME and embedded:
        return Image(base, d.base_dist.event_shape, tuple(d.transforms))
    return image_of(base, d.base_dist.event_shape, tuple(d.transforms))


def _has_whole_numbers(d: dist.Delta) -> bool:
    """Say whether a Delta is a probability mass function: 1 at one of the whole numbers."""
    if jnp.issubdtype(jnp.result_type(d.v), jnp.inexact):
        return False
    return _is_known(d.log_density) and bool(np.all(np.asarray(d.log_density) == 0))


def _are_equal(q: PyTree, p: PyTree) -> bool:
    """Say whether two PyTrees are known to be equal."""
    structures: list[Any] = [jax.tree.structure(q), jax.tree.structure(p)]
    return structures[0] == structures[1] and all(
        a is b or (_is_known(a) and _is_known(b) and np.array_equal(a, b))
        for a, b in zip(jax.tree.leaves(q), jax.tree.leaves(p), strict=True)
    )


def _is_known(leaf: PyTree) -> bool:
    return not isinstance(leaf, jax.core.Tracer)
