"""A hierarchical model by full variational Bayes, with correlated posteriors over its parameters.

Log radon in house i of county j, by floor (0 basement, 1 ground floor):

    x_ij ~ N(a_j + b floor_ij, s),  a_j ~ N(g, t),  g, b, log s, log t ~ N(0, 1)

The data are simulated, in the shape of the well-known ones of Minnesota: 919 houses in 85
counties, most with a few houses. One datapoint is one county, its houses padded to one length; the
latent is a_j, whose posterior given the parameters is known. θ = (g, b, log s, log t).

Three posteriors, compared with a run of NUTS by their standard deviations:

- ``posterior="full-normal"``: the covariance of θ is learned;
- ``posterior="normal"``, the paper's: θ's parts are independent;
- mean field throughout: the a_j, too, are independent of θ, and of each other.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import MCMC, NUTS

import aevb

NAMES = ("g", "b", "log_s", "log_t")


class County(aevb.LatentVariableModel):
    g: jax.Array
    b: jax.Array
    log_s: jax.Array
    log_t: jax.Array

    def prior(self):
        return dist.Normal(self.g, jnp.exp(self.log_t))

    def likelihood(self, z, c):
        houses = dist.Normal(z + self.b * c["floor"], jnp.exp(self.log_s))
        return houses.mask(c["house"]).to_event(1)

    def posterior(self, x, c):
        """Return the exact p(a_j|x_j): normal times normals."""
        s, t = jnp.exp(self.log_s), jnp.exp(self.log_t)
        precision = 1 / t**2 + jnp.sum(c["house"]) / s**2
        rest = jnp.sum(jnp.where(c["house"], x - self.b * c["floor"], 0.0))
        return dist.Normal((self.g / t**2 + rest / s**2) / precision, precision**-0.5)


class MeanField(County):
    mean: jax.Array  # of q(a_j), a table with a row for each county
    log_scale: jax.Array

    def posterior(self, x, c):
        return dist.Normal(self.mean[c["county"]], jnp.exp(self.log_scale[c["county"]]))


def simulate(n_houses=919, n_counties=85):
    """Return county, floor and log radon of each house."""
    rng = np.random.default_rng(0)
    more = rng.multinomial(n_houses - n_counties, rng.dirichlet(np.full(n_counties, 0.5)))
    county = np.repeat(np.arange(n_counties), 1 + more)
    floor = rng.random(n_houses) < 1 / 6
    a = rng.normal(1.5, 0.33, n_counties)
    return county, floor, rng.normal(a[county] - 0.7 * floor, 0.75)


def by_county(county, floor, x):
    """Return the rows of x and of the context, one for each county, padded to one length."""
    sizes = np.bincount(county)
    house = np.arange(sizes.max()) < sizes[:, None]

    def padded(values):
        rows = np.zeros(house.shape, np.float32)
        rows[house] = values[np.argsort(county, kind="stable")]
        return rows

    context = {"floor": padded(floor), "house": house, "county": np.arange(len(sizes))}
    return padded(x), context


def nuts(county, floor, x):
    """Return the standard deviations of the exact posterior of θ."""

    def model():
        g, b, log_s, log_t = (numpyro.sample(name, dist.Normal(0.0, 1.0)) for name in NAMES)
        with numpyro.plate("counties", county.max() + 1):
            u = numpyro.sample("u", dist.Normal(0.0, 1.0))
        mean = (g + jnp.exp(log_t) * u)[county] + b * floor
        numpyro.sample("x", dist.Normal(mean, jnp.exp(log_s)), obs=x)

    chain = MCMC(NUTS(model), num_warmup=500, num_samples=4000, progress_bar=False)
    chain.run(jax.random.key(0))
    return np.array([chain.get_samples()[name].std() for name in NAMES])


def main(epochs: int = 4000, houses: tuple | None = None) -> dict[str, float]:
    houses = simulate() if houses is None else houses
    x, context = by_county(*houses)
    zero, zeros = jnp.zeros(()), jnp.zeros(len(x))
    county, mean_field = County(*[zero] * 4), MeanField(*[zero] * 4, zeros, zeros)
    exact = nuts(*houses)
    figures = {}
    for name, model, family in [
        ("full normal", county, "full-normal"),
        ("independent parameters", county, "normal"),
        ("mean field throughout", mean_field, "normal"),
    ]:
        model = aevb.Bayesian(
            model, where=lambda m: (m.g, m.b, m.log_s, m.log_t), posterior=family, start_scale=0.1
        )
        model = aevb.train(
            model, x, context=context, batch_size=len(x), epochs=epochs, optimizer="adam",
            learning_rate=optax.cosine_decay_schedule(0.02, epochs),
        ).model  # fmt: skip
        for parameter, std in zip(NAMES, exact, strict=True):
            figures[f"{name}: {parameter}"] = float(getattr(model.std, parameter) / std)
    return figures


if __name__ == "__main__":
    print("Standard deviations, relative to those of NUTS:")
    for name, value in main().items():
        print(f"{name:30s} {value:6.2f}")
