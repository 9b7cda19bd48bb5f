"""What every benchmark writes: a table, a JSON file in `results/`, and its part of the README."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = (
    "aevb",
    "jax",
    "jaxlib",
    "numpy",
    "equinox",
    "numpyro",
    "optax",
    "scikit-learn",
    "torch",
    "keras",
    "pythae",
    "pyro-ppl",
    "umap-learn",
    "ctgan",
)
Row = dict[str, Any]


def cores() -> int:
    """Cores this process may use; every contender gets them all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float | None:
    """Processes that were busy during the last minute: above 0, others may disturb a timing."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def machine(gpu: str | None = None) -> Row:
    """Describe the hardware and the versions, and nothing that names the machine or its folders."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "cpu": _cpu_model(),
        "cores": cores(),
        "gpu": gpu,
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def target(what: str, measured: float, sign: str, limit: float, unit: str = "") -> Row:
    """Set a measured number beside its target; `sign` is "≤", "≥", "<" or ">"."""
    met = {
        "≤": measured <= limit,
        "≥": measured >= limit,
        "<": measured < limit,
        ">": measured > limit,
    }[sign]
    return {
        "what": what,
        "measured": _cell(measured) + unit,
        "target": f"{sign} {limit:g}{unit}",
        "met": "yes" if met else "no",
    }


def table(rows: Sequence[Row]) -> str:
    """Lay rows out as a Markdown table; the keys of the first row are the columns."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row[column]) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def publish(
    name: str,
    tables: Mapping[str, Sequence[Row]],
    *,
    settings: Row,
    details: Row,
    gpu: str | None = None,
    keep: bool,
    write: bool,
) -> None:
    """Print the tables; keep them as `results/<name>.json`; put them into the README.

    Parameters
    ----------
    name
        Name of the JSON file and of the markers in the README.
    tables
        Title -> rows.
    settings
        Arguments the numbers depend on.
    details
        Everything measured, unrounded and round by round.
    gpu
        The accelerator's name, when one was used.
    keep
        False for small and partial runs, which only print.
    write
        Whether to rewrite the part of the README between this benchmark's markers.
    """
    body = "\n\n".join(f"**{title}**\n\n{table(rows)}" for title, rows in tables.items())
    print(f"\n{body}")
    if not keep:
        print("\nNot a full run: nothing was written.")
        return
    date = datetime.now(UTC).date().isoformat()
    where = machine(gpu)
    document = {
        "date": date,
        "machine": where,
        "settings": settings,
        "tables": tables,
        "details": details,
    }
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (results / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    if write:
        versions = ", ".join(f"{key} {value}" for key, value in where["versions"].items())
        hardware = f"{where['cpu']}, {where['cores']} cores, {where['platform']}"
        hardware += f", {gpu}" if gpu else ""
        stated = ", ".join(f"{key} {value}" for key, value in settings.items())
        caption = f"{date}; {hardware}; {stated}; {versions}."
        write_between(name, f"{body}\n\n{caption}")


def write_between(name: str, text: str, folder: Path = HERE) -> None:
    """Rewrite the part of a folder's README.md between the markers of a name."""
    readme = folder / "README.md"
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, found_begin, rest = readme.read_text(encoding="utf-8").partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"Expected the markers {begin} and {end} in {readme.name}; add them.")
    readme.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")
