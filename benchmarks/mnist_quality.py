"""How long until MNIST at 20 latents has a test bound of -100 nats, by `VAE(20)` and otherwise?

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/mnist_quality.py --write
    python benchmarks/mnist_quality.py --quick         # does everything run?

Each contender is `VAE(20)` on the 60,000 gray images with one thing changed, unless it says more.
The contenders take turns, epoch by epoch, in one process; each stops after the last of its epochs,
or after 100 seconds of its own. Seconds are those of its epochs, the compiling in the first one
included, evaluation left out. After every epoch one evaluator estimates the ELBO of all 10,000 test
images, one draw each. A number "after 60 s" is that of the last epoch that was over by then. One
seed.
"""

import argparse
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
import optax.contrib
import report

import aevb
from aevb import VAE, datasets, predict

LATENT_DIM, GOAL = 20, -100.0
OURS, N_STEPS = f"`VAE({LATENT_DIM})`", 600 * 16
ONE_TANH = {"init": "random", "hidden": 500, "activation": "tanh"}


class Average(NamedTuple):
    """A running average of the weights, as an optimizer's state."""

    weights: Any


def averaging(decay: float) -> optax.GradientTransformation:
    """Average the weights after each step; to be chained behind an optimizer."""

    def update(updates: Any, state: Average, parameters: Any) -> tuple[Any, Average]:
        moved = optax.apply_updates(parameters, updates)
        return updates, Average(optax.incremental_update(moved, state.weights, 1 - decay))

    return optax.GradientTransformation(Average, update)


def falling(peak: float) -> optax.Schedule:
    """Return the schedule of ``learning_rate="auto"``, step by step."""
    return optax.cosine_decay_schedule(peak, N_STEPS)


CONTENDERS: dict[str, dict[str, Any]] = {
    OURS: {},
    "one layer of tanh units, from random weights": ONE_TANH,
    "the same by the paper's Adagrad, with its prior on the weights": ONE_TANH
    | {"optimizer": "adagrad", "learning_rate": 0.02, "weight_prior": 1.0},
    "from random weights": {"init": "random"},
    "one layer": {"hidden": 500},
    "tanh": {"activation": "tanh"},
    "8 epochs": {"epochs": 8},
    "batches of 50, 10 epochs": {"batch_size": 50},
    "batches of 200, 33 epochs": {"batch_size": 200},
    "begins at 2e-2": {"learning_rate": falling(2e-2)},
    "constant 2e-3": {"learning_rate": 2e-3},
    "Adam": {"optimizer": "adam"},
    "AdEMAMix": {"optimizer": optax.contrib.ademamix(falling(2e-3))},
    "Muon": {"optimizer": optax.contrib.muon(falling(1e-2))},
    "Prodigy": {"optimizer": optax.contrib.prodigy(falling(1.0))},
    "schedule-free AdamW": {"optimizer": "schedule_free_adamw"},
    "weights averaged, decay 0.999": {
        "optimizer": optax.chain(optax.adamax(falling(1e-2)), averaging(0.999))
    },
}


@dataclass
class Contender:
    """One way to train, held at the end of an epoch until its next turn."""

    name: str
    vae: VAE
    run: Any = None
    seconds: list[float] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    n_epochs: int = 1
    done: bool = False

    def epoch(self, train: np.ndarray, test: np.ndarray, limit: float) -> None:
        """Train for one more epoch, and estimate the bound of the test images."""

        def stop(epoch: aevb.Epoch) -> bool:
            self.run, self.n_epochs = epoch.run, epoch.n_epochs
            self.seconds.append(epoch.metrics["seconds"])
            return True

        self.vae.callbacks = [stop]
        if self.run is None:
            self.vae.fit(train)
        else:
            aevb.train(
                self.run.state.model,
                train,
                weight_prior=self.vae.weight_prior,
                optimizer=self.vae.optimizer,
                learning_rate=self.vae.learning_rate,
                batch_size=self.vae.batch_size,
                epochs=self.n_epochs,
                callbacks=[stop],
                resume=self.run,
                verbose=False,
            )
        elbo = predict.elbo(self.model(), test, jax.random.key(0), n_draws=1)
        self.bounds.append(float(np.mean(elbo, dtype=float)))
        self.done = sum(self.seconds) > limit or len(self.seconds) == self.n_epochs

    def model(self) -> aevb.AutoEncoder:
        """Return the model, with the weights that the optimizer means to be used."""
        state = self.run.state
        averages = [each for each in state.optimizer_state if isinstance(each, Average)]
        return eqx.combine(averages[0].weights, state.model) if averages else state.estimate

    def row(self) -> report.Row:
        """Return what came of it."""
        clock = np.cumsum(self.seconds)

        def after(limit: float) -> float | None:
            return self.bounds[over - 1] if (over := int((clock <= limit).sum())) else None

        reached = [t for t, bound in zip(clock, self.bounds, strict=True) if bound >= GOAL]
        return {
            "contender": self.name,
            "seconds per epoch": float(np.median(self.seconds[1:] or self.seconds)),
            "after 30 s": after(30),
            "after 60 s": after(60),
            "seconds until -100": float(reached[0]) if reached else None,
            "epochs": f"{len(self.seconds)} of {self.n_epochs}",
            "at the end": self.bounds[-1],
        }


def main() -> None:
    """Let the contenders take turns, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=100.0, help="of training, each")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--quick", action="store_true", help="6000 images, two epochs")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    arguments = parser.parse_args()
    data = datasets.load_mnist()
    train, test, options = data.train.images, data.test.images, {}
    if arguments.quick:
        train, test, options = train[:6000], test[:500], {"epochs": 2}
    contenders = [
        Contender(name, VAE(LATENT_DIM, random_state=0, **CONTENDERS[name] | options))
        for name in arguments.only
    ]
    turn = 0
    while waiting := [each for each in contenders if not each.done]:
        shift = turn % len(waiting)
        for contender in waiting[shift:] + waiting[:shift]:
            contender.epoch(train, test, arguments.seconds)
            print(contender.name, contender.seconds[-1], contender.bounds[-1], flush=True)
        turn += 1
    rows = [contender.row() for contender in contenders]
    ours = rows[0]["seconds until -100"]
    report.publish(
        "mnist_quality",
        {
            "MNIST, 20 latents: test ELBO in nats per gray image": rows,
            "Targets": [
                report.target(f"{OURS}: until -100 nats", ours if ours else np.inf, "≤", 60, " s")
            ],
        },
        settings={"seconds": arguments.seconds},
        details={
            each.name: {"seconds": each.seconds, "bounds": each.bounds} for each in contenders
        },
        keep=not arguments.quick and len(arguments.only) == len(CONTENDERS),
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
