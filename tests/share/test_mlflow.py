"""MLflow's own library on a SQLite store: histories, and models that predict what they did."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from aevb import VAE, FitWarning, Predictor
from aevb.share import MLflow, log_model

mlflow = pytest.importorskip("mlflow", reason="needs mlflow, of aevb[mlflow]")
pytestmark = [
    pytest.mark.slow,
    # What MLflow says of its own code.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.filterwarnings("ignore:(?s).*Any type hint is inferred as AnyType"),
]

X = np.random.default_rng(0).normal(size=(60, 3))
QUICK = {"hidden": (4,), "epochs": 3, "random_state": 0, "verbose": False}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of its own, in SQLite, and its folder of artifacts."""
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    experiment = mlflow.create_experiment("tests", artifact_location=(folder / "runs").as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    yield uri
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def logged(store, of_table):
    """The model of the table, logged and registered."""
    with mlflow.start_run():
        return log_model(of_table, "towns", registered_model_name="towns")


def history(run_id, name):
    """Return what a store has of a metric, by step."""
    kept = mlflow.MlflowClient().get_metric_history(run_id, name)
    return {each.step: each.value for each in kept}


def test_a_run_of_its_own_has_the_history_and_ends(store):
    with MLflow(run_name="mine") as tracker:
        vae = VAE(1, validation_fraction=0.2, callbacks=[tracker], **QUICK).fit(X)
        run_id = mlflow.active_run().info.run_id
    assert mlflow.active_run() is None
    info = mlflow.get_run(run_id).info
    assert (info.run_name, info.status) == ("mine", "FINISHED")
    for column, name in {"elbo": "train/elbo", "validation_elbo": "validation/elbo"}.items():
        expected = dict(enumerate(vae.history_[column], start=1))
        assert history(run_id, name) == expected


def test_a_run_is_taken_up_again(store):
    run_id = None
    for numbers in ((1, 2), (3,)):
        with MLflow(run_id=run_id) as tracker:
            run_id = mlflow.active_run().info.run_id
            for number in numbers:
                tracker(type("Epoch", (), {"number": number, "metrics": {"elbo": float(number)}}))
    assert history(run_id, "train/elbo") == {1: 1.0, 2: 2.0, 3: 3.0}


def test_the_active_run_stays_active_and_a_failed_one_is_called_so(store):
    with mlflow.start_run() as run:
        with MLflow() as tracker:
            VAE(1, callbacks=[tracker], **QUICK).fit(X)
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert len(history(run.info.run_id, "train/elbo")) == 3
    with pytest.raises(ZeroDivisionError), MLflow():
        run_id = mlflow.active_run().info.run_id
        raise ZeroDivisionError
    assert mlflow.get_run(run_id).info.status == "FAILED"


def test_a_server_that_is_away_costs_a_warning_and_no_epoch(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        with pytest.warns(FitWarning, match="MLflow has failed") as said:
            vae = VAE(1, callbacks=[MLflow()], **QUICK).fit(X)
    finally:
        mlflow.set_tracking_uri(store)
    assert len(said) == 1 and vae.n_epochs_ == QUICK["epochs"]


@pytest.mark.parametrize("where", ["run", "registry"])
def test_a_loaded_model_predicts_what_the_estimator_does(where, logged, of_table, table):
    uri = logged.model_uri if where == "run" else "models:/towns/1"
    found = mlflow.pyfunc.load_model(uri).predict(table)
    assert [*found.columns] == [*of_table.get_feature_names_out()]
    pd.testing.assert_index_equal(found.index, table.index)
    np.testing.assert_array_equal(found.to_numpy(), of_table.transform(table), strict=True)


def test_another_process_predicts_the_same(logged, store, of_table, table, tmp_path):
    table.to_pickle(tmp_path / "table.pickle")
    code = (
        "import sys, mlflow, numpy, pandas\n"
        f"mlflow.set_tracking_uri({store!r})\n"
        f"table = pandas.read_pickle({str(tmp_path / 'table.pickle')!r})\n"
        f"z = mlflow.pyfunc.load_model({logged.model_uri!r}).predict(table)\n"
        f"numpy.save({str(tmp_path / 'z.npy')!r}, z.to_numpy())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    z = np.load(tmp_path / "z.npy")
    np.testing.assert_array_equal(z, of_table.transform(table), strict=True)


def test_what_is_logged_is_no_pickle_and_no_case_of_the_data(logged, table, tmp_path):
    folder = mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(tmp_path))
    names = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert "model.aevb" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib"))]
    example = mlflow.pyfunc.load_model(folder).input_example
    assert [*example.columns] == [*table.columns]
    assert not set(example["size"]) & set(table["size"])


def test_the_signature_is_that_of_the_table(logged, of_table):
    columns = {
        each.name: getattr(each.type, "name", type(each.type).__name__)
        for each in logged.signature.inputs
    }
    assert columns == {
        "size": "double",
        "count": "long",
        "town": "string",
        "level": "AnyType",
        "owner": "boolean",
        "day": "datetime",
    }
    assert [each.name for each in logged.signature.outputs] == [*of_table.get_feature_names_out()]


def test_another_method_is_chosen_at_loading(logged, of_table, table):
    elbo = mlflow.pyfunc.load_model(logged.model_uri, model_config={"method": "elbo"})
    np.testing.assert_array_equal(elbo.predict(table)["elbo"], of_table.elbo(table))


def test_a_condition_and_options_travel(store, table):
    sizes, towns = table[["size", "count"]], table["town"]
    vae = VAE(1, **QUICK).fit(sizes, condition=towns)
    predict = Predictor(vae, "elbo", condition="town", n_draws=3)
    with mlflow.start_run():
        info = log_model(predict)
    found = mlflow.pyfunc.load_model(info.model_uri).predict(table[["size", "count", "town"]])
    np.testing.assert_array_equal(found["elbo"], vae.elbo(sizes, 3, condition=towns))


def test_pictures_are_arrays(store):
    pictures = np.random.default_rng(0).integers(0, 256, (30, 4, 4)).astype(np.uint8)
    vae = VAE(1, **QUICK).fit(pictures)
    with mlflow.start_run():
        info = log_model(vae)
    found = mlflow.pyfunc.load_model(info.model_uri).predict(pictures)
    np.testing.assert_array_equal(found, vae.transform(pictures), strict=True)


def test_holes_may_be_where_they_were(store, table):
    holes = table.astype({"count": "Int64", "owner": "boolean"})
    holes = holes.mask(np.random.default_rng(1).random(table.shape) < 0.2)
    vae = VAE(1, **QUICK).fit(holes)
    with mlflow.start_run():
        info = log_model(vae)
    found = mlflow.pyfunc.load_model(info.model_uri).predict(holes)
    np.testing.assert_array_equal(found.to_numpy(), vae.transform(holes), strict=True)
