"""Saving and loading fitted models: one safetensors file with a JSON header. No pickle, no code.

The tensors are the model's arrays, named by their place in it (``encoder.body.layers.0.weight``);
the header holds the estimator's parameters, the schema of the data, and library versions. Networks
that a user wrote are not saved, only their arrays: they are passed again, and checked leaf by leaf.
"""

from __future__ import annotations

import json
import math
import os
import platform
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import PyTree
from sklearn.utils import check_random_state

from aevb import probability
from aevb.aggregate import AggregatePosterior
from aevb.condition import Condition
from aevb.config import Config
from aevb.errors import ModelFileError
from aevb.exposure import Exposure
from aevb.models.architectures import ARCHITECTURES, Dense
from aevb.models.autoencoder import build_autoencoder
from aevb.models.exposed import ExposedAutoEncoder
from aevb.models.kinds import LIKELIHOODS, Likelihood, Measured
from aevb.models.linear import no_start
from aevb.models.posteriors import POSTERIOR_CLASSES
from aevb.models.priors import PRIORS, Fixed, Prior, make_prior
from aevb.schema import Schema
from aevb.storage import Form, Json, fill, named_leaves

FORM = Form("model file", key="aevb", version=5, unsigned=frozenset({4}))
_PARTS_AGAIN = "Pass the same encoder, decoder and activation as were saved."
_EXPLAINED = "explained_nats_"
_TYPES: dict[str, tuple[type, ...]] = {  # of what the header holds
    **dict.fromkeys(("parameters", "config", "left_out", "schema", "history"), (dict,)),
    **dict.fromkeys(("condition", "exposure"), (dict, type(None))),
    "feature_names": (list, type(None)),
    "best_epoch": (int,),
}
_MEASURED = "schema."  # before the names of what was measured on the data
_CONDITION = "condition."  # and on their condition
_AGGREGATE = "aggregate."  # before the arrays of a density of codes
_BY_COLUMN = "by column"  # marks what is said of each column
_OURS = "aevb."  # before the name of a distribution that is not NumPyro's
# Families that are saved with their options: what marks them in JSON, and the classes by name.

_CONFIGS: dict[str, dict[str, Any]] = {
    "architecture": ARCHITECTURES,
    "likelihood": LIKELIHOODS,
    "posterior": POSTERIOR_CLASSES,
    "prior": PRIORS,
}


_DECODED = {*_CONFIGS, "hidden"}  # of the config: what is not a plain value in JSON


def save(vae: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator to one file, in one step: all of it or nothing.

    Parameters
    ----------
    vae : VAE
        The fitted estimator.
    path : str or path-like
        Where to; an existing file is replaced.
    """
    given = vae.get_params(deep=False)
    for name in ("checkpoint", "devices"):  # places on this machine, and of this training
        del given[name]
    parameters, no_parameters = described(given)
    parts = vae.schema_.parts
    likelihoods = [part.kind.likelihood for part in parts.values()]
    built = {"likelihood": likelihoods, **vars(vae.config_)}
    config, no_config = described(built)
    header = {
        "estimator": type(vae).__name__,
        "parameters": parameters,
        "config": config,
        "left_out": {"parameters": no_parameters, "config": no_config},
        "schema": vae.schema_.to_json(),
        "condition": None if vae.condition_ is None else vae.condition_.to_json(),
        "exposure": None if vae.exposure_ is None else asdict(vae.exposure_),
        "feature_names": getattr(vae, "feature_names_in_", None),
        "history": vae.history_,
        "best_epoch": vae.best_epoch_,
        "versions": versions(),
    }
    tensors = _arrays(vae.model_)
    if vae.aggregate_posterior_ is not None:
        family, density = vae.aggregate_posterior_
        header["aggregate"] = _encode(family)
        tensors |= _arrays(density, _AGGREGATE)
    tensors[_EXPLAINED] = np.asarray(vae.explained_nats_)
    tensors |= _measured(vae.schema_, _MEASURED)
    if vae.condition_ is not None:
        tensors |= _measured(vae.condition_.schema, _CONDITION)
    FORM.write(Path(path), header, tensors, _encode)


def _arrays(tree: PyTree, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the arrays of a PyTree by the names of their places."""
    return {
        prefix + name: np.asarray(leaf, order="C")
        for name, leaf in named_leaves(tree)
        if eqx.is_array(leaf)
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a model's numbers depend on."""
    libraries = ("aevb", "jax", "jaxlib", "equinox", "numpyro", "optax", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}


def load(estimator: type, path: str | os.PathLike[str], parameters: Json) -> Any:
    """Read an estimator from a file written by `save`.

    Parameters
    ----------
    estimator : type
        The class, `VAE`.
    path : str or path-like
        The file.
    parameters : dict
        Parameters to use in place of those in the file.

    Returns
    -------
    VAE
        The fitted estimator.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ModelFileError
        When the file is foreign, damaged or newer, or its arrays do not fit the model.
    """
    header, tensors = FORM.read(Path(path))
    left_out = _check_header(header, path)
    needed = {
        name: was
        for name, was in left_out["config"].items()
        if name not in parameters and name != "random_state"
    }
    if needed:
        again = ", ".join(f"{name}=..." for name in needed)
        raise ModelFileError(
            f"Expected the model's own {' and '.join(needed)} again, which no file holds: "
            f"VAE.load(path, {again}); saved with "
            + "; ".join(f"{name} {was}" for name, was in needed.items())
        )
    missing = [name for name in left_out["parameters"] if name not in parameters]
    if missing:
        warnings.warn(
            f"The file does not hold {', '.join(missing)} ({left_out['parameters']}); the defaults "
            "stand in for them. Predictions do not depend on them.",
            stacklevel=3,
        )
    try:
        saved = {name: _decode(value) for name, value in header["parameters"].items()}
        vae = estimator(**{**saved, **parameters})
        vae.explained_nats_ = tensors.pop(_EXPLAINED)
        aggregate = _aggregate(header, tensors)
        template = _learned(vae, header, tensors, parameters)
    except ModelFileError:
        raise
    except Exception as error:  # whatever a hostile header leads to
        raise ModelFileError(
            f"Expected a model file of aevb for `path`; the header of {path} does not describe a "
            f"model, or not with these parameters ({type(error).__name__}: {error})."
        ) from error
    vae.model_ = fill(template, tensors, _PARTS_AGAIN)
    vae.aggregate_posterior_ = aggregate
    return vae


def _check_header(header: Json, path: str | os.PathLike[str]) -> Json:
    """Raise ModelFileError unless everything is there, of its type; return what was left out."""
    lacking = _TYPES.keys() - header.keys()
    if lacking:
        raise ModelFileError(
            f"Expected a model file of aevb for `path`; the header of {path} lacks "
            f"{', '.join(sorted(lacking))}."
        )
    wrong = [name for name, types in _TYPES.items() if not isinstance(header[name], types)]
    left_out = header["left_out"]
    parts = () if "left_out" in wrong else (left_out.get("parameters"), left_out.get("config"))
    if not all(isinstance(part, dict) and _is_text(part.values()) for part in parts):
        wrong.append("left_out")
    epochs = () if "history" in wrong else header["history"].values()
    if not all(isinstance(each, list) for each in epochs) or len({*map(len, epochs)}) > 1:
        wrong.append("history")
    if wrong:
        raise ModelFileError(
            f"Expected a model file of aevb for `path`; the header of {path} has something else "
            f"than a model's {', '.join(wrong)}."
        )
    return left_out


def _is_text(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def described(values: Json) -> tuple[Json, dict[str, str]]:
    """Return what JSON can hold, and how the rest looked."""
    known, left_out = {}, {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            value = {_BY_COLUMN: dict(value)}
        try:
            known[name] = json.loads(json.dumps(value, default=_encode, allow_nan=False))
        except (TypeError, ValueError):
            left_out[name] = repr(value)[:200]
    return known, left_out


def _learned(vae: Any, header: Json, tensors: dict[str, np.ndarray], given: Json) -> PyTree:
    """Give an estimator what was learned, but for the model, whose template is returned."""
    _check_sizes(header["config"], sum(array.size for array in tensors.values()))
    config = {
        name: _decode(value) if name in _DECODED else value
        for name, value in header["config"].items()
    }
    own = {name: given[name] for name in header["left_out"]["config"] if name in given}
    config = {"architecture": Dense(), "random_state": None, "init": "random", **config, **own}
    likelihoods = _of_parts(config.pop("likelihood"), header["schema"])
    schema = _schema(header["schema"], likelihoods, tensors, _MEASURED)
    vae.condition_, described = None, header["condition"]
    if described is not None:
        known = [_decode(each) for each in described["likelihoods"]]
        columns = _schema(described["schema"], known, tensors, _CONDITION)
        if not isinstance(described["is_labels"], bool):
            raise TypeError("Expected a truth value for `is_labels`.")
        vae.condition_ = Condition(columns, described["is_labels"])
    vae.exposure_ = None if header["exposure"] is None else Exposure(**header["exposure"])
    config["prior"] = make_prior(config["prior"])
    check_random_state(config["random_state"])
    if not (isinstance(config["activation"], str) or "activation" in own):
        raise TypeError(f"Expected the name of an activation; got {config['activation']!s:.80}.")
    vae.schema_, vae.config_ = schema, Config(**config)
    vae.n_features_in_ = math.prod(schema.shape)
    names = header["feature_names"]
    if names is not None:
        if not _is_text(names) or len(names) != vae.n_features_in_:
            raise ValueError(f"Expected a name for each of {vae.n_features_in_} columns.")
        if schema.names is not None and tuple(names) != schema.names:
            raise ValueError(f"Expected the names of the schema, {schema.names!s:.80}.")
        vae.feature_names_in_ = np.array(names, dtype=object)
    vae.history_ = header["history"]
    vae.n_epochs_, vae.best_epoch_ = len(vae.history_["epoch"]), header["best_epoch"]
    n_examples = vae.config_.prior.n_examples
    condition_size = 0 if vae.condition_ is None else vae.condition_.size
    start = None
    if vae.config_.init == "linear":
        start = no_start(schema.block, vae.config_.latent_dim, condition_size)
    example: PyTree = schema.block.example()
    if condition_size:
        example = example, jax.ShapeDtypeStruct((condition_size,), np.float32)
    examples = jax.tree.map(
        lambda one: jax.ShapeDtypeStruct((n_examples, *one.shape), one.dtype), example
    )
    template = eqx.filter_eval_shape(
        build_autoencoder,
        schema.block,
        examples=examples if n_examples else None,
        start=start,
        condition_size=condition_size,
        key=jax.random.key(0),
        **vae.config_.parts(),
    )
    return template if vae.exposure_ is None else ExposedAutoEncoder(template, schema.counts)


def _aggregate(header: Json, tensors: dict[str, np.ndarray]) -> AggregatePosterior | None:
    """Return the density of codes, whose arrays are taken out of the file; None: there is none."""
    described = header.get("aggregate")
    if described is None:
        return None
    _check_sizes({"prior": described}, sum(array.size for array in tensors.values()))
    family = _decode(described)
    if not isinstance(family, Prior):
        raise TypeError(f"Expected a family of densities; got {described!s:.80}.")
    d = header["config"]["latent_dim"]
    template = eqx.filter_eval_shape(family.build, d, key=jax.random.key(0))
    own = [name for name in tensors if name.startswith(_AGGREGATE)]
    arrays = {name.removeprefix(_AGGREGATE): tensors.pop(name) for name in own}
    return AggregatePosterior(family, fill(template, arrays, "Fit the density again."))


def _measured(schema: Schema, prefix: str) -> dict[str, np.ndarray]:
    """Return what was measured on the data, an array for each field of each part."""
    return {
        f"{prefix}{part}.{name}": np.asarray(value)
        for part, own in schema.parts.items()
        for name, value in own.measured._asdict().items()
    }


def _schema(
    described: Json, likelihoods: list[Likelihood], tensors: dict[str, np.ndarray], prefix: str
) -> Schema:
    """Undo what `Schema.to_json` and `_measured` have made, and take the arrays out of the file."""
    measured = []
    for part in described["parts"]:
        names = [f"{prefix}{part['name']}.{name}" for name in Measured._fields]
        numbers = Measured(*map(tensors.pop, names))
        above_zero = np.concatenate([np.ravel(numbers.scale), np.ravel(numbers.resolution)])
        if not (np.isfinite(numbers.shift).all() and (above_zero > 0).all()):
            raise ValueError(
                f"Expected finite, positive numbers for the scaling of part {part['name']!r:.80}."
            )
        n_rows = np.asarray(numbers.n_rows)
        measured.append(numbers._replace(n_rows=n_rows if n_rows.ndim else int(n_rows)))
    if not all(isinstance(each, Likelihood) for each in likelihoods):
        raise TypeError(f"Expected a likelihood for each part; got {likelihoods!s:.80}.")
    return Schema.from_json(described, likelihoods, measured)


def _of_parts(likelihood: Any, schema: Json) -> list[Likelihood]:
    """Return the likelihood of each part: as saved, or as a user gives it again."""
    if isinstance(likelihood, tuple):
        return list(likelihood)
    parts = schema["parts"]
    if isinstance(likelihood, Likelihood):
        return [likelihood] * len(parts)
    names = schema["names"]
    first = [names[part["columns"][0] if part["columns"] else 0] for part in parts]
    return [likelihood[name] for name in first]


def _check_sizes(config: Json, n: int) -> None:
    """Raise ModelFileError for a size that the n numbers of a file do not bear out."""

    def check(value: Any) -> None:
        if isinstance(value, dict) and "distribution" not in value:
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                check(each)
        size = len(value) if isinstance(value, list) else value
        if isinstance(size, int) and size > n:
            raise ModelFileError(
                "Expected a model file of aevb for `path`; its header speaks of sizes that its "
                f"{n} numbers do not bear out."
            )

    for name in ("latent_dim", "architecture", "hidden", "prior", "posterior"):
        check(config.get(name))  # None: the user gives it again


def _encode(value: Any) -> Any:
    if isinstance(value, Fixed):
        return _encode(value.distribution)
    for kind, classes in _CONFIGS.items():
        if type(value) in classes.values():
            return {kind: value.name, **asdict(value)}
    if isinstance(value, dist.Distribution):
        return _encode_distribution(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"no JSON for {type(value).__name__}")


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_decode, value))
    if not isinstance(value, dict):
        return value
    if _BY_COLUMN in value:
        return {name: _decode(each) for name, each in value[_BY_COLUMN].items()}
    if "distribution" in value:
        return _decode_distribution(**value)
    kind = next(kind for kind in value if kind in _CONFIGS)
    options = {name: _decode(option) for name, option in value.items() if name != kind}
    return _CONFIGS[kind][value[kind]](**options)


def _encode_distribution(d: dist.Distribution) -> Json:
    """Describe a distribution by its class and parameters, if they are all of it."""
    inner, event_dims = d, 0
    if isinstance(d, dist.Independent):
        inner, event_dims = d.base_dist, d.reinterpreted_batch_ndims
    parameters = inner.get_args()
    if "scale_tril" in parameters:  # others say the same
        parameters.pop("covariance_matrix", None)
        parameters.pop("precision_matrix", None)
    name = type(inner).__name__
    described: Json = {
        "distribution": f"{_OURS}{name}" if _is_ours(inner) else name,
        "parameters": {name: np.asarray(value).tolist() for name, value in parameters.items()},
        "event_dims": event_dims,
    }
    try:
        again = _decode_distribution(**described)
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(f"no JSON for {name}") from error
    if not eqx.tree_equal(*(jax.tree.map(jnp.asarray, each) for each in (d, again))):
        raise TypeError(f"no JSON for {name}")
    return described


def _is_ours(d: dist.Distribution) -> bool:
    """Tell `aevb.probability`'s own classes, of which some have the name of one of NumPyro's."""
    return getattr(probability, type(d).__name__, None) is type(d)


def _decode_distribution(distribution: str, parameters: Json, event_dims: int) -> dist.Distribution:
    library = probability if distribution.startswith(_OURS) else dist
    cls = getattr(library, distribution.removeprefix(_OURS))
    if not (isinstance(cls, type) and issubclass(cls, dist.Distribution)):
        raise TypeError(f"not a distribution of NumPyro or aevb: {distribution}")
    values = {
        name: jnp.asarray(value) if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    return cls(**values).to_event(event_dims)
