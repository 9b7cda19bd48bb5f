"""`Predictor` on a local cluster of Dask, in processes with two threads each."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aevb import VAE, Predictor

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")
dd = pytest.importorskip("dask.dataframe")
da = pytest.importorskip("dask.array")
make_meta = pytest.importorskip("dask.dataframe.utils").make_meta

pytestmark = [
    pytest.mark.slow,  # together
    pytest.mark.filterwarnings("ignore:.*inplace keyword:DeprecationWarning"),  # within Dask
]

rng = np.random.default_rng(0)
N, N_PARTITIONS = 600, 9
TABLE = pd.DataFrame(
    {
        "size": rng.normal(size=N),
        "town": rng.choice(["Bonn", "Ulm"], N),
        "day": pd.Timestamp("2000-01-01") + pd.to_timedelta(rng.integers(0, 999, N), unit="D"),
    },
    index=pd.Index(rng.permutation(N), name="number"),
)
QUICK = {"hidden": (5,), "epochs": 2, "random_state": 0, "verbose": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model and the files of a table, as a cluster finds them."""
    folder = tmp_path_factory.mktemp("cluster")
    VAE(2, **QUICK).fit(TABLE).save(folder / "model.aevb")
    for i in range(N_PARTITIONS):
        part = TABLE.iloc[i * N // N_PARTITIONS : (i + 1) * N // N_PARTITIONS]
        part.to_parquet(folder / f"part{i}.parquet")
    return folder


@pytest.fixture
def client():
    """Two processes of two threads each, which know nothing yet."""
    options = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=True, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_the_lines_of_the_guide_run(client, folder, tmp_path, monkeypatch):
    page = (Path(__file__).parents[1] / "docs" / "guides" / "cluster.md").read_text("utf-8")
    (lines,) = re.findall(r"```py\n(import dask.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cases").symlink_to(folder)
    (tmp_path / "wine.aevb").symlink_to(folder / "model.aevb")
    exec(compile(lines, "cluster.md", "exec"), {"Predictor": Predictor})
    found = dd.read_parquet(tmp_path / "latent").compute()
    expected = VAE.load(folder / "model.aevb").transform(TABLE)
    np.testing.assert_array_equal(found.loc[TABLE.index], expected)


def loads():
    """Return how often a process has looked for a model, and loaded one."""
    from aevb import partitions

    info = partitions._loaded.cache_info()
    return info.hits + info.misses, info.misses


def test_a_cluster_gives_the_numbers_of_one_process_and_loads_once_a_worker(client, folder):
    vae = VAE.load(folder / "model.aevb")
    frame = dd.read_parquet(folder / "part*.parquet")
    assert frame.npartitions == N_PARTITIONS
    methods = {"transform": {}, "elbo": {"n_draws": 3}, "reconstruct": {}}
    for name, options in methods.items():
        predict = Predictor(folder / "model.aevb", name, **options)
        meta = predict(make_meta(frame))
        found = frame.map_partitions(predict, meta=meta).compute()
        assert found.index.equals(TABLE.index)
        assert (found.dtypes == meta.dtypes).all()
        expected = getattr(vae, name)(TABLE, **options)
        np.testing.assert_array_equal(np.squeeze(found.to_numpy()), np.asarray(expected))
    looked, loaded = zip(*client.run(loads).values(), strict=True)
    assert loaded == (1, 1)
    assert sum(looked) == len(methods) * N_PARTITIONS


def test_partitions_without_rows_and_fitted_models_pass(client, folder):
    vae = VAE.load(folder / "model.aevb")
    frame = dd.read_parquet(folder / "part*.parquet")
    some = frame[frame["size"] > np.quantile(TABLE["size"], 0.99)]  # of a few partitions
    predict = Predictor(vae, keep="town")
    found = some.map_partitions(predict, meta=predict(make_meta(frame))).compute()
    expected = TABLE[TABLE["size"] > np.quantile(TABLE["size"], 0.99)]
    assert 0 < len(found) < N_PARTITIONS
    assert found.index.equals(expected.index) and list(found["town"]) == list(expected["town"])
    np.testing.assert_array_equal(found[["vae0", "vae1"]], vae.transform(expected))
    assert {loaded for _, loaded in client.run(loads).values()} == {0}


def test_an_array_of_dask_is_mapped_block_by_block(client):
    X = rng.normal(size=(N, 3))
    vae = VAE(2, **QUICK).fit(X)
    blocks = da.from_array(X, chunks=(70, 3))
    chunks = {"chunks": (blocks.chunks[0], (2,)), "meta": np.empty((0, 2))}
    found = blocks.map_blocks(Predictor(vae), **chunks).compute()
    np.testing.assert_array_equal(found, vae.transform(X))
    scores = blocks.map_blocks(Predictor(vae, "elbo"), drop_axis=1, meta=np.empty(0, "float32"))
    np.testing.assert_array_equal(scores.compute(), vae.elbo(X))
