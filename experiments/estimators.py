"""Estimator B against estimator A: learning curves, and the variance of their gradients.

    python experiments/estimators.py                 # what is not in results/estimators.json yet
    python experiments/estimators.py --n-z 3 --seeds 0 --samples 2e5
    python experiments/estimators.py --draw          # picture and tables, from the results

The paper's model of gray MNIST with N_z = 3 and 20, its Adagrad (step 0.01, for both), one draw of
z, batches of 100; A and B start from the same weights and see the same minibatches.

Rows of "bounds" are curves: after each epoch of 50,000, ELBOs in nats per datapoint (the expected
Bernoulli log-likelihood under stochastic binarisation) of the 10,000 test images and of the first
10,000 training images, 4 draws of z each, closed-form KL, the same noise for all.

Rows of "gradients" hold the trace of the covariance of the gradient of the mean bound
over the first 100 training images, in squared nats per squared unit of the parameters, by group of
parameters; over the draws of z alone, not over the choice of the minibatch. All estimators at the
same models, which B trained: at the start, after 1e5 and after 1e6 samples. `n_draws` is the
paper's L. "stl", which sticks the landing, is estimator A without the score of q.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from optimizers import mean_elbo
from paper import BATCH, Data, PaperVAE, adagrad, load
from results import Results, Row, arguments_of, follow, markdown, reached, show

import aevb

STEP = 0.01
MARKS = (0, 100_000, 1_000_000)  # samples after which gradients are looked at
CANDIDATES = [(name, n_draws) for name in ("A", "B", "stl") for n_draws in (1, 5)]
REPEATS = 500


def side(name: str) -> str:
    """Say to which side of the model a parameter belongs."""
    return "decoder" if name in ("W1", "b1", "W2", "b2") else "encoder"


def gradients(model: PaperVAE, X: np.ndarray, repeats: int) -> list[Row]:
    """Return a row for each estimator and group of parameters."""
    report = aevb.gradient_variance(
        model, X, estimators=CANDIDATES, n_repeats=repeats, key=0, where=side
    )
    columns = ("estimator", "n_draws", "group", "variance", "variance_se", "squared_norm", "snr")
    entries = zip(*(report.rows[column] for column in columns), strict=True)
    return [dict(zip(columns, entry, strict=True)) for entry in entries]


def measure(results: Results, data: Data, key: Row, samples: float, repeats: int) -> None:
    """Train; keep the learning curve and, of B's model, the gradients at the marks."""
    n, seed, bound = len(data.train), key["seed"], key["method"]
    marks = {reached(mark, n): mark for mark in MARKS}

    def look(model: PaperVAE, seen: int) -> None:
        own = {**key, "of": "gradients", "samples": seen, "mark": marks.get(seen)}
        if bound == "B" and seen in marks and not results.where(**own):
            results.put(own, gradients(model, data.train[:BATCH], repeats))

    def evaluate(epoch: aevb.Epoch) -> Row:
        look(epoch.model, epoch.number * n)
        sets = {"train": data.train[:10_000], "test": data.test}
        return {name: round(mean_elbo(epoch.model, X), 3) for name, X in sets.items()}

    def train(epochs: int, callback: Callable) -> None:
        aevb.train(
            PaperVAE.start(data, key["n_z"], seed),
            data.train,
            estimator=bound,
            weight_prior=1.0,
            optimizer=adagrad(STEP),
            batch_size=BATCH,
            epochs=epochs,
            key=seed,
            callbacks=[callback],
            verbose=False,
        )

    look(PaperVAE.start(data, key["n_z"], seed), 0)
    marked = range(n, reached(samples, n) + 1, n)
    follow(results, {**key, "of": "bounds"}, marked, n, evaluate, train)


def curves_of(results: Results, **fields: Any) -> dict[int, list[Row]]:
    """Return the learning curve of each seed."""
    rows = [row for row in results.where(of="bounds", **fields) if "test" in row]
    return {seed: [r for r in rows if r["seed"] == seed] for seed in {r["seed"] for r in rows}}


def curve_table(results: Results) -> str:
    """Lay out how far B is ahead of A, with the same seed, as Markdown."""
    lines = []
    for n_z in sorted({row["n_z"] for row in results.rows}):
        a, b = (curves_of(results, method=method, n_z=n_z) for method in "AB")
        for mark in MARKS[1:]:
            at = {}
            for method, curves in (("A", a), ("B", b)):
                for seed, rows in curves.items():
                    there = [row["test"] for row in rows if row["samples"] >= mark]
                    at[method, seed] = there[0] if there else None
            seeds = [s for s in a if at.get(("A", s)) is not None and at.get(("B", s)) is not None]
            if not seeds:
                continue
            tests = {m: np.mean([at[m, seed] for seed in seeds]) for m in "AB"}
            ahead = np.array([at["B", seed] - at["A", seed] for seed in seeds])
            spread = f"{ahead.min():+.2f} to {ahead.max():+.2f}"
            lines.append(
                [n_z, f"{mark:.0e}", len(seeds), f"{tests['A']:.2f}", f"{tests['B']:.2f}", spread]
            )
    head = ["N_z", "samples", "seeds", "test bound, A", "test bound, B", "B less A, by seed"]
    return markdown(head, lines)


def noise_table(results: Results) -> str:
    """Lay out the variances of the gradients, of all seeds' models on average, as Markdown."""
    rows = results.where(of="gradients", group="all")
    lines = []
    for n_z in sorted({row["n_z"] for row in rows}):
        for mark in sorted({row["mark"] for row in rows}):
            own = [row for row in rows if (row["n_z"], row["mark"]) == (n_z, mark)]
            mean = {
                pair: np.mean(
                    [r["variance"] for r in own if (r["estimator"], r["n_draws"]) == pair]
                )
                for pair in CANDIDATES
            }
            ratio = mean["A", 1] / mean["B", 1]
            cells = [f"{mean[pair]:.3g}" for pair in CANDIDATES]
            lines.append([n_z, f"{mark:.0e}" if mark else "0", *cells, f"{ratio:.2f}"])
    head = [f"{name}, L = {n_draws}" for name, n_draws in CANDIDATES]
    return markdown(["N_z", "samples", *head, "A / B, L = 1"], lines)


def draw(results: Results) -> None:
    """Draw the curves above and the variances beneath, a column for each N_z."""
    import matplotlib.pyplot as plt

    sizes = sorted({row["n_z"] for row in results.rows})
    figure, axes = plt.subplots(
        2, len(sizes), figsize=(5.4 * len(sizes), 7.6), layout="constrained", squeeze=False
    )
    colours = {"A": "tab:orange", "B": "tab:blue", "stl": "tab:green"}
    for (above, below), n_z in zip(axes.T, sizes, strict=True):
        for method in "AB":
            for i, rows in enumerate(curves_of(results, method=method, n_z=n_z).values()):
                x, y = ([row[name] for row in rows] for name in ("samples", "test"))
                label = None if i else f"estimator {method}"
                above.plot(x, y, color=colours[method], linewidth=1, label=label)
        above.set(xscale="log", xlabel="training samples evaluated")
        above.set_title(f"gray MNIST, $N_z$ = {n_z}: a line for each seed", fontsize=10)
        above.set_ylabel("test ELBO, nats per image")
        above.legend(frameon=False)

        rows = results.where(of="gradients", n_z=n_z, group="all")
        marks = sorted({row["mark"] for row in rows})
        width = 0.8 / len(CANDIDATES)
        for i, (name, n_draws) in enumerate(CANDIDATES):
            own = [r for r in rows if (r["estimator"], r["n_draws"]) == (name, n_draws)]
            below.plot(
                [marks.index(r["mark"]) + (i + 0.5) * width - 0.4 for r in own],
                [r["variance"] for r in own],
                "o" if n_draws == 1 else "s",
                color=colours[name],
                fillstyle="full" if n_draws == 1 else "none",
                label=f"{name}, L = {n_draws}",
            )
        below.set_xticks(range(len(marks)), [f"{mark:.0e}" if mark else "start" for mark in marks])
        below.set(yscale="log", xlabel="training samples evaluated")
        below.set_ylabel("variance of the gradient")
        below.set_title("noise of the draws, minibatch of 100: a point for each seed", fontsize=10)
        below.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        below.grid(axis="y", color="0.9")
    figure.savefig(results.path.with_suffix(".png"), dpi=110)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and keep each row as soon as it is measured."""
    parser = arguments_of(__doc__, "estimators", samples=1e6)
    parser.add_argument("--n-z", nargs="+", type=int, default=[3, 20])
    parser.add_argument("--seeds", type=int, nargs="+", help="default: three, from --seed up")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="gradients per estimator")
    arguments = parser.parse_args(argv)
    results = Results(arguments.results)
    seeds = arguments.seeds or range(arguments.seed, arguments.seed + 3)
    data = None if arguments.draw else load("mnist")
    for n_z in arguments.n_z if data else ():
        for seed in seeds:
            for bound in "BA":
                key: Row = {"method": bound, "dataset": "mnist", "n_z": n_z, "seed": seed}
                key["settings"] = {"adagrad_step": STEP, "batch": BATCH, "hidden": data.hidden}
                measure(results, data, key, arguments.samples, arguments.repeats)
    if results.rows:
        draw(results)
        show(results, curve_table(results), noise_table(results))


if __name__ == "__main__":
    main()
