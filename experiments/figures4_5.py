"""Figures 4 and 5 of the paper: learned manifolds, and samples from models of MNIST.

    python experiments/figures4_5.py                 # trains five models, draws both figures
    python experiments/figures4_5.py --only frey-2 --samples 1e6
    python experiments/figures4_5.py --draw          # pictures and table, from the models kept

Figure 4: E[x|z] of the Frey faces and of MNIST with N_z = 2, for z on a linear grid on the unit
square, carried over by the inverse Gaussian CDF. Figure 5: E[x|z] for 100 draws z ~ p(z), of models
of MNIST with N_z = 2, 5, 10, 20. The models are kept beside the results, as figures4_5-*.eqx, a
file for each seed. They are no part of the repository: where there are none, `--draw` draws nothing
and says so, and a run without `--draw` trains them.

Architecture, start and objective are the paper's (`paper.py`), with a prior N(0, 1) over the
weights. The optimizer is `aevb.train`'s default: Adamax, whose step falls from 0.01 to 0 along half
a cosine over --samples training samples, in place of Adagrad for up to 1e8. Bounds are ELBOs in
nats per datapoint, of the test rows and of the first 10,000 training rows, 4 draws of z each: MNIST
is gray (the expected Bernoulli log-likelihood under stochastic binarisation), Frey faces are
densities of values in [0, 1].
"""

from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from optimizers import mean_elbo
from paper import BATCH, Data, PaperVAE, load
from results import Results, Row, arguments_of, markdown, show

import aevb
from aevb.evaluation.rows import map_rows

RUNS = {
    "frey-2": ("frey", 2),
    "mnist-2": ("mnist", 2),
    "mnist-5": ("mnist", 5),
    "mnist-10": ("mnist", 10),
    "mnist-20": ("mnist", 20),
}
NAMES = {"frey": "Frey faces", "mnist": "MNIST"}
IMAGE = {"frey": (28, 20), "mnist": (28, 28)}
SIDE = {"frey": 14, "mnist": 20}  # images along each side of a manifold
SAMPLES = 100
METHOD = "AEVB, Adamax"


def train(data: Data, n_z: int, samples: float, seed: int) -> tuple[PaperVAE, Row]:
    """Train; return the model, and its bounds."""
    result = aevb.train(
        PaperVAE.start(data, n_z, seed),
        data.train,
        estimator="B",
        weight_prior=1.0,
        batch_size=BATCH,
        epochs=-(-int(samples) // len(data.train)),
        key=seed,
        verbose=False,
    )
    return result.model, {
        "samples": len(result.history["epoch"]) * len(data.train),
        "train": round(mean_elbo(result.model, data.train[:10_000]), 2),
        "test": round(mean_elbo(result.model, data.test), 2),
        "seconds": round(sum(result.history["seconds"]), 1),
    }


def decode(model: PaperVAE, Z: np.ndarray) -> np.ndarray:
    """Return E[x|z] of each z."""
    return map_rows(_mean, model, np.asarray(Z, np.float32), 100)


def _mean(model: PaperVAE, z: jax.Array) -> jax.Array:
    return model.likelihood(z).mean


def model_path(results: Results, name: str, seed: int) -> Path:
    """Return where a model is kept."""
    return results.path.with_name(f"{results.path.stem}-{name}-seed{seed}.eqx")


def models_of(results: Results, seed: int) -> dict[str, PaperVAE]:
    """Read the models of a seed that have a row in the results and a file beside them."""
    models = {}
    for name, (dataset, n_z) in RUNS.items():
        path = model_path(results, name, seed)
        for row in results.where(dataset=dataset, n_z=n_z, seed=seed) if path.exists() else ():
            height, width = IMAGE[dataset]
            nothing = np.empty((0, height * width), np.float32)
            hidden = row["settings"]["hidden"]
            like = PaperVAE.start(Data(nothing, nothing, hidden, dataset == "frey"), n_z, seed)
            models[name] = eqx.tree_deserialise_leaves(path, like)
    return models


def manifolds(models: dict[str, PaperVAE], path: Path) -> None:
    """Draw figure 4: the manifolds of the models with two latents."""
    import matplotlib.pyplot as plt

    from aevb import plotting

    names = [name for name in models if RUNS[name][1] == 2]
    if not names:
        return
    shapes = [IMAGE[RUNS[name][0]] for name in names]
    widths = [7 * width / height for height, width in shapes]
    figure, axes = plt.subplots(
        *(1, len(names)),
        figsize=(sum(widths) + 0.5 * len(names), 7.9),
        width_ratios=widths,
        layout="constrained",
        squeeze=False,
    )
    for ax, name in zip(axes.flat, names, strict=True):
        dataset, model = RUNS[name][0], models[name]
        plotting.manifold(
            lambda Z, model=model: decode(model, Z), IMAGE[dataset], n=SIDE[dataset], ax=ax
        )
        ax.set_title(f"{NAMES[dataset]}: E[x|z] over the quantiles of p(z)")
    figure.savefig(path, dpi=100)


def samples(models: dict[str, PaperVAE], path: Path, seed: int) -> None:
    """Draw figure 5: samples of the models of MNIST, side by side."""
    import matplotlib.pyplot as plt

    from aevb import plotting

    names = [name for name in models if name.startswith("mnist")]
    if not names:
        return
    figure, axes = plt.subplots(
        1, len(names), figsize=(3.8 * len(names), 4.1), layout="constrained", squeeze=False
    )
    for ax, name in zip(axes.flat, names, strict=True):
        n_z = RUNS[name][1]
        z = np.random.default_rng(seed).standard_normal((SAMPLES, n_z))
        plotting.samples(decode(models[name], z).reshape(-1, 28, 28), ax=ax)
        ax.set_title(f"{n_z}-D latent space")
    figure.savefig(path, dpi=100)


def table(results: Results) -> str:
    """Lay out the bounds, as Markdown."""
    fields = ("n_z", "seed", "train", "test", "seconds")
    head = ("data", "samples", "N_z", *fields[1:])
    lines = [
        [NAMES[row["dataset"]], f"{row['samples']:.0e}", *(row[name] for name in fields)]
        for row in results.rows
    ]
    return markdown(head, lines)


def main(argv: list[str] | None = None) -> None:
    """Train what is missing, keep each model as soon as it is trained, and draw."""
    parser = arguments_of(__doc__, "figures4_5", samples=3e6)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    arguments = parser.parse_args(argv)
    results, seed = Results(arguments.results), arguments.seed
    data: dict[str, Data] = {}
    for name in () if arguments.draw else arguments.only:
        dataset, n_z = RUNS[name]
        path = model_path(results, name, seed)
        key = {"method": METHOD, "dataset": dataset, "n_z": n_z, "seed": seed}
        kept = results.where(**key) if path.exists() else []
        if any(row["samples"] >= arguments.samples for row in kept):
            continue
        data[dataset] = data.get(dataset) or load(dataset)
        model, row = train(data[dataset], n_z, arguments.samples, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        eqx.tree_serialise_leaves(path, model)
        row["settings"] = {"step": 0.01, "hidden": data[dataset].hidden, "batch": BATCH}
        results.put(key, [row])
        print(key, row, flush=True)
    models = models_of(results, seed)
    if not models:
        print(f"No models of seed {seed} beside {results.path.name}: train them, without --draw.")
    stem = results.path.with_suffix("")
    manifolds(models, stem.with_name(f"{stem.name}-manifolds.png"))
    samples(models, stem.with_name(f"{stem.name}-samples.png"), seed)
    if results.rows:
        show(results, table(results))


if __name__ == "__main__":
    main()
