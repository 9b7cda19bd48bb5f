"""Figure 3 of the paper: AEVB, wake-sleep and Monte Carlo EM, by the marginal likelihood.

    python experiments/figure3.py                       # what is not in results/figure3.json yet
    python experiments/figure3.py --methods AEVB --n-train 1000 --samples 1e6
    python experiments/figure3.py --draw                # picture and table, from the results

Gray MNIST, its first 1000 or 50,000 training images; 3 latent dimensions, 100 hidden units.
`train` and `test` are means of log p(x), nats per image, over the first 1000 images of each set, by
appendix D's estimator with 4 leapfrog steps and a Gaussian density (on gray levels they are no
log-likelihoods of binary images). The paper took 50 draws of each posterior; here it is 200: held
against importance sampling on three models trained for 3e5 to 2e6 samples, 50 draws were up to 0.04
nats too high, 200 up to 0.02. Both were 0.1 too low where a few posteriors had distant modes (test
images of AEVB at N = 1000), which 1000 instead of 400 starting points are meant to find. Where a
run ends, `train_importance` and `test_importance` hold the same means by importance sampling,
biased downwards: 1000 draws, half from a Student-t around the chain's draws, a quarter each from
q(z|x) and p(z).

Training samples evaluated: a row counts once each time that an update of the weights evaluates it,
in all methods (in wake-sleep with the dream beside it). The paper does not say how it counts. In
AEVB and wake-sleep an epoch is N samples, N / 100 updates. Monte Carlo EM is full batch, as in the
first author's code: an iteration moves the chains of all N images by 10 leapfrog steps, at 90 %
acceptance, updates the weights five times on all N, and counts as 5 N samples. Its leapfrog steps,
11 gradients in z per image and iteration, are not counted. A million samples are 10,000 updates in
AEVB; in Monte Carlo EM they are 1000 at N = 1000, and 20 at N = 50,000, where the first 100, in
which Adagrad only fills its accumulators, last for 5 million.

The Adagrad step, out of the paper's 0.01, 0.02 and 0.1, is the one that is best on the first 200
training images after 1000 updates ("the first few iterations"); that of Monte Carlo EM is tried on
the first 1000 images for either N. `--step` sets that of new runs.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from paper import BATCH, TRIAL, Data, PaperVAE, adagrad, load, step_for
from results import Results, Row, arguments_of, follow, markdown, reached, show

import aevb
from aevb.evaluation import posterior_draws
from aevb.evaluation.rows import map_rows, row_key

N_Z, HIDDEN = 3, 100
N_EVALUATED = 1000
CHAIN = {"n_draws": 200, "n_burn_in": 100, "n_leapfrog": 4, "n_starts": 1000}
BLOCK = 20  # rows at a time
MARKS = (1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 6e7)
N_TRIAL = 200
# Train and test, read off the paper's curves at 1e7 and 6e7 samples; None: off its scale.
PAPER: dict[tuple[int, str], dict[float, tuple[float, float] | None]] = {
    (1000, "AEVB"): {1e7: (-114.4, -142.9), 6e7: (-109.1, -143.2)},
    (1000, "wake-sleep"): {1e7: (-128.3, -146.6), 6e7: (-125.5, -144.8)},
    (1000, "MCEM"): {1e7: (-118.3, -142.4), 6e7: (-109.2, -141.6)},
    (50_000, "AEVB"): {1e7: (-135.5, -142.3), 6e7: (-131.1, -138.1)},
    (50_000, "wake-sleep"): {1e7: (-140.7, -143.2), 6e7: (-137.1, -140.8)},
    (50_000, "MCEM"): {1e7: None, 6e7: (-148.8, -150.4)},
}
METHODS: dict[str, Any] = {
    "AEVB": aevb.SGVB("B", weight_prior=1.0),
    "wake-sleep": aevb.WakeSleep(weight_prior=1.0),
    "MCEM": aevb.MonteCarloEM(n_leapfrog=10, target_acceptance=0.9, n_updates=5, weight_prior=1.0),
}


def log_p(model: PaperVAE, X: np.ndarray) -> float:
    """Average log p(x) over rows, by appendix D's estimator; NaN if a chain never moved."""
    return round(float(map_rows(_reciprocal, model, X, BLOCK).mean()), 3)


def _reciprocal(model: PaperVAE, x: jax.Array) -> jax.Array:
    return aevb.reciprocal_importance_sampling(model, x, row_key(jax.random.key(1), x), **CHAIN)


class Wide(aevb.LatentVariableModel):
    """The model with a posterior that covers what its chain saw, q(z|x) and p(z)."""

    model: PaperVAE

    def prior(self):
        return self.model.prior()

    def likelihood(self, z):
        return self.model.likelihood(z)

    def posterior(self, x, c):
        seen = dist.MultivariateStudentT(5.0, *c, validate_args=False)
        shares = dist.CategoricalProbs(jnp.array([0.5, 0.25, 0.25]), validate_args=False)
        parts = [seen, self.model.posterior(x), self.model.prior()]
        support = dist.constraints.real_vector
        return dist.MixtureGeneral(shares, parts, support=support, validate_args=False)


def log_p_importance(model: PaperVAE, X: np.ndarray) -> float:
    """Average log p(x) over rows, by importance sampling."""
    return round(float(map_rows(_importance, model, X, BLOCK).mean()), 3)


def _importance(model: PaperVAE, x: jax.Array) -> jax.Array:
    key = row_key(jax.random.key(2), x)
    z = posterior_draws(model, x, key, **CHAIN).z
    seen = z.mean(axis=0), jnp.linalg.cholesky(jnp.cov(z, rowvar=False))
    return aevb.log_likelihood(Wide(model), x, key, c=seen, n_draws=1000)


def train(data: Data, method: str, step: float, seed: int, epochs: int, *callbacks: Any) -> Any:
    """Train a model, from its start."""
    batch = batch_of(data, method)
    return aevb.train(
        PaperVAE.start(data, N_Z, seed),
        data.train,
        objective=METHODS[method],
        optimizer=adagrad(step, batch),
        batch_size=batch,
        epochs=epochs,
        key=seed,
        callbacks=callbacks,
        verbose=False,
    )


def batch_of(data: Data, method: str) -> int:
    """Return the rows of a batch."""
    return len(data.train) if method == "MCEM" else BATCH


def samples_per_epoch(data: Data, method: str) -> int:
    """Count each row once for every update of the weights that evaluates it."""
    return len(data.train) * getattr(METHODS[method], "n_updates", 1)


def measure(
    results: Results, data: Data, method: str, samples: float, wanted: float | None, seed: int
) -> None:
    """Train, and put a row into the results at each mark that is not there yet."""
    n_train, per_epoch = len(data.train), samples_per_epoch(data, method)
    key: Row = {"method": method, "dataset": "mnist", "n_z": N_Z, "n_train": n_train, "seed": seed}
    marks = {reached(mark, per_epoch) for mark in (*MARKS, samples) if mark <= samples}

    def trial(step: float) -> float:
        tried = data._replace(train=data.train[:1000]) if method == "MCEM" else data
        batch, of_epoch = batch_of(tried, method), samples_per_epoch(tried, method)
        result = train(tried, method, step, seed, reached(TRIAL * batch, of_epoch) // of_epoch)
        return log_p(result.model, data.train[:N_TRIAL])

    step = step_for(results.where(**key), wanted, trial)
    batch = batch_of(data, method)
    key["settings"] = {"adagrad_step": step, "batch": batch, "hidden": HIDDEN, **CHAIN}

    def evaluate(epoch: aevb.Epoch) -> Row:
        sets = {"train": data.train[:N_EVALUATED], "test": data.test[:N_EVALUATED]}
        row: Row = {name: log_p(epoch.model, X) for name, X in sets.items()}
        if epoch.number * per_epoch == max(marks):
            for name, X in sets.items():
                row[f"{name}_importance"] = log_p_importance(epoch.model, X)
        return row

    def follow_up(epochs: int, callback: Any) -> None:
        train(data, method, step, seed, epochs, callback)

    follow(results, key, marks, per_epoch, evaluate, follow_up)


def table(results: Results) -> str:
    """Lay what is beside the paper's numbers at 1e7 and 6e7 samples, as Markdown."""
    lines = []
    for (n_train, method), paper in PAPER.items():
        for samples, theirs in paper.items():
            for row in results.where(n_train=n_train, method=method, samples=int(samples)):
                if "diverged" in row:
                    continue
                step = row["settings"]["adagrad_step"]
                line = [f"{n_train:,}", method, f"{samples:.0e}", step, row["seed"]]
                for i, name in enumerate(("train", "test")):
                    beside = ["off its scale", "–"]
                    if theirs:
                        beside = [f"{theirs[i]}", f"{row[name] - theirs[i]:+.1f}"]
                    line += [f"{row[name]:.1f}", *beside]
                lines.append([*line, f"{row['seconds']:,.0f}"])
    both = [name for of in ("train", "test") for name in (of, "paper", "diff.")]
    return markdown(["N", "method", "samples", "step", "seed", *both, "seconds"], lines)


def ends_table(results: Results) -> str:
    """Lay both estimates of log p(x) beside each other where runs ended, as Markdown."""
    rows = [row for row in results.rows if "test_importance" in row]
    fields = ("train", "train_importance", "test", "test_importance")
    lines = [
        [f"{row['n_train']:,}", row["method"], f"{row['samples']:,}", row["seed"]]
        + [f"{row[name]:.2f}" for name in fields]
        for row in rows
    ]
    names = [name for of in ("train", "test") for name in (of, "by importance sampling")]
    return markdown(["N", "method", "samples", "seed", *names], lines)


def draw(results: Results) -> None:
    """Draw the curves as the paper does, a panel for each N."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    colours = {"AEVB": "tab:red", "wake-sleep": "tab:green", "MCEM": "tab:blue"}
    sizes = dict.fromkeys(n_train for n_train, _ in PAPER)
    for ax, n_train in zip(axes, sizes, strict=True):
        for method, colour in colours.items():
            rows = results.where(n_train=n_train, method=method)
            theirs = {x: pair for x, pair in PAPER[n_train, method].items() if pair}
            for i, (name, line, mark) in enumerate((("train", "--", "+"), ("test", "-", "x"))):
                for seed in {row["seed"] for row in rows}:
                    own = [row for row in rows if row["seed"] == seed and name in row]
                    curve = sorted((row["samples"], row[name]) for row in own)
                    x, y = ([point[k] for point in curve] for k in (0, 1))
                    ax.plot(x, y, line, color=colour, marker=".")
                values = [pair[i] for pair in theirs.values()]
                ax.plot(list(theirs), values, mark, color=colour, markersize=8)
        ax.set(xscale="log", xlim=(8e4, 8e7))
        ax.set_ylim(bottom=-170 if n_train == 1000 else -180)
        ax.set(title=f"$N_{{train}}$ = {n_train:,}", xlabel="training samples evaluated")
    for method, colour in colours.items():
        axes[1].plot([], [], color=colour, label=method)
    for line, label in {"--": "train", "-": "test"}.items():
        axes[1].plot([], [], line, marker=".", color="black", label=label)
    for mark, label in {"+": "the paper, train", "x": "the paper, test"}.items():
        axes[1].plot([], [], mark, color="black", label=label)
    axes[0].set_ylabel("log p(x) of gray MNIST, nats per image")
    axes[1].legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(results.path.with_suffix(".png"), dpi=110)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and keep each mark as soon as it is measured."""
    parser = arguments_of(__doc__, "figure3", samples=1e7)
    sizes = list(dict.fromkeys(n_train for n_train, _ in PAPER))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--n-train", nargs="+", type=int, choices=sizes, default=sizes)
    parser.add_argument("--step", type=float, help="Adagrad's, instead of a trial of the paper's")
    arguments = parser.parse_args(argv)
    results = Results(arguments.results)
    if not arguments.draw:
        data = load("mnist")._replace(hidden=HIDDEN)
        for n_train in arguments.n_train:
            subset = data._replace(train=data.train[:n_train])
            for method in arguments.methods:
                measure(results, subset, method, arguments.samples, arguments.step, arguments.seed)
    if results.rows:
        draw(results)
        show(results, table(results), ends_table(results))


if __name__ == "__main__":
    main()
