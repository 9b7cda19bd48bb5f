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

from aevb import VAE, explorer, predict
from aevb.explorer import NotInAPage
from aevb.models.kinds.case import Case

RNG = np.random.default_rng(0)
N = 60
SMALL = {"hidden": (5,), "epochs": 1, "batch_size": 30, "random_state": 0}
LOW = RNG.normal(size=(N, 2)) @ RNG.normal(size=(2, 6)) + 0.1 * RNG.normal(size=(N, 6))
COUNTS = RNG.poisson(np.exp(LOW)).astype(np.float32)
SHARES = np.clip(1 / (1 + np.exp(-LOW)), 0.01, 0.99)
DATA = {
    "bernoulli": (LOW > 0).astype(float),
    "gaussian": 10 * LOW + 100,
    "student-t": LOW,
    "laplace": LOW,
    "log-normal": np.exp(LOW),
    "gamma": np.exp(LOW),
    "beta": SHARES,
    "continuous-bernoulli": SHARES,
    "poisson": COUNTS,
    "negative-binomial": COUNTS,
    "zero-inflated-negative-binomial": COUNTS * (RNG.random(LOW.shape) < 0.6),
    "beta-binomial": np.rint(9 * SHARES),
    "categorical": np.rint(3 * SHARES),
    "ordinal": np.rint(3 * SHARES),
    "discretised-logistic": np.rint(255 * SHARES).astype(np.uint8),
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


def fitted(X, latent_dim=2, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VAE(latent_dim, **{**SMALL, **options}).fit(X)


def inputs_of(vae, X):
    """Return cases as the encoder's program takes them."""
    cases = vae.schema_.encode(vae._rows(X, vae.schema_))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(cases)]


def check(node, vae, X):
    """Compare what a page decodes and encodes with what the model does."""
    content = json.loads(json.dumps(explorer.payload(vae, X), allow_nan=False))
    Z = np.random.default_rng(1).normal(size=(7, vae.config_.latent_dim)).astype(np.float32)
    outputs = node(content["decode"], Z)
    decoded = predict.decode(vae.model_, Z)
    names = list(vae.schema_.parts)
    blocks = decoded.blocks if isinstance(decoded, Case) else {names[0]: decoded}
    for found, name in zip(outputs, names, strict=False):
        part = vae.schema_.parts[name]
        expected = np.reshape(blocks[name], (7, -1)).astype(float)
        scale = np.maximum(np.ravel(part.measured.scale), 1e-30)
        if part.kind.name in ("categories", "ordered"):
            np.testing.assert_array_equal(found.reshape(7, -1), expected)
        else:
            assert np.max(np.abs(found.reshape(7, -1) - expected) / scale) < 1e-4
    for laws in outputs[len(names) :]:
        np.testing.assert_allclose(laws.sum(-1), 1, atol=1e-5)
    (codes,) = node(content["encode"], *inputs_of(vae, X))
    np.testing.assert_allclose(codes, vae.transform(X), atol=1e-4)
    return content


@pytest.mark.quick(3)
@pytest.mark.parametrize("likelihood", DATA)
def test_every_likelihood(node, likelihood):
    X = DATA[likelihood]
    check(node, fitted(X, likelihood=likelihood), X)


@pytest.mark.slow
@pytest.mark.parametrize("posterior", ["full-normal", "low-rank-normal", "mixture", "laplace"])
def test_every_posterior(node, posterior):
    check(node, fitted(LOW, posterior=posterior), LOW)


def test_a_table_of_all_kinds_of_columns(node):
    content = check(node, fitted(MIXED), MIXED)
    kinds = {column["name"]: column["kind"] for column in content["columns"]}
    assert kinds["city"] == kinds["size"] == "category"
    assert kinds["since"] == "date"
    assert {column["name"]: column.get("value") for column in content["columns"]}["constant"] == 7
    levels = {column["name"]: column.get("levels") for column in content["columns"]}
    assert levels["city"] == ["Bonn", "Kiel", "Ulm"]
    assert levels["size"] == ["S", "M", "L", "XL"]


def test_a_table_with_holes(node):
    content = check(node, fitted(HOLES), HOLES)
    assert content["holes"]
    assert len(content["encode"]["inputs"]) == 2 * len(content["parts"])


@pytest.mark.slow
def test_an_array_with_holes(node):
    X = np.where(RNG.random(LOW.shape) < 0.2, np.nan, LOW)
    check(node, fitted(X), X)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(9, 7), (8, 8, 3)], ids=["gray", "colour"])
def test_convolutions(node, shape):
    X = RNG.integers(0, 256, size=(40, *shape)).astype(np.uint8)
    check(node, fitted(X, 3, architecture="conv", hidden=()), X)


@pytest.mark.slow
def test_networks_of_ones_own(node):
    class Encoder(eqx.Module):
        conv: eqx.nn.Conv2d
        mlp: eqx.nn.MLP

        def __call__(self, x):
            return self.mlp(jnp.ravel(jnp.tanh(self.conv(x[None]))))

    one, two, three = jax.random.split(jax.random.key(0), 3)
    encoder = Encoder(eqx.nn.Conv2d(1, 2, 3, key=one), eqx.nn.MLP(72, 8, 8, 1, key=two))
    decoder = eqx.nn.MLP(2, 12, 8, 2, jax.nn.silu, key=three)
    X = (RNG.random((N, 8, 8)) < 0.4).astype(np.float32)
    check(node, fitted(X, encoder=encoder, decoder=decoder), X)


@pytest.mark.slow
def test_the_model_of_mnist(node):
    """The default architecture, from the sizes of MNIST; both networks in less than 4 MB."""
    X = RNG.integers(0, 256, size=(200, 28, 28)).astype(np.uint8) * (RNG.random((28, 28)) < 0.3)
    vae = fitted(X.astype(np.uint8), 20, hidden=(500, 250, 100), likelihood="bernoulli")
    content = check(node, vae, X.astype(np.uint8))
    programs = {name: content[name] for name in ("decode", "encode")}
    assert len(json.dumps(programs)) < 4e6


class TestCases:
    @pytest.fixture(scope="class")
    def vae(self):
        return fitted(MIXED)

    def numbers(self, text):
        return np.frombuffer(base64.b64decode(text), "<f4")

    def test_codes_are_those_of_transform(self, vae):
        cases = explorer.payload(vae, MIXED)["cases"]
        codes = self.numbers(cases["codes"]).reshape(-1, 2)
        np.testing.assert_array_equal(codes, vae.transform(MIXED))

    def test_of_many_cases_some_are_shown_with_their_own_labels(self, vae):
        cases = explorer.payload(vae, MIXED, np.arange(N) / 2, n_cases=25)["cases"]
        assert cases["n"] == 20
        np.testing.assert_array_equal(self.numbers(cases["label"]["values"]), np.arange(0, N, 3) / 2)

    def test_without_cases_there_is_still_a_map(self, vae):
        content = explorer.payload(vae)
        assert content["cases"]["n"] == 0
        assert np.isfinite(content["latent"]["low"]).all()

    def test_columns_come_in_their_own_units(self, vae):
        content = explorer.payload(vae, MIXED)
        column = next(c for c in content["columns"] if c["name"] == "since")
        days = MIXED["since"].astype("int64") / {"ns": 864e11, "us": 864e8, "s": 86400}[
            MIXED["since"].dt.unit
        ]
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
            ({"X": None, "labels": [1]}, "Expected cases for `X`"),
            ({"X": MIXED, "labels": [1, 2]}, "label for each of the 60 cases"),
            ({"X": MIXED, "image_shape": (3, 3)}, "for `image_shape`"),
        ],
        ids=["no cases", "too few labels", "no picture"],
    )
    def test_what_does_not_fit_is_refused(self, vae, told, message):
        with pytest.raises(ValueError, match=message):
            explorer.payload(vae, **told)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_has_the_pictures(channels):
    image = pytest.importorskip("matplotlib.image", reason="matplotlib reads the pictures")
    pixels = RNG.integers(0, 256, size=(7, 5, 4, channels)).astype(np.uint8)
    sheet = image.imread(io.BytesIO(explorer.content._sheet(pixels)), format="png")
    sheet = np.rint(sheet * 255).reshape(15, 12, channels)
    for i in range(7):
        top, left = 5 * (i // 3), 4 * (i % 3)
        np.testing.assert_array_equal(sheet[top : top + 5, left : left + 4], pixels[i])


@pytest.mark.slow
def test_a_condition_is_refused_in_words():
    vae = VAE(2, **SMALL).fit(LOW, condition=np.arange(N) % 3)
    with pytest.raises(NotInAPage, match="without a condition"):
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
