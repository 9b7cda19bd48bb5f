"""What does safety cost? An epoch of MNIST with checks, clipping and checkpoints, and without.

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/safety.py --write
    python benchmarks/safety.py --quick           # does everything run?

The paper's VAE, 784-500-20-500-784, takes epochs of 60,000 gray digits in four ways, which take
turns in one process: a loop that only steps; the same with the check that bound and parameters are
finite; with gradients clipped as well; and with checkpoints as well, as often as `VAE(checkpoint=)`
writes them. A ratio is the median of the ratios within a round; the one in total is that of all
seconds, with the few epochs after which a checkpoint is written.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import equinox as eqx
import jax
import numpy as np
import report
from jax import lax

from aevb import VAE, datasets
from aevb.checkpoint import Checkpoints, Stage
from aevb.compiling import jit
from aevb.data.source import InMemory
from aevb.inference.clipping import Clipping
from aevb.inference.optimizers import make_optimizer
from aevb.inference.run import Plan, Run, _visit, advance, begin
from aevb.inference.sgvb import SGVB
from aevb.inference.stopping import EarlyStopping
from aevb.inference.training import TrainState, Visit, batch_at, step
from aevb.models.base import trainable

BATCH = 100
BARE, CHECKED, CLIPPED, KEPT = "steps alone", "+ checks", "+ clipping", "+ checkpoints"


@jit
def _bare(
    state: TrainState, visit: Visit, objective: Any, optimizer: Any, marks: Any, placement: Any
) -> TrainState:
    """Run over a chunk without any look at what comes of it."""
    arrays, static = eqx.partition(state, eqx.is_array)

    def body(i: jax.Array, arrays: Any) -> Any:
        state = eqx.combine(arrays, static)
        batch = batch_at(visit, i, BATCH, state.key, state.step, placement)
        options = objective, optimizer, marks, placement, Clipping(None)
        return eqx.filter(step(state, batch, *options)[0], eqx.is_array)

    n_steps = placement.n_steps(visit.n, BATCH)
    return eqx.combine(lax.fori_loop(0, n_steps, body, arrays), static)


def ways(run: Run, source: InMemory, directory: Path) -> dict[str, Callable[[], Run]]:
    """Return functions that take their own run on by an epoch each."""
    objective = SGVB()
    plan = Plan(objective, "adamax", 1e-3, BATCH, 0, EarlyStopping(None, None))
    optimizer, _ = make_optimizer("adamax", 1e-3)
    marks = trainable(run.state.model)
    data = {"data": np.zeros(1)}
    checkpoints = Checkpoints(directory, {}, data, {}, np.random.RandomState(0))
    runs = dict.fromkeys((BARE, CHECKED, CLIPPED, KEPT), run)

    def bare() -> Run:
        old = runs[BARE]
        (chunk,) = source.chunks((0, 0, 0, 0, old.epoch))
        visit = _visit(chunk, BATCH, source)
        state = _bare(old.state, visit, objective, optimizer, marks, source.placement)
        runs[BARE] = old._replace(state=jax.block_until_ready(state), epoch=old.epoch + 1)
        return runs[BARE]

    def going_on(name: str, clipping: Clipping, keep: Callable | None) -> Callable[[], Run]:
        def epoch() -> Run:
            old = runs[name]
            own = plan._replace(epochs=old.epoch + 1, clipping=clipping, falls=False)
            runs[name] = advance(old, source, own, keep=keep)
            return runs[name]

        return epoch

    def keep(run: Run) -> None:
        checkpoints.keep(Stage(0, False, 1, None), run.stopped_for(""))

    return {
        BARE: bare,
        CHECKED: going_on(CHECKED, Clipping(None), None),
        CLIPPED: going_on(CLIPPED, Clipping(), None),
        KEPT: going_on(KEPT, Clipping(), keep),
    }


def main() -> None:
    """Let the ways take turns, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--quick", action="store_true", help="few images; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    arguments = parser.parse_args()
    n, rounds = (2000, 3) if arguments.quick else (60_000, arguments.rounds)
    images = datasets.load_mnist().train.images[:n]
    options = {"hidden": 500, "activation": "tanh", "init": "random", "likelihood": "bernoulli"}
    vae = VAE(20, **options, epochs=1, random_state=0, verbose=False).fit(images)
    source = InMemory(vae.schema_.encode(images), None)
    run = begin(vae.model_, source, SGVB(), "adamax", 1e-3, jax.random.key(0, impl="rbg"))
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        functions = ways(run, source, Path(folder))
        names = list(functions)
        for r in range(rounds + 1):
            for name in names[r % 4 :] + names[: r % 4]:
                began = time.perf_counter()
                functions[name]()
                seconds.setdefault(name, []).append(time.perf_counter() - began)
        files = [path.stat().st_size for path in Path(folder).glob("*.checkpoint")]
    warm = {name: each[1:] for name, each in seconds.items()}  # the first compiles
    rows, ratios = [], {}
    for name, each in warm.items():
        pairs = [one / other for one, other in zip(each, warm[BARE], strict=True)]
        ratios[name] = median(pairs)
        total = sum(each) / sum(warm[BARE])  # with the epochs after which a checkpoint is written
        row = {"way": name, "epoch, s": median(each)}
        rows.append({**row, "by steps alone": ratios[name], "in total": total})
    cost = max(ratios[KEPT], rows[-1]["in total"])
    targets = [report.target("all safety, of an epoch", cost, "≤", 1.03, " x")]
    report.publish(
        "safety",
        {"An epoch of MNIST": rows, "Targets": targets},
        settings={"rounds": rounds, "size of a checkpoint, MB": files[-1] / 2**20},
        details={"seconds": seconds},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
