"""What a server computes: methods of `VAE` in three parts, of which requests can share the second.

Each function checks the cases of a request, at once and in the estimator's own words, and returns
`Work`: rows as `aevb.predict` takes them, what to compute of them, and how the results are written.
The number of a row does not depend on the others, so rows of several requests are computed in one
call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from sklearn.utils import check_random_state

from aevb import predict
from aevb.evaluation.rows import map_rows
from aevb.fitting import random_key
from aevb.models.kinds.rows import n_cases, take
from aevb.vae import VAE

_LARGE, _SMALL = 2048, 64  # rows between two looks at the clock: of one pass, and of many draws


class Told(NamedTuple):
    """What a request says: cases, or latent points, and what else the model is told of them."""

    X: Any
    condition: Any = None
    exposure: Any = None


class Work(NamedTuple):
    """What is to be computed for a request.

    Attributes
    ----------
    key : Hashable
        Work of the same key, and of rows of the same form, may be computed together.
    rows : PyTree of np.ndarray
        The rows.
    compute : callable
        From rows to results, row by row.
    write : callable
        From the results to an array or a table.
    piece : int
        Number of rows to compute between two looks at the clock.
    """

    key: Hashable
    rows: PyTree[np.ndarray]
    compute: Callable[[PyTree], PyTree]
    write: Callable[[PyTree], Any]
    piece: int = _LARGE

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return n_cases(self.rows)

    @property
    def form(self) -> Hashable:
        """Key, structure, and the shape and type of each array of a row."""
        leaves, structure = jax.tree.flatten(self.rows)
        return self.key, structure, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)


def compute(works: list[Work], goes_on: Callable[[], bool]) -> list[Any]:
    """Compute work of the same form together; return the results of each.

    Parameters
    ----------
    works : list of Work
        All of the same form.
    goes_on : callable
        Asked before each piece whether anybody still waits; if not, nothing is returned.
    """
    first, ends = works[0], np.cumsum([work.n_rows for work in works])
    rows = jax.tree.map(lambda *leaves: np.concatenate(leaves), *(work.rows for work in works))
    parts = []
    for start in range(0, ends[-1], first.piece):
        if not goes_on():
            return []
        parts.append(first.compute(take(rows, slice(start, start + first.piece))))
    made = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    starts = [0, *ends[:-1]]
    return [take(made, slice(a, b)) for a, b in zip(starts, ends, strict=True)]


def encode(vae: VAE, told: Told) -> Work:
    """Return the mean of q(z|x) of each case."""
    data = vae._cases(*told)

    def compute(rows: PyTree) -> PyTree:
        return predict.latent_mean(vae.model_, rows[0], context=rows[1])

    return Work((id(vae), "encode"), tuple(data), compute, _as_it_is)


def decode(vae: VAE, told: Told) -> Work:
    """Return the expected case E[x|z] of each latent point."""
    Z = vae._points(told.X)
    context = vae._learned.context_of_new(told.condition, told.exposure, len(Z))

    def compute(rows: PyTree) -> PyTree:
        return predict.decode(vae.model_, rows[0], context=rows[1])

    return Work((id(vae), "decode"), (Z, context), compute, vae.schema_.decode)


def reconstruct(vae: VAE, told: Told) -> Work:
    """Return the nearest representation of each case, E[x|z] at the mean of q(z|x)."""
    data = vae._cases(*told)

    def compute(rows: PyTree) -> PyTree:
        return predict.reconstruct(vae.model_, rows[0], context=rows[1])

    return Work((id(vae), "reconstruct"), tuple(data), compute, vae.schema_.decode)


def elbo(vae: VAE, told: Told, seed: int = 0) -> Work:
    """Return the evidence lower bound of each case, nats, by 32 draws."""
    data, key = vae._cases(*told), _key(seed)

    def compute(rows: PyTree) -> PyTree:
        return predict.elbo(vae.model_, rows[0], key, context=rows[1])

    return Work((id(vae), "elbo", seed), tuple(data), compute, _as_it_is, _SMALL)


def impute(vae: VAE, told: Told, seed: int = 0) -> Work:
    """Return each case with its holes filled by what the other values let expect."""
    numbers = vae._rows(told.X, vae.schema_, holes=True)
    x, observed = vae.schema_.encode_some(numbers)
    context = vae._learned.context(numbers, told.condition, told.exposure)
    key = _key(seed)

    def compute(rows: PyTree) -> PyTree:
        x, observed, c = rows
        return predict.impute(vae.model_, x, key, observed=observed, context=c)

    def write(made: PyTree) -> Any:
        X = told.X
        if isinstance(X, np.ndarray) and X.dtype not in (np.float32, np.float64):
            X = X.astype(np.float64)
        return vae.schema_.fill(X, made)

    return Work((id(vae), "impute", seed), (x, observed, context), compute, write, _SMALL)


def sample(vae: VAE, told: Told, n: int, seed: int, mean: bool) -> Work:
    """Return n new cases; `told` has no cases of its own."""
    context = vae._learned.context_of_new(told.condition, told.exposure, n)
    # Case i is the same for any n above i. So n is rounded up, and few programs are compiled.
    size = 1 << (n - 1).bit_length()
    drawn = np.asarray(jax.random.key_data(jax.random.split(_key(seed), size)))[:n]

    def compute(rows: PyTree) -> PyTree:
        return map_rows(predict._new_case, vae.model_, rows, predict.ENCODE_BLOCK, mean)

    return Work((id(vae), "sample", mean), (drawn, context), compute, vae.schema_.decode)


def _key(seed: int) -> jax.Array:
    return random_key(check_random_state(seed))


def _as_it_is(made: PyTree) -> PyTree:
    return made


#: Methods that are given cases or latent points, by name.
METHODS: dict[str, Callable[..., Work]] = {
    "encode": encode,
    "decode": decode,
    "reconstruct": reconstruct,
    "elbo": elbo,
    "impute": impute,
}
#: Methods among them with draws.
SEEDED = frozenset({"elbo", "impute"})
