"""Functions that stay exact in single precision where their textbook forms cancel."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln
from jaxtyping import Num

Number = Num[Array, "..."]

HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))
_CALM = 20.0  # logarithms of scales up to here are left as they are
_SERIES = 8.0  # from here on Stirling's series is exact to the last digit of float32


def scale_of(log_scale: Number) -> Number:
    r"""Return :math:`e^x` of a learned logarithm x: never 0, never infinite.

    Beyond 20 on either side, where scales are 2e-9 and 5e8, the logarithm counts only
    logarithmically, with one slope where the two meet.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> scale_of(jnp.array([0.0, -1e4, 1e4])) > 0
    Array([ True,  True,  True], dtype=bool)
    >>> bool(jnp.isfinite(scale_of(jnp.array(1e20))))
    True
    """
    beyond = jnp.maximum(jnp.abs(log_scale) - _CALM, 0.0)
    near = jnp.clip(log_scale, -_CALM, _CALM)
    return jnp.exp(near + jnp.sign(log_scale) * jnp.log1p(beyond))


def exp_excess(x: Number) -> Number:
    r"""Return :math:`e^x - 1 - x`, which is never negative.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(exp_excess(jnp.array(1.0))), 5), float(exp_excess(jnp.array(2e-4))) > 1.9e-8
    (0.71828, True)
    """
    small = jnp.abs(x) < 0.3
    near = jnp.where(small, x, 0.0)
    terms = jnp.ones_like(near)
    for n in range(11, 2, -1):
        terms = 1 + near / n * terms
    return jnp.where(small, near**2 / 2 * terms, jnp.expm1(x) - x)


def stirling_remainder(x: Number) -> Number:
    r"""Return :math:`\log \Gamma(x) - (x - \frac12) \log x + x - \frac12 \log 2\pi`, for x > 0.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> [round(float(stirling_remainder(jnp.array(x))), 6) for x in (1.0, 12.0, 1e8)]
    [0.081062, 0.006943, 0.0]
    """
    large = x >= _SERIES
    inverse = 1 / jnp.where(large, x, _SERIES)
    square = inverse**2
    series = inverse * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    few = jnp.where(large, 1.0, x)
    exact = gammaln(few) - (few - 0.5) * jnp.log(few) + few - HALF_LOG_2PI
    return jnp.where(large, series, exact)


def log_ratio(x: Number, y: Number, difference: Number) -> Number:
    """Return log x / y of positive numbers, where a small difference of x and y is known better.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> x, y = jnp.array(1e9 + 1), jnp.array(1e9)  # the same number in single precision
    >>> round(float(log_ratio(x, y, jnp.array(1.0))), 12)
    1e-09
    """
    close = jnp.abs(difference) < 0.5 * y
    near = jnp.log1p(jnp.where(close, difference, 0.0) / jnp.where(close, y, 1.0))
    return jnp.where(close, near, jnp.log(x) - jnp.log(y))


def log_rising(a: Number, x: Number) -> Number:
    r"""Return :math:`\log \Gamma(a + x) / \Gamma(a)`, for a > 0 and x from 0 up.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> float(jnp.exp(log_rising(jnp.array(3.0), jnp.array(2.0))).round(4))  # 3 times 4
    12.0
    """
    between = stirling_remainder(a + x) - stirling_remainder(a)
    return (a + x - 0.5) * jnp.log1p(x / a) + x * (jnp.log(a) - 1) + between


def log_factorial(x: Number) -> Number:
    """Return log x!, for x from 0 up.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> round(float(log_factorial(jnp.array(5.0))), 4)
    4.7875
    """
    return gammaln(x + 1)


def log_logistic_interval(low: Number, high: Number, gap: Number) -> Number:
    r"""Return :math:`\log(\sigma(high) - \sigma(low))`, where `gap` is high - low.

    It uses :math:`\sigma(b) - \sigma(a) = \sigma(b) \, \sigma(-a) \, (1 - e^{a - b})`. The ends may
    be infinite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> low, high = jnp.array(-1e4), jnp.array(-1e4 + 1)
    >>> round(float(log_logistic_interval(low, high, high - low)), 2)
    -9999.46
    """
    return jax.nn.log_sigmoid(high) + jax.nn.log_sigmoid(-low) + jnp.log(-jnp.expm1(-gap))
