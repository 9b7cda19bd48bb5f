"""Figure 2 of the paper: AEVB and wake-sleep, by training samples evaluated.

    python experiments/figure2.py                        # what is not in results/figure2.json yet
    python experiments/figure2.py --only mnist --n-z 3 5 --samples 1e6
    python experiments/figure2.py --draw                 # the picture, from the results

Each run trains with the Adagrad step, out of the paper's 0.01, 0.02 and 0.1, whose training bound
is best after 1e5 samples: the paper chose it in "the first few iterations". `--step` sets another.
Bounds are in nats per datapoint: ELBO of all test rows and of the first 10,000 training rows, one
draw of z each, estimator B. MNIST is gray; Frey faces are densities of values in [0, 1].
"""

import time
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
from paper import BATCH, Data, PaperVAE, adagrad, load
from results import Results, arguments_of, markdown, show

import aevb

STEPS = (0.01, 0.02, 0.1)
TRIAL = 100_000
N_Z = {"mnist": (3, 5, 10, 20, 200), "frey": (2, 5, 10, 20)}
# Test bounds read off the paper's curves at 1e6, 1e7 and 1e8 samples (reading error 0.1 on MNIST, 1
# on Frey); None: not read.
PAPER: dict[tuple[str, str], dict[int, tuple[float | None, ...]]] = {
    ("mnist", "AEVB"): {
        3: (-152.9, -138.0, -133.4),
        5: (-138.9, -124.1, -119.1),
        10: (-128.3, -108.5, -103.7),
        20: (-124.2, -104.8, -100.2),
        200: (-119.9, -103.9, -100.2),
    },
    ("mnist", "wake-sleep"): {
        3: (-155.1, -144.8, -138.9),
        5: (-142.2, -127.2, -121.9),
        10: (-134.9, -113.5, -107.6),
        20: (-130.8, -108.3, -104.6),
        200: (-130.8, -109.1, -104.6),
    },
    ("frey", "AEVB"): {
        2: (673, 823, 872),
        5: (761, 1044, 1115),
        10: (792, 1171, 1307),
        20: (754, 1200, 1312),
    },
    ("frey", "wake-sleep"): {n_z: (None, None, 569) for n_z in (2, 5, 10, 20)},
}
METHODS: dict[str, dict[str, Any]] = {
    "AEVB": {"objective": aevb.SGVB("B", weight_prior=1.0)},
    "wake-sleep": {"objective": aevb.WakeSleep(weight_prior=1.0)},
}
MARKS = (1, 1.5, 2, 3, 5, 7)  # per decade: where the bounds are evaluated


def bound(model: PaperVAE, rows: np.ndarray) -> float:
    """Average the ELBO over rows, one draw each; nats per datapoint."""
    keys = jax.random.split(jax.random.key(1), len(rows))
    return float(_elbo(model, rows, keys).mean())


@jax.jit
def _elbo(model: PaperVAE, rows: jax.Array, keys: jax.Array) -> jax.Array:
    return jax.vmap(lambda x, key: aevb.sgvb(model, x, key, bound="B"))(rows, keys)


def run(data: Data, method: str, n_z: int, samples: float, step: float, seed: int) -> list[dict]:
    """Train; return a row at each mark."""
    per_epoch = len(data.train)
    marks = [m * 10**d for d in range(4, 10) for m in MARKS if m * 10**d <= samples]
    rows: list[dict] = []
    began = time.perf_counter()

    def evaluate(epoch: Any) -> None:
        seen = epoch.number * per_epoch
        if marks and seen >= marks[0]:
            while marks and seen >= marks[0]:
                marks.pop(0)
            rows.append(
                {
                    "samples": seen,
                    "train": bound(epoch.model, data.train[:10_000]),
                    "test": bound(epoch.model, data.test),
                    "seconds": round(time.perf_counter() - began, 1),
                }
            )

    aevb.train(
        PaperVAE.start(data, n_z, seed),
        data.train,
        optimizer=adagrad(step),
        batch_size=BATCH,
        epochs=-(-int(samples) // per_epoch),
        key=seed,
        callbacks=[evaluate],
        **METHODS[method],
    )
    return rows


def choose_step(data: Data, method: str, n_z: int, seed: int) -> float:
    """Return the step with the best training bound after the trial's samples."""

    def trial(step: float) -> float:
        try:
            return run(data, method, n_z, TRIAL, step, seed)[-1]["train"]
        except aevb.DivergenceError:
            return -np.inf

    return max(STEPS, key=trial)


def table(rows: list[dict]) -> str:
    """Lay the test bounds at 1e6, 1e7 and 1e8 samples beside the paper's, as Markdown."""
    head = "data, N_z, method, samples, test here, test in the paper, difference, train here"
    lines = []
    for (dataset, method), by_n_z in PAPER.items():
        for n_z, paper in by_n_z.items():
            found = {"dataset": dataset, "method": method, "n_z": n_z}
            curve = [row for row in rows if found.items() <= row.items()]
            for samples, theirs in zip((1e6, 1e7, 1e8), paper, strict=True):
                near = [row for row in curve if 0.99 * samples <= row["samples"] < 1.1 * samples]
                if not near:
                    continue
                row = near[0]
                beside = ["–", "–"] if theirs is None else [theirs, f"{row['test'] - theirs:+.1f}"]
                own = [f"{row[part]:.1f}" for part in ("test", "train")]
                lines.append([dataset, n_z, method, f"{samples:.0e}", own[0], *beside, own[1]])
    return markdown(head.split(", "), lines)


def draw(rows: list[dict], path: Path) -> None:
    """Draw the curves as the paper does, a panel for each data set and N_z."""
    import matplotlib.pyplot as plt

    panels = [(name, n_z) for name, sizes in N_Z.items() for n_z in sizes]
    panels = [p for p in panels if any((row["dataset"], row["n_z"]) == p for row in rows)]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(2.6 * len(panels), 3), layout="constrained", squeeze=False
    )
    colours = {"AEVB": "tab:red", "wake-sleep": "tab:green"}
    for ax, (name, n_z) in zip(axes.flat, panels, strict=True):
        for method, colour in colours.items():
            found = {"dataset": name, "method": method, "n_z": n_z}
            curve = [row for row in rows if found.items() <= row.items()]
            samples = [row["samples"] for row in curve]
            ax.plot(samples, [row["test"] for row in curve], color=colour, label=f"{method}, test")
            train = [row["train"] for row in curve]
            ax.plot(samples, train, color=colour, linestyle="--", label=f"{method}, train")
            theirs = PAPER[name, method][n_z]
            marks = [(x, y) for x, y in zip((1e6, 1e7, 1e8), theirs, strict=True) if y is not None]
            if marks:
                ax.plot(
                    *zip(*marks, strict=True), "x", color=colour, label=f"{method}, paper, test"
                )
        ax.set_xscale("log")
        ax.set_title(f"{'MNIST' if name == 'mnist' else 'Frey faces'}, $N_z$ = {n_z}", fontsize=9)
        ax.set_xlabel("training samples evaluated")
        if name == "mnist":
            ax.set_ylim(-150, -95)
        else:
            ax.set_ylim(400, 1600)
    axes[0, 0].set_ylabel("ELBO, nats per datapoint")
    axes[0, -1].legend(fontsize=6)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and keep each run as soon as it is done."""
    parser = arguments_of(__doc__, "figure2", samples=1e7)
    parser.add_argument("--only", nargs="+", choices=list(N_Z), default=list(N_Z))
    parser.add_argument("--n-z", nargs="+", type=int)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--step", type=float, help="Adagrad's, instead of a trial of the paper's")
    arguments = parser.parse_args(argv)
    results = Results(arguments.results)
    for name in () if arguments.draw else arguments.only:
        data = load(name)
        for n_z, method in product(arguments.n_z or N_Z[name], arguments.methods):
            key = {"dataset": name, "method": method, "n_z": n_z, "seed": arguments.seed}
            seen = max((row["samples"] for row in results.where(**key)), default=0)
            if seen + len(data.train) > arguments.samples:
                continue
            step = arguments.step or choose_step(data, method, n_z, arguments.seed)
            settings = {"adagrad_step": step, "batch": BATCH, "hidden": data.hidden}
            rows = run(data, method, n_z, arguments.samples, step, arguments.seed)
            results.put(key, [{**row, "settings": settings} for row in rows])
            print({**key, "step": step, **rows[-1]}, flush=True)
    if results.rows:
        draw(results.rows, results.path.with_suffix(".png"))
        show(results, table(results.rows))


if __name__ == "__main__":
    main()
