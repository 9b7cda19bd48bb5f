"""Seconds per epoch of the paper's MNIST VAE (784-500-20-500-784), side by side with its peers.

Set up, in an environment where the package is installed::

    pip install -r benchmarks/requirements.txt

(on Linux without a GPU, install a CPU build of torch first: the default one is several GB larger).
Then::

    python benchmarks/mnist_epoch.py --write           # the table of benchmarks/README.md
    python benchmarks/mnist_epoch.py --device gpu --write
    python benchmarks/mnist_epoch.py --quick           # does everything run?

The race, and how its durations and ratios come about, is described in `race.py`.

The floor is the matrix products of a step, forward and backward, with a plain SGD update: see
`floor.py`. Every other contender's code is in `contenders.py`; the terms they all train on, in
`job.py`.

The check. After equally many epochs, one evaluator (NumPy, same noise for all) measures each
contender's ELBO on the MNIST test set. If any is further than 1.5 nats from that of PyTorch written
by hand, they did not do the same work, and the exit code is 1.
"""

import argparse
import os
import sys

import contenders
import report
from floor import train_floor_jax, train_floor_numpy
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

CONTENDERS: dict[str, tuple[str, Train, str]] = {
    # name: (title, function, what tells the end of an epoch)
    "aevb": ("`VAE.fit`", contenders.train_aevb, "its callback"),
    "torch": ("PyTorch by hand", contenders.train_torch, "its own loop"),
    "torch-compiled": (
        "PyTorch by hand, `torch.compile`",
        contenders.train_torch_compiled,
        "its own loop",
    ),
    "keras": ("Keras 3 on JAX", contenders.train_keras, "`on_epoch_end`"),
    "pythae": ("pythae as documented", contenders.train_pythae, "`on_epoch_end`"),
    "pythae-prebatched": (
        "pythae, pre-batched loader",
        contenders.train_pythae_prebatched,
        "`on_epoch_end`",
    ),
    "floor-jax": ("floor: matrix products, JAX", train_floor_jax, "its own loop"),
    "floor-numpy": ("floor: matrix products, NumPy", train_floor_numpy, "its own loop"),
}
FLOORS = ("floor-jax", "floor-numpy")
REFERENCE = "torch"


def fastest_floor(runners: dict[str, Runner]) -> Runner | None:
    """The faster of the floors that ran."""
    floors = [runners[name] for name in FLOORS if name in runners]
    return min(floors, key=lambda runner: runner.typical, default=None)


def rows_of(runners: dict[str, Runner], elbos: dict[str, float]) -> list[report.Row]:
    """The table: one row per contender."""
    floor, ours = fastest_floor(runners), runners.get("aevb")
    return [
        {
            "contender": CONTENDERS[name][0],
            "seconds per epoch": runner.typical,
            "fastest epoch": runner.fastest,
            "× floor": ratio(runner, floor) if floor else None,
            "`VAE.fit` is × as fast": ratio(runner, ours) if ours else None,
            "test ELBO (nats)": elbos.get(name),
            "end of epoch told by": CONTENDERS[name][2],
        }
        for name, runner in runners.items()
    ]


def targets_of(runners: dict[str, Runner], device: str) -> list[report.Row]:
    """The targets whose contenders ran."""
    if "aevb" not in runners:
        return []
    ours, floor = runners["aevb"], fastest_floor(runners)
    limits = {"torch": 1.7, "keras": 1.25, "pythae": 2.5, "pythae-prebatched": 2.5}
    if device == "gpu":
        limits = {"pythae": 30.0}
    targets = []
    if floor and device == "cpu":
        targets.append(report.target("`VAE.fit` × floor", ratio(ours, floor), "≤", 1.25))
    for name, limit in limits.items():
        if name in runners:
            what = f"`VAE.fit`'s speed × {CONTENDERS[name][0]}'s"
            targets.append(report.target(what, ratio(runners[name], ours), "≥", limit))
    return targets


def gpu_name() -> str:
    """Name the accelerator that JAX sees."""
    import jax

    return jax.devices()[0].device_kind


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--epochs", type=int, default=10, help="epochs each, the warm-up round included"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, help="only these contenders; writes nothing"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the results of --only, where others won't install"
    )
    parser.add_argument(
        "--compiled", action="store_true", help="add PyTorch with torch.compile (compiles for long)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="3 epochs of 3,000 rows; writes nothing"
    )
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error("Expected at least 2 for --epochs: the first is the warm-up.")
    if args.quick:
        args.epochs = 3
    return args


def main() -> int:
    """Run the race, check it, and publish it."""
    args = arguments()
    # Before JAX is imported: where it runs, and that it leaves the GPU's memory to others too.
    os.environ["JAX_PLATFORMS"] = "cuda" if args.device == "gpu" else "cpu"
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    names = args.only or [name for name in CONTENDERS if name != "torch-compiled" or args.compiled]
    if args.device == "gpu":
        names = [name for name in names if name != "floor-numpy"]
    settings = Settings(args.epochs, args.device, n_rows=3000 if args.quick else None)
    load = report.load_average()
    runners = race({name: CONTENDERS[name][1] for name in names}, settings)
    elbos = elbos_of(runners)
    checked = args.epochs >= CHECKED_FROM and not args.quick
    wrong = disagreements(elbos, REFERENCE) if checked else []
    tables = {"Epochs": rows_of(runners, elbos)}
    targets = targets_of(runners, args.device)
    if targets:
        tables["Targets"] = targets
    report.publish(
        "mnist_epoch" if args.device == "cpu" else "mnist_epoch_gpu",
        tables,
        settings={"epochs": args.epochs, "device": args.device, "threads": report.cores()},
        details={
            "seconds": {name: runner.seconds for name, runner in runners.items()},
            "test_elbo": elbos,
            "elbo_tolerance": TOLERANCE,
            "load_average_before": load,
            "elbos_agree": not wrong if checked else None,
        },
        gpu=gpu_name() if args.device == "gpu" else None,
        keep=not args.quick and (args.keep or not args.only),
        write=args.write,
    )
    if args.write and args.device == "cpu" and not (args.quick or args.only):
        columns = ("contender", "seconds per epoch", "× floor", "test ELBO (nats)")
        rows = [{column: row[column] for column in columns} for row in tables["Epochs"]]
        report.write_between("speed", report.table(rows), report.HERE.parent)
    if not checked:
        print(f"ELBOs not compared: that takes {CHECKED_FROM} epochs of the whole data set.")
    warn_of_disturbance(runners.values())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
