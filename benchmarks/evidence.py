"""The evidence of MNIST: how long does it take, in how much memory, and how far is it off?

Set up as for `mnist_epoch.py`; no peers are needed, but BlackJAX is (`pip install "aevb[mcmc]"`).
Then::

    python benchmarks/evidence.py --write
    python benchmarks/evidence.py --quick               # does everything run?

The paper's VAE, 784-500-20-500-784 with tanh from random weights, is fitted to the training images,
binarised at a half, for 20 epochs. A process of its own loads it and estimates log p(x) of all
10,000 test images by importance sampling with 5000 draws each; compiling counts, and memory is the
highest that the whole process had. Others take 100 of the test images by annealed importance
sampling, beside importance sampling of the same, and bound log p(x) of 100 images that the model
simulates from both sides. Where q(z|x) is a little narrower than the exact posterior, importance
sampling misses what annealed importance sampling finds, and its error does not tell.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import report
from alone import measured, status

LATENTS = 20
SETTINGS = {"hidden": 500, "activation": "tanh", "init": "random", "likelihood": "bernoulli"}


def images() -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST, binarised, to train and to test on."""
    from aevb import datasets

    train, test = datasets.load_mnist()
    return train.images > 127, test.images > 127


def fit(path: str, n: int, epochs: int) -> report.Row:
    """Fit the model and save it."""
    from aevb import VAE

    train, _ = images()
    began = time.perf_counter()
    options = {"epochs": epochs, "random_state": 0, "verbose": False}
    vae = VAE(LATENTS, **SETTINGS, **options).fit(train[:n])
    vae.save(path)
    return {"fit, s": time.perf_counter() - began, "train ELBO": vae.history_["elbo"][-1]}


def estimate(path: str, method: str, n: int, n_draws: int) -> report.Row:
    """Estimate log p(x) of test images in this process, and return what it took."""
    from aevb import VAE

    vae = VAE.load(path)
    _, test = images()
    began = time.perf_counter()
    found = vae.evidence(test[:n], n_draws, method=method)
    seconds = time.perf_counter() - began
    each = np.asarray(found.log_likelihood, np.float64)
    shape = found.pareto_k
    return {
        "method": method,
        "images": n,
        "draws or chains": n_draws,
        "seconds": seconds,
        "ms per image": 1000 * seconds / n,
        "memory, MB": status("VmHWM"),
        "mean log p(x)": each.mean(),
        "its error over the images": each.std(ddof=1) / math.sqrt(n),
        "its error of the draws": math.sqrt(np.mean(np.square(found.standard_error)) / n),
        "bias it tells": float(np.mean(found.bias)),
        "Pareto shape > 0.7": None if np.isnan(shape).all() else float(np.mean(shape > 0.7)),
        "each": each.tolist() if n <= 1000 else [],
    }


def bound(path: str, n: int, n_chains: int) -> report.Row:
    """Bound log p(x) of simulated images from both sides."""
    from aevb import VAE

    vae = VAE.load(path)
    began = time.perf_counter()
    found = vae.sandwich(n, n_chains)
    seconds = time.perf_counter() - began
    return {
        "simulated images": n,
        "chains each way": n_chains,
        "seconds": seconds,
        "lower bound": float(np.mean(found.lower, dtype=np.float64)),
        "upper bound": float(np.mean(found.upper, dtype=np.float64)),
        "gap": found.mean_gap,
        "its error": found.mean_gap_se,
    }


def compared(first: report.Row, second: report.Row) -> report.Row:
    """Compare two estimates of the same images, pair by pair."""
    difference = np.subtract(first["each"], second["each"])
    return {
        "images": len(difference),
        f"{first['method']} minus {second['method']}": difference.mean(),
        "its error": difference.std(ddof=1) / math.sqrt(len(difference)),
        "largest": difference.max(),
        "smallest": difference.min(),
    }


def main() -> None:
    """Measure each in a process of its own, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        task, path, *options = arguments.one
        function = {"fit": fit, "estimate": estimate, "bound": bound}[task]
        read = [int(option) if option.isdigit() else option for option in options]
        print(json.dumps(function(path, *read)))
        return
    n_train, epochs, n_test, n_draws, n_few = 60_000, 20, 10_000, 5000, 100
    if arguments.quick:
        n_train, epochs, n_test, n_draws, n_few = 5000, 2, 200, 500, 8
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mnist.aevb"
        fitted = measured(__file__, "fit", path, n_train, epochs)
        rows = [
            measured(__file__, "estimate", path, "importance", n_test, n_draws),
            measured(__file__, "estimate", path, "importance", n_few, n_draws),
            measured(__file__, "estimate", path, "annealed", n_few, 16),
        ]
        both = measured(__file__, "bound", path, n_few, 16)
    first, same, annealed = rows
    pairs = [compared(annealed, same)]
    shown = [{name: cell for name, cell in row.items() if name != "each"} for row in rows]
    title = f"{n_test} test images, {n_draws} draws"
    targets = [
        report.target(f"{title}: seconds", first["seconds"], "≤", 480, " s"),
        report.target(f"{title}: memory", first["memory, MB"], "≤", 1500, " MB"),
    ]
    report.publish(
        "evidence",
        {
            "log p(x) of binarised MNIST, nats": shown,
            "The same images, pair by pair": pairs,
            "Simulated images between two bounds": [both],
            "Targets": targets,
        },
        settings={"epochs": epochs},
        details={"fit": fitted, "estimates": rows},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
