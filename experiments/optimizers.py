"""How many samples, and seconds, until a test bound of -100 nats: Adagrad against today's steps.

    python experiments/optimizers.py                # what is not in results/optimizers.json yet
    python experiments/optimizers.py --only adam --samples 1e6
    python experiments/optimizers.py --draw         # picture and table, from the results

The model is the paper's of MNIST with N_z = 20: 784-500-20-500-784, tanh, batches of 100, a prior
N(0, 1) over the weights. Bounds are ELBOs of *gray* images in nats per datapoint (the expected
Bernoulli log-likelihood under stochastic binarisation; no likelihood of binary images), after each
epoch of 50,000: of the 10,000 test images, and of the first 10,000 training images; 4 draws of z
each, closed-form KL, the same noise every time. Seconds, and those of processor time, which other
work on the machine does not lengthen, are of training alone, compilation included, evaluation not,
on the machine that the results name. The test set chooses nothing: every run is reported, and goes
on past the mark to --samples, so that the table shows its best test bound, and when it came, too.

Starts: "paper", all weights N(0, 0.01²), with zeros in biases and in the encoder's log-variance;
"package", that of `aevb.VAE`: Glorot and Bengio's uniform weights, and logits of the mean image in
the decoder's last biases. Steps stay constant. Beside these, `VAE(latent_dim=20)` as it stands,
whose Adamax step of 0.01 falls along half a cosine over 20 epochs, and the same over others; no
prior over the weights.
"""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from paper import BATCH, Data, PaperVAE, adagrad, load
from results import Results, arguments_of, markdown, show

import aevb
from aevb.evaluation.rows import map_rows, row_key

N_Z = 20
MARK = -100.0
DRAWS = 4
# Test bounds read off the paper's figure 2, Adagrad, at 1e6, 1e7 and 1e8 samples.
PAPER = ((1e6, -124.2), (1e7, -104.8), (1e8, -100.2))
PAPER_LINE = (
    *("Adagrad, in the paper", "paper", "more than 1e8"),
    "120,000 to 240,000 for 1e8",  # "20-40 minutes per million training samples" on one Xeon
    *("–", "-100.2", "1e+08", "1.9", "-100.2 at 1e+08"),
)


class Run(NamedTuple):
    """An optimizer, a constant step (None: as `VAE` has it), a start; epochs if they matter."""

    optimizer: str
    step: float | None
    start: str
    epochs: int | None = None


RUNS = [
    *(Run("VAE", None, "package", epochs) for epochs in (20, 50, 100)),
    *(
        Run(optimizer, step, start)
        for start in ("paper", "package")
        for optimizer, steps in {
            "adam": (5e-4, 1e-3, 2e-3, 5e-3),
            "adamax": (1e-3, 2e-3, 5e-3, 1e-2),
            "adagrad": (0.01, 0.02, 0.1),
        }.items()
        for step in steps
        if optimizer != "adagrad" or start == "paper"
    ),
]


def mean_elbo(model: aevb.LatentVariableModel, X: np.ndarray) -> float:
    """Average the ELBO over rows; nats per datapoint."""
    return float(map_rows(_elbo, model, X, 500).mean())


def _elbo(model: aevb.LatentVariableModel, x: jax.Array) -> jax.Array:
    return aevb.elbo(model, x, row_key(jax.random.key(1), x), n_draws=DRAWS)


def curve(data: Data, run: Run, samples: float, seed: int) -> list[dict]:
    """Train; return a row for every epoch."""
    rows: list[dict] = []
    cpu = -time.process_time()  # seconds of training: evaluation is taken out again

    def evaluate(epoch: aevb.Epoch) -> None:
        nonlocal cpu
        cpu += time.process_time()
        rows.append(
            {
                "samples": epoch.number * len(data.train),
                "train": round(mean_elbo(epoch.model, data.train[:10_000]), 3),
                "test": round(mean_elbo(epoch.model, data.test), 3),
                "seconds": round(sum(epoch.history["seconds"]), 2),
                "cpu_seconds": round(cpu, 2),
            }
        )
        cpu -= time.process_time()

    common: dict[str, Any] = {"batch_size": BATCH, "callbacks": [evaluate], "verbose": False}
    common["epochs"] = run.epochs or -(-int(samples) // len(data.train))
    if run.step is not None:
        common |= {"weight_prior": 1.0, "optimizer": run.optimizer, "learning_rate": run.step}
    if run.optimizer == "adagrad":
        common |= {"optimizer": adagrad(run.step), "learning_rate": "auto"}
    try:
        if run.start == "paper":
            first = PaperVAE.start(data, N_Z, seed)
            aevb.train(first, data.train, bound="B", key=seed, **common)
        else:
            aevb.VAE(N_Z, hidden=data.hidden, random_state=seed, **common).fit(data.train)
    except aevb.DivergenceError as error:
        print(error)
        rows.append({"samples": error.epoch * len(data.train), "diverged": True})
    return rows


def key_of(run: Run, seed: int) -> dict[str, Any]:
    """Return what tells a run's rows from others'."""
    method = "VAE defaults" if run.step is None else run.optimizer
    settings = {"step": run.step, "start": run.start, "epochs": run.epochs, "draws": DRAWS}
    return {"method": method, "dataset": "mnist", "n_z": N_Z, "settings": settings, "seed": seed}


def runs_of(results: Results) -> list[tuple[dict, list[dict]]]:
    """Group the rows by run: what tells it from others, and its curve."""
    fields = [{name: row[name] for name in ("method", "settings", "seed")} for row in results.rows]
    unique = [run for i, run in enumerate(fields) if run not in fields[:i]]
    return [(run, results.where(**run)) for run in unique]


def name_of(run: dict) -> str:
    """Name a run for people."""
    settings = run["settings"]
    if settings["step"] is None:
        return f"VAE(20, epochs={settings['epochs']})"
    return f"{run['method'].capitalize()} {settings['step']:g}"


def table(results: Results) -> str:
    """Lay out what each run needed to the mark, and how far it got, as Markdown."""
    lines = []
    for run, rows in runs_of(results):
        good = [row for row in rows if "test" in row]
        there = next((row for row in good if row["test"] >= MARK), None)
        reached = ["–"] * 3
        if there:
            reached = [f"{there['samples']:.2g}"]
            reached += [f"{there[name]:.0f}" for name in ("seconds", "cpu_seconds")]
        if not good:
            lines.append([name_of(run), run["settings"]["start"], *reached, *["diverged"] * 4])
            continue
        best, last = max(good, key=lambda row: row["test"]), good[-1]
        ended = f"{last['test']:.1f} at {last['samples']:.2g}"
        if len(good) < len(rows):
            ended += ", then diverged"
        lines.append(
            [
                *(name_of(run), run["settings"]["start"], *reached),
                *(f"{best['test']:.1f}", f"{best['samples']:.2g}"),
                *(f"{best['train'] - best['test']:.1f}", ended),
            ]
        )
    lines.append(PAPER_LINE)
    head = ["optimizer and step", "start", f"samples to {MARK:g}", "seconds", "of processor time"]
    more = ["best test bound", "at", "train less test there", "last test bound"]
    return markdown([*head, *more], lines)


def draw(results: Results) -> None:
    """Draw the test bounds by samples, a panel for each start."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained", sharey=True)
    titles = {"paper": "start: weights N(0, 0.01²)", "package": "start: the package's"}
    maps = {"adam": "Blues", "adamax": "Reds", "adagrad": "Greens", "VAE defaults": "Greys"}
    for ax, (start, title) in zip(axes, titles.items(), strict=True):
        runs = [(run, rows) for run, rows in runs_of(results) if run["settings"]["start"] == start]
        for method, colours in maps.items():
            own = [(run, rows) for run, rows in runs if run["method"] == method]
            own.sort(key=lambda pair: pair[0]["settings"]["step"] or pair[0]["settings"]["epochs"])
            shades = plt.get_cmap(colours)(np.linspace(0.45, 0.95, len(own)))
            for (run, rows), shade in zip(own, shades, strict=True):
                good = [row for row in rows if "test" in row]
                x, y = ([row[name] for row in good] for name in ("samples", "test"))
                ax.plot(x, y, color=shade, linewidth=1.4, label=name_of(run))
        ax.plot(*zip(*PAPER, strict=True), "x", color="black", label="Adagrad, the paper")
        ax.axhline(MARK, color="black", linewidth=0.8, linestyle=":")
        ax.set(xscale="log", ylim=(-130, -96), title=title, xlabel="training samples evaluated")
        ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes[0].set_ylabel("test bound of gray MNIST, nats per image")
    figure.savefig(results.path.with_suffix(".png"), dpi=110)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and keep each run as soon as it is done."""
    parser = arguments_of(__doc__, "optimizers", samples=5e6)
    methods = list(dict.fromkeys(run.optimizer for run in RUNS))
    parser.add_argument("--only", nargs="+", choices=methods, default=methods)
    parser.add_argument("--start", nargs="+", choices=["paper", "package"])
    arguments = parser.parse_args(argv)
    results = Results(arguments.results)
    data = None if arguments.draw else load("mnist")
    for run in RUNS if data else ():
        if run.optimizer not in arguments.only or run.start not in (arguments.start or run.start):
            continue
        key = key_of(run, arguments.seed)
        done = results.where(**key)
        wanted = arguments.samples if run.epochs is None else 0
        if done and (done[-1]["samples"] >= wanted or "diverged" in done[-1]):
            continue
        rows = curve(data, run, arguments.samples, arguments.seed)
        results.put(key, rows)
        print(run, rows[-1], flush=True)
    if results.rows:
        draw(results)
        show(results, table(results))


if __name__ == "__main__":
    main()
