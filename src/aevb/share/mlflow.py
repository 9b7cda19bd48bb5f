"""MLflow: the numbers of each epoch in a run, and models that it logs, registers and loads."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from aevb.data.tables import is_table
from aevb.persistence import versions
from aevb.share.libraries import check_installed
from aevb.share.model_file import write
from aevb.share.tracker import Tracker

if TYPE_CHECKING:
    from aevb.partitions import Predictor


class MLflow(Tracker):
    """Logs the numbers of each epoch to a run of MLflow.

    That is the active run, if there is one, and it stays active. Otherwise one begins, and ends
    with the ``with`` statement, or with the process.

    Parameters
    ----------
    **options
        Of ``mlflow.start_run``, for a run of its own: ``run_name``, ``experiment_id``, ``tags``;
        ``run_id`` to go on with one.

    Raises
    ------
    ImportError
        When mlflow, of the extra ``aevb[mlflow]``, is not installed.

    Examples
    --------
    >>> from aevb import VAE
    >>> from aevb.share import MLflow
    >>> vae = VAE(2, callbacks=[MLflow(run_name="two latents")])
    """

    _is_own = False

    def __init__(self, **options: Any):
        super().__init__("mlflow", "mlflow")
        self.options = options

    def _begin(self) -> str:
        import mlflow

        active = mlflow.active_run()
        self._is_own = active is None
        return (active or mlflow.start_run(**self.options)).info.run_id

    def _log(self, values: Mapping[str, float], step: int) -> None:
        import mlflow

        mlflow.log_metrics(dict(values), step=step, run_id=self._handle)

    def _end(self, *, failed: bool) -> None:
        import mlflow

        if self._is_own:
            mlflow.end_run("FAILED" if failed else "FINISHED")


def log_model(
    model: Any,
    name: str = "model",
    *,
    input_example: Any = None,
    registered_model_name: str | None = None,
    **options: Any,
) -> Any:
    """Log a fitted model to MLflow as a ``pyfunc``, without pickle.

    What is logged is the file of `VAE.save`, which ``mlflow.pyfunc.load_model(uri).predict(X)``
    reads without running code from it. Versions of all libraries that its numbers depend on are
    required.

    Parameters
    ----------
    model : VAE or Predictor
        A fitted estimator, whose `VAE.transform` is the prediction; or a `Predictor`, which says
        another method, columns of a condition, and options. ``model_config={"method": "elbo"}`` at
        loading changes them.
    name : str, default="model"
        What it is called in the run.
    input_example : DataFrame or ndarray, optional
        Some cases, for the signature and as an example, which everybody who sees the model sees.
        None: three that the model draws, so that no case of the data is shown. Then arrays are
        float64, or uint8 for 8-bit data. There is none of a model with a condition or an exposure.
    registered_model_name : str, optional
        Register it under this name, as a new version.
    **options
        Further arguments of ``mlflow.pyfunc.log_model``; they replace those that are chosen here.

    Returns
    -------
    mlflow.models.model.ModelInfo
        ``model_uri`` says where it is.

    Raises
    ------
    ImportError
        When mlflow, of the extra ``aevb[mlflow]``, is not installed.

    Examples
    --------
    >>> info = log_model(vae, registered_model_name="digits")  # doctest: +SKIP
    >>> z = mlflow.pyfunc.load_model("models:/digits/1").predict(X)  # doctest: +SKIP
    """
    check_installed("mlflow", "mlflow", "log_model")
    import mlflow

    from aevb.partitions import Predictor
    from aevb.report.collect import facts

    predict = model if isinstance(model, Predictor) else Predictor(model)
    vae = predict._vae()
    known = facts(vae)
    with tempfile.TemporaryDirectory() as folder:
        example = _example(predict) if input_example is None else input_example
        told = {
            "loader_module": __name__,
            "data_path": str(write(vae, folder)),
            "model_config": _settings(predict),
            "pip_requirements": _requirements(vae),
            "metadata": {**known.model, **known.data, **known.training},
            "registered_model_name": registered_model_name,
        }
        if example is not None:
            told["signature"] = _signature(example, predict(example), vae.schema_.holes)
            told["input_example"] = example
        return mlflow.pyfunc.log_model(name=name, **told | options)


def _load_pyfunc(path: str, config: Mapping[str, Any]) -> _Pyfunc:
    """Load what `log_model` has logged; MLflow calls it by this name."""
    from aevb.partitions import Predictor

    return _Pyfunc(Predictor(path, **config))


class _Pyfunc:
    """A method of a model, as MLflow calls it."""

    def __init__(self, predict: Predictor):
        self._predict = predict

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return what the method says of each case."""
        return self._predict(model_input)


def _settings(predict: Predictor) -> dict[str, Any]:
    """Return what makes the same `Predictor` of the model's file."""
    named = {name: list(getattr(predict, name)) for name in ("condition", "keep")}
    return {
        "method": predict.method,
        "exposure": predict.exposure,
        **{name: columns or None for name, columns in named.items()},
        **predict.options,
    }


def _requirements(vae: Any) -> list[str]:
    """Return the libraries that make the same numbers of the same file."""
    config = vae.config_
    flows = ",flows" if "flow" in (config.prior.name, config.posterior.name) else ""
    needed = {name: number for name, number in versions().items() if name != "python"}
    return [f"aevb[mlflow{flows}]=={needed.pop('aevb')}", *map("==".join, needed.items())]


def _example(predict: Predictor) -> Any:
    """Return some cases that the model draws; None where that needs more than the model."""
    vae = predict._vae()
    if predict.keep or vae.condition_ is not None or vae.exposure_ is not None:
        return None
    cases = vae.sample(3, random_state=0)
    if not is_table(cases):
        eight_bit = {part.kind.dtype for part in vae.schema_.parts.values()} == {"uint8"}
        return cases.astype(np.uint8 if eight_bit else np.float64)
    return nw.from_native(cases, eager_only=True).to_pandas()


def _signature(cases: Any, results: Any, holes: bool) -> Any:
    """Return the types of cases and results, for MLflow to check.

    It would refuse categories of pandas, and missing values of all but numbers and texts: columns
    of these may be of any type.
    """
    from mlflow.models import infer_signature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    with warnings.catch_warnings():
        # Of whole numbers, that they cannot be missing: the model says if they can.
        warnings.filterwarnings("ignore", "(?s).*integer column", UserWarning)
        signature = infer_signature(cases, results)
    if is_table(cases):
        types = nw.from_native(cases, eager_only=True).schema
        unchecked = {
            name
            for name, dtype in types.items()
            if isinstance(dtype, nw.Categorical | nw.Enum)
            or (holes and (dtype.is_integer() or dtype == nw.Boolean))
        }
        signature.inputs = Schema(
            [
                ColSpec(AnyType(), each.name, required=False) if each.name in unchecked else each
                for each in signature.inputs.inputs
            ]
        )
    return signature
