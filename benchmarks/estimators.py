"""What each estimator costs, and how fast models of one's own are, beside SVI in NumPyro and Pyro.

Set up as for `mnist_epoch.py`. Then::

    python benchmarks/estimators.py --write    # the tables of benchmarks/README.md
    python benchmarks/estimators.py --quick    # does everything run?

Two races (`race.py` says how they are run), both of the VAE of `job.py`, 784-500-20-500-784:

- Estimators. The auto-encoder that `VAE` builds, trained by `aevb.train` with each of its
  estimators, on the first 10,000 rows, as some of them take many draws. "x B" is the seconds of an
  epoch by those of estimator B with one draw, which is what `VAE.fit` does.
- Models. On all 60,000 rows: `VAE.fit`; the same VAE as a model of one's own (`own_model.py`),
  trained by `aevb.train`, in the spelling that the documentation advises and in the one that comes
  to mind first; and by SVI in NumPyro and in Pyro (`svi.py`).

The check. One evaluator measures each of the models' ELBO on the test set. If any is further than
1.5 nats from that of `VAE.fit`, they did not do the same work, and the exit code is 1. (That
`VAE.fit` agrees with PyTorch by hand is checked by `mnist_epoch.py`.)
"""

import argparse
import os
import sys
from functools import partial
from typing import Any

import contenders
import report
from job import AfterEpoch, Job, Weights
from race import (
    CHECKED_FROM,
    TOLERANCE,
    Runner,
    Settings,
    Train,
    disagreements,
    elbos_of,
    race,
    ratio,
    warn_of_disturbance,
)
from svi import train_numpyro, train_pyro

ESTIMATORS: dict[str, tuple[str, dict[str, Any]]] = {
    # name: (title, arguments of `aevb.train`)
    "B": ("B, equation (7)", {"estimator": "B"}),
    "B-5": ("B", {"estimator": "B", "n_draws": 5}),
    "A": ("A, equation (6)", {"estimator": "A"}),
    "A-5": ("A", {"estimator": "A", "n_draws": 5}),
    "stl": ("sticking the landing", {"estimator": "stl"}),
    "iw-1": ("importance-weighted", {"estimator": "iw"}),
    "iw-5": ("importance-weighted", {"estimator": "iw", "n_draws": 5}),
    "iw-50": ("importance-weighted", {"estimator": "iw", "n_draws": 50}),
    "dreg-5": ("doubly reparameterised", {"estimator": "dreg", "n_draws": 5}),
    "score-2": ("score function", {"estimator": "score", "n_draws": 2}),
    "score-5": ("score function", {"estimator": "score", "n_draws": 5}),
    "vimco-5": ("VIMCO", {"estimator": "vimco", "n_draws": 5}),
    "kl-weight": ("B, KL weight 0.5", {"estimator": "B", "kl_weight": 0.5}),
    "free-bits": ("B, 0.1 nats free", {"estimator": "B", "free_bits": 0.1}),
}
ESTIMATOR_ROWS = 10_000
ALL_ROWS = 60_000
QUICK_ROWS = 1000


def train_estimator(job: Job, after_epoch: AfterEpoch, **arguments: Any) -> None:
    """`aevb.train` on the auto-encoder that `VAE` builds."""
    import jax

    from aevb.models.autoencoder import build_autoencoder
    from aevb.schema import Schema

    model = build_autoencoder(
        Schema.fit(job.images, "bernoulli").block,
        job.latent_dim,
        hidden=(job.hidden,),
        key=jax.random.key(job.seed),
    )
    _train(model, job.images, job, after_epoch, **arguments)


def train_digits(job: Job, after_epoch: AfterEpoch) -> Weights:
    """`aevb.train` on the model of one's own, 8-bit images as they are."""
    import own_model

    images = job.images.reshape(len(job.images), -1)
    return own_model.weights_of(_train(own_model.digits(job), images, job, after_epoch))


def train_plain(job: Job, after_epoch: AfterEpoch) -> Weights:
    """`aevb.train` on the model as it comes to mind first, with gray levels as floats."""
    import own_model

    return own_model.weights_of(_train(own_model.plain(job), job.pixels, job, after_epoch))


def _train(model: Any, data: Any, job: Job, after_epoch: AfterEpoch, **arguments: Any) -> Any:
    import aevb

    return aevb.train(
        model,
        data,
        learning_rate=job.learning_rate,
        batch_size=job.batch_size,
        epochs=job.epochs,
        key=job.seed,
        callbacks=[lambda _: after_epoch()],
        **arguments,
    ).model


MODELS: dict[str, tuple[str, Train]] = {
    "vae": ("`VAE.fit`", contenders.train_aevb),
    "own": ("own model, `aevb.train`", train_digits),
    "own-plain": ("own model, first spelling, `aevb.train`", train_plain),
    "numpyro": ("NumPyro's SVI, compiled epochs", train_numpyro),
    "pyro": ("Pyro's SVI", train_pyro),
}


def estimator_rows(runners: dict[str, Runner]) -> list[report.Row]:
    """One row per estimator."""
    base = runners.get("B")
    return [
        {
            "estimator": ESTIMATORS[name][0],
            "draws": ESTIMATORS[name][1].get("n_draws", 1),
            "seconds per epoch": runner.typical,
            "fastest epoch": runner.fastest,
            "× B with one draw": ratio(runner, base) if base else None,
        }
        for name, runner in runners.items()
    ]


def model_rows(runners: dict[str, Runner], elbos: dict[str, float]) -> list[report.Row]:
    """One row per way to train the same VAE."""
    ours = runners.get("vae")
    return [
        {
            "contender": MODELS[name][0],
            "seconds per epoch": runner.typical,
            "fastest epoch": runner.fastest,
            "speed by `VAE.fit`'s": ratio(ours, runner) if ours else None,
            "test ELBO (nats)": elbos[name],
        }
        for name, runner in runners.items()
    ]


def targets_of(runners: dict[str, Runner]) -> list[report.Row]:
    """The targets whose contenders ran."""
    targets, ours = [], runners.get("vae")
    if "own" in runners:
        import own_model

        lines = own_model.lines_of(own_model.Digits)
        targets.append(report.target("lines of the own model", lines, "≤", 20))
    if ours and "own" in runners:
        speed = ratio(ours, runners["own"])
        targets.append(report.target("own model's speed × `VAE.fit`'s", speed, "≥", 0.95))
    for name, limit in {"numpyro": 1.0, "pyro": 3.0}.items():
        if ours and name in runners:
            what = f"`VAE.fit`'s speed × that of {MODELS[name][0]}"
            targets.append(report.target(what, ratio(runners[name], ours), "≥", limit))
    return targets


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--epochs", type=int, default=8, help="epochs each, the warm-up round included"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*ESTIMATORS, *MODELS],
        help="only these contenders; writes nothing",
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"3 epochs of {QUICK_ROWS} rows; writes nothing"
    )
    parser.add_argument("--write", action="store_true", help="rewrite the tables in the README")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("Expected at least 2 for --epochs: the first is the warm-up.")
    if args.quick:
        args.epochs = 3
    return args


def main() -> int:
    """Run both races, check them, and publish them."""
    args = arguments()
    os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is imported
    names = args.only or [*ESTIMATORS, *MODELS]
    load = report.load_average()
    few = QUICK_ROWS if args.quick else ESTIMATOR_ROWS
    many = QUICK_ROWS if args.quick else ALL_ROWS
    estimators = race(
        {
            name: partial(train_estimator, **options)
            for name, (_, options) in ESTIMATORS.items()
            if name in names
        },
        Settings(args.epochs, n_rows=few),
    )
    models = race(
        {name: train for name, (_, train) in MODELS.items() if name in names},
        Settings(args.epochs, n_rows=many),
    )
    elbos = elbos_of(models)
    checked = args.epochs >= CHECKED_FROM and not args.quick
    wrong = disagreements(elbos, "vae") if checked else []
    rows = {
        f"Estimators, {few:,} rows": estimator_rows(estimators),
        f"Models, {many:,} rows": model_rows(models, elbos),
        "Targets": targets_of(models),
    }
    runners = {**estimators, **models}
    report.publish(
        "estimators",
        {title: table for title, table in rows.items() if table},
        settings={"epochs": args.epochs, "threads": report.cores()},
        details={
            "seconds": {name: runner.seconds for name, runner in runners.items()},
            "test_elbo": elbos,
            "elbo_tolerance": TOLERANCE,
            "load_average_before": load,
            "elbos_agree": not wrong if checked else None,
        },
        keep=not (args.quick or args.only),
        write=args.write,
    )
    if not checked:
        print(f"ELBOs not compared: that takes {CHECKED_FROM} epochs of the whole data set.")
    warn_of_disturbance(runners.values())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
