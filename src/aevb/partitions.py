"""Predictions for data in many partitions, as Dask and Ray Data map them over a cluster."""

from __future__ import annotations

import copy
import functools
import inspect
import math
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.utils.validation import check_is_fitted

from aevb.data.tables import is_table, library_of
from aevb.errors import choose, integer, some
from aevb.vae import VAE

# Methods of VAE with one result for each case.
_METHODS = (
    *("transform", "reconstruct", "impute", "surprise"),
    *("elbo", "score_samples", "log_likelihood", "bits_per_dimension"),
)
_NOT_OPTIONS = {"self", "X", "condition", "exposure", "n_imputations"}

# A DataFrame of pandas or Polars, a Table of PyArrow, an array, or a dict of arrays.
Partition = Any


class Predictor:
    """A method of a fitted model as a function from one partition to another.

    Dask, Ray Data and others that hold data in partitions map it over them. It travels to their
    workers as the path of the model's file, which each process loads once for all of its threads.
    A case has the same numbers, bit for bit, in whichever partition it comes.

    A partition is a DataFrame of pandas or Polars, a table of PyArrow, an array, or a dict of
    arrays. The result is of the same type, with a row for each row, and of pandas with the same
    index. Its columns are ``vae0``, ``vae1``, ... of ``"transform"``, the name of the method of
    scores, and the data's own otherwise. A partition without rows gives the same columns.

    Parameters
    ----------
    model : path-like or VAE
        A file from `VAE.save`, under a path that all workers see; or a fitted model, which is
        pickled with every task.
    method : str, default="transform"
        ``"transform"``, ``"reconstruct"``, ``"impute"``, ``"surprise"``, ``"elbo"``,
        ``"score_samples"``, ``"log_likelihood"`` or ``"bits_per_dimension"``; see `VAE`.
    condition : str or sequence of str, optional
        Columns of the partitions that hold the condition, of a model that was fitted with one.
    exposure : str, optional
        The column that holds the exposure, of a model that was fitted with one.
    keep : str or sequence of str, default=()
        Columns that are put in front of the results as they are, such as an identifier. The model
        does not see them, unless they are among those that it was fitted to.
    **options
        Further arguments of the method, such as ``n_draws``. A ``random_state`` is an integer.

    Raises
    ------
    FileNotFoundError, ModelFileError
        When there is no such file, or it is not a model's.
    ValueError, TypeError
        For an unknown method or option, a model that is not fitted, or a condition or exposure that
        the model lacks, or that is missing.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from aevb import VAE, Predictor
    >>> table = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 3)), columns=list("abc"))
    >>> vae = VAE(2, hidden=(4,), epochs=1, random_state=0).fit(table)
    >>> predict = Predictor(vae)
    >>> predict(table[5:7]).columns.tolist(), predict(table[5:7]).index.tolist()
    (['vae0', 'vae1'], [5, 6])
    >>> Predictor(vae, "elbo", n_draws=4)(table[:0]).dtypes.to_dict()
    {'elbo': dtype('float32')}
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | VAE,
        method: str = "transform",
        *,
        condition: str | Sequence[str] | None = None,
        exposure: str | None = None,
        keep: str | Sequence[str] = (),
        **options: Any,
    ):
        choose(method, dict.fromkeys(_METHODS), "method")
        known = inspect.signature(getattr(VAE, method)).parameters.keys() - _NOT_OPTIONS
        for name in options:
            choose(name, dict.fromkeys(sorted(known)), "options")
        if options.get("random_state") is not None:  # a generator would go on between partitions
            integer(options["random_state"], "random_state", minimum=0)
        if not isinstance(model, str | os.PathLike | VAE):
            raise TypeError(
                "Expected the path of a model's file, or a fitted VAE, for `model`; got "
                f"{type(model).__name__}."
            )
        self.model = model if isinstance(model, VAE) else os.path.abspath(model)
        self.method, self.options = method, options
        self.condition, self.exposure, self.keep = _names(condition), exposure, _names(keep)
        self._check(self._vae())

    def __call__(self, partition: Partition) -> Partition:
        """Return what the method says of each case of a partition.

        Parameters
        ----------
        partition : DataFrame, Table, array, or dict of arrays
            Cases: of table-like ones with the columns of the fit, and those that are named here.

        Returns
        -------
        DataFrame, Table, array, or dict of arrays
            Results, in the order of the cases.
        """
        vae = self._vae()
        if not (isinstance(partition, Mapping) or is_table(partition)):
            return self._of_array(vae, partition)
        names = list(partition) if isinstance(partition, Mapping) else _columns(partition)
        self._check_names(names)
        own = getattr(vae, "feature_names_in_", ())
        aside = {*self.condition, self.exposure, *self.keep} - {*own}
        cases = _select(partition, [name for name in names if name not in aside])
        if is_table(partition):
            vae = written_as(vae, library_of(partition))
        made = self._made(vae, _gathered(vae, cases), partition)
        found = self._named(vae, made, _columns(cases))
        twice = [name for name in self.keep if name in found]
        if twice:
            raise ValueError(
                f"Expected columns for `keep` that {self.method!r} does not return itself; got "
                f"{some(twice)}."
            )
        results = {name: _column(partition, name) for name in self.keep} | found
        if isinstance(partition, Mapping):
            return {name: _numbers(column) for name, column in results.items()}
        return _table(results, partition)

    def _of_array(self, vae: VAE, partition: Any) -> np.ndarray:
        """Return the results for an array, as an array."""
        if self.condition or self.exposure or self.keep:
            raise TypeError(
                "Expected partitions with names, tables or dicts of arrays, for `condition`, "
                f"`exposure` and `keep`; got {type(partition).__name__}."
            )
        return np.asarray(self._made(vae, partition, partition))

    def _vae(self) -> VAE:
        if isinstance(self.model, VAE):
            return self.model
        path = os.path.realpath(self.model)
        state = os.stat(path) if os.path.exists(path) else None
        with _ONE_AT_A_TIME:
            return _loaded(path, state and (state.st_mtime_ns, state.st_size))

    def _check(self, vae: VAE) -> None:
        """Refuse what the model cannot be told, or has to be told."""
        check_is_fitted(vae)
        needs_exposure = vae.exposure_ is not None and not vae.exposure_.by_total
        for name, given, has, needs in (
            ("condition", self.condition, vae.condition_, vae.condition_),
            ("exposure", self.exposure, vae.exposure_, needs_exposure),
        ):
            if given and not has:
                raise ValueError(
                    f"Expected `{name}` left at None, as the model was fitted without one; got "
                    f"{given!r}."
                )
            if needs and not given:
                raise ValueError(
                    f"Expected the name of a column for `{name}`, as the model was fitted with "
                    "one; got None."
                )

    def _check_names(self, names: Sequence[Any]) -> None:
        """Refuse a partition without the columns that are named here."""
        wanted = [*self.condition, *([self.exposure] if self.exposure else []), *self.keep]
        lacking = [name for name in wanted if name not in names]
        if lacking:
            raise ValueError(
                f"Expected the columns {some(wanted)} in each partition; missing are "
                f"{some(lacking)}, among {some(names)}."
            )

    def _made(self, vae: VAE, cases: Any, partition: Partition) -> Any:
        """Return the results: an array, or a table where the model was fitted to one."""
        if not _n_rows(cases):
            return self._nothing(vae, cases)
        told: dict[str, Any] = {}
        if self.condition:
            told["condition"] = _condition(vae, _select(partition, list(self.condition)))
        if self.exposure:
            told["exposure"] = _numbers(_column(partition, self.exposure))
        made = getattr(vae, self.method)(cases, **told, **self.options)
        return np.asarray(made) if self.method == "transform" else made

    def _nothing(self, vae: VAE, cases: Any) -> Any:
        """Return the results for no cases."""
        schema = vae.schema_
        if self.method == "transform":
            is_double = getattr(cases, "dtype", None) == np.float64
            dtype = np.float64 if is_double else np.float32
            return np.empty((0, vae.config_.latent_dim), dtype)
        if self.method not in ("reconstruct", "impute", "surprise"):
            return np.empty(0, np.float64 if self.method == "bits_per_dimension" else np.float32)
        nothing = np.empty((0, *schema.shape), np.float32)
        if schema.columns is not None:
            if self.method == "impute":
                return cases
            write = schema.columns.numbers if self.method == "surprise" else schema.columns.write
            return write(nothing)
        is_single = self.method != "impute" or np.asarray(cases).dtype == np.float32
        return nothing if is_single else nothing.astype(np.float64)

    def _named(self, vae: VAE, made: Any, names: Sequence[Any]) -> dict[Any, Any]:
        """Return the results by the names of their columns."""
        if is_table(made):
            return {name: _column(made, name) for name in _columns(made)}
        if made.ndim == 1:
            return {self.method: made}
        if self.method == "transform":
            names = list(vae.get_feature_names_out())
        elif len(names) == 1:  # pictures, in a dict of arrays
            return {names[0]: made}
        flat = made.reshape(len(made), math.prod(made.shape[1:]))
        return dict(zip(names, flat.T, strict=True))


_ONE_AT_A_TIME = threading.Lock()


@functools.lru_cache(maxsize=4)
def _loaded(path: str, state: tuple[int, int] | None) -> VAE:
    """Load a model, once in a process as long as its file stays: by time of change, and size."""
    return VAE.load(path)


def _names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _columns(partition: Partition) -> list[Any]:
    """Return the names of the columns, as they are: of pandas they may be numbers."""
    if isinstance(partition, Mapping):
        return list(partition)
    return list(nw.from_native(partition, eager_only=True).columns)


def _column(partition: Partition, name: Any) -> Any:
    if isinstance(partition, Mapping):
        return partition[name]
    return nw.from_native(partition, eager_only=True).get_column(name).to_native()


def _select(partition: Partition, names: list[Any]) -> Partition:
    if isinstance(partition, Mapping):
        return {name: partition[name] for name in names}
    return partition.select(names) if hasattr(partition, "select") else partition[names]


def _numbers(column: Any) -> np.ndarray:
    return column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)


def _n_rows(cases: Any) -> int:
    return cases.shape[0] if hasattr(cases, "shape") else len(cases)


def _condition(vae: VAE, columns: Partition) -> Any:
    """Return the columns of a condition in the form that the model was fitted with."""
    condition = vae.condition_
    if condition.schema.columns is not None and not condition.is_labels:
        return columns
    arrays = [_numbers(_column(columns, name)) for name in _columns(columns)]
    return arrays[0] if condition.is_labels else np.column_stack(arrays)


def _gathered(vae: VAE, cases: Partition) -> Any:
    """Return named columns as the model was fitted to them: as one table, or as one array."""
    if is_table(cases) and hasattr(vae, "feature_names_in_"):
        return cases
    if vae.schema_.columns is not None:
        return nw.from_dict(dict(cases), backend=vae.schema_.columns.library).to_native()
    arrays = [_numbers(_column(cases, name)) for name in _columns(cases)]
    return arrays[0] if len(arrays) == 1 and arrays[0].ndim > 1 else np.column_stack(arrays)


def written_as(vae: VAE, library: str) -> VAE:
    """Return the model such that its tables are of a library."""
    columns = vae.schema_.columns
    if columns is None or columns.library == library:
        return vae
    vae = copy.copy(vae)
    vae.schema_ = replace(vae.schema_, columns=replace(columns, library=library))
    return vae


def _table(results: Mapping[Any, Any], partition: Partition) -> Partition:
    """Return columns as a table of the partition's library, with its index if it has one."""
    library = nw.from_native(partition, eager_only=True).implementation
    table: Any = nw.from_dict(results, backend=library).to_native()
    if hasattr(partition, "iloc"):
        table.index = partition.index
    return table
