"""An estimator and rows beyond memory: learned in passes, predicted piece by piece."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import narwhals as nw
import numpy as np

from aevb.columns import Columns
from aevb.data.appended import appending
from aevb.data.arrays import as_rows, check_table, narrow
from aevb.data.files import check_rows_target, write_rows
from aevb.data.lazy import Lazy
from aevb.data.sources import opened
from aevb.data.stored import Stored
from aevb.data.tables import is_table
from aevb.learned import some_of
from aevb.schema import Schema

_MANY = 4096  # rows that say whether single precision is enough

_Method = TypeVar("_Method", bound=Callable[..., Any])


def learn_stored(vae: Any, stored: Stored) -> tuple[Schema, Lazy]:
    """Learn the schema of a source; return it with the rows as numbers, which are read later.

    An array is read once, a table twice: for its types and categories, and for its numbers. There
    is another pass where a likelihood was named, or its scaling is not that of the values.

    Parameters
    ----------
    vae : VAE
        Says the likelihood, and learns names and number of the columns.
    stored : Stored
        The source.
    """
    first = next(stored.pieces())
    if not is_table(first):
        _, some = Lazy(stored, lambda piece: piece).some(_MANY)
        as_rows(vae, some)
        shape = some.shape[1:]
        checked, rows = Lazy(stored, lambda piece: as_rows(vae, piece, shape)), Lazy(stored, narrow)
        if rows.dtype == np.uint8 and all(piece.max() <= 1 for _, piece in rows.pieces()):
            # Not nearly black images.
            checked, rows = (each.map(lambda piece: piece.astype(bool)) for each in (checked, rows))
        return Schema.fit(checked, vae.likelihood), rows
    check_table(vae, first, reset=True)
    library = "pandas" if importlib.util.find_spec("pandas") else "pyarrow"
    columns = Columns.learn_by_pieces(stored.pieces(), library, vae.likelihood, vae.unseen)
    rows = Lazy(stored, columns.read)
    return Schema.fit(rows, columns=columns), rows


def by_pieces(method: _Method) -> _Method:
    """Let a method of rows, whose results are stacked, take a path or a source as well.

    It is then called with some rows at a time. The number of a row does not depend on the others.
    """

    @functools.wraps(method)
    def streamed(self: Any, X: Any, *args: Any, **told: Any) -> Any:
        X = opened(X)
        if not isinstance(X, Stored):
            return method(self, X, *args, **told)
        results = [method(self, piece, *args, **some) for piece, some in told_pieces(X, told)]
        return joined(results)

    return cast(_Method, streamed)


def told_pieces(stored: Stored, told: dict[str, Any]) -> Any:
    """Yield pieces of a source, each with its share of what is told of all rows by name."""
    start = 0
    for piece in stored.pieces():
        rows = np.arange(start, start + len(piece))
        start += len(piece)
        yield piece, {name: some_of(each, rows, stored.n_rows) for name, each in told.items()}


def stream(
    method: Callable[..., Any],
    X: Any,
    path: Path,
    names: Sequence[str] | None,
    told: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Write what a method says of rows to a file, some of them at a time."""
    check_rows_target(path, overwrite=overwrite)
    X = opened(X)
    if not isinstance(X, Stored):
        write_rows(path, method(X, **told), names, overwrite=overwrite)
        return
    with appending(path, X.n_rows, names, overwrite=overwrite) as file:
        for piece, some in told_pieces(X, told):
            file.append(method(piece, **some))


def joined(parts: Sequence[Any]) -> Any:
    """Stack arrays or tables of rows."""
    if not is_table(parts[0]):
        return np.concatenate(parts)
    frames = [nw.from_native(part, eager_only=True) for part in parts]
    table = nw.to_native(nw.concat(frames))
    return table.reset_index(drop=True) if hasattr(table, "reset_index") else table
