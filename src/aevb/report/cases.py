"""Cases to look at in a report: real, reconstructed and new ones, and what each latent does."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree
from scipy.special import ndtr
from sklearn.utils import _safe_indexing, check_random_state

from aevb import predict
from aevb.aggregate import with_density
from aevb.data.sparse import array_of, is_annotated
from aevb.diagnosis.report import column_name
from aevb.evaluation.rows import map_rows
from aevb.fitting import random_key
from aevb.latents import INACTIVE
from aevb.learned import some_of
from aevb.models.base import given
from aevb.models.kinds.rows import dense
from aevb.plotting import predictions
from aevb.plotting.quantiles import quantiles
from aevb.probability.averages import evidence
from aevb.report.collect import Facts, surprises, texts

_PICTURES, _ROWS = 18, 8  # that are shown
_STEPS = 9  # of a latent dimension, in pictures
_COLUMNS = 6  # that a latent dimension moves most
_MARGINS = 24  # columns whose distribution is shown
_SAMPLES = 1000
_VALUES = 2_000_000  # of new cases, at most
_BINS = 20
_MOST_LEVELS = 8
_KINDS = ("real", "reconstructed", "new", "odd", "odd_reconstructed", "odd_surprise")


class Moved(NamedTuple):
    """A column that a latent dimension moves, as the dimension goes from 2 σ below to 2 σ above.

    Attributes
    ----------
    column : str or int
        Its name.
    values : list of str
        What is expected of it at the quantiles of `Shown.levels`.
    effect : float
        From the second level to the last but one: the change of its mean in standard deviations, or
        of categories the share of the probability that moves.
    """

    column: Any
    values: list[str]
    effect: float


class Margin(NamedTuple):
    """One column among the given cases and among new ones.

    Attributes
    ----------
    column : str or int
        Its name.
    type : str
        "number", "date" (in days since 1970) or "category".
    bins : list of [float, float], or list of str
        Ends of its bins, or names of its categories.
    real, new : list of float
        The share of the cases in each; `real` is empty where no cases were given.
    """

    column: Any
    type: str
    bins: list
    real: list[float]
    new: list[float]


class Shown(NamedTuple):
    """What `shown` returns: pictures as arrays (n, *shape), rows as texts.

    Attributes
    ----------
    rows : list of int
        Which of the given cases are shown.
    real, reconstructed, new : ndarray or list of list of str, or None
        Those cases, what they are reconstructed as, and new ones.
    odd, odd_reconstructed, odd_surprise : ndarray or None
        Of pictures: the oddest cases, likewise, and the surprise of each pixel, nats.
    dimensions : list of int
        The latent dimensions that move.
    levels : list of float
        The quantiles of the prior that they move through.
    traversal : ndarray (n_dimensions, n_levels, *shape), or list of list of Moved
        What they do.
    margins : list of Margin
        Of rows: the columns one by one.
    limits : (float, float)
        Of pictures: black and white.
    remarks : list of str
        What is not shown, and why.
    origin : str
        Where z of new cases comes from.
    """

    rows: list[int]
    real: Any
    reconstructed: Any
    new: Any
    odd: Any
    odd_reconstructed: Any
    odd_surprise: Any
    dimensions: list[int]
    levels: list[float]
    traversal: Any
    margins: list[Margin]
    limits: tuple[float, float]
    remarks: list[str]
    origin: str


class _Given:
    """The given cases, of which some are looked at: as rows of numbers."""

    def __init__(self, vae: Any, X: Any, condition: Any, exposure: Any):
        self._vae = vae
        self._X = array_of(X) if is_annotated(X) else X
        self.rows = vae._rows(self._X, vae.schema_)
        self.n = self.rows.shape[0]
        self._told = {"condition": condition, "exposure": exposure}

    def condition(self, which: Any) -> Any:
        return some_of(self._told["condition"], np.asarray(which), self.n)

    def values(self, which: Any) -> np.ndarray:
        return _values(self.rows[which])

    def reconstructed(self, which: list[int]) -> np.ndarray:
        """Return what `VAE.reconstruct` does."""
        X, told = self._some(which)
        data, _ = self._vae._encoded(X, **told)
        made = predict.reconstruct(self._vae.model_, data.x, context=data.c)
        return _values(self._vae.schema_.values(made))

    def surprises(self, which: list[int]) -> np.ndarray:
        X, told = self._some(which)
        return surprises(self._vae, X, **told)

    def _some(self, which: list[int]) -> tuple[Any, dict[str, Any]]:
        rows = np.asarray(which)
        told = {name: some_of(each, rows, self.n) for name, each in self._told.items()}
        return _safe_indexing(self._X, which), told


def shown(
    vae: Any,
    known: Facts,
    X: Any = None,
    *,
    condition: Any = None,
    exposure: Any = None,
    random_state: Any = None,
) -> Shown:
    """Choose and make cases to look at, of an estimator whose facts are known.

    Parameters
    ----------
    vae : VAE
        A fitted estimator.
    known : Facts
        What `facts` has said of it.
    X, condition, exposure
        As in `facts`.
    random_state : int, RandomState or None
        Seed of new cases; None: that of the estimator.
    """
    shape = known.image_shape
    cases = None if X is None else _Given(vae, X, condition, exposure)
    n_shown = _ROWS if shape is None else _PICTURES
    found, rows = dict.fromkeys(_KINDS), []
    if cases is not None:
        rows = np.unique(np.linspace(0, cases.n - 1, n_shown).astype(int)).tolist()
        found["real"], found["reconstructed"] = cases.values(rows), cases.reconstructed(rows)
        if shape is not None:
            odd = known.oddest["row"]
            found["odd"], found["odd_reconstructed"] = cases.values(odd), cases.reconstructed(odd)
            found["odd_surprise"] = cases.surprises(odd)

    remarks: list[str] = []
    margins: list[Margin] = []
    dimensions: list[int] = []
    levels: list[float] = []
    traversal: Any = []
    if vae.condition_ is not None and cases is None:
        remarks.append(
            "No new cases, and nothing of what latents do: the model was fitted under a "
            "condition, and no case was given whose condition they could have."
        )
    else:
        under, first = None, None
        if cases is not None and vae.condition_ is not None:
            under, first = (
                cases.condition(np.resize(np.arange(cases.n), _SAMPLES)),
                cases.condition([0]),
            )
            remarks.append(
                "New cases have the conditions of given ones; latent dimensions move under the "
                "condition of the first."
            )
        new = _new(vae, under, random_state, shape is not None)
        found["new"] = new[:n_shown]
        real = None if cases is None else cases.rows
        margins = [] if shape is not None else _margins(vae, real, new)
        dimensions, levels, traversal = _traversal(vae, first, real, new, shape)
        if not dimensions:
            remarks.append(
                f"No latent dimension is active (below {INACTIVE:g} nats each): none of them does "
                "anything."
            )
    limits = (0.0, 1.0)
    looked_at = found["new"] if cases is None else found["real"]
    if shape is not None and looked_at is not None:
        limits = predictions.data_range(vae) or _range(looked_at)
    for kind, values in found.items():
        if values is None:
            continue
        digits = 6 if kind == "real" else 4
        found[kind] = (
            texts(vae.schema_, values, digits) if shape is None else values.reshape(-1, *shape)
        )
    return Shown(
        rows,
        **found,
        dimensions=dimensions,
        levels=levels,
        traversal=traversal,
        margins=margins,
        limits=limits,
        remarks=remarks,
        origin="the prior" if vae.aggregate_posterior_ is None else "the aggregate posterior",
    )


def _values(rows: Any) -> np.ndarray:
    rows = np.asarray(dense(rows), np.float64)
    return rows.reshape(len(rows), -1)


def _range(pictures: np.ndarray) -> tuple[float, float]:
    low, high = float(np.nanmin(pictures)), float(np.nanmax(pictures))
    return (low, high) if high > low else (low, low + 1.0)


def _new(vae: Any, condition: Any, random_state: Any, is_picture: bool) -> np.ndarray:
    """Return new cases as rows of numbers: draws, or of pictures their means.

    They come from the density of the codes, if the user has fitted one.
    """
    n = _PICTURES if is_picture else min(_SAMPLES, max(_ROWS, _VALUES // vae.n_features_in_))
    condition = None if condition is None else some_of(condition, np.arange(n), _SAMPLES)
    context = vae._learned.context_of_new(condition, None, n)
    seed = vae.config_.random_state if random_state is None else random_state
    key = random_key(check_random_state(seed))
    model, aggregate = vae.model_, vae.aggregate_posterior_
    if aggregate is not None:
        model = with_density(model, aggregate.density)
    made = predict.sample(model, n, key, context=context, mean=is_picture)
    return _values(vae.schema_.values(made))


def _traversal(
    vae: Any, condition: Any, real: Any, new: np.ndarray, shape: tuple[int, ...] | None
) -> tuple[list[int], list[float], Any]:
    """Return which latent dimensions move through which quantiles, and what that does."""
    levels = ndtr(np.arange(-2.0, 3.0)) if shape is None else (np.arange(_STEPS) + 0.5) / _STEPS
    try:
        dimensions = predictions.dimensions_to_draw(vae, None)
    except ValueError:  # all are inactive
        return [], levels.tolist(), []
    prior = vae.model_.prior()
    steps = np.asarray(quantiles(prior, levels))
    Z = np.tile(quantiles(prior, [0.5])[0], (len(dimensions), len(levels), 1)).astype(np.float32)
    for line, j in zip(Z, dimensions, strict=True):
        line[:, j] = steps[:, j]
    points = Z.reshape(-1, Z.shape[-1])
    context = vae._learned.context_of_new(condition, None, len(points))
    values = vae.schema_.values(predict.decode(vae.model_, points, context=context))
    values = values.reshape(len(points), -1)
    if shape is not None:
        return dimensions, levels.tolist(), values.reshape(*Z.shape[:2], *shape)
    written = texts(vae.schema_, values, 3)
    spread = _spread(new if real is None else _values(real))
    laws = map_rows(_averages, vae.model_, (points, context), 256)
    effects = _effects(vae, laws, Z.shape[:2], spread)
    moved = []
    for d, effect in enumerate(effects):
        order = np.argsort(-np.abs(effect), kind="stable")[:_COLUMNS]
        rows = written[d * len(levels) : (d + 1) * len(levels)]
        moved.append(
            [
                Moved(column_name(vae.schema_, j), [row[j] for row in rows], float(effect[j]))
                for j in order
                if effect[j]
            ]
        )
    return dimensions, levels.tolist(), moved


def _averages(model: Any, row: tuple[PyTree, PyTree]) -> PyTree:
    z, c = row
    return evidence(given(model, c).likelihood(z))


def _effects(vae: Any, laws: PyTree, shape: tuple[int, int], spread: np.ndarray) -> np.ndarray:
    """Return how far each dimension moves each column; see `Moved.effect`."""
    found = np.zeros((shape[0], math.prod(vae.feature_shape_)))
    for name, part in vae.schema_.parts.items():
        where = np.arange(found.shape[1]) if part.columns is None else np.asarray(part.columns)
        law = np.asarray(laws[name] if isinstance(laws, dict) else laws, np.float64)
        law = law.reshape(*shape, len(where), -1)
        change = law[:, -2] - law[:, 1]
        if law.shape[-1] > 1:
            found[:, where] = np.abs(change).sum(axis=-1) / 2
        else:
            found[:, where] = change[..., 0] / spread[where]
    return np.nan_to_num(found)


def _spread(rows: np.ndarray) -> np.ndarray:
    """Return the standard deviation of each column; infinite where it does not vary."""
    there = ~np.isnan(rows)
    n = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, rows, 0).sum(axis=0) / n
    spread = np.sqrt(np.where(there, (rows - mean) ** 2, 0).sum(axis=0) / n)
    return np.where(spread > 0, spread, np.inf)


def _margins(vae: Any, real: Any, new: np.ndarray) -> list[Margin]:
    """Return the distributions of the first columns, of given cases and of new ones."""
    schema, found = vae.schema_, []
    given_rows = None if real is None else real[:: math.ceil(real.shape[0] / 4 / _SAMPLES)]
    given_rows = None if given_rows is None else _values(given_rows)
    choices = None if schema.columns is None else schema.columns.choices
    for j in range(min(new.shape[1], _MARGINS)):
        if choices is not None and choices[j].likelihood is None:
            continue
        columns = [rows[:, j] for rows in (given_rows, new) if rows is not None]
        columns = [column[~np.isnan(column)] for column in columns]
        every = np.concatenate(columns)
        if not len(every):
            continue
        levels = np.unique(every)
        is_few = len(levels) <= _MOST_LEVELS and (levels == np.rint(levels)).all()
        n_levels = 0 if choices is None else choices[j].n_levels
        if is_few or n_levels:
            levels = _most_frequent(columns[0], levels)
            counts = [[float((column == level).mean()) for level in levels] for column in columns]
            rows = np.repeat(new[:1], len(levels), axis=0)
            rows[:, j] = levels
            bins: list = [row[j] for row in texts(schema, rows)]
            kind = "category"
        else:
            edges = _edges(columns[0] if len(columns[0]) else every)
            counts = [
                (np.histogram(column, edges)[0] / max(len(column), 1)).tolist()
                for column in columns
            ]
            origin = 0.0 if choices is None else choices[j].origin
            bins = (np.stack([edges[:-1], edges[1:]], axis=1) + origin).tolist()
            is_date = choices is not None and choices[j].type.kind == "date"
            kind = "date" if is_date else "number"
        seen = counts[0] if len(counts) > 1 else []
        found.append(Margin(column_name(schema, j), kind, bins, seen, counts[-1]))
    return found


def _edges(column: np.ndarray) -> np.ndarray:
    """Return the ends of bins, in the middle between whole numbers where all values are whole."""
    low, high = np.quantile(column, [0.001, 0.999])
    if (column == np.rint(column)).all():
        low, high = math.floor(low) - 0.5, math.ceil(high) + 0.5
        width = math.ceil((high - low) / _BINS)
        return np.arange(low, high + width, width)
    return np.linspace(low, high if high > low else low + 1, _BINS + 1)


def _most_frequent(column: np.ndarray, levels: np.ndarray) -> np.ndarray:
    counts = np.array([(column == level).sum() for level in levels])
    return np.sort(levels[np.argsort(-counts, kind="stable")[:_MOST_LEVELS]])
