"""Gradient reversal, and the schedules that it is trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxft.errors import InputError
from jaxft.types import Array

Scale = float | Array | Callable[[Array], Array]
"""λ: a number, traced or not, or a schedule of the step."""


@jax.custom_vjp
def _reversed(x: Any, scale: Array) -> Any:
    return x


def _forward(x: Any, scale: Array) -> tuple[Any, Array]:
    return x, scale


def _backward(scale: Array, cotangent: Any) -> tuple[Any, Array]:
    def turned(c: Any) -> Any:
        return c if c.dtype == jax.dtypes.float0 else (-scale * c).astype(c.dtype)

    return jax.tree.map(turned, cotangent), jnp.zeros_like(scale)


_reversed.defvjp(_forward, _backward)


def reverse_gradient(x: Any, scale: float | Array = 1.0) -> Any:
    """Returns x as it is; its gradient comes back times −λ.

    R(x) = x,  dR/dx = −λ I

    Args:
        x: an array, or a tree of them; whole numbers and bools among them have no gradient.
        scale: λ, a scalar; may be traced, and gets no gradient.

    Raises:
        InputError: λ is no scalar.

    Example:
        >>> float(jax.grad(lambda x: reverse_gradient(x, 0.5) ** 2)(3.0))
        -3.0

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", 2016.
    """
    value = jnp.asarray(scale, jnp.float32)
    if value.ndim:
        raise InputError(f"the scale of a reversed gradient is a number, but has the shape {list(value.shape)}")
    return _reversed(x, value)


def reversal_schedule(steps: int, *, gamma: float | Array = 10.0) -> Callable[[Array], Array]:
    """λ(p) = 2 / (1 + e^{−γp}) − 1 with p = step / steps, at most 1: from zero to one.

    Args:
        steps: updates of the whole run.
        gamma: γ, how soon it rises; above zero.

    Raises:
        InputError: ``steps`` is no whole number from one up, or γ is not above zero.

    Example:
        >>> schedule = reversal_schedule(100)
        >>> [round(float(schedule(step)), 3) for step in (0, 10, 50, 200)]
        [0.0, 0.462, 0.987, 1.0]

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", 2016.
    """
    share = _share(steps)
    if not isinstance(gamma, jax.Array) and (isinstance(gamma, bool) or not gamma > 0):
        raise InputError(f"gamma of a reversal schedule is a number above zero, but is {gamma!r}")
    return lambda step: 2 / (1 + jnp.exp(-gamma * share(step))) - 1


def inverse_decay(rate: float | Array, steps: int) -> Callable[[Array], Array]:
    """Learning rate η₀ / (1 + 10 p)^0.75 with p = step / steps, at most 1.

    Args:
        rate: η₀; may be traced.
        steps: updates of the whole run.

    Raises:
        InputError: ``steps`` is no whole number from one up.

    Example:
        >>> [round(float(inverse_decay(0.01, 100)(step)), 5) for step in (0, 50, 100)]
        [0.01, 0.00261, 0.00166]

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", 2016.
    """
    share = _share(steps)
    return lambda step: rate / (1 + 10 * share(step)) ** 0.75


def scale_at(scale: Scale, step: Array) -> Array:
    """λ at a step, in float32."""
    return jnp.asarray(scale(step) if callable(scale) else scale, jnp.float32)


def told(loss: Array, scale: Array) -> Array:
    """The loss, or NaN where λ is no number from 0 up.

    The loss does not depend on λ: a schedule that goes wrong would turn the gradient of the features alone, in silence.
    """
    return jnp.where(jnp.isfinite(scale) & (scale >= 0), loss, jnp.nan)


def check_scale(scale: Scale, name: str) -> None:
    """Refuses what is no number and no schedule, and numbers below zero, which would undo the reversal.

    Raises:
        InputError: see above.
    """
    if callable(scale) or isinstance(scale, jax.core.Tracer):
        return
    value = np.asarray(scale)
    number = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
    if value.ndim or not number or not 0 <= value < np.inf:
        raise InputError(
            f"the scale of {name} is a number from 0 up, by which the reversed gradient is multiplied, or a schedule "
            f"of the step such as reversal_schedule(steps), but is {scale!r}"
        )


def _share(steps: int) -> Callable[[Array], Array]:
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise InputError(f"a schedule expects the steps of the whole run, a whole number from 1 up, but got {steps!r}")
    return lambda step: jnp.clip(jnp.asarray(step, jnp.float32) / steps, 0.0, 1.0)
