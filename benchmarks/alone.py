"""Measurements in processes of their own: what each holds in memory is its own."""

import json
import subprocess
import sys
from typing import Any


def status(field: str) -> float:
    """Return a figure of this process in MB, as Linux keeps it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) / 1024


def measured(script: str, *options: Any) -> dict[str, Any]:
    """Run a script with the option ``--one`` and others; return what it prints last, as JSON."""
    command = [sys.executable, script, "--one", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    print(row, flush=True)
    return row
