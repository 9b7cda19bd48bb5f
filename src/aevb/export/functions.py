r"""What a file computes: a function of a batch of rows, with all that stands before the networks.

Each is deterministic. The bound, whose draws would not be, has its noise within:

.. math:: \hat{\mathcal{L}}(x) = \frac1L \sum_{l=1}^L \log p(x|z_l) - \mathrm{KL}(q(z|x) \| p(z)),
          \quad z_l = g_\phi(\epsilon_l, x)

with L draws :math:`\epsilon_l` of the noise of q(z|x), made once and the same for all rows. Over
such noise it is unbiased for each row; but the errors of several rows are not independent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, PyTree

from aevb.errors import choose
from aevb.evaluation.latent import location, spread
from aevb.evaluation.marginal import elbo
from aevb.export.rows import Port, Rows
from aevb.learned import Learned
from aevb.models.base import LatentVariableModel, given
from aevb.models.exposed import Context
from aevb.probability.averages import expected

Results = dict[str, Array]


class Function(NamedTuple):
    """A function of a batch.

    Attributes
    ----------
    name : str
        What it does: "encode", "decode", "reconstruct" or "elbo".
    call : callable
        Of arrays with rows leading, one for each input; returns the outputs by name.
    inputs, outputs : tuple of Port
        What these arrays are.
    """

    name: str
    call: Callable[..., Results]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def specs(self, n: Any) -> list[jax.ShapeDtypeStruct]:
        """Return shapes and types of the inputs for n rows, which may be a symbol."""
        return [jax.ShapeDtypeStruct((n, *each.shape), each.dtype) for each in self.inputs]


def function_of(
    learned: Learned,
    model: LatentVariableModel,
    what: str,
    latent_dim: int,
    n_draws: int,
    seed: int,
) -> Function:
    """Return what a file is to compute.

    Parameters
    ----------
    learned : Learned
        What was learned of the data.
    model : LatentVariableModel
        The fitted model.
    latent_dim : int
        Number of latent dimensions.
    what : {"encode", "decode", "reconstruct", "elbo"}
        Which function.
    n_draws, seed : int
        Number of draws of the bound, and the seed of their noise.

    Raises
    ------
    ValueError
        For an unknown function.
    """
    rows = Rows(learned.schema)
    latent = Port("z", (latent_dim,)), Port("mean", (latent_dim,)), Port("variance", (latent_dim,))
    made = rows.port("expected")._replace(dtype="float32")

    def encode(x: PyTree, c: PyTree) -> Results:
        q = given(model, c).posterior(x)
        return {"mean": location(q), "variance": spread(q)}

    def decode(z: Array, c: PyTree) -> Results:
        return {"expected": rows.row(expected(given(model, c).likelihood(z)))}

    def reconstruct(x: PyTree, c: PyTree) -> Results:
        return decode(location(given(model, c).posterior(x)), c)

    def bound(x: PyTree, c: PyTree) -> Results:
        return {"elbo": elbo(model, x, jax.random.key(seed), c=c, n_draws=n_draws)}

    functions: dict[str, tuple[Callable[..., Results], tuple[Port, ...]]] = {
        "encode": (encode, latent[1:]),
        "decode": (decode, (made,)),
        "reconstruct": (reconstruct, (made,)),
        "elbo": (bound, (Port("elbo", ()),)),
    }
    compute, outputs = choose(what, functions, "what")
    first = latent[0] if what == "decode" else rows.port("x")
    context = _Context(learned, rows, by_total=what != "decode")

    def of_row(*arrays: Array) -> Results:
        told = dict(zip([port.name for port in inputs], arrays, strict=True))
        if what == "decode":
            case, known = told["z"], ~jnp.any(jnp.isnan(told["z"]))
        else:
            case, known = rows.case(told["x"])
        c, also_known = context(told)
        results = compute(case, c)
        known = known & also_known
        return {n: jnp.where(known, r.astype(np.float32), jnp.nan) for n, r in results.items()}

    def call(*arrays: Array) -> Results:
        return jax.vmap(of_row)(*arrays)

    inputs = (first, *context.ports)
    return Function(what, call, inputs, outputs)


class _Context:
    """What the model is told of a row besides its values: condition and exposure."""

    def __init__(self, learned: Learned, rows: Rows, *, by_total: bool):
        self.condition, self.exposure, self.rows = learned.condition, learned.exposure, rows
        self.asked = None if self.condition is None else Rows(self.condition.schema)
        self.by_total = by_total and self.exposure is not None and self.exposure.by_total

    @property
    def ports(self) -> list[Port]:
        """The inputs that it needs."""
        ports = [] if self.asked is None else [self.asked.port("condition")]
        if self.exposure is not None and not self.by_total:
            ports.append(Port("exposure", ()))
        return ports

    def __call__(self, told: dict[str, Array]) -> tuple[PyTree, Bool[Array, ""]]:
        """Return it as the model takes it, and whether all of it is known."""
        context, known = None, jnp.asarray(True)
        if self.condition is not None and self.asked is not None:
            case, known = self.asked.case(told["condition"])
            context = jnp.ravel(self.condition.schema.block.constants.inputs(case))
        if self.exposure is not None:
            each = self.rows.total(told["x"]) if self.by_total else told["exposure"]
            known = known & (each > 0)
            context = Context(context, each * (1 / self.exposure.typical))
        return context, known
