"""Annotations of shapes and types, which the tests check at every call: see conftest.py."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from aevb import sgvb
from aevb.models.networks import Linear
from aevb.models.posteriors import Normal


def test_a_wrong_shape_is_refused():
    layer = Linear(3, 2, key=jax.random.key(0))
    assert layer(jnp.zeros((5, 3))).shape == (5, 2)
    head = Normal().build(5, 2, key=jax.random.key(0))
    with pytest.raises(TypeCheckError, match="given"):
        head(jnp.zeros((5, 1)))


def test_a_wrong_type_is_refused(line):
    with pytest.raises(TypeCheckError, match="key"):
        sgvb(line(), jnp.zeros(3), 0)
