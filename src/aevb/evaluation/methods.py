"""The ways to estimate log p(x), by name."""

from __future__ import annotations

from aevb.errors import choose
from aevb.evaluation.annealed import Annealed
from aevb.evaluation.importance import Importance, Method
from aevb.evaluation.reciprocal import Reciprocal

METHODS: dict[str, type[Method]] = {cls.name: cls for cls in (Importance, Annealed, Reciprocal)}


def find_method(method: str | Method, parameter: str = "method") -> Method:
    """Return the method that a user's `method` stands for."""
    if isinstance(method, Method):
        return method
    return choose(method, METHODS, parameter, " or a Method")()
