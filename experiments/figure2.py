"""Figure 2 of the paper: AEVB and wake-sleep, by training samples evaluated.

    python experiments/figure2.py                        # what is not in results/figure2.json yet
    python experiments/figure2.py --only mnist --n-z 3 5 --samples 1e6
    python experiments/figure2.py --draw                 # the picture, from the results
    python experiments/figure2.py --samples 1e8 --results experiments/results/figure2-gpu.json

Each run trains with the Adagrad step, out of the paper's 0.01, 0.02 and 0.1, whose training bound
is best after 1000 updates: the paper chose it in "the first few iterations". `--step` sets that of
new runs.
Bounds are in nats per datapoint: ELBO of all test rows and of the first 10,000 training rows, one
draw of z each, estimator B. MNIST is gray; Frey faces are densities of values in [0, 1].
"""

from itertools import product
from typing import Any

import jax
import numpy as np
from paper import BATCH, TRIAL, Data, PaperVAE, adagrad, load, step_for
from results import (
    Results,
    Row,
    arguments_of,
    device_of,
    follow,
    line_of,
    markdown,
    reached,
    show,
)

import aevb

N_Z = {"mnist": (3, 5, 10, 20, 200), "frey": (2, 5, 10, 20)}
NAMES = {"mnist": "MNIST", "frey": "Frey faces"}
# Bounds read off the paper's curves at 1e6, 1e7 and 1e8 samples (reading error 0.1 on MNIST, 1 on
# Frey); None: not read. First of the test rows:
READ_AT = (1e6, 1e7, 1e8)
Curves = dict[tuple[str, str], dict[int, tuple[float | None, ...]]]
PAPER: Curves = {
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
PAPER_TRAIN: Curves = {
    ("mnist", "AEVB"): {
        3: (-155.3, -138.3, -130.3),
        5: (-141.0, -123.7, -116.5),
        10: (-129.6, -107.7, -100.7),
        20: (-126.3, -104.2, -98.3),
        200: (-121.8, -103.4, -98.4),
    },
    ("frey", "AEVB"): {
        2: (None, None, 935),
        5: (None, None, 1234),
        10: (None, None, 1463),
        20: (None, None, 1488),
    },
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
    return jax.vmap(lambda x, key: aevb.sgvb(model, x, key, estimator="B"))(rows, keys)


def train(data: Data, method: str, n_z: int, step: float, seed: int, epochs: int, *calls: Any):
    """Train a model, from its start."""
    return aevb.train(
        PaperVAE.start(data, n_z, seed),
        data.train,
        optimizer=adagrad(step),
        batch_size=BATCH,
        epochs=epochs,
        key=seed,
        callbacks=calls,
        verbose=False,
        **METHODS[method],
    )


def measure(results: Results, data: Data, key: Row, samples: float, wanted: float | None) -> None:
    """Train, and put a row into the results at each mark that is not there yet."""
    n = len(data.train)
    run = data, key["method"], key["n_z"]
    marks = {reached(m * 10**d, n) for d in range(4, 10) for m in MARKS if m * 10**d <= samples}

    def trial(step: float) -> float:
        model = train(*run, step, key["seed"], reached(TRIAL * BATCH, n) // n).model
        return bound(model, data.train[:10_000])

    step = step_for(results.where(**key), wanted, trial)
    settings = {"adagrad_step": step, "batch": BATCH, "hidden": data.hidden}

    def evaluate(epoch: aevb.Epoch) -> Row:
        sets = {"train": data.train[:10_000], "test": data.test}
        return {name: round(bound(epoch.model, X), 3) for name, X in sets.items()}

    def follow_up(epochs: int, callback: Any) -> None:
        train(*run, step, key["seed"], epochs, callback)

    follow(results, {**key, "settings": settings}, marks, n, evaluate, follow_up)


def table(results: Results, dataset: str) -> str:
    """Lay the bounds at 1e6, 1e7 and 1e8 samples beside the paper's, as Markdown."""
    lines = []
    for (name, method), by_n_z in PAPER.items():
        for n_z, i in product(by_n_z, range(len(READ_AT))):
            found = {"dataset": dataset, "method": method, "n_z": n_z, "samples": int(READ_AT[i])}
            for row in results.where(**found) if name == dataset else ():
                if "diverged" in row:
                    continue
                line = [n_z, method, f"{READ_AT[i]:.0e}", row["settings"]["adagrad_step"]]
                for of, curves in (("test", PAPER), ("train", PAPER_TRAIN)):
                    theirs = curves.get((name, method), {}).get(n_z, (None,) * 3)[i]
                    beside = ["–", "–"] if theirs is None else [theirs, f"{row[of] - theirs:+.1f}"]
                    line += [f"{row[of]:.1f}", *beside]
                line += [f"{row['seconds']:,.0f}", device_of(row)]
                lines.append([*line[:4], row["seed"], *line[4:]])
    both = [name for of in ("test", "train") for name in (of, "paper", "diff.")]
    head = ["N_z", "method", "samples", "step", "seed", *both, "seconds", "on"]
    return f"{NAMES[dataset]}:\n\n{markdown(head, lines)}" if lines else ""


def draw(results: Results) -> None:
    """Draw a line of panels for each data set, a panel for each size, a curve for each seed."""
    import matplotlib.pyplot as plt

    rows = [row for row in results.rows if "test" in row]
    there = {(row["dataset"], row["n_z"]) for row in rows}
    panels = [[(name, z) for z in sizes if (name, z) in there] for name, sizes in N_Z.items()]
    panels = [line for line in panels if line]
    if not panels:
        return
    width = max(map(len, panels)) + 1  # the last place is the legend's
    figure, axes = plt.subplots(
        len(panels), width, figsize=(2.3 * width, 3 * len(panels)), layout="constrained"
    )
    axes = axes.reshape(len(panels), width)
    colours = {"AEVB": "tab:red", "wake-sleep": "tab:green"}
    places = {panel: axes[i, j] for i, line in enumerate(panels) for j, panel in enumerate(line)}
    for (name, n_z), ax in places.items():
        for method, colour in colours.items():
            panel = (name, n_z, method)
            own = [row for row in rows if (row["dataset"], row["n_z"], row["method"]) == panel]
            for run in sorted({(row["seed"], row["machine"]) for row in own}):
                curve = [row for row in own if (row["seed"], row["machine"]) == run]
                curve.sort(key=lambda row: row["samples"])
                samples = [row["samples"] for row in curve]
                look = {"color": colour, **line_of(curve[0], rows)}
                ax.plot(samples, [row["test"] for row in curve], **look)
                ax.plot(samples, [row["train"] for row in curve], linestyle="--", **look)
            theirs = zip(READ_AT, PAPER[name, method][n_z], strict=True)
            marks = [(x, y) for x, y in theirs if y is not None]
            ax.plot([x for x, _ in marks], [y for _, y in marks], "x", color=colour)
        ax.set_xscale("log")
        ax.set_title(f"{NAMES[name]}, $N_z$ = {n_z}", fontsize=9)
        ax.set_xlabel("samples evaluated", fontsize=9)
        ax.set_ylim((-170, -95) if name == "mnist" else (400, 1600))
        ax.tick_params(labelsize=8)
    for ax in set(axes.flat) - set(places.values()):
        ax.set_axis_off()
    last = axes[0, -1]
    for method, colour in colours.items():
        last.plot([], [], color=colour, label=method)
    for line, label in {"-": "test", "--": "train"}.items():
        last.plot([], [], line, color="black", label=label)
    last.plot([], [], "x", color="black", label="the paper, test")
    machines = {row["machine"]: row for row in rows}.values()
    for row in machines if len(machines) > 1 else ():
        last.plot([], [], color="black", label=device_of(row), **line_of(row, rows))
    last.legend(fontsize=8, frameon=False, loc="upper left")
    for ax in axes[:, 0]:
        ax.set_ylabel("ELBO, nats per datapoint", fontsize=9)
    figure.savefig(results.path.with_suffix(".png"), dpi=110)


def main(argv: list[str] | None = None) -> None:
    """Run what is missing, and keep each mark as soon as it is measured."""
    parser = arguments_of(__doc__, "figure2", samples=1e7)
    parser.add_argument("--only", nargs="+", choices=list(N_Z), default=list(N_Z))
    every_size = sorted({n_z for sizes in N_Z.values() for n_z in sizes})
    parser.add_argument("--n-z", nargs="+", type=int, choices=every_size, default=every_size)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--step", type=float, help="Adagrad's, instead of a trial of the paper's")
    arguments = parser.parse_args(argv)
    results = Results(arguments.results)
    for name in () if arguments.draw else arguments.only:
        data = load(name)
        sizes = [n_z for n_z in N_Z[name] if n_z in arguments.n_z]
        for n_z, method in product(sizes, arguments.methods):
            key = {"dataset": name, "method": method, "n_z": n_z, "seed": arguments.seed}
            measure(results, data, key, arguments.samples, arguments.step)
    results = results.together()
    if results.rows:
        draw(results)
        show(results, *filter(None, (table(results, name) for name in N_Z)))


if __name__ == "__main__":
    main()
