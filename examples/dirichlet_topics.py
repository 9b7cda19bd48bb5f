"""Topics of documents without an encoder: each document has its own variational parameters.

A document's topic shares are z ~ Dirichlet(α). Its words are multinomial with probabilities
z @ topics (latent Dirichlet allocation with the words' assignments summed out; Blei, Ng and Jordan
2003). q(z|x) is a Dirichlet whose parameters are a row of a table, found through the context. The
same minibatch algorithm then fits each row whenever its document comes up. The documents are drawn
from ten known topics, the rows and columns of a 5 × 5 grid of words (Griffiths and Steyvers 2004).
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy.optimize import linear_sum_assignment

import aevb

SIDE, N_TOPICS, N_DOCUMENTS, N_WORDS, ALPHA = 5, 10, 500, 100, 0.3


class Topics(aevb.LatentVariableModel):
    logits: jax.Array  # (topics, words)
    table: jax.Array  # (documents, topics): q's log-concentrations

    def prior(self):
        return dist.Dirichlet(jnp.full(N_TOPICS, ALPHA))

    def likelihood(self, z):
        words = z @ jax.nn.softmax(self.logits)
        return dist.Multinomial(N_WORDS, words / words.sum(), total_count_max=N_WORDS)

    def posterior(self, x, c):
        return dist.Dirichlet(jnp.exp(self.table[c]))


def draw_documents(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the true topics (topics, words), and counts of words (documents, words)."""
    bars = np.eye(SIDE).repeat(SIDE, axis=1)
    topics = np.concatenate([bars, bars.reshape(SIDE, SIDE, SIDE).swapaxes(1, 2).reshape(SIDE, -1)])
    topics = topics / SIDE
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(N_TOPICS, ALPHA), N_DOCUMENTS)
    counts = np.stack([rng.multinomial(N_WORDS, share @ topics) for share in shares])
    return topics, counts.astype(np.float32)


def main(epochs: int = 400) -> dict[str, float]:
    topics, counts = draw_documents()
    start = 0.5 * jax.random.normal(jax.random.key(0), (N_TOPICS, SIDE**2))
    model = Topics(start, jnp.zeros((N_DOCUMENTS, N_TOPICS)))
    result = aevb.train(
        model, counts, context=np.arange(N_DOCUMENTS), estimator="B", batch_size=50, epochs=epochs,
        learning_rate=0.05,
    )  # fmt: skip
    found = np.asarray(jax.nn.softmax(result.model.logits))
    distance = 0.5 * np.abs(topics[:, None] - found[None]).sum(axis=2)  # total variation
    matched = distance[linear_sum_assignment(distance)]
    return {
        "worst distance of a true topic from its match": float(matched.max()),
        "mean distance": float(matched.mean()),
        "evidence lower bound, nats per document": result.history["elbo"][-1],
        "the same in the first epoch": result.history["elbo"][0],
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:48s} {value:9.3f}")
