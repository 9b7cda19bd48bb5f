"""Two versions of aevb side by side: seconds per epoch of MNIST, and what a fit costs beside them.

Set up as for `mnist_epoch.py`. Then, in a clone with its history::

    python benchmarks/before_after.py v0.1.0     # this tree against that commit
    python benchmarks/before_after.py v0.1.0 --quick

Epochs of the two take turns, as in `race.py`. Compiling is measured in fresh processes, which take
turns too. Ratios are this tree by that commit, medians of the ratios within a round.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import contenders
import report
from fit_overheads import fresh
from job import AfterEpoch, Job, Weights
from race import Settings, race, ratio, warn_of_disturbance

HERE = Path(__file__).resolve().parent
NAMES = ("before", "after")


@dataclass
class Fit:
    """`VAE.fit` of the package in a folder, in whichever process this is sent to."""

    source: str

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        sys.path.insert(0, self.source)

    def __call__(self, job: Job, after_epoch: AfterEpoch) -> Weights:
        """Train."""
        import aevb

        assert aevb.__file__.startswith(self.source), aevb.__file__
        return contenders.train_aevb(job, after_epoch)


def compiling(sources: dict[str, str], rounds: int, quick: bool) -> dict[str, list[dict]]:
    """Measure a fit in fresh processes, in turn."""
    measured: dict[str, list[dict]] = {name: [] for name in sources}
    job = [str(HERE / "fit_overheads.py"), "--job", "fit", *(["--quick"] if quick else [])]
    for r in range(rounds):
        for name in NAMES[r % 2 :] + NAMES[: r % 2]:
            os.environ["PYTHONPATH"] = sources[name]
            measured[name].append(json.loads(fresh(*job).splitlines()[-1]))
    del os.environ["PYTHONPATH"]
    return measured


def main() -> None:
    """Measure both, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the version to compare this tree with")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5, help="fresh processes of each version")
    parser.add_argument("--quick", action="store_true", help="small jobs")
    args = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", args.commit, "src"],
            cwd=HERE.parent,
            stdout=subprocess.PIPE,
            check=True,
        )
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        sources = {"before": f"{folder}/src", "after": str(HERE.parent / "src")}
        settings = Settings(3 if args.quick else args.epochs, n_rows=3000 if args.quick else None)
        runners = race({name: Fit(source) for name, source in sources.items()}, settings)
        fits = compiling(sources, 1 if args.quick else args.rounds, args.quick)
    after, before = fits["after"], fits["before"]
    compiled = [
        a["compiling_seconds"] / b["compiling_seconds"] for a, b in zip(after, before, strict=True)
    ]
    second = max(fit["compilations_of_second_fit"] for fit in after)
    rest = median(100 * fit["rest_seconds"] / fit["fit_seconds"] for fit in after)
    rows = [
        report.target(
            "epoch, by that before", ratio(runners["after"], runners["before"]), "≤", 1.02
        ),
        report.target("compiling, by that before", median(compiled), "≤", 1.05),
        report.target("second fit: compilation events", second, "≤", 0),
        report.target("neither compiling nor compiled loop", rest, "≤", 3, " %"),
    ]
    seconds = {name: f"{runners[name].typical:.3f} s" for name in NAMES}
    print(f"Median epoch: {seconds}; this tree against {args.commit}")
    print(report.table(rows))
    warn_of_disturbance(runners.values())


if __name__ == "__main__":
    main()
