"""What an extra of the package is for, where no other one is installed: `make test-extras`."""

import sys
import tempfile
from pathlib import Path

import numpy as np

from aevb import VAE

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3)).astype(np.float32)


def fitted(**options):
    return VAE(2, hidden=(4,), epochs=2, random_state=0, verbose=False, **options).fit(X)


def plot(folder):
    fitted().plot.learning_curve().figure.savefig(folder / "curve.png")
    fitted().report(X, folder / "report.html")


def data(folder):
    import pandas as pd

    pd.DataFrame(X, columns=list("abc")).to_parquet(folder / "rows.parquet")
    assert fitted().fit(folder / "rows.parquet").n_features_in_ == 3


def stream(folder):
    import zarr

    zarr.save(folder / "rows.zarr", X)
    assert fitted().fit(folder / "rows.zarr").n_features_in_ == 3


def flows(folder):
    assert np.isfinite(fitted(posterior="coupling").elbo(X)).all()


def mcmc(folder):
    assert np.isfinite(fitted().log_likelihood(X[:5], 5)).all()
    evidence = fitted(likelihood="gaussian").evidence(X[:2], method="reciprocal")
    assert np.isfinite(evidence.log_likelihood).all()


def onnx(folder):
    import onnxruntime

    vae = fitted()
    vae.export(folder / "encoder.onnx")
    session = onnxruntime.InferenceSession(folder / "encoder.onnx")
    mean = session.run(["mean"], {session.get_inputs()[0].name: X})[0]
    np.testing.assert_allclose(mean, vae.transform(X), atol=1e-5)


def serve(folder):
    import json
    import threading
    import time
    import urllib.request

    import uvicorn

    from aevb.serve import create_app

    vae = fitted()
    vae.save(folder / "model.aevb")
    config = uvicorn.Config(create_app(folder / "model.aevb"), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2") as answer:
            assert json.load(answer)["name"] == "aevb"
    finally:
        server.should_exit = True
        thread.join()


def widget(folder):
    assert fitted().explore(X).point is not None


def hub(folder):
    try:
        fitted().push_to_hub("a name without its user")
    except ValueError as error:  # which comes once the library is there
        assert "user/name" in str(error)
    else:
        raise AssertionError("pushed to nowhere")


def mlflow(folder):
    import mlflow as library

    from aevb.share import MLflow

    library.set_tracking_uri(folder.as_uri())
    assert isinstance(MLflow(), MLflow)


def wandb(folder):
    import os

    from aevb.share import WandB

    os.environ["WANDB_DIR"] = str(folder)
    with WandB(mode="offline") as tracker:
        fitted(callbacks=[tracker])
    assert [*folder.rglob("*.wandb")]


def tensorboard(folder):
    from aevb.share import TensorBoard

    with TensorBoard(folder) as tracker:
        fitted(callbacks=[tracker])
    assert [*folder.glob("events*")]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        globals()[sys.argv[1]](Path(temporary))
    print(sys.argv[1], "works alone")
