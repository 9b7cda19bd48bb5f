"""How large a gradient may be: one step too large can undo a whole training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from aevb.errors import choose, number

_SPIKE = 10.0  # times the typical norm: noise of minibatches stays far below
_MEMORY = 0.1  # share of the newest norm in the typical one
# Until this step norms are not typical: those of arrays beside others that start at zero grow.
_SETTLED = 100


@dataclass(frozen=True)
class Clipping:
    r"""The rule :math:`g \leftarrow g \min(1, c / \lVert g \rVert)`, after Pascanu et al. (2013).

    Parameters
    ----------
    limit : "auto", float or None
        A number is the largest norm c of the whole gradient. ``"auto"`` looks at the gradient of
        each array of parameters by itself: c is ten times its typical norm, an exponential average
        over about ten steps of what the norms were after clipping; the first hundred steps are left
        as they are. That needs no unit, and no step has to wait for the last of the gradients.
        None: no limit.

    References
    ----------
    Pascanu, Mikolov and Bengio (2013), https://arxiv.org/abs/1211.5063

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> gradient = {"w": jnp.array([300.0, 400.0])}
    >>> gradient, typical = Clipping()(gradient, jnp.array([1.0]), jnp.array(200))
    >>> gradient["w"].tolist(), round(float(typical[0]), 4)
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
        self, gradient: PyTree, typical: Float[Array, " n"], step: Int[Array, ""]
    ) -> tuple[PyTree, Float[Array, " n"]]:
        """Return the gradient, clipped, and the typical norms from then on.

        Parameters
        ----------
        gradient : PyTree
            The gradient of all parameters, in n arrays.
        typical : Array
            The typical norm of each so far; 0: unknown.
        step : Array
            Number of steps before this one.
        """
        if self.limit is None:
            return gradient, typical
        leaves, structure = jax.tree.flatten(gradient)
        norms = list(map(_norm, leaves))
        if self.limit == "auto":
            known = (typical > 0) & (step >= _SETTLED)
            limits = list(jnp.where(known, _SPIKE * typical, jnp.inf))
            clipped = map(jnp.minimum, norms, limits)
            typical = jnp.stack(
                [
                    jnp.where(before > 0, before + _MEMORY * (now - before), now)
                    for before, now in zip(typical, clipped, strict=True)
                ]
            )
        else:
            norm = jnp.sqrt(sum(each**2 for each in norms))
            norms = [norm] * len(leaves)
            limits = [jnp.asarray(self.limit, norm.dtype)] * len(leaves)
        leaves = [
            leaf * jnp.where(norm > limit, limit / norm, 1.0)  # 1 exactly for all but spikes
            for leaf, norm, limit in zip(leaves, norms, limits, strict=True)
        ]
        return jax.tree.unflatten(structure, leaves), typical


def _norm(leaf: Array) -> Float[Array, ""]:
    flat = jnp.ravel(leaf)
    return jnp.sqrt(jnp.real(jnp.vdot(flat, flat)))
