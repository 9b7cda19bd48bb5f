"""What several tests need: 64-bit numbers, real data, a model of which everything is known."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import Array
from jaxtyping import install_import_hook

# What benchmarks/faults.py draws is drawn by tests too. Behind all others: a benchmark may have the
# name of a library.
sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

# Shapes and types in the annotations of these modules are checked at every call of the tests. Not
# among them is models.base, through which what a user's model returns passes before `check_model`
# looks at it.
MODELS = (
    "architectures autoencoder checks conditional convolutions flows kinds networks posteriors "
    "priors"
)
INFERENCE = "estimators full_vb hmc mcem objective optimizers run sgvb stopping training wake_sleep"
CHECKED = [
    *(f"aevb.models.{name}" for name in MODELS.split()),
    *(f"aevb.inference.{name}" for name in INFERENCE.split()),
    "aevb.predict",
]
if importlib.util.find_spec("beartype"):  # not where the wheel is tried alone
    install_import_hook(CHECKED, "beartype.beartype")

from aevb import Frozen, LatentVariableModel  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what comes after the first n instances of a test marked ``quick(n)``."""
    seen: Counter[tuple] = Counter()
    for item in items:
        if mark := item.get_closest_marker("quick"):
            name = item.path, item.name.split("[")[0]
            seen[name] += 1
            if seen[name] > mark.args[0]:
                item.add_marker("slow")


@pytest.fixture
def own_messages() -> Iterator[None]:
    """No check of annotations, where a test gives wrong types to see what the package says."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def x64() -> Iterator[None]:
    """64-bit numbers, where a test asks for exactness."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(scope="session")
def real_data() -> None:
    """Skip where the published data sets are not at hand."""
    if not os.environ.get("AEVB_DATA"):
        pytest.skip("AEVB_DATA names no folder with the real data")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The distribution's Chromium, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    names = "chromium", "chromium-browser", "google-chrome"
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("Chromium, in which pages are opened, is not installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(autouse=True, scope="module")
def room_for_programs() -> Iterator[None]:
    """Let go of compiled programs before Linux refuses to map more memory: it allows 65,530 areas.

    The garbage collector need not look at those that are kept.
    """
    yield
    areas = Path("/proc/self/maps")
    if areas.exists() and areas.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_open_figures() -> Iterator[None]:
    """Close pyplot's figures after each test: it warns of more than twenty."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


class LinearGaussian(LatentVariableModel):
    """Probabilistic PCA: p(x|z) = N(Wz + m, s² I), q(z|x) = N(V(x - m), diag d)."""

    W: Array
    m: Array
    s: Array
    V: Array
    d: Array

    def prior(self):
        return dist.Normal(jnp.zeros(self.W.shape[1]), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(self.W @ z + self.m, self.s).to_event(1)

    def posterior(self, x):
        return dist.Normal(self.V @ (x - self.m), jnp.sqrt(self.d)).to_event(1)

    @classmethod
    def random(cls, n_features: int, latent_dim: int, seed: int = 0, *, orthogonal: bool = False):
        """Draw a model, with some posterior; orthogonal columns of W let q be exact."""
        rng = np.random.default_rng(seed)
        W = rng.normal(size=(n_features, latent_dim))
        if orthogonal:
            W = np.linalg.qr(W)[0] * rng.uniform(0.5, 2.0, latent_dim)
        m, V = rng.normal(size=n_features), 0.3 * rng.normal(size=(latent_dim, n_features))
        d = rng.uniform(0.2, 0.8, latent_dim)
        return cls(*map(jnp.asarray, (W, m, 0.7, V, d)))

    @property
    def M(self) -> Array:
        return self.W.T @ self.W + self.s**2 * jnp.eye(self.W.shape[1])

    def with_best_posterior(self):
        """Return the model with the best q of its family: exact for orthogonal columns of W."""
        V = jnp.linalg.solve(self.M, self.W.T)
        return LinearGaussian(self.W, self.m, self.s, V, self.s**2 / jnp.diag(self.M))

    def exact_posterior(self, x) -> dist.MultivariateNormal:
        """Return p(z|x) = N(M⁻¹Wᵀ(x - m), s² M⁻¹)."""
        inverse = jnp.linalg.inv(self.M)
        mean = inverse @ self.W.T @ (x - self.m)
        return dist.MultivariateNormal(mean, covariance_matrix=self.s**2 * inverse)

    def log_evidence(self, x) -> Array:
        """Return log p(x) = log N(x; m, WWᵀ + s² I)."""
        C = self.W @ self.W.T + self.s**2 * jnp.eye(len(self.m))
        return dist.MultivariateNormal(self.m, covariance_matrix=C).log_prob(x)

    def exact_elbo(self, x) -> Array:
        """Return the evidence lower bound in closed form."""
        mean, D = self.V @ (x - self.m), len(self.m)
        kl = 0.5 * jnp.sum(self.d + mean**2 - 1 - jnp.log(self.d))
        residual = jnp.sum((x - self.m - self.W @ mean) ** 2)
        spread = jnp.sum(self.d * jnp.sum(self.W**2, axis=0))
        constant = 0.5 * D * jnp.log(2 * jnp.pi * self.s**2)
        return -kl - constant - (residual + spread) / (2 * self.s**2)


@pytest.fixture(scope="session")
def linear_gaussian() -> type[LinearGaussian]:
    """The class of linear-Gaussian models."""
    return LinearGaussian


class Line(LatentVariableModel):
    """z ~ N(0, 1), x ~ N(weight z + shift, I): small, with a constant and a count in it."""

    weight: jax.Array
    shift: jax.Array
    encoder: jax.Array
    constant: Frozen
    count: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros(1), 1.0).to_event(1)

    def likelihood(self, z):
        mean = self.weight @ z + self.shift * self.constant.value
        return dist.Normal(mean, 1.0).to_event(1)

    def posterior(self, x):
        return dist.Normal(self.encoder @ x, 0.7).to_event(1)


@pytest.fixture(scope="session")
def line() -> Callable[..., Line]:
    """A function that makes a small model for rows of three numbers, from a seed."""

    def make(seed: int = 0) -> Line:
        rng = np.random.default_rng(seed)
        arrays = [rng.normal(size=shape).astype(np.float32) for shape in [(3, 1), 3, (1, 3)]]
        return Line(*map(jnp.asarray, arrays), Frozen(jnp.ones(3)), jnp.array(7))

    return make
