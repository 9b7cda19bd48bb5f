"""What a fit has learned of its data, and data as training and predictions take them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from aevb.condition import Condition, read_condition
from aevb.config import Config
from aevb.data.arrays import check_weights
from aevb.data.placement import OneDevice, Placement
from aevb.data.source import InMemory, Source
from aevb.data.sparse import Sparse
from aevb.data.stored import Stored
from aevb.data.streamed import Streamed
from aevb.exposure import Exposure, exposure_of_new, read_exposure
from aevb.factors import linear_start
from aevb.models.exposed import Context, ExposedAutoEncoder, PerExposure, per_exposure
from aevb.models.kinds.rows import is_sparse, is_stored, n_cases, take
from aevb.models.linear import LinearStart
from aevb.models.priors import examples_for
from aevb.schema import Schema

_MANY = 65_536  # cases of a source that training starts from


class Data(NamedTuple):
    """Cases as rows or encoded, and what else the model is told of each, if anything."""

    x: PyTree
    c: PyTree

    def encoded(self, schema: Schema) -> Data:
        """Return rows as the model takes them."""
        x = self.x.map(schema.encode) if is_stored(self.x) else schema.encode(self.x)
        return self._replace(x=x)

    def some(self, most: int) -> Data:
        """Return up to so many cases, from all over."""
        return self.numbered(most)[1]

    def numbered(self, most: int) -> tuple[np.ndarray | slice, Data]:
        """Return up to so many cases, and which they are."""
        if is_stored(self.x):
            numbers, x = self.x.some(most)
            return numbers, Data(x, take(self.c, numbers))
        rows = slice(None, None, -(-n_cases(self) // most))
        return rows, take(self, rows)

    def split(
        self, share: float, random: np.random.RandomState, weight: np.ndarray | None
    ) -> tuple[Data, np.ndarray | None, Data]:
        """Hold a share of the cases out; return the others, their weights, and those held out.

        Raises
        ------
        ValueError
            If fewer than two are left.
        """
        if is_stored(self.x):  # each row by its own draw
            seed = random.randint(2**31 - 1)
            rest, held = (self.x.part(seed, share, held=held) for held in (False, True))
            _check_left(share, n_cases(self), held.shape[0])
            return self._replace(x=rest), weight, self._replace(x=held)
        n = n_cases(self)
        order = random.permutation(n)
        n_held = math.ceil(share * n)
        _check_left(share, n, n_held)
        rest, out = order[n_held:], order[:n_held]
        return take(self, rest), None if weight is None else weight[rest], take(self, out)

    def source(
        self,
        batch_size: int,
        weight: np.ndarray | None = None,
        placement: Placement = OneDevice(),  # noqa: B008
    ) -> Source:
        """Return where training takes them from."""
        where: dict[str, Any] = {"weight": weight, "placement": placement}
        if is_stored(self.x):
            return Streamed(self.x, self.c, batch_size=batch_size, **where)
        if is_sparse(self.x):
            return Sparse(self.x, self.c, batch_size=batch_size, **where)
        return InMemory(self.x, self.c, **where)


class Learned(NamedTuple):
    """What was learned of training data, their condition, and their exposure."""

    schema: Schema
    condition: Condition | None
    exposure: Exposure | None

    @classmethod
    def of(
        cls, schema: Schema, rows: Any, condition: Any = None, exposure: Any = None
    ) -> tuple[Learned, Data]:
        """Learn condition and exposure of rows whose schema is known; return them with the rows."""
        learned, covariates = cls(schema, None, None), None
        if condition is not None:
            known, covariates = Condition.learn(condition, rows.shape[0])
            learned = learned._replace(condition=known)
        if exposure is None:
            return learned, Data(rows, covariates)
        units, relative = Exposure.learn(exposure, schema, rows)
        data = Data(rows, Context(covariates, relative))
        return learned._replace(exposure=units).measured_on(data), data

    @property
    def condition_size(self) -> int:
        """How many numbers the networks read of a condition."""
        return 0 if self.condition is None else self.condition.size

    def context(self, rows: Any, condition: Any, exposure: Any) -> PyTree:
        """Return what the model is told of cases besides their values; None: nothing."""
        covariates = read_condition(self.condition, condition, rows.shape[0])
        relative = read_exposure(self.exposure, exposure, self.schema, rows)
        return covariates if relative is None else Context(covariates, relative)

    def context_of_new(self, condition: Any, exposure: Any, n: int) -> PyTree:
        """Return what the model is told of cases that it is to make."""
        covariates = read_condition(self.condition, condition, n)
        relative = exposure_of_new(self.exposure, exposure, n)
        return covariates if relative is None else Context(covariates, relative)

    def measured_on(self, data: Data) -> Learned:
        """Return the same with the scaling of some of the rows."""
        exposure = data.c.exposure if self.exposure else None
        return self._replace(schema=self.schema.measured_on(data.x, exposure))

    def start(self, data: Data, config: Config, weight: np.ndarray | None) -> LinearStart | None:
        """Return where training starts; None: at random."""
        block, working = self.schema.block, self.schema.working()
        if working is None or not config.starts_linear:
            return None
        if is_stored(data.x):
            some, data = data.numbered(_MANY)
            weight = None if weight is None else weight[some]
        cases, covariates, inputs = data.x, data.c, block.constants.inputs
        if self.exposure:
            covariates, exposure = data.c
            cases, inputs = (cases, exposure), PerExposure(inputs, self.schema.counts)
        return linear_start(
            block, working, cases, config.latent_dim, weight, covariates, inputs=inputs
        )

    def examples(self, data: Data, config: Config) -> PyTree:
        """Return the cases that the prior starts from, as the encoder takes them."""
        if is_stored(data.x):
            data = data.some(max(config.prior.n_examples, 1))
        chosen = examples_for(config.prior, data)
        if chosen is None:
            return None
        x, covariates = chosen
        if self.exposure:
            x, covariates = per_exposure(x, covariates.exposure, self.schema.counts), covariates[0]
        return x if covariates is None else (x, covariates)

    def exposed(self, model: PyTree) -> PyTree:
        """Return a model under an exposure, if there is one."""
        return ExposedAutoEncoder(model, self.schema.counts) if self.exposure else model


def weighted(
    X: Any, told: tuple[Any, ...], weight: ArrayLike | None
) -> tuple[Any, tuple[Any, ...], np.ndarray | None]:
    """Return the cases whose weight is not 0, what is told of them, and their weights.

    The weights are None if all are the same.
    """
    if weight is None:
        return X, told, None
    n = X.n_rows if isinstance(X, Stored) else _num_samples(X)
    weight = check_weights(weight, n)
    if isinstance(X, Stored):
        return X, told, weight
    some = np.flatnonzero(weight)
    if len(some) < n:
        X = X.tocsr() if is_sparse(X) else X
        X, weight = _safe_indexing(X, some), weight[some]
        told = tuple(some_of(each, some, n) for each in told)
    return X, told, weight


def _check_left(share: float, n: int, n_held: int) -> None:
    if n_held > n - 2:
        raise ValueError(
            "Expected a share that leaves two cases or more to train on for "
            f"`validation_fraction`; got {share} of {n} cases."
        )


def some_of(told: Any, rows: np.ndarray, n: int) -> Any:
    """Return what is told of some of n cases; if it is not told of n, all of it."""
    if isinstance(told, Mapping):
        return {name: some_of(cells, rows, n) for name, cells in told.items()}
    one = told is None or isinstance(told, str) or np.ndim(told) == 0
    return told if one or _num_samples(told) != n else _safe_indexing(told, rows)
