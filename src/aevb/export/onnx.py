"""A function as ONNX, converted by jax2onnx."""

from __future__ import annotations

import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.export import symbolic_shape

from aevb.errors import some
from aevb.export.folding import folded
from aevb.export.functions import Function
from aevb.export.libraries import library
from aevb.export.rows import name_of

_OPSET = 21  # of 2024
_TRIED = 3  # rows that a file is tried on, together and the first one alone
_CLOSE = 1e-3  # of the size of results: what is further off is not a rounding error


def to_onnx(function: Function, description: str) -> bytes:
    """Return a model of ONNX; of a table it has an input, or an output, for each column.

    It is run once, on rows that the model has made, and compared.

    Parameters
    ----------
    function : Function
        Of a batch, whose number of rows is left open.
    description : str
        JSON; it becomes the metadata property ``aevb``.

    Raises
    ------
    ImportError
        When jax2onnx, of the extra ``aevb[onnx]``, is not installed.
    ValueError
        When ONNX lacks an operation of the function, or two columns would have one name.
    """
    _check_names(function)
    with _quiet():
        onnx, converter = library("onnx", ".onnx"), library("jax2onnx", ".onnx")
        from aevb.export.ports import with_columns

        specs = function.specs(*symbolic_shape("n"))
        names = [port.name for port in function.outputs]

        def call(*arrays: Any) -> tuple[Any, ...]:
            results = function.call(*arrays)
            return tuple(results[name] for name in names)

        try:
            model = converter.to_onnx(
                folded(call, specs),
                specs,
                model_name=f"aevb_{function.name}",
                opset=_OPSET,
                input_names=[port.name for port in function.inputs],
                output_names=names,
            )
            _try(model.SerializeToString(), function)
        except Exception as error:  # whatever the converter stumbles over
            raise ValueError(
                f"Expected a model whose {function.name!r} ONNX can express; got one with "
                f"{_operation(error)}. Choose a path that ends in .stablehlo."
            ) from error
        model = with_columns(model, function)
        onnx.helper.set_model_props(model, {"aevb": description})
        onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _operation(error: Exception) -> str:
    """Name the operation at which the converter stopped, and say why."""
    frames = traceback.extract_tb(error.__traceback__)
    plugins = [Path(frame.filename) for frame in frames if "plugins" in frame.filename]
    said = (str(error).splitlines() or [type(error).__name__])[0]
    return f"{plugins[-1].stem!r} ({said})" if plugins else said


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to themselves what the converter's libraries warn of."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _try(content: bytes, function: Function) -> None:
    """Raise ArithmeticError if a file does not say what the function says."""
    runtime = library("onnxruntime", ".onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    arrays = [np.asarray(array) for array in jax.jit(function.examples, static_argnums=0)(_TRIED)]
    answers = jax.jit(function.call)(*arrays)
    for n in (1, _TRIED):
        fed = {port.name: array[:n] for port, array in zip(function.inputs, arrays, strict=True)}
        for port, got in zip(function.outputs, session.run(None, fed), strict=True):
            expected = np.asarray(answers[port.name])
            close = _CLOSE * np.abs(expected).max(axis=0) + 1e-30
            if not np.allclose(got, expected[:n], rtol=0, atol=close, equal_nan=True):
                raise ArithmeticError(f"its {port.name!r} comes out otherwise")


def _check_names(function: Function) -> None:
    """Raise ValueError where two inputs or outputs would have one name."""
    ports = (*function.inputs, *function.outputs)
    names = [
        name
        for port in ports
        for name in [name_of(port, column) for column in port.columns] or [port.name]
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            "Expected columns whose names differ from those of the other inputs and outputs of "
            f"{function.name!r}; got {some(twice)}. Rename them before the fit, or choose a path "
            "that ends in .stablehlo."
        )
