"""What a page is told of a fitted model: programs, codes of some cases, what their columns are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import Array
from sklearn.utils.validation import check_is_fitted

from aevb import predict
from aevb.errors import integer
from aevb.evaluation.latent import location
from aevb.explorer.columns import LEVELS, columns_of, label_of, parts_of, text, with_cells
from aevb.explorer.context import context_of, examples, given_columns
from aevb.explorer.pictures import image_shape_of, pictures
from aevb.explorer.programs import NotInAPage, program
from aevb.learned import Data, Learned
from aevb.models.base import given
from aevb.models.kinds.case import Case
from aevb.models.kinds.rows import dense, some_of
from aevb.probability.averages import evidence, expected
from aevb.schema import Schema


def payload(
    vae: Any,
    X: Any = None,
    labels: Any = None,
    *,
    condition: Any = None,
    exposure: Any = None,
    image_shape: Sequence[int] | None = None,
    n_cases: int = 10_000,
) -> dict[str, Any]:
    """Return all that the explorer needs of a fitted model, as JSON can hold it.

    Parameters
    ----------
    vae : VAE
        The fitted estimator.
    X : array-like or table, optional
        Cases to show on the map. None: the map has none.
    labels : array-like of shape (n,), optional
        A label, a number or a date of each case, to colour it by.
    condition, exposure : optional
        Those of `X`, of a model that was fitted with some.
    image_shape : sequence of int, optional
        Height and width, and channels if there are any, where pictures were fitted as flat rows.
    n_cases : int, default=10_000
        Number of cases at most; of more, so many are shown, evenly spaced.

    Returns
    -------
    dict
        ``decode`` and ``encode`` (programs; ``encode`` is None where it cannot run in a page),
        ``latent``, ``parts``, ``given`` (what the model is told besides the latent point),
        ``picture`` or ``columns``, and ``cases``.

    Raises
    ------
    NotInAPage
        When the model needs something that a page does not have.
    ValueError, TypeError
        When cases, or what belongs to them, do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from aevb import VAE, explorer
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> vae = VAE(2, hidden=(4,), epochs=1, random_state=0).fit(X)
    >>> explorer.payload(vae, X)["cases"]["n"]
    50
    """
    check_is_fitted(vae)
    learned, model = vae._learned, vae.model_
    schema = learned.schema
    shape = image_shape_of(schema, image_shape)
    n_cases = integer(n_cases, "n_cases", minimum=1)
    rows, label = np.zeros((0, *schema.shape), np.float32), None
    codes = np.zeros((0, vae.config_.latent_dim), np.float32)
    conditions, exposures = np.zeros((0, 0)), np.zeros(0)
    if X is None:
        for name, told in {"labels": labels, "condition": condition, "exposure": exposure}.items():
            if told is not None:
                raise ValueError(f"Expected `X` with `{name}`; got None.")
    else:
        rows = vae._rows(X, schema)
        label = None if labels is None else label_of(labels, rows.shape[0])
        if label is not None:
            label["values"] = text(some_of(label["values"], n_cases))
        if learned.condition is not None:
            conditions = some_of(learned.condition.rows(condition, rows.shape[0]), n_cases)
        data = Data(rows, learned.context(rows, condition, exposure)).some(n_cases)
        rows, data = data.x, data.encoded(schema)
        if learned.exposure is not None:
            exposures = data.c.exposure * learned.exposure.typical
        if rows.shape[0]:
            codes = predict.latent_mean(model, data.x, context=data.c)
    latent = _latent(model.prior(), np.asarray(vae.explained_nats_), codes)
    content: dict[str, Any] = {
        "latent": latent,
        "decode": _decoder(model, learned),
        "encode": _encoder(model, learned),
        "parts": parts_of(schema),
        "holes": schema.holes,
        "given": given_columns(learned, conditions, exposures),
        "cases": {"n": rows.shape[0], "codes": text(codes), "label": label},
    }
    if shape:
        content["picture"] = pictures(schema, shape, dense(rows))
    else:
        content["columns"] = with_cells(columns_of(schema), rows)
    return content


def _decoder(model: Any, learned: Learned) -> dict[str, Any]:
    """Return the program of z, and of what is given besides it.

    Its outputs are the expected value of each part, then the probabilities of levels.
    """
    schema = learned.schema
    levelled = [name for name, part in schema.parts.items() if part.kind.name in LEVELS]

    def decode(z: Array, *told: Any) -> list[Array]:
        law = given(model, context_of(learned, *told)).likelihood(z)
        values, averages = _blocks(expected(law), schema), _blocks(evidence(law), schema)
        return [values[name] for name in schema.parts] + [averages[name] for name in levelled]

    point = jax.eval_shape(model.prior().sample, jax.random.key(0))
    return program(decode, point, *examples(learned))


def _blocks(value: Any, schema: Schema) -> dict[str, Array]:
    if isinstance(value, Case):
        return value.blocks
    return value if isinstance(value, dict) else dict.fromkeys(schema.parts, value)


def _encoder(model: Any, learned: Learned) -> dict[str, Any] | None:
    """Return the program of a case's code; None where it cannot run in a page."""

    def encode(x: Any, *told: Any) -> Any:
        return location(given(model, context_of(learned, *told)).posterior(x))

    try:
        return program(encode, learned.schema.block.example(), *examples(learned), n_bytes=2)
    except NotInAPage:
        return None


def _latent(prior: Any, nats: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
    """Describe the latents: in which order to show them, where to begin, how far they go."""
    draws = np.asarray(prior.sample(jax.random.key(0), (2000,)))
    low, middle, high = np.quantile(draws, [0.002, 0.5, 0.998], axis=0)
    if len(codes):
        low, high = np.minimum(low, codes.min(axis=0)), np.maximum(high, codes.max(axis=0))
        middle = np.median(codes, axis=0)
    known = bool(np.isfinite(nats).all())
    order = np.argsort(-nats, kind="stable") if known else np.arange(len(nats))
    return {
        "order": order.tolist(),
        "nats": nats.tolist() if known else None,
        "start": middle.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }
