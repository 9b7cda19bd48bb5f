"""Probabilistic PCA as a latent-variable model, trained by AEVB and compared with its closed form.

z ~ N(0, I), x | z ~ N(W z + m, s² I) (Tipping and Bishop 1999). The best q(z|x) of diagonal
Gaussians is exact when the columns of W are orthogonal, so the bound can reach the evidence, whose
maximum scikit-learn's PCA knows.
"""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import optax
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import aevb

K = 2


class ProbabilisticPCA(aevb.LatentVariableModel):
    W: jax.Array
    mean: jax.Array
    log_s: jax.Array
    V: jax.Array
    log_d: jax.Array

    def prior(self):
        return dist.Normal(jnp.zeros(K), 1.0).to_event(1)

    def likelihood(self, z):
        return dist.Normal(self.W @ z + self.mean, jnp.exp(self.log_s)).to_event(1)

    def posterior(self, x):
        return dist.Normal(self.V @ (x - self.mean), jnp.exp(self.log_d)).to_event(1)


def main(epochs: int = 2000) -> dict[str, float]:
    X = StandardScaler().fit_transform(load_wine().data)  # (178, 13)
    d = X.shape[1]
    W, V = 0.1 * jax.random.normal(jax.random.key(0), (2, d, K))
    model = ProbabilisticPCA(W, jnp.zeros(d), jnp.zeros(()), V.T, jnp.zeros(K))
    rate = optax.cosine_decay_schedule(0.02, 2 * epochs)
    result = aevb.train(
        model, X, batch_size=len(X) // 2, epochs=epochs, n_draws=10, optimizer="adam",
        learning_rate=rate,
    )  # fmt: skip
    model = result.model
    covariance = model.W @ model.W.T + jnp.exp(2 * model.log_s) * jnp.eye(d)
    evidence = dist.MultivariateNormal(model.mean, covariance).log_prob(X).mean()
    return {
        "log-likelihood by AEVB, nats per case": float(evidence),
        "log-likelihood of the optimum (PCA)": float(PCA(K).fit(X).score(X)),
        "evidence lower bound, last epoch": result.history["elbo"][-1],
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:45s} {value:10.4f}")
