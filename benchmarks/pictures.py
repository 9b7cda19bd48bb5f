"""How likely are test pictures, with dense layers and convolutions, and how fast do these train?

Set up as for `mnist_epoch.py`. Then::

    python benchmarks/pictures.py nll --only mnist-dense --write     # one after the other, or all
    python benchmarks/pictures.py speed --write
    python benchmarks/pictures.py nll speed --quick                  # does everything run?

What is done stays in `results/pictures.json`, part by part, with the settings that each had; the
table of `README.md` has all that is there.

`nll`: a VAE with 40 latents is trained on MNIST or Fashion-MNIST, binarised anew in every epoch:
each pixel is white with the probability that is its gray level. The test images are binarised once,
by seed 0. log p(x) is estimated by importance sampling with 5000 draws. Nothing is chosen by test
images: the number of epochs is set beforehand. Beside it stand published numbers, under the same
protocol but with the networks and the epochs of their authors.

`speed`: the convolutional VAE, and the same written by hand in PyTorch (`pictures_torch.py`), train
on gray MNIST in turn, epoch by epoch, as `race.py` says. Before that, both are held to the same
outputs at the same weights, and to the same number of parameters.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import report
from job import AfterEpoch, Job, unit_floats
from race import CHECKED_FROM, Settings, disagreements, race, ratio, warn_of_disturbance

import aevb
from aevb import VAE, datasets
from aevb.data.placement import OneDevice
from aevb.data.source import Chunk, Source

LATENTS = 40
DATA = {"mnist": "load_mnist", "fashion": "load_fashion_mnist"}
TITLES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
NETWORKS: dict[str, dict[str, Any]] = {
    "dense": {"hidden": (300, 300)},
    "conv": {"architecture": "conv"},
}
NAMES = [f"{data}-{network}" for data in DATA for network in NETWORKS]
PUBLISHED: list[report.Row] = [
    {"data": data, "model": model, "test NLL, nats": nll, "source": source}
    for model, source, each in (
        (
            "two gated layers of 300 units, 40 latents",
            "Norouzi, Fleet and Norouzi (2020), rerun: github.com/sajadn/Exemplar-VAE",
            {"MNIST": "84.45 ± 0.12", "Fashion-MNIST": "228.70 ± 0.15"},
        ),
        (
            "the same with a VampPrior",
            "Norouzi, Fleet and Norouzi (2020), rerun: github.com/sajadn/Exemplar-VAE",
            {"MNIST": "82.43", "Fashion-MNIST": "227.35"},
        ),
        (
            "two layers of 200 tanh units, 50 latents, 3280 epochs",
            "Burda, Grosse and Salakhutdinov (2015), table 1",
            {"MNIST": "86.76"},
        ),
    )
    for data, nll in each.items()
]
RESULTS = report.HERE / "results" / "pictures.json"
NO_STEP = 1e-30  # a learning rate that leaves the parameters where training begins


# How likely: images that are binarised anew in every epoch.


def binarised(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images whose pixels are white with the probability that is their gray level."""
    return rng.random(images.shape, np.float32) * 255 < images


class Binarised(Source):
    """Gray images, binarised anew for every order in which they come: for every epoch."""

    def __init__(self, images: np.ndarray) -> None:
        self.placement = OneDevice()
        self._images = images

    @property
    def n_rows(self) -> int:
        return len(self._images)

    @property
    def has_chunks(self) -> bool:
        return False

    def example(self) -> tuple[jax.ShapeDtypeStruct, None]:
        return jax.ShapeDtypeStruct(self._images.shape[1:], bool), None

    def chunks(self, order: tuple[int, ...] | None, start: int = 0) -> Iterator[Chunk]:
        rng = np.random.default_rng(order)
        rows = rng.permutation(self.n_rows).astype(np.int32)
        if start < self.n_rows:
            x = self.placement.put(binarised(self._images, rng))
            yield Chunk(x, None, rows[start:])


def likelihood(name: str, args: argparse.Namespace) -> report.Row:
    """Train on a data set with some networks, and estimate log p(x) of the test images."""
    data, network = name.split("-")
    train, test = getattr(datasets, DATA[data])()
    images = train.images[: args.rows]
    first = binarised(images, np.random.default_rng(0))
    began = time.perf_counter()
    # Without a step: what is learned of the data, and the start that training goes on from.
    options = {"likelihood": "bernoulli", "random_state": 0, "verbose": False}
    vae = VAE(LATENTS, **NETWORKS[network], **options, epochs=1, learning_rate=NO_STEP).fit(first)

    def say(epoch: aevb.Epoch) -> None:
        elbo, seconds = epoch.metrics["elbo"], time.perf_counter() - began
        print(f"{name}, epoch {epoch.number}: ELBO {elbo:.2f}, {seconds:.0f} s", flush=True)

    settings = {"epochs": args.epochs, "callbacks": [say], "verbose": False}
    result = aevb.train(vae.model_, Binarised(images), **settings)
    vae.model_ = result.model
    trained = time.perf_counter()
    X = binarised(test.images, np.random.default_rng(0))[: args.tests]
    found = vae.evidence(X, args.draws)
    nll = -np.asarray(found.log_likelihood, np.float64)
    return {
        "data": TITLES[data],
        "networks": network if network == "conv" else "300, 300",
        "rows": len(images),
        "epochs": args.epochs,
        "minutes": (trained - began) / 60,
        "train ELBO": result.history["elbo"][-1],
        "test images": len(X),
        "draws": args.draws,
        "test NLL, nats": nll.mean(),
        "its error over the images": nll.std(ddof=1) / math.sqrt(len(X)),
        "its error of the draws": math.sqrt(np.mean(np.square(found.standard_error)) / len(X)),
        "minutes of estimating": (time.perf_counter() - trained) / 60,
    }


# How fast: the same network in PyTorch.


def estimator(job: Job) -> VAE:
    """Return the convolutional `VAE` of a job, unfitted."""
    return VAE(
        job.latent_dim,
        architecture="conv",
        likelihood="bernoulli",
        learning_rate=job.learning_rate,
        batch_size=job.batch_size,
        epochs=job.epochs,
        random_state=job.seed,
        verbose=False,
    )


def test_images() -> np.ndarray:
    """Return what the bound is computed of at the end."""
    return datasets.load_mnist().test.images[:2000]


def train_aevb(job: Job, after_epoch: AfterEpoch) -> Any:
    """`VAE.fit`; returns the test ELBO."""
    vae = estimator(job).set_params(callbacks=(lambda _: after_epoch(),)).fit(job.images)
    return float(vae.elbo(test_images(), n_draws=1).mean())


def train_torch(job: Job, after_epoch: AfterEpoch, memory_format: str = "contiguous_format") -> Any:
    """PyTorch by hand, from where `VAE` starts; returns the test ELBO."""
    import pictures_torch
    import torch

    torch.manual_seed(job.seed)
    torch.set_num_threads(job.threads)
    device = torch.device("cuda" if job.device == "gpu" else "cpu")
    start = estimator(job).set_params(epochs=1, learning_rate=NO_STEP).fit(job.images)
    net = pictures_torch.VAE(start).to(device, memory_format=getattr(torch, memory_format))
    optimizer = torch.optim.Adamax(
        net.parameters(), lr=job.learning_rate, foreach=device.type == "cuda"
    )
    x_train = torch.from_numpy(job.pixels.reshape(-1, 28, 28)).to(device)
    for _ in range(job.epochs):
        total = torch.zeros((), device=device)
        for rows in torch.randperm(len(x_train), device=device).split(job.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = net.negative_elbo(x_train[rows])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        total.item()  # waits for the device
        after_epoch()
    with torch.no_grad():
        test = torch.from_numpy(unit_floats(test_images()).reshape(-1, 28, 28)).to(device)
        return -float(net.negative_elbo(test))


def train_torch_channels_last(job: Job, after_epoch: AfterEpoch) -> Any:
    """The same with the channels of each pixel side by side in memory."""
    return train_torch(job, after_epoch, "channels_last")


CONTENDERS = {
    "aevb": ("`VAE.fit`", train_aevb),
    "torch": ("PyTorch by hand", train_torch),
    "torch-last": ("PyTorch by hand, channels last", train_torch_channels_last),
}


def check_same_network() -> int:
    """Raise AssertionError unless both networks are the same; return the number of parameters."""
    import pictures_torch
    import torch

    from aevb.models.base import Frozen

    images = datasets.load_mnist().train.images[:200]
    job = Job(images, unit_floats(images), latent_dim=5, epochs=3)
    vae = estimator(job).fit(images)  # trained a little: much of it starts at zero
    net = pictures_torch.VAE(vae)
    leaves = jax.tree.leaves(vae.model_, is_leaf=lambda node: isinstance(node, Frozen))
    n_ours = sum(leaf.size for leaf in leaves if isinstance(leaf, jax.Array))
    n_theirs = pictures_torch.n_parameters(net.parameters())
    assert n_ours == n_theirs, f"{n_ours} parameters here, {n_theirs} in PyTorch"
    posterior = vae.encode(images)
    with torch.no_grad():
        mean, log_variance = net.encode(torch.from_numpy(unit_floats(images).reshape(-1, 28, 28)))
        expected = 255 * torch.sigmoid(net.decode(mean))
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(mean.numpy(), posterior.mean, **close)
    np.testing.assert_allclose(log_variance.exp().numpy(), posterior.variance, **close)
    np.testing.assert_allclose(
        expected.numpy().reshape(images.shape), vae.reconstruct(images), atol=0.02
    )
    return n_ours


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Let both train in turn; return rows, targets, and all durations."""
    n_parameters = check_same_network()
    settings = Settings(args.rounds, args.device, args.rows)
    load = report.load_average()
    runners = race({name: train for name, (_, train) in CONTENDERS.items()}, settings)
    elbos: dict[str, float] = {name: runner.weights for name, runner in runners.items()}
    ours = runners["aevb"]
    rows = [
        {
            "contender": CONTENDERS[name][0],
            "parameters": n_parameters,
            "rows": args.rows or 60_000,
            "seconds per epoch": runner.typical,
            "fastest epoch": runner.fastest,
            "`VAE.fit` is × as fast": ratio(runner, ours),
            "test ELBO (nats)": elbos[name],
        }
        for name, runner in runners.items()
    ]
    targets = [
        report.target(f"`VAE.fit`'s speed × {CONTENDERS[name][0]}'s", ratio(runner, ours), "≥", 1.0)
        for name, runner in runners.items()
        if name != "aevb"
    ]
    warn_of_disturbance(runners.values())
    wrong = disagreements(elbos, "torch") if args.rounds >= CHECKED_FROM else []
    return {
        "rows": rows,
        "targets": targets,
        "seconds": {name: runner.seconds for name, runner in runners.items()},
        "load_average_before": load,
        "disagree": wrong,
        "device": args.device,
        "threads": report.cores(),
    }


def publish(done: dict[str, Any], args: argparse.Namespace) -> None:
    """Keep all that has been done, and write the tables."""
    likely = [done["nll"][name] for name in NAMES if name in done["nll"]]
    raced = done["speed"]
    report.publish(
        "pictures",
        {
            **({"log p(x) of binarised test images": likely} if likely else {}),
            "Published, of images binarised anew in every epoch": PUBLISHED,
            **({"An epoch of the convolutional VAE": raced["rows"]} if raced else {}),
            **({"Targets": raced["targets"]} if raced else {}),
        },
        settings={"latents": LATENTS},
        details=done,
        keep=not args.quick,
        write=args.write,
    )


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=("nll", "speed"))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, help="of `nll`")
    parser.add_argument("--epochs", type=int, default=50, help="of `nll`")
    parser.add_argument("--rounds", type=int, default=6, help="epochs of `speed`, one to warm up")
    parser.add_argument("--rows", type=int, help="training images; all by default")
    parser.add_argument("--tests", type=int, help="test images; all by default")
    parser.add_argument("--draws", type=int, default=5000, help="importance samples")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="little of all; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    args = parser.parse_args()
    if args.quick:
        args.epochs, args.rounds, args.rows, args.tests, args.draws = 1, 2, 300, 20, 50
    return args


def main() -> int:
    """Do the parts, one after the other, and publish after each."""
    args = arguments()
    platform = "cuda" if args.device == "gpu" else "cpu"
    jax.config.update("jax_platforms", platform)
    os.environ["JAX_PLATFORMS"] = platform  # of the contenders
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    done: dict[str, Any] = {"nll": {}, "speed": None}
    if RESULTS.exists() and not args.quick:
        done = json.loads(RESULTS.read_text(encoding="utf-8"))["details"]
    if "nll" in args.parts:
        for name in args.only:
            done["nll"][name] = likelihood(name, args)
            publish(done, args)
    if "speed" in args.parts:
        done["speed"] = speed(args)
        publish(done, args)
        return 1 if done["speed"]["disagree"] else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
