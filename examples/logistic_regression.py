"""Bayesian logistic regression by full variational Bayes (appendix F of the paper).

Everything unknown is a parameter. A datapoint has no latent (its z is empty), and its covariates
are the context. `aevb.Bayesian` gives the coefficients θ a posterior N(mean, scale²) under the
prior N(0, 1), learned from minibatches. A run of NUTS gives the true posterior to compare with.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import MCMC, NUTS
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import aevb

COLUMNS = 10  # the means of the cells' measurements


class LogisticRegression(aevb.LatentVariableModel):
    coefficients: jax.Array
    intercept: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros(0), 1.0).to_event(1)

    def posterior(self, x):
        return dist.Normal(jnp.zeros(0), 1.0).to_event(1)

    def likelihood(self, z, c):
        return dist.Bernoulli(logits=self.coefficients @ c + self.intercept)


def nuts(X, y):
    """Draw from the exact posterior of the coefficients."""

    def model():
        coefficients = numpyro.sample("coefficients", dist.Normal(jnp.zeros(COLUMNS), 1.0))
        intercept = numpyro.sample("intercept", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Bernoulli(logits=X @ coefficients + intercept), obs=y)

    chain = MCMC(NUTS(model), num_warmup=500, num_samples=2000, progress_bar=False)
    chain.run(jax.random.key(0))
    return chain.get_samples()["coefficients"]


def main(epochs: int = 1000) -> dict[str, float]:
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X[:, :COLUMNS]).astype(np.float32)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0)
    model = aevb.Bayesian(LogisticRegression(jnp.zeros(COLUMNS), jnp.zeros(())))
    result = aevb.train(
        model, y, context=X, n_draws=1, epochs=epochs, optimizer="adam",
        learning_rate=optax.cosine_decay_schedule(0.02, 5 * epochs),
    )  # fmt: skip
    model = result.model

    def probabilities(model):
        return jax.vmap(lambda c: model.likelihood(jnp.zeros(0), c).mean)(X_test)

    mean, spread = aevb.posterior_predictive(model, probabilities, jax.random.key(1))
    truth = nuts(X, y)
    off = (model.mean.coefficients - truth.mean(axis=0)) / truth.std(axis=0)
    narrow = model.std.coefficients / truth.std(axis=0)
    return {
        "largest error of a mean, in exact standard deviations": float(jnp.abs(off).max()),
        "standard deviations, relative to the exact ones: median": float(jnp.median(narrow)),
        "test accuracy": float(np.mean((mean > 0.5) == y_test)),
        "test log-likelihood, averaged over θ": float(dist.Bernoulli(mean).log_prob(y_test).mean()),
        "the same at the mean of θ": float(
            dist.Bernoulli(probabilities(model.at_mean())).log_prob(y_test).mean()
        ),
        "mean uncertainty of a probability (sd over θ)": float(spread.mean()),
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:58s} {value:8.3f}")
