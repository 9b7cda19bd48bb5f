"""The ``aevb`` command: commands, the demo, and how results are reported."""

from aevb.cli.commands import app, main

__all__ = ["app", "main"]
