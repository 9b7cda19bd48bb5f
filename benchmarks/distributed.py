"""What do several processes buy? Two with a core each against one with a core, on MNIST.

Set up as for `mnist_epoch.py`; no peers are needed, but two idle cores and Linux. Then::

    python benchmarks/distributed.py --write
    python benchmarks/distributed.py --quick           # does everything run?

The paper's VAE, 784-500-20-500-784, takes epochs of 60,000 gray digits in batches of 1000 and 4000:
in one process without `devices`, in one with `devices=1`, and in two of `aevb fit --distributed`'s
kind, which average their gradients by Gloo over the loopback. Every process is held to one core.
The three are alive together and take turns, an epoch each. A speed-up is the median of the ratios
within a round.

The second part is on paper. A step of b rows on one core is taken to last as long as the straight
line through the two measured batch sizes says, and a host to be such a core. A ring averages a
vector of V bytes among H hosts in 2 (H - 1) / H V / bandwidth + 2 (H - 1) latency (Patarasuk and
Yuan 2009), after the step and not beside it. What a host costs is its time: hosts by speed-up.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import report

ONE, SHARED, TWO = "one process", "one process, `devices=1`", "two processes"
BATCHES = {1000: 1.3, 4000: 1.6}  # and the speed-up aimed at
HOSTS = (1, 2, 4, 8, 16, 32, 64)
NETWORKS = {"10 Gb/s, 50 µs": (10e9 / 8, 50e-6), "100 Gb/s, 5 µs": (100e9 / 8, 5e-6)}


def work(batch_size: int, n: int, devices: str | None, core: int, where: Sequence[str]) -> None:
    """Make an epoch for each line on stdin, and say how long it took and what the bound was."""
    os.sched_setaffinity(0, {core})
    import jax

    from aevb import VAE, datasets
    from aevb.algorithm import generator
    from aevb.data.devices import placement_for
    from aevb.data.processes import join
    from aevb.data.source import InMemory
    from aevb.inference.run import Plan, advance, begin
    from aevb.inference.sgvb import SGVB
    from aevb.inference.stopping import EarlyStopping
    from aevb.models.base import trainable

    if where:
        join(where[0], int(where[1]), int(where[2]))
    images = datasets.load_mnist().train.images[:n]
    options = {"hidden": 500, "activation": "tanh", "init": "random", "likelihood": "bernoulli"}
    vae = VAE(20, **options, epochs=1, random_state=0, verbose=False).fit(images)
    placement = placement_for(devices, batch_size)
    source = InMemory(vae.schema_.encode(images), placement=placement)
    key = jax.random.key(0, impl=generator(placement))
    run = begin(vae.model_, source, SGVB(), "adamax", 1e-3, key)
    plan = Plan(SGVB(), "adamax", 1e-3, batch_size, 0, EarlyStopping(None, None), falls=False)
    marked = zip(
        jax.tree.leaves(trainable(run.state.model)), jax.tree.leaves(run.state.model), strict=True
    )
    print(json.dumps({"parameters": sum(leaf.size for mark, leaf in marked if mark)}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        run = advance(run, source, plan._replace(epochs=run.epoch + 1))
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "elbo": run.history["elbo"][-1]}), flush=True)


class Contender:
    """Processes that make an epoch together, when asked to."""

    def __init__(self, batch_size: int, n: int, devices: str | None, cores: Sequence[int]):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        self.processes = []
        for i, core in enumerate(cores):
            where = [address, len(cores), i] if len(cores) > 1 else []
            command = [sys.executable, __file__, "--worker", batch_size, n, devices, core, *where]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.processes.append(subprocess.Popen(list(map(str, command)), **pipes))
        self.parameters = self._answer()["parameters"]

    def epoch(self) -> dict[str, float]:
        """Make an epoch; return its seconds and bound."""
        for process in self.processes:
            process.stdin.write("\n")
            process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Let the processes end."""
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait(60)

    def _answer(self) -> dict[str, float]:
        answers = [self._json(process) for process in self.processes]
        return answers[0]

    def _json(self, process: subprocess.Popen) -> dict[str, float]:
        for line in process.stdout:
            if line.startswith("{"):  # Gloo has something to say too
                return json.loads(line)
        raise RuntimeError(f"A process has ended with exit code {process.wait()}.")


def measured(batch_size: int, n: int, rounds: int) -> tuple[dict[str, list[dict]], int]:
    """Return the epochs of each contender, after a first one that compiles; and the parameters."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    contenders = {
        ONE: Contender(batch_size, n, None, [first]),
        SHARED: Contender(batch_size, n, "all", [first]),
        TWO: Contender(batch_size, n, "all", [first, second]),
    }
    epochs: dict[str, list[dict]] = {name: [] for name in contenders}
    names = list(contenders)
    for r in range(rounds + 1):
        for name in names[r % 3 :] + names[: r % 3]:
            epochs[name].append(contenders[name].epoch())
    for contender in contenders.values():
        contender.end()
    return epochs, contenders[ONE].parameters


def on_paper(
    step: tuple[float, float], n_bytes: int, hosts: int, batch_size: int
) -> dict[str, float]:
    """Return seconds of a step's computation, and of its communication by network."""
    base, per_row = step
    seconds = {"computing": base + per_row * batch_size / hosts}
    for name, (bandwidth, latency) in NETWORKS.items():
        transfer = 2 * (hosts - 1) / hosts * n_bytes / bandwidth
        seconds[name] = transfer + 2 * (hosts - 1) * latency
    return seconds


def extrapolated(step: tuple[float, float], n_bytes: int, batch_of: Any) -> list[report.Row]:
    """Return a row for each number of hosts; `batch_of` says their batch size."""
    rows = []
    for hosts in HOSTS:
        batch_size = batch_of(hosts)
        alone = sum(step[i] * (1, batch_size)[i] for i in range(2))
        seconds = on_paper(step, n_bytes, hosts, batch_size)
        row: report.Row = {"hosts": hosts, "batch": batch_size}
        row["computing, ms"] = 1e3 * seconds["computing"]
        for name in NETWORKS:
            speed_up = alone / (seconds["computing"] + seconds[name])
            row[f"{name}: ms"] = 1e3 * seconds[name]
            row[f"{name}: speed-up"] = speed_up
            row[f"{name}: cost"] = hosts / speed_up
        rows.append(row)
    return rows


def main() -> None:
    """Let the contenders take turns, extrapolate, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="few images; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    arguments = parser.parse_args()
    n, rounds = (8000, 2) if arguments.quick else (60_000, arguments.rounds)
    rows, targets, details, steps, parameters = [], [], {}, {}, 0
    for batch_size, aim in BATCHES.items():
        epochs, parameters = measured(batch_size, n, rounds)
        details[batch_size] = epochs
        seconds = {name: [epoch["seconds"] for epoch in each[1:]] for name, each in epochs.items()}
        speed_up = {}
        for name, each in seconds.items():
            ratios = [one / own for one, own in zip(seconds[SHARED], each, strict=True)]
            speed_up[name] = median(ratios)
            row = {"batch": batch_size, "trained by": name, "epoch, s": median(each)}
            rows.append({**row, f"speed-up over {SHARED}": speed_up[name]})
        steps[batch_size] = median(seconds[SHARED]) / -(-n // batch_size)
        difference = max(
            abs(two["elbo"] / one["elbo"] - 1)
            for one, two in zip(epochs[SHARED], epochs[TWO], strict=True)
        )
        what = f"two processes, batch {batch_size}"
        targets.append(report.target(what, speed_up[TWO], "≥", aim, " x"))
        difference *= 1e4
        what = f"largest relative difference of a bound, batch {batch_size}"
        targets.append(report.target(what, difference, "≤", 1.0, " × 1e-4"))
    (small, large), n_bytes = BATCHES, 4 * parameters
    per_row = (steps[large] - steps[small]) / (large - small)
    step = (max(steps[small] - per_row * small, 0.0), per_row)
    report.publish(
        "distributed",
        {
            "Two processes, a core each": rows,
            "Targets": targets,
            "On paper: a batch of 4000 in all": extrapolated(step, n_bytes, lambda hosts: 4000),
            "On paper: 1000 rows per host": extrapolated(step, n_bytes, lambda hosts: 1000 * hosts),
        },
        settings={
            "rounds": rounds,
            "parameters": parameters,
            "a step, ms": f"{1e3 * step[0]:.2f} + {1e3 * step[1]:.4f} per row",
            "a vector, MB": f"{n_bytes / 1e6:.2f}",
        },
        details={"epochs": details},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        batch, rows_used, given, core, *others = sys.argv[2:]
        work(int(batch), int(rows_used), None if given == "None" else given, int(core), others)
    else:
        main()
