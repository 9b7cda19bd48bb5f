"""A report of a fitted model that one can send: the facts, and one HTML file that shows them."""

from aevb.report.collect import Cell, Facts, Number, facts

__all__ = ["Cell", "Facts", "Number", "facts"]
