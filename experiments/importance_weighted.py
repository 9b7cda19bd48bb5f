"""Importance-weighted auto-encoders: table 1 of Burda et al. (2015), one stochastic layer.

    python experiments/importance_weighted.py              # the first 4 of 8 stages: 40 passes
    python experiments/importance_weighted.py --stages 8   # the published schedule: 3280 passes
    python experiments/importance_weighted.py --only VAE-1 IWAE-5
    python experiments/importance_weighted.py --draw       # picture and table, from the results

`test` is a log-likelihood in nats per image of *binarised* MNIST, estimated from below: the mean of
L_5000 (importance sampling from q with --draws draws) over the test images, each pixel drawn once
for all from Bernoulli(gray level). The published table shows its negative. `train_bound` is another
number: the run's own bound (ELBO or L_k) averaged over its last pass, while the parameters move.
Active units are the latents u with Var_x(E_q[u|x]) > 0.01 over the test images.

As published: 784-200-200-z50 and back, tanh, Glorot and Bengio's start; minibatches of 20, every
pixel drawn anew from Bernoulli(gray level) at every visit; Adam (0.9, 0.999, epsilon 1e-4), 3^i
passes with step 0.001 * 10^(-i/7), i = 0, 1, ..., 7. Steps are constant within a stage, so the
schedule may be cut after any; rows come after each stage from the third on. As in the authors' code
(yburda/iwae), of which the paper does not speak, logits of the mean image start the decoder's last
biases. That code keeps the last 400 training images for validation, goes through the other 59,600
in the same order in every pass, clips the mean image at 0.001 and 0.999, and rounds the steps to
0.001, 0.00072, 0.00052, 0.00037, 0.00027, 0.00019, 0.00014 and 0.0001. Here it is all 60,000,
shuffled for every pass, a mean image clipped at 0.01 and 0.99, and the paper's unrounded steps.

"VAE, k" averages estimator A over k draws; with k = 1 it is IWAE too. "DReG", the doubly
reparameterised gradient (Tucker et al. 2018), is an extra.
"""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from results import Results, Row, arguments_of, device_of, follow, line_of, markdown, show

import aevb
from aevb.evaluation.rows import map_rows, row_key
from aevb.models.autoencoder import build_autoencoder

N_Z, HIDDEN, BATCH = 50, (200, 200), 20
STAGES = 8
RUNS = {  # method, estimator, k
    "VAE-1": ("VAE", "A", 1),
    "VAE-5": ("VAE", "A", 5),
    "IWAE-5": ("IWAE", "iw", 5),
    "DReG-5": ("DReG", "dreg", 5),
    "VAE-50": ("VAE", "A", 50),
    "IWAE-50": ("IWAE", "iw", 50),
}
# Negative log-likelihood and active units after 3280 passes; DReG's from a rerun, nbip/IWAE.
PUBLISHED: dict[tuple[str, int], tuple[float, int | None]] = {
    ("VAE", 1): (86.76, 19),
    ("VAE", 5): (86.47, 20),
    ("VAE", 50): (86.35, 20),
    ("IWAE", 5): (85.54, 22),
    ("IWAE", 50): (84.78, 25),
    ("DReG", 5): (84.90, None),
}


class Binarised(eqx.Module):
    """Objective: another one, on pixels drawn from Bernoulli(gray level) at every visit."""

    objective: aevb.SGVB

    def __call__(self, model: Any, batch: Any, key: jax.Array, state: Any) -> Any:
        drawn = jax.random.bernoulli(key, batch.x).astype(batch.x.dtype)
        return self.objective(model, batch._replace(x=drawn), key, state)


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return the training images as gray levels in [0, 1], and the test images, binarised."""
    train, test = (
        split.images.reshape(-1, 784) / np.float32(255) for split in aevb.datasets.load_mnist()
    )
    drawn = np.random.default_rng(2015).random(test.shape) < test
    return train, drawn.astype(np.float32)


def start(X: np.ndarray, seed: int) -> aevb.AutoEncoder:
    """Return the model before training."""
    return build_autoencoder(
        aevb.Schema.fit(X, "bernoulli").block,
        N_Z,
        hidden=HIDDEN,
        key=jax.random.key(seed),
    )


def passes(stage: int) -> int:
    """Count the passes over the data up to the end of a stage, which are numbered from 1."""
    return (3**stage - 1) // 2


def schedule(steps_per_pass: int) -> optax.Schedule:
    """Return the published step, by number of minibatches seen."""
    ends = {steps_per_pass * passes(stage): 10 ** (-1 / 7) for stage in range(1, STAGES)}
    return optax.piecewise_constant_schedule(1e-3, ends)


def log_likelihood(model: aevb.AutoEncoder, X: np.ndarray, n_draws: int) -> np.ndarray:
    """Estimate log p(x) of each row; nats."""
    return map_rows(_Evidence(n_draws), model, X, 20)


class _Evidence(eqx.Module):
    n_draws: int = eqx.field(static=True)

    def __call__(self, model: aevb.AutoEncoder, x: jax.Array) -> jax.Array:
        key = row_key(jax.random.key(0, impl="rbg"), x)
        return aevb.log_likelihood(model, x, key, n_draws=self.n_draws)


def active_units(model: aevb.AutoEncoder, X: np.ndarray) -> int:
    """Count the latents whose posterior mean varies over the rows."""
    return int(np.sum(map_rows(_mean, model, X, 500).var(axis=0) > 1e-2))


def _mean(model: aevb.AutoEncoder, x: jax.Array) -> jax.Array:
    return model.posterior(x).mean


def measure(results: Results, data: tuple[np.ndarray, np.ndarray], key: Row, stages: int) -> None:
    """Train; keep a row after each stage from the third on, or after the last."""
    (train, test), settings = data, key["settings"]
    test = test[: settings["test_rows"]]
    n, stage_by_end = len(train), {passes(i): i for i in range(min(3, stages), stages + 1)}

    def evaluate(epoch: aevb.Epoch) -> Row:
        began = time.perf_counter()
        nats = log_likelihood(epoch.model, test, settings["draws"])
        return {
            "stages": stage_by_end[epoch.number],
            "passes": epoch.number,
            "train_bound": round(epoch.metrics.get("iw_bound", epoch.metrics["elbo"]), 3),
            "test": round(float(nats.mean()), 3),
            "test_se": round(float(nats.std() / np.sqrt(len(nats))), 3),
            "active_units": active_units(epoch.model, test),
            "evaluation_seconds": round(time.perf_counter() - began, 1),
        }

    def follow_up(epochs: int, callback: Callable) -> None:
        aevb.train(
            start(train, key["seed"]),
            train,
            objective=Binarised(aevb.SGVB(settings["estimator"], n_draws=settings["k"])),
            optimizer=optax.adam(schedule(-(-n // BATCH)), eps=1e-4),
            batch_size=BATCH,
            epochs=epochs,
            key=key["seed"],
            callbacks=[callback],
            verbose=False,
        )

    follow(results, key, [end * n for end in stage_by_end], n, evaluate, follow_up)


def table(results: Results) -> str:
    """Lay the negative log-likelihoods beside the published ones, as Markdown."""
    lines = []
    rows = [row for row in results.rows if "test" in row]
    for row in sorted(rows, key=lambda row: (row["passes"], row["settings"]["k"])):
        method, k = row["method"], row["settings"]["k"]
        nll, units = PUBLISHED[method, k]
        lines.append(
            [
                *(method, k, row["passes"], row["seed"]),
                f"{-row['test']:.2f} ± {row['test_se']:.2f} ({row['active_units']})",
                f"{nll} ({units})" if units else f"{nll} (rerun)",
                f"{-row['test'] - nll:+.2f}",
                f"{row['settings']['test_rows']:,}",
                f"{row['seconds']:,.0f}",
                device_of(row),
            ]
        )
    head = ["method", "k", "passes", "seed", "NLL (active units)", "published, 3280 passes"]
    return markdown([*head, "diff.", "test images", "seconds", "on"], lines)


def draw(results: Results) -> None:
    """Draw the negative log-likelihood by passes over the data; the marks are k."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.4, 4.8), layout="constrained")
    colours = {"VAE": "tab:blue", "IWAE": "tab:red", "DReG": "tab:green"}
    styles = {1: "-", 5: "--", 50: ":"}
    for method, k in PUBLISHED:
        rows = [row for row in results.where(method=method) if row["settings"]["k"] == k]
        rows = sorted((row for row in rows if "test" in row), key=lambda row: row["passes"])
        if not rows:
            continue
        label = f"{'VAE = IWAE' if k == 1 else method}, k = {k}"
        mark = {"marker": f"${k}$", "markersize": 6 + 3 * len(str(k))}
        for run in sorted({(row["seed"], row["machine"]) for row in rows}):
            own = [row for row in rows if (row["seed"], row["machine"]) == run]
            x, y = [row["passes"] for row in own], [-row["test"] for row in own]
            look = {"color": colours[method], **mark, **line_of(own[0], results.rows)}
            ax.plot(x, y, styles[k], **look)
        ax.plot([], [], styles[k], color=colours[method], label=label, **mark)
        ax.plot(passes(STAGES), PUBLISHED[method, k][0], "x", color=colours[method])
    ax.plot([], [], "x", color="black", label="published, 3280 passes")
    machines = {row["machine"]: row for row in results.rows}.values()
    for row in machines if len(machines) > 1 else ():
        ax.plot([], [], color="black", label=device_of(row), **line_of(row, results.rows))
    ax.set(xscale="log", xlabel="passes over the training images")
    ax.set_ylabel(f"NLL of binarised test images, nats (−L$_{{{_draws(results)}}}$)")
    ax.set_title("MNIST, one stochastic layer of 50")
    ax.legend(frameon=False)
    figure.savefig(results.path.with_suffix(".png"), dpi=110)


def _draws(results: Results) -> str:
    return "/".join(str(n) for n in sorted({row["settings"]["draws"] for row in results.rows}))


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and keep each stage as soon as it is measured."""
    parser = arguments_of(__doc__, "importance_weighted")
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--stages", type=int, choices=range(1, STAGES + 1), default=4)
    parser.add_argument("--draws", type=int, default=5000, help="of the test log-likelihood")
    parser.add_argument("--test-rows", type=int, default=10_000)
    arguments = parser.parse_args(argv)
    results = Results(arguments.results)
    data = None if arguments.draw else load()
    for method, estimator, k in map(RUNS.get, arguments.only) if data else ():
        settings = {"k": k, "draws": arguments.draws, "test_rows": arguments.test_rows}
        key = {"method": method, "dataset": "mnist, binarised", "n_z": N_Z, "seed": arguments.seed}
        key["settings"] = {**settings, "estimator": estimator, "batch": BATCH}
        measure(results, data, key, arguments.stages)
    results = results.together()
    if results.rows:
        draw(results)
        show(results, table(results))


if __name__ == "__main__":
    main()
