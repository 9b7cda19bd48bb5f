"""Annotations of shapes and types, which the tests check at every call: see conftest.py."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from aevb.inference.estimators import Draws, estimator_a
from aevb.models.base import given


def test_a_wrong_shape_is_refused():
    draws = Draws(None, None, None, jnp.zeros(3), None, None)
    assert draws.average(jnp.arange(3.0)) == 1
    with pytest.raises(TypeCheckError, match="values"):
        draws.average(jnp.zeros((3, 2)))


def test_a_wrong_type_is_refused(line):
    with pytest.raises(TypeCheckError, match="key"):
        estimator_a(given(line()), jnp.zeros(3), 0, 1)
