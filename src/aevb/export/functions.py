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
    examples : callable
        Of a number of rows; returns inputs that the model has made, to try the function on.
    """

    name: str
    call: Callable[..., Results]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    examples: Callable[[int], list[Array]]

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
    what : {"encode", "decode", "reconstruct", "elbo"}
        Which function.
    latent_dim : int
        Number of latent dimensions.
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
    decodes = what == "decode"
    context = _Context(learned, rows, by_total=not decodes)
    inputs = (latent[0] if decodes else rows.port("x"), *context.ports)

    def of_row(*arrays: Array) -> Results:
        told = {port.name: array for port, array in zip(inputs, arrays, strict=True)}
        case, known = (told["z"], ~_any_nan(told["z"])) if decodes else rows.case(told["x"])
        c, also_known = context(told)
        known = known & also_known
        results = {name: each.astype(jnp.float32) for name, each in compute(case, c).items()}
        return {name: jnp.where(known, each, jnp.nan) for name, each in results.items()}

    def call(*arrays: Array) -> Results:
        return jax.vmap(of_row)(*arrays)

    def examples(n: int) -> list[Array]:
        def one(z: Array) -> list[Array]:
            told = {"z": z, **context.typical()}
            told["x"] = decode(z, context(told)[0])["expected"]
            return [told[port.name].astype(port.dtype) for port in inputs]

        return jax.vmap(one)(model.prior().sample(jax.random.key(seed), (n,)))

    return Function(what, call, inputs, outputs, examples)


def _any_nan(z: Array) -> Bool[Array, ""]:
    return jnp.any(jnp.isnan(z))


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

    def typical(self) -> dict[str, Array]:
        """Return inputs that the model can take."""
        told = {} if self.asked is None else {"condition": self.asked.typical()}
        if self.exposure is not None:
            told["exposure"] = jnp.asarray(self.exposure.typical, jnp.float32)
        return told

    def __call__(self, told: dict[str, Array]) -> tuple[PyTree, Bool[Array, ""]]:
        """Return it as the model takes it, and whether all of it is known."""
        context: PyTree = None
        known = jnp.asarray(True)
        if self.condition is not None and self.asked is not None:
            case, known = self.asked.case(told["condition"])
            context = jnp.ravel(self.condition.schema.block.constants.inputs(case))
        if self.exposure is not None:
            totals = self.by_total and "x" in told
            each = self.rows.total(told["x"]) if totals else told["exposure"]
            known = known & (each > 0)
            context = Context(context, each * (1 / self.exposure.typical))
        return context, known
