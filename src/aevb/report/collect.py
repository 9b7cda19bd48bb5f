"""What is to be said of a fitted model, as plain data: the facts of a report, or of a card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import narwhals as nw
import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from aevb.columns import spelled
from aevb.data.sparse import array_of, is_annotated
from aevb.data.tables import is_table
from aevb.diagnosis import Diagnosis, Finding
from aevb.diagnosis.report import column_name, count
from aevb.latents import INACTIVE
from aevb.learned import some_of
from aevb.models.kinds.rows import dense, take
from aevb.persistence import versions
from aevb.schema import Schema

MOST_COLUMNS = 200  # that are listed
MOST_SURPRISES = 1000  # cases whose cells are looked at, evenly spaced, beside the oddest ones
N_ODD = 12  # cases, and cells
_CELLS = 3  # of an odd case
_DRAWS = 200  # for the surprise of cells
_ENDS = {
    "epochs": "after all epochs",
    "patience": "early, by patience",
    "tol": "early, by tol",
    "tol_params": "with parameters at rest, by tol_params",
    "time_limit": "by the time limit",
    "interrupted": "by an interruption",
    "callback": "by a callback",
}


class Number(NamedTuple):
    """One number about the fit, with all that it needs to be understood.

    Attributes
    ----------
    name : str
        What it is called: "ELBO".
    value, standard_error : float
        The mean over the cases, and its standard error; NaN where it is not known.
    unit : str
        "nats per case".
    of : str
        Of which cases: "training cases, averaged over epoch 20", "2000 given cases".
    meaning : str
        What it is: a bound or a likelihood, and on which side of the truth it lies.
    """

    name: str
    value: float
    standard_error: float
    unit: str
    of: str
    meaning: str


class Cell(NamedTuple):
    """A value that the others of its case do not let expect.

    Attributes
    ----------
    row : int
        Its case, by position.
    column : str or int
        Its column.
    value, expected : str
        What it is, and what the other values of the case let expect.
    nats : float
        Its surprise, -log p(x_j | the others).
    excess : float
        By how much that is above the median of its column, which can be compared among columns.
    """

    row: int
    column: Any
    value: str
    expected: str
    nats: float
    excess: float


class Facts(NamedTuple):
    """What `facts` returns: plain data, no pictures, and no more of the cases than the odd ones.

    Attributes
    ----------
    model, data, training : dict of str
        What was fitted, to what, and how: from a name to a few words.
    n_given : int or None
        Number of the given cases.
    columns : dict of list
        One entry per column, at most 200: ``column``, ``type``, ``levels`` (number of categories;
        0: none), ``likelihood``, ``why``, ``shift`` and ``scale`` (the networks see
        (x - shift) / scale; NaN where that says nothing in the data's own units), ``missing`` (how
        many of the given cases have no value; NaN: none were given). Empty for pictures.
    versions : dict of str
        Of Python and the libraries that compute.
    history : dict of list
        One entry per epoch, as ``vae.history_``.
    best_epoch : int
        The epoch whose model is kept.
    numbers : list of Number
        Bounds and likelihoods.
    latents : dict of list
        One entry per latent dimension, the one that carries most nats first: ``dimension``,
        ``nats``, ``active`` (None: not known); of given cases also ``mean``, ``sd`` (of the
        aggregate posterior), ``prior_mean``, ``prior_sd``, ``variance_of_mean``.
    diagnosis : Diagnosis or None
        Of the given cases, as `VAE.diagnose` has it.
    oddest : dict of list
        The given cases with the lowest bound: ``row``, ``label``, ``elbo``, ``reconstruction``,
        ``kl``, ``cells`` (a list of `Cell`: the oddest ones of the case).
    cells : list of Cell
        The oddest cells of the given cases. Empty for pictures.
    image_shape : tuple of int or None
        The shape of a case as a picture.
    remarks : list of str
        What was looked at, what the numbers are, and what was left out.
    """

    model: dict[str, str]
    data: dict[str, str]
    training: dict[str, str]
    n_given: int | None
    columns: dict[str, list]
    versions: dict[str, str]
    history: dict[str, list]
    best_epoch: int
    numbers: list[Number]
    latents: dict[str, list]
    diagnosis: Diagnosis | None
    oddest: dict[str, list]
    cells: list[Cell]
    image_shape: tuple[int, ...] | None
    remarks: list[str]

    @property
    def findings(self) -> list[Finding]:
        """What stands out in the diagnosis."""
        return [] if self.diagnosis is None else self.diagnosis.findings


def facts(
    vae: Any,
    X: Any = None,
    labels: Any = None,
    *,
    condition: Any = None,
    exposure: Any = None,
    train: Any = None,
    train_condition: Any = None,
    train_exposure: Any = None,
    image_shape: Sequence[int] | None = None,
    n_draws: int = 100,
    random_state: Any = None,
) -> Facts:
    """Collect what is to be said of a fitted model, and of some cases under it.

    Every number is that of the estimator's own methods: `VAE.diagnose` (of at most 4096 cases,
    evenly spaced), and `VAE.surprise` with 200 draws (of about 1000).

    Parameters
    ----------
    vae : VAE
        A fitted estimator.
    X : array-like, table or sparse array, optional
        Cases; held-out ones, if there are any. None: only what the estimator knows by itself.
    labels : array-like of shape (n,), optional
        What the cases are called.
    condition, exposure : optional
        Those of `X`, of a model that was fitted with some.
    train, train_condition, train_exposure : optional
        The cases that the model was fitted to, as in `VAE.diagnose`: for the gap to their bound,
        and the comparison with classical models.
    image_shape : sequence of int, optional
        Shape of pictures that were fitted as flat rows.
    n_draws : int, default=100
        Importance samples for log p(x).
    random_state : int, RandomState or None
        Seed of all draws; None: 0.

    Raises
    ------
    ValueError, TypeError
        For cases, labels or an image shape that do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from aevb import VAE
    >>> from aevb.report import facts
    >>> X = np.random.default_rng(0).normal(size=(80, 3))
    >>> vae = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X)
    >>> found = facts(vae, X)
    >>> found.data["cases in training"], found.numbers[-1].name
    ('80', 'log p(x)')
    """
    check_is_fitted(vae)
    shape = shape_of_pictures(vae, image_shape)
    diagnosis, oddest, n, missing = None, _NOTHING_ODD, None, None
    cells: list[Cell] = []
    remarks: list[str] = []
    if X is None:
        beside = {"labels": labels, "condition": condition, "exposure": exposure, "train": train}
        beside |= {"train_condition": train_condition, "train_exposure": train_exposure}
        for name, told in beside.items():
            if told is not None:
                raise ValueError(f"Expected `X` with `{name}`; got None.")
        remarks.append(
            "No cases were given: this is what the model file knows by itself. The numbers are "
            "those of the training."
        )
    else:
        X = array_of(X) if is_annotated(X) else X
        data, rows = vae._encoded(X, condition, exposure)
        n = rows.shape[0]
        names = names_of(labels, n)
        diagnosis = vae.diagnose(
            X,
            train=train,
            condition=condition,
            exposure=exposure,
            train_condition=train_condition,
            train_exposure=train_exposure,
            n_draws=n_draws,
            random_state=random_state,
        )
        odd = {name: each[:N_ODD] for name, each in diagnosis.rows.items()}
        by_row: dict[int, list[Cell]] = {}
        if shape is None:
            some = np.union1d(odd["row"], np.arange(0, n, math.ceil(n / MOST_SURPRISES)))
            told = (some_of(condition, some, n), some_of(exposure, some, n))
            nats = surprises(vae, _safe_indexing(X, some), *told, random_state)
            cells, by_row = _odd_cells(vae, rows, data.c, some, nats, odd["row"])
            remarks.append(
                f"The surprise of cells: {_DRAWS} draws of z for each of {count(len(some), 'case')}"
                f" of {n}, less the median of the column."
            )
        oddest = {
            **odd,
            "label": [None if names is None else names[row] for row in odd["row"]],
            "cells": [by_row.get(row, []) for row in odd["row"]],
        }
        if vae.schema_.holes:
            missing = np.isnan(rows).sum(axis=0).ravel()
        remarks += diagnosis.remarks
    return Facts(
        _model(vae),
        _data(vae, n),
        _training(vae),
        n,
        {} if shape is not None else _columns(vae.schema_, missing, n is not None),
        versions(),
        {name: list(values) for name, values in vae.history_.items()},
        vae.best_epoch_,
        _numbers(vae, diagnosis, "case" if shape is None else "image"),
        _latents(vae, diagnosis),
        diagnosis,
        oddest,
        cells,
        shape,
        remarks,
    )


_NOTHING_ODD: dict[str, list] = {
    name: [] for name in ("row", "elbo", "reconstruction", "kl", "label", "cells")
}


def shape_of_pictures(vae: Any, given: Sequence[int] | None = None) -> tuple[int, ...] | None:
    """Return the shape of a case as a picture; None if cases are rows.

    Raises
    ------
    ValueError, TypeError
        For a given shape that cases do not have.
    """
    shape = tuple(vae.feature_shape_)
    if given is not None:
        from aevb.plotting.cases import image_shape

        return image_shape(shape, given)
    is_gray = len(shape) == 2
    return shape if is_gray or (len(shape) == 3 and shape[2] in (1, 3)) else None


def names_of(labels: Any, n: int) -> list[str] | None:
    """Return labels as texts, after a check of their number."""
    if labels is None:
        return None
    if np.shape(labels) != (n,):
        raise ValueError(
            f"Expected a label for each of the {n} cases, of shape ({n},), for `labels`; got "
            f"shape {np.shape(labels)}."
        )
    return [_text(label) or "missing" for label in np.asarray(labels, object)]


def texts(schema: Schema, rows: np.ndarray, digits: int = 4) -> list[list[str]]:
    """Return rows of numbers as a reader would write them: categories and dates by their names.

    Numbers have so many digits, or as many as stand before the point.
    """
    rows = rows.reshape(len(rows), -1)
    if schema.columns is None:
        return [[_text(value, digits) for value in row] for row in rows.tolist()]
    empty = np.isnan(rows)
    table = nw.from_native(schema.columns.write(np.where(empty, 0, rows)), eager_only=True)
    columns = [
        [_text(value, digits) for value in table.get_column(name).to_list()]
        for name in table.columns
    ]
    return [
        ["" if gone else text for text, gone in zip(row, blank, strict=True)]
        for row, blank in zip(zip(*columns, strict=True), empty.tolist(), strict=True)
    ]


def _text(value: Any, digits: int = 6) -> str:
    if value is None or value != value:  # NaN, NaT
        return ""
    if isinstance(value, float):
        is_long = 10 ** (digits - 1) <= abs(value) < 1e15
        return (f"{value:.0f}" if is_long else f"{value:.{digits}g}").replace("-", "−")
    return str(value).removesuffix(" 00:00:00")


def surprises(
    vae: Any, X: Any, condition: Any, exposure: Any, random_state: Any = None
) -> np.ndarray:
    """Return the surprise of each cell, as `VAE.surprise` has it, as an array of rows."""
    nats = vae.surprise(
        X, _DRAWS, condition=condition, exposure=exposure, random_state=random_state
    )
    nats = nw.from_native(nats, eager_only=True).to_numpy() if is_table(nats) else nats
    return np.asarray(nats, np.float64).reshape(len(nats), -1)


def _odd_cells(
    vae: Any, rows: Any, context: Any, some: np.ndarray, nats: np.ndarray, odd: list[int]
) -> tuple[list[Cell], dict[int, list[Cell]]]:
    """Return the oddest cells of some rows, and those of the oddest rows."""
    has_value = ~np.isnan(nats)
    middle = [
        np.median(each[there]) if there.any() else 0.0
        for each, there in zip(nats.T, has_value.T, strict=True)
    ]
    excess = np.where(has_value, nats - middle, -np.inf)
    order = np.argsort(-excess, axis=None, kind="stable")[:N_ODD]
    places = [tuple(map(int, np.unravel_index(k, excess.shape))) for k in order]
    at = {int(row): i for i, row in enumerate(some)}
    own = [
        (at[row], int(j))
        for row in odd
        for j in np.argsort(-excess[at[row]], kind="stable")[:_CELLS]
    ]
    wanted = [(i, j) for i, j in dict.fromkeys([*places, *own]) if excess[i, j] > 0]
    if not wanted:
        return [], {}
    which = some[[i for i, _ in wanted]]
    columns = [j for _, j in wanted]
    known = np.asarray(dense(rows[which]), np.float32).reshape(len(which), *vae.feature_shape_)
    left = known.reshape(len(which), -1).copy()
    left[np.arange(len(which)), columns] = np.nan
    told = jax.tree.map(np.asarray, dense(take(context, which)))
    made = vae._filled(left.reshape(known.shape), told, 1000, None, 0)
    expected = texts(vae.schema_, vae.schema_.values(made))
    values = texts(vae.schema_, known, 6)
    cells = {
        (i, j): Cell(
            int(some[i]),
            column_name(vae.schema_, j),
            values[k][j],
            expected[k][j],
            float(nats[i, j]),
            float(excess[i, j]),
        )
        for k, (i, j) in enumerate(wanted)
    }
    by_row: dict[int, list[Cell]] = {}
    for place in own:
        if place in cells:
            by_row.setdefault(cells[place].row, []).append(cells[place])
    return [cells[place] for place in places if place in cells], by_row


def _model(vae: Any) -> dict[str, str]:
    config, model = vae.config_, vae.model_
    bodies = {"encoder": config.encoder, "decoder": config.decoder}
    own = [f"{type(body).__name__} as {name}" for name, body in bodies.items() if body is not None]
    layers = "-".join(map(str, config.hidden)) or "no hidden layer"
    activation = getattr(config.activation, "__name__", config.activation)
    arrays = [leaf for leaf in jax.tree.leaves(model) if isinstance(leaf, jax.Array | np.ndarray)]
    size = sum(leaf.size for leaf in arrays if np.issubdtype(leaf.dtype, np.floating))
    said = {
        "latent dimensions": str(config.latent_dim),
        "likelihood p(x|z)": vae.schema_.likelihood_in_short
        if vae.schema_.columns
        else _spelled(vae.schema_.likelihood),
        "prior p(z)": _spelled(config.prior),
        "posterior q(z|x)": _spelled(config.posterior),
        "networks": ", ".join(own)
        or f"{_spelled(config.architecture)}, {layers} hidden units, {activation}",
        "numbers in the model": f"{size:,}",
        "training began at": "the linear model (factor analysis)"
        if config.init == "linear"
        else "random weights",
    }
    if vae.condition_ is not None:
        condition = vae.condition_
        what = "labels" if condition.is_labels else ", ".join(condition.schema.names or ())
        said["condition"] = what or count(condition.size, "number")
    if vae.exposure_ is not None:
        by_total = vae.exposure_.by_total
        what = "the total of the counts" if by_total else "given for each case"
        said["exposure"] = f"{what}; typically {vae.exposure_.typical:.4g}"
    return said


def _spelled(part: Any) -> str:
    return spelled(part) if hasattr(part, "name") else repr(part)


def _data(vae: Any, n_given: int | None) -> dict[str, str]:
    schema = vae.schema_
    said = {"cases in training": f"{schema.n_rows:,}"}
    if n_given is not None:
        said["cases given"] = f"{n_given:,}"
    said["values of a case"] = " × ".join(map(str, schema.shape))
    if schema.columns is not None:
        said["table of"] = schema.columns.library
    said["missing values"] = "some" if schema.holes else "none"
    if schema.why:
        said["likelihood chosen, because"] = schema.why
    if schema.remarks:
        said["remarks"] = "; ".join(schema.remarks)
    return said


def _training(vae: Any) -> dict[str, str]:
    history = vae.history_
    seconds = sum(history.get("seconds", []))
    why = history["stopped"][-1] if history.get("stopped") else ""
    said = {
        "epochs": str(vae.n_epochs_),
        "model kept": f"of epoch {vae.best_epoch_}",
        "time": f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min",
        "ended": _ENDS.get(why, why) or "after a pass (partial_fit)",
    }
    rates = history.get("datapoints_per_second", [])
    if rates:
        said["speed"] = f"{np.median(rates):,.0f} cases per second"
    estimator = vae.model_.estimator if vae.estimator == "auto" else vae.estimator
    said["estimator of the bound"] = getattr(estimator, "__name__", str(estimator))
    said["optimizer"] = vae.optimizer if isinstance(vae.optimizer, str) else "an object of Optax"
    said["batch"] = count(int(vae.batch_size), "case")
    for name, usual in (("kl_weight", 1.0), ("free_bits", 0.0), ("weight_prior", None)):
        value = getattr(vae, name)
        if value != usual:
            said[name] = "a schedule" if callable(value) else str(value)
    return said


def _columns(schema: Schema, missing: np.ndarray | None, is_given: bool) -> dict[str, list]:
    size = math.prod(schema.shape)
    shift, scale = np.full(size, np.nan), np.full(size, np.nan)
    likelihood = [""] * size
    for part in schema.parts.values():
        where = np.arange(size) if part.columns is None else np.asarray(part.columns)
        for j in where:
            likelihood[j] = spelled(part.kind.likelihood)
        if part.kind.name == "real":
            shift[where] = np.broadcast_to(part.measured.shift, len(where))
            scale[where] = np.broadcast_to(part.measured.scale, len(where))
    types, levels, why = ["number"] * size, [0] * size, [schema.why] * size
    if schema.columns is not None:
        choices = schema.columns.choices
        types, why = [each.type.kind for each in choices], [each.why for each in choices]
        levels = [each.n_levels for each in choices]
        for j, each in enumerate(choices):
            likelihood[j] = likelihood[j] or "(left out)"
            shift[j] += each.origin
            if each.type.kind == "date":
                scale[j] = shift[j] = math.nan
    absent = np.full(size, 0.0 if is_given else math.nan) if missing is None else missing
    some = slice(MOST_COLUMNS)
    return {
        "column": [column_name(schema, j) for j in range(size)[some]],
        "type": types[some],
        "levels": levels[some],
        "likelihood": likelihood[some],
        "why": why[some],
        "shift": shift[some].tolist(),
        "scale": scale[some].tolist(),
        "missing": absent[some].tolist(),
    }


def _numbers(vae: Any, diagnosis: Diagnosis | None, case: str) -> list[Number]:
    history, kept = vae.history_, vae.best_epoch_ - 1
    found = []

    def add(name: str, value: float, error: float, of: str, meaning: str) -> None:
        if math.isfinite(value):
            found.append(Number(name, float(value), float(error), f"nats per {case}", of, meaning))

    for prefix, whose in (
        ("", f"training cases, averaged over epoch {kept + 1}"),
        ("validation_", f"cases held out in training, after epoch {kept + 1}"),
    ):
        for key, (name, meaning) in _OF_HISTORY.items():
            values = history.get(prefix + key, [])
            if len(values) > kept:
                add(name, values[kept], math.nan, whose, meaning)
    if diagnosis is not None:
        n, errors = diagnosis.n_rows, diagnosis.standard_errors
        whose = f"{n:,} given case{'' if n == 1 else 's'}"
        for key, (name, meaning) in _OF_GIVEN.items():
            add(name, getattr(diagnosis, key), errors[key], whose, meaning)
    return found


_ELBO = "evidence lower bound, at most log p(x) on average"
_OF_HISTORY = {
    "elbo": ("ELBO", _ELBO),
    "iw_bound": ("importance-weighted bound", "between the ELBO and log p(x) on average"),
}
_OF_GIVEN = {
    "elbo": ("ELBO", f"{_ELBO}: reconstruction minus KL"),
    "reconstruction": ("reconstruction", "E_q[log p(x|z)]"),
    "kl": ("KL", "KL(q(z|x)‖p(z)), what the latents carry"),
    "log_likelihood": (
        "log p(x)",
        "log-likelihood by importance sampling: between the ELBO and log p(x) on average",
    ),
}


def _latents(vae: Any, diagnosis: Diagnosis | None) -> dict[str, list]:
    if diagnosis is not None:
        latents, spread = diagnosis.latents, diagnosis.aggregate
        named = ("mean", "sd", "prior_mean", "prior_sd")
        return {
            "dimension": latents["dimension"],
            "nats": latents["nats"],
            "active": [None if each is None else not each for each in latents["inactive"]],
            "variance_of_mean": latents["variance_of_mean"],
            **{name: spread[name] for name in named},
        }
    nats = np.asarray(vae.explained_nats_, np.float64)
    order = np.argsort(-np.nan_to_num(nats, nan=-1.0), kind="stable")
    return {
        "dimension": order.tolist(),
        "nats": nats[order].tolist(),
        "active": [None if math.isnan(each) else bool(each >= INACTIVE) for each in nats[order]],
    }
