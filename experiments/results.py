"""Results on disk: rows in a JSON file, kept as soon as they are measured, not measured twice.

A row has the fields `method`, `dataset`, `n_z`, `seed`, `settings`, `samples` (training samples
evaluated), `train`, `test` (nats per datapoint), `seconds` (of training alone), or of these what
the experiment measures. A file is of one machine, since its rows have seconds.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

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
        self.rows: list[Row] = document.get("rows", [])
        self.machine: str | None = document.get("machine")

    def where(self, **fields: Any) -> list[Row]:
        """Return the rows that have these fields."""
        fields = _as_read(fields)
        return [row for row in self.rows if fields.items() <= row.items()]

    def put(self, key: Row, rows: list[Row]) -> None:
        """Write the rows of one finished piece, each with the fields of `key`; replace old ones."""
        self.read()  # another process may have put rows there meanwhile
        here = machine()
        if self.machine not in (None, here):
            raise ValueError(
                f"Expected rows of one machine in {self.path.name}, {self.machine}; got {here}. "
                "Give another file as --results."
            )
        old = self.where(**key)
        self.rows = [row for row in self.rows if row not in old]
        self.rows += [_as_read({**key, **row}) for row in rows]
        self.machine = here
        lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".tmp")  # a process killed while it writes loses nothing
        new.write_text(f'{{"machine": {json.dumps(here)},\n "rows": [\n{lines}\n]}}\n')
        new.replace(self.path)


def _as_read(row: Row) -> Row:
    return json.loads(json.dumps(row))  # tuples are lists then, as in rows from a file


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
    """Print the tables; put them into README.md too, if these are the results kept beside it."""
    text = "\n\n".join(tables)
    print(text)
    if results.path.parent != FOLDER:
        return
    readme = FOLDER.parent / "README.md"
    begin, end = (f"<!-- {results.path.stem}:{edge} -->" for edge in ("begin", "end"))
    before, rest = readme.read_text().split(begin)
    readme.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end)[1]}")


def markdown(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Lay a table out as Markdown."""
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [head, rule, *lines])
