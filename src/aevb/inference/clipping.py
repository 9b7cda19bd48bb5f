"""How large a gradient may be: one step too large can undo a whole training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from aevb.errors import choose, number

_SPIKE = 10.0  # times the typical norm: noise of minibatches stays far below
_MEMORY = 0.1  # share of the newest norm in the typical one


@dataclass(frozen=True)
class Clipping:
    r"""The rule :math:`g \leftarrow g \min(1, c / \lVert g \rVert)`, after Pascanu et al. (2013).

    Parameters
    ----------
    limit : "auto", float or None
        The largest norm c. ``"auto"``: ten times the typical norm, an exponential average over
        about ten steps of what the norms were after clipping; it needs no unit. None: none.

    References
    ----------
    Pascanu, Mikolov and Bengio (2013), https://arxiv.org/abs/1211.5063

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> gradient, typical = Clipping()({"w": jnp.array([300.0, 400.0])}, jnp.array(1.0))
    >>> gradient["w"].tolist(), round(float(typical), 4)
    ([6.0, 8.0], 1.9)
    """

    limit: str | float | None = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.limit, str):
            choose(self.limit, {"auto": None}, "clip_norm", ", a positive number or None")
        elif self.limit is not None:
            expected = "'auto', a positive number or None"
            number(self.limit, "clip_norm", expected, lambda limit: 0 < limit < math.inf)

    def __call__(
        self, gradient: PyTree, typical: Float[Array, ""]
    ) -> tuple[PyTree, Float[Array, ""]]:
        """Return the gradient, clipped, and the typical norm from then on.

        Parameters
        ----------
        gradient : PyTree
            The gradient of all parameters.
        typical : Array
            The typical norm so far; 0: unknown.
        """
        if self.limit is None:
            return gradient, typical
        norm = jnp.sqrt(sum(map(_square, jax.tree.leaves(gradient))))
        if self.limit == "auto":
            limit = jnp.where(typical > 0, _SPIKE * typical, jnp.inf)
            clipped = jnp.minimum(norm, limit)
            typical = jnp.where(typical > 0, typical + _MEMORY * (clipped - typical), norm)
        else:
            limit = jnp.asarray(self.limit, norm.dtype)
        factor = jnp.where(norm > limit, limit / norm, 1.0)  # 1 exactly for all but spikes
        return jax.tree.map(lambda leaf: leaf * factor, gradient), typical


def _square(leaf: Array) -> Float[Array, ""]:
    # A product of vectors runs several times as fast as a sum of squares.
    flat = jnp.ravel(leaf)
    return jnp.real(jnp.vdot(flat, flat))
