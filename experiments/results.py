"""Results on disk: rows in a JSON file, kept as soon as they are measured, not measured twice.

A row has the fields `method`, `dataset`, `n_z`, `seed`, `settings`, `samples` (training samples
evaluated), `train`, `test` (nats per datapoint), `seconds` and `cpu_seconds` (of the processor),
both of training alone, compilation included, and `machine`; or of these what the experiment
measures. `processes` says how many shared the machine, where it was more than one. A run that
diverged ends with a row that says `diverged`. A file is of one machine, since its rows have
seconds, and one process writes it at a time. Rows of a GPU are in a file beside that of the CPU,
`name-gpu.json`; tables and pictures are of both.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

import aevb

FOLDER = Path(__file__).parent / "results"
Row = dict[str, Any]


def machine() -> str:
    """Describe the hardware that this process may use, and the engine's version."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    on = f"{cores} core{'s' * (cores != 1)}" if device.platform == "cpu" else device.device_kind
    return f"{platform.system()} {platform.machine()}, {on}, JAX {jax.__version__}"


class Results:
    """The rows of one file."""

    def __init__(self, path: Path):
        self.path = path
        self.read()

    def read(self) -> None:
        """Read what is there."""
        document = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.machine: str | None = document.get("machine")
        self.rows: list[Row] = [
            {**row, "machine": self.machine} for row in document.get("rows", [])
        ]

    def together(self) -> "Results":
        """Return the rows of all machines: of `name.json` and of `name-gpu.json` beside it."""
        name = self.path.stem.removesuffix("-gpu")
        found, more = (Results(self.path.with_name(f"{name}{of}.json")) for of in ("", "-gpu"))
        found.rows += more.rows
        found.machine = "; ".join(filter(None, (found.machine, more.machine))) or None
        return found

    def where(self, **fields: Any) -> list[Row]:
        """Return the rows that have these fields."""
        fields = _as_read(fields)
        return [row for row in self.rows if fields.items() <= row.items()]

    def put(self, key: Row, rows: list[Row]) -> None:
        """Write some rows, each with the fields of `key`, in place of those that have them."""
        self.read()  # rows may have been merged into the file since
        here = machine()
        if self.machine not in (None, here):
            raise ValueError(
                f"Expected rows of one machine in {self.path.name}, {self.machine}; got {here}. "
                "Give another file as --results."
            )
        old = self.where(**key)
        self.rows = [row for row in self.rows if row not in old]
        self.rows += [_as_read({**key, **row, "machine": here}) for row in rows]
        self.machine = here
        lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".tmp")  # a process killed while it writes loses nothing
        new.write_text(f'{{"machine": {json.dumps(here)},\n "rows": [\n{lines}\n]}}\n')
        new.replace(self.path)


def device_of(row: Row) -> str:
    """Name the device of a row, for a table: "1 core", or the name of an accelerator."""
    return row["machine"].split(", ")[1]


def line_of(row: Row, rows: Sequence[Row]) -> Row:
    """Return what tells a CPU's curve from another's: wide and pale, if there is another's."""
    here = " core" in device_of(row)
    alone = len({one["machine"] for one in rows}) == 1
    return {"linewidth": 3, "alpha": 0.35} if here and not alone else {}


def _as_read(row: Row) -> Row:
    return json.loads(json.dumps(row))  # tuples are lists then, as in rows from a file


def reached(samples: float, per_epoch: int) -> int:
    """Return the samples seen at the end of the first epoch that has seen so many."""
    return per_epoch * -(-int(samples) // per_epoch)


def follow(
    results: Results,
    key: Row,
    marks: Iterable[int],
    per_epoch: int,
    measure: Callable[[aevb.Epoch], Row],
    train: Callable[[int, Callable[[aevb.Epoch], None]], Any],
) -> None:
    """Train, and keep a row at each mark as soon as it is measured.

    Marks are numbers of samples that the end of an epoch reaches. Those whose rows, with the fields
    of `key`, are there already are not measured again: a run that was stopped is trained again from
    its start, to the same model, and its marks after the last row are measured. A run that diverged
    has a row that says so, and is not tried again.

    `measure` returns what else a row holds; `train` takes the number of epochs and a callback.
    """
    kept = results.where(**key)
    missing = set(marks) - {row["samples"] for row in kept}
    if not missing or any("diverged" in row for row in kept):
        return
    cpu = -time.process_time()  # what is not training is taken out again

    def evaluate(epoch: aevb.Epoch) -> None:
        nonlocal cpu
        seen = epoch.number * per_epoch
        if seen not in missing:
            return
        cpu += time.process_time()
        row = measure(epoch)
        row["seconds"] = round(sum(epoch.history["seconds"]), 2)
        row["cpu_seconds"] = round(cpu, 2)
        results.put({**key, "samples": seen}, [row])
        print({**key, "samples": seen, **row}, flush=True)
        cpu -= time.process_time()

    try:
        train(max(missing) // per_epoch, evaluate)
    except aevb.TrainingDiverged as error:
        print(key, error, flush=True)
        results.put({**key, "samples": error.epoch * per_epoch}, [{"diverged": True}])


def arguments_of(doc: str, name: str, samples: float | None = None) -> argparse.ArgumentParser:
    """Return the parser of what all experiments take: --results, --seed, --draw, --samples."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=FOLDER / f"{name}.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", action="store_true", help="only draw, and print the table")
    if samples is not None:
        parser.add_argument("--samples", type=float, default=samples)
    return parser


def show(results: Results, *tables: str) -> None:
    """Print the tables and the machine; put them into README.md too, with the pictures there are.

    Only of the results that are kept beside README.md.
    """
    text = "\n\n".join([*tables, f"Measured on: {results.machine}."])
    print(text)
    if results.path.parent.resolve() != FOLDER.resolve():
        return
    readme = FOLDER.parent / "README.md"
    begin, end = (f"<!-- {results.path.stem}:{edge} -->" for edge in ("begin", "end"))
    before, rest = readme.read_text().split(begin)
    for picture in sorted(FOLDER.glob(f"{results.path.stem}*.png")):
        text += f"\n\n![{picture.stem}]({FOLDER.name}/{picture.name})"
    readme.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")


def markdown(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Lay a table out as Markdown."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [head, rule, *lines])
