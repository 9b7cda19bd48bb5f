"""A page decodes and encodes as the fitted model does, whatever the data; what it is told."""

import base64
import io
import json
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from aevb import VAE, Frozen, architectures, explorer, predict
from aevb.columns import Columns
from aevb.explorer.content import _decoder, _encoder
from aevb.explorer.pictures import _sheet
from aevb.learned import Learned
from aevb.models.autoencoder import build_autoencoder
from aevb.models.kinds.case import Case
from aevb.schema import Schema

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
N = 60
SMALL = {"hidden": (5,), "epochs": 1, "batch_size": 30, "random_state": 0}
LOW = RNG.normal(size=(N, 2)) @ RNG.normal(size=(2, 6)) + 0.1 * RNG.normal(size=(N, 6))
COUNTS = RNG.poisson(np.exp(LOW)).astype(np.float32)
SHARES = np.clip(1 / (1 + np.exp(-LOW)), 0.01, 0.99)
LEVELS = np.rint(3 * SHARES)
FAMILIES = {  # a column of each
    "gaussian": 10 * LOW[:, 0] + 100,
    "student-t": LOW[:, 1],
    "laplace": LOW[:, 2],
    "log-normal": np.exp(LOW[:, 3]),
    "gamma": 1e3 * np.exp(LOW[:, 4]),
    "beta": SHARES[:, 0],
    "continuous-bernoulli": SHARES[:, 1],
    "bernoulli": LOW[:, 2] > 0,
    "poisson": COUNTS[:, 3],
    "negative-binomial": COUNTS[:, 4],
    "zero-inflated-negative-binomial": COUNTS[:, 5] * (LOW[:, 1] > 0),
    "beta-binomial": np.rint(9 * SHARES[:, 5]),
    "categorical": LEVELS[:, 0],
    "ordinal": LEVELS[:, 1],
}
MIXED = pd.DataFrame(
    {
        "height": LOW[:, 0] * 10 + 170,
        "children": RNG.poisson(np.exp(LOW[:, 1])),
        "city": np.array(["Ulm", "Bonn", "Kiel"])[np.digitize(LOW[:, 2], [-0.5, 0.5])],
        "size": pd.Categorical.from_codes(
            np.digitize(LOW[:, 3], [-1, 0, 1]), ["S", "M", "L", "XL"], ordered=True
        ),
        "member": LOW[:, 4] > 0,
        "since": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.rint(30 * LOW[:, 5]), "D"),
        "constant": 7.0,
    }
)
HOLES = MIXED.mask(RNG.random(MIXED.shape) < 0.2).astype({"constant": float})
HOLES["constant"] = 7.0


def fitted(X, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VAE(2, **SMALL).fit(X, **options)


def drawn(X, likelihood="auto", latent_dim=2, **options):
    """Return a schema, and a model of random weights, as `VAE.fit` builds it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what does not vary
        if isinstance(X, pd.DataFrame):
            columns, X = Columns.learn(X, likelihood)
            schema = Schema.fit(X, columns=columns)
        else:
            schema = Schema.fit(X, likelihood)
    build = eqx.filter_jit(build_autoencoder)
    model = build(schema.block, latent_dim, key=KEY, **{"hidden": (5,), **options})
    rng = np.random.default_rng(0)

    def moved(leaf):
        learned = eqx.is_inexact_array(leaf)  # what is frozen stays
        return leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32) if learned else leaf

    is_frozen = lambda leaf: isinstance(leaf, Frozen)  # noqa: E731
    return jax.tree.map(moved, model, is_leaf=is_frozen), schema, X


def check(node, model, schema, rows):
    """Compare what a page decodes and encodes with what the model does; return the programs."""
    learned = Learned(schema, None, None)
    decode, encode = json.loads(
        json.dumps([_decoder(model, learned), _encoder(model, learned)], allow_nan=False)
    )
    codes = predict.latent_mean(model, schema.encode(rows))
    cases = [np.asarray(leaf) for leaf in jax.tree.leaves(schema.encode(rows))]
    (found,) = node(encode, *cases)
    np.testing.assert_allclose(found, codes, atol=1e-3 * max(1, np.abs(codes).max()))
    Z = np.random.default_rng(1).normal(size=(7, codes.shape[1])).astype(np.float32)
    outputs, decoded = node(decode, Z), predict.decode(model, Z)
    names = list(schema.parts)
    blocks = decoded.blocks if isinstance(decoded, Case) else {names[0]: decoded}
    for found, name in zip(outputs, names, strict=False):
        part, expected = schema.parts[name], np.reshape(blocks[name], (7, -1)).astype(float)
        if part.kind.name in ("categories", "ordered"):
            np.testing.assert_array_equal(found.reshape(7, -1), expected)
        else:
            values = part.values(rows).astype(float)
            scale = np.nanstd(values.reshape(len(values), -1), axis=0)
            scale = np.where(scale > 0, scale, scale.max())
            assert np.max(np.abs(found.reshape(7, -1) - expected) / scale) < 1e-4
    for laws in outputs[len(names) :]:
        np.testing.assert_allclose(laws.sum(-1), 1, atol=1e-5)
    return decode, encode


def test_binary_pictures(node):
    check(node, *drawn((RNG.random((N, 4, 4)) < 0.4).astype(np.float32)))


def test_a_column_of_each_likelihood(node):
    check(node, *drawn(pd.DataFrame(FAMILIES), {name: name for name in FAMILIES}))


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["mixture", "low-rank-normal", "laplace", "coupling"])
def test_posteriors(node, posterior):
    check(node, *drawn(LOW.astype(np.float32), posterior=posterior))


@pytest.fixture(scope="module")
def mixed():
    return fitted(MIXED)


def test_a_table_of_all_kinds_of_columns(node, mixed):
    check(node, mixed.model_, mixed.schema_, mixed._rows(MIXED, mixed.schema_))
    columns = {column["name"]: column for column in explorer.payload(mixed)["columns"]}
    kinds = {name: column["kind"] for name, column in columns.items()}
    assert kinds["city"] == kinds["size"] == "category"
    assert kinds["since"] == "date"
    assert columns["constant"]["value"] == 7
    assert columns["city"]["levels"] == ["Bonn", "Kiel", "Ulm"]
    assert columns["size"]["levels"] == ["S", "M", "L", "XL"]


def test_a_table_with_holes(node):
    model, schema, rows = drawn(HOLES)
    _, encode = check(node, model, schema, rows)
    assert len(encode["inputs"]) == 2 * len(schema.parts)


def test_an_array_with_holes(node):
    check(node, *drawn(np.where(RNG.random(LOW.shape) < 0.2, np.nan, LOW).astype(np.float32)))


@pytest.mark.slow
def test_convolutions_of_8_bit_pictures(node):
    X = RNG.integers(0, 256, size=(40, 9, 8, 3)).astype(np.uint8)
    architecture = architectures.Convolutional((4, 6))
    model, schema, X = drawn(X, latent_dim=3, architecture=architecture, hidden=())
    assert schema.likelihood.name == "discretised-logistic"
    check(node, model, schema, X)


@pytest.mark.slow
def test_networks_of_ones_own(node):
    class Encoder(eqx.Module):
        conv: eqx.nn.Conv2d
        mlp: eqx.nn.MLP

        def __call__(self, x):
            return self.mlp(jnp.ravel(jnp.tanh(self.conv(x[None]))))

    one, two, three = jax.random.split(KEY, 3)
    encoder = Encoder(eqx.nn.Conv2d(1, 2, 3, key=one), eqx.nn.MLP(72, 8, 8, 1, key=two))
    decoder = eqx.nn.MLP(2, 12, 8, 2, jax.nn.silu, key=three)
    X = (RNG.random((N, 8, 8)) < 0.4).astype(np.float32)
    check(node, *drawn(X, encoder=encoder, decoder=decoder))


@pytest.mark.slow
def test_the_networks_of_mnist_fit_into_a_page(node):
    """The default architecture, with the sizes of MNIST."""
    X = (RNG.integers(0, 256, size=(64, 28, 28)) * (RNG.random((28, 28)) < 0.3)).astype(np.uint8)
    networks = {"hidden": (500, 250, 100), "activation": "gelu"}
    programs = check(node, *drawn(X, "bernoulli", 20, **networks))
    assert len(json.dumps(programs)) < 4.1e6


class TestCases:
    @pytest.fixture
    def vae(self, mixed):
        return mixed

    def numbers(self, text):
        return np.frombuffer(base64.b64decode(text), "<f4")

    def test_codes_are_those_of_transform(self, vae):
        cases = explorer.payload(vae, MIXED)["cases"]
        codes = self.numbers(cases["codes"]).reshape(-1, 2)
        np.testing.assert_array_equal(codes, vae.transform(MIXED))

    def test_of_many_cases_some_are_shown_with_their_own_labels(self, vae):
        cases = explorer.payload(vae, MIXED, np.arange(N) / 2, n_cases=25)["cases"]
        assert cases["n"] == 20
        np.testing.assert_array_equal(
            self.numbers(cases["label"]["values"]), np.arange(0, N, 3) / 2
        )

    def test_without_cases_there_is_still_a_map(self, vae):
        content = explorer.payload(vae)
        assert content["cases"]["n"] == 0
        assert np.isfinite(content["latent"]["low"]).all()

    def test_columns_come_in_their_own_units(self, vae):
        content = explorer.payload(vae, MIXED)
        column = next(c for c in content["columns"] if c["name"] == "since")
        days = (
            MIXED["since"].astype("int64")
            / {"ns": 864e11, "us": 864e8, "s": 86400}[MIXED["since"].dt.unit]
        )
        np.testing.assert_allclose(self.numbers(column["values"]) + column["origin"], days)

    @pytest.mark.parametrize(
        ("labels", "levels"),
        [
            ([*"abc"] * 20, ["a", "b", "c"]),
            ([True, False] * 30, ["False", "True"]),
            ([3, 1, 7, None] * 15, None),
            (np.tile([3, 1, 7], 20), ["1", "3", "7"]),
            (np.arange(60), None),
            (LOW[:, 0], None),
            (MIXED["city"], ["Bonn", "Kiel", "Ulm"]),
        ],
        ids=["texts", "truth values", "missing", "few integers", "many", "numbers", "column"],
    )
    def test_labels_are_classes_or_numbers(self, vae, labels, levels):
        label = explorer.payload(vae, MIXED, labels)["cases"]["label"]
        if levels is not None:
            assert label["levels"] == levels
            values = self.numbers(label["values"]).astype(int)
            assert [label["levels"][v] for v in values] == [str(each) for each in labels]

    @pytest.mark.parametrize(
        ("told", "message"),
        [
            ({"X": None, "labels": [1]}, "Expected `X` with `labels`; got None"),
            ({"X": MIXED, "labels": [1, 2]}, "label for each of the 60 cases"),
            ({"X": MIXED, "image_shape": (3, 3)}, "for `image_shape`"),
        ],
        ids=["no cases", "too few labels", "no picture"],
    )
    def test_what_does_not_fit_is_refused(self, vae, told, message):
        with pytest.raises(ValueError, match=message):
            explorer.payload(vae, **told)


def test_sparse_counts_are_dense_in_the_page():
    X = scipy.sparse.csr_array(COUNTS)
    content = explorer.payload(fitted(X), X)
    values = [np.frombuffer(base64.b64decode(c["values"]), "<f4") for c in content["columns"]]
    np.testing.assert_array_equal(np.transpose(values), COUNTS)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_has_the_pictures(channels):
    image = pytest.importorskip("matplotlib.image", reason="matplotlib reads the pictures")
    pixels = RNG.integers(0, 256, size=(7, 5, 4, channels)).astype(np.uint8)
    sheet = image.imread(io.BytesIO(_sheet(pixels)), format="png")
    sheet = np.rint(sheet * 255).reshape(15, 12, channels)
    for i in range(7):
        top, left = 5 * (i // 3), 4 * (i % 3)
        np.testing.assert_array_equal(sheet[top : top + 5, left : left + 4], pixels[i])


CONDITIONS = {
    "labels": np.arange(N) % 3,
    "numbers": np.c_[np.arange(N) / 10.0, LOW[:, 0]],
    "table": MIXED[["city", "since", "children", "member"]],
    "constant": pd.DataFrame({"a": 1.0, "b": np.arange(N) / 2}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONDITIONS)
def test_a_page_decodes_and_encodes_under_a_condition(node, name):
    condition = CONDITIONS[name]
    vae = fitted(LOW, condition=condition)
    content = json.loads(json.dumps(explorer.payload(vae, LOW, condition=condition)))
    codes = np.frombuffer(base64.b64decode(content["cases"]["codes"]), "<f4").reshape(N, 2)
    np.testing.assert_array_equal(codes, vae.transform(LOW, condition=condition))
    told = told_of(content["given"], vae.condition_.schema)
    (found,) = node(content["decode"], codes, *told)
    expected = vae.inverse_transform(codes, condition=condition)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(vae.inverse_transform(codes[[0] * N], condition=condition), axis=0).max() > 0.01
    (found,) = node(content["encode"], LOW.astype(np.float32), *told)
    np.testing.assert_allclose(found, codes, atol=1e-3)


def told_of(given, schema):
    """Return what a page tells a program of each case, from the values that it has of them."""
    parts = [np.full((N, part["size"]), part["filler"], float) for part in given["parts"]]
    for column in given["columns"]:
        assert ("part" in column) == ("values" in column)
        if "part" in column:
            values = np.frombuffer(base64.b64decode(column["values"]), "<f4")
            parts[column["part"]][:, column["place"]] = values
            origin = 0 if "levels" in column else column.get("origin", 0)
            assert column["start"] == pytest.approx(values[0] + origin)
    return parts


@pytest.mark.slow
def test_a_page_decodes_and_encodes_at_an_exposure(node):
    exposure, group = RNG.uniform(5, 50, N), np.array(["a", "b"])[np.arange(N) % 2]
    vae = VAE(2, likelihood="poisson", **SMALL).fit(COUNTS, condition=group, exposure=exposure)
    content = explorer.payload(vae, COUNTS, condition=group, exposure=exposure)
    assert [column["name"] for column in content["given"]["columns"]] == ["condition", "exposure"]
    assert "totalled" not in content["given"]
    codes = vae.transform(COUNTS, condition=group, exposure=exposure)
    told = np.unique(group, return_inverse=True)[1][:, None], exposure[:, None]
    (found,) = node(content["decode"], codes, *told)
    expected = vae.inverse_transform(codes, condition=group, exposure=exposure)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    (found,) = node(content["encode"], COUNTS, *told)
    np.testing.assert_allclose(found, codes, atol=1e-3)


@pytest.mark.slow
def test_without_cases_a_condition_begins_where_most_cases_are():
    given = {"year": np.arange(N) + 1990, "kind": [*"abb"] * 20, "age": RNG.poisson(COUNTS.sum(1))}
    vae = fitted(LOW, condition=pd.DataFrame(given))
    start = [column["start"] for column in explorer.payload(vae)["given"]["columns"]]
    age = np.rint(np.expm1(np.log1p(given["age"]).mean()))
    assert start == [pytest.approx(2019.5, abs=1), 1, age]


@pytest.mark.slow
def test_cases_without_their_condition_are_refused():
    vae = fitted(LOW, condition=np.arange(N) % 3)
    with pytest.raises(ValueError, match="Expected `condition`, as in the fit"):
        explorer.payload(vae, LOW)


def test_texts_are_data_not_markup():
    X = pd.DataFrame(LOW[:, :2], columns=["<img src=x onerror=alert(1)>", "</script><b>"])
    vae = fitted(X)
    page = explorer.page(vae, X, ["</script><i>", "b"] * 30, title="<u>")
    assert "<img" not in page
    assert "</script><" not in page.replace("</script>\n<", "")
    assert "<title>&lt;u&gt;</title>" in page
    data = page.split('type="application/json" id="aevb-explorer-data">')[1].split("</script>")[0]
    assert [c["name"] for c in json.loads(data)["columns"]] == [*X.columns]
