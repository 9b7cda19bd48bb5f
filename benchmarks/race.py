"""A race: contenders train epoch by epoch in turn, each in a process of its own.

In round r each contender runs one epoch, alone, in an order rotated by r, on all cores. Each waits
in its own process for its turn, so none of them meets another's thread pools and memory (PyTorch
runs at half its speed outside a main thread, which rules out one process with a thread for each).
The first round holds set-up and compilation and is dropped; medians are over the others. A duration
is the wall clock between the ends of two of a contender's epochs, so it holds all that it does per
epoch. Ratios are medians of the ratios within a round, which cancels most of the machine's moods.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import report
from job import AfterEpoch, Job, Weights, elbo, unit_floats

Train = Callable[[Job, AfterEpoch], Weights | None]
"""A contender: trains, calls its second argument after every epoch, and returns its weights."""

TOLERANCE = 1.5  # nats per datapoint
CHECKED_FROM = 5  # epochs; earlier the contenders still differ by their initial weights
DISTURBED = 1.2  # a median this many times the fastest epoch: something else was running
REST = 0.5  # seconds between turns, for worker threads that wait by spinning


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know to load its own copy of the data."""

    epochs: int
    device: str = "cpu"
    n_rows: int | None = None

    def job(self) -> Job:
        """Load MNIST."""
        from aevb import datasets

        images = datasets.load_mnist().train.images[: self.n_rows]
        return Job(
            images=images,
            pixels=unit_floats(images),
            latent_dim=20,
            epochs=self.epochs,
            device=self.device,
            threads=report.cores(),
        )


class Runner:
    """A contender in a process of its own, held at the end of each epoch until its next turn."""

    def __init__(self, name: str, train: Train, settings: Settings) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.weights: Weights | None = None
        processes = multiprocessing.get_context("spawn")
        self._pipe, theirs = processes.Pipe()
        self._process = processes.Process(target=work, args=(train, settings, theirs), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def typical(self) -> float:
        """Median seconds per epoch."""
        return float(median(self.seconds[1:]))

    @property
    def fastest(self) -> float:
        """Seconds of the fastest epoch."""
        return min(self.seconds[1:])

    def epoch(self) -> None:
        """Let it run to the end of its next epoch."""
        self.seconds.append(self._turn())

    def finish(self) -> None:
        """Let it end, and keep the weights it trained."""
        self.weights = self._turn()
        self._process.join()

    def _turn(self) -> Any:
        try:
            self._pipe.send("go")
            return self._pipe.recv()
        except (EOFError, OSError):
            raise SystemExit(f"{self.name} failed; its traceback is above.") from None


def work(train: Train, settings: Settings, pipe: Connection) -> None:
    """Train in this process, waiting for the turn before every epoch."""
    job = settings.job()
    pipe.recv()
    start = time.perf_counter()

    def after_epoch() -> None:
        nonlocal start
        pipe.send(time.perf_counter() - start)
        pipe.recv()
        start = time.perf_counter()

    pipe.send(train(job, after_epoch))


def race(contenders: Mapping[str, Train], settings: Settings) -> dict[str, Runner]:
    """Run all epochs of all contenders in turn; a contender must pickle."""
    if not contenders:
        return {}
    runners = [Runner(name, train, settings) for name, train in contenders.items()]
    for r in range(settings.epochs):
        shift = r % len(runners)
        for runner in runners[shift:] + runners[:shift]:
            time.sleep(REST)
            runner.epoch()
        times = "  ".join(f"{runner.name} {runner.seconds[-1]:.2f}" for runner in runners)
        print(f"round {r}{' (warm-up)' if r == 0 else ''}: {times}", flush=True)
    for runner in runners:
        runner.finish()
    return {runner.name: runner for runner in runners}


def ratio(above: Runner, below: Runner) -> float:
    """Median over rounds of one contender's seconds by another's."""
    return median(a / b for a, b in zip(above.seconds[1:], below.seconds[1:], strict=True))


def elbos_of(runners: Mapping[str, Runner]) -> dict[str, float]:
    """Mean ELBO on the MNIST test set of every contender that returned weights."""
    from aevb import datasets

    test = unit_floats(datasets.load_mnist().test.images)
    return {
        name: elbo(runner.weights, test)
        for name, runner in runners.items()
        if runner.weights is not None
    }


def disagreements(elbos: Mapping[str, float], reference: str) -> list[str]:
    """Contenders whose test ELBO is too far from the reference's; says by how much."""
    if reference not in elbos:
        return []
    wrong = [name for name, e in elbos.items() if not abs(e - elbos[reference]) <= TOLERANCE]
    for name in wrong:
        off = elbos[name] - elbos[reference]
        print(f"{name}: test ELBO {off:+.2f} nats from {reference}'s", file=sys.stderr)
    return wrong


def warn_of_disturbance(runners: Iterable[Runner]) -> None:
    """Name the contenders whose epochs varied more than they do on a quiet machine."""
    for runner in runners:
        if runner.typical > DISTURBED * runner.fastest:
            print(f"{runner.name} was disturbed; run again on a quiet machine.", file=sys.stderr)
